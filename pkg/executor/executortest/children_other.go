//go:build !linux

package executortest

import "testing"

// Only Linux tells about child processes without help from outside.
func adoptOrphans(testing.TB)     {}
func children() map[string]string { return nil }
