//go:build !linux

package cbttest

import "testing"

// SmallDisk skips the test.
func SmallDisk(t testing.TB, _ int) string {
	t.Helper()
	t.Skip("a small file system cannot be mounted on this system")
	return ""
}
