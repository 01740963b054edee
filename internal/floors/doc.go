// Package floors holds the test that keeps the architecture: which package may
// import which, and which technology may be known where. The table is in
// floors_test.go; docs/architecture.md explains it.
package floors
