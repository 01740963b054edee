package cbttest

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// SmallDisk is a directory on a file system of so many bytes, until the test ends. It
// skips the test where none can be mounted, or fails it where CI is set.
func SmallDisk(t testing.TB, bytes int) string {
	t.Helper()
	dir := Dir(t)
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small file system, which CI may: %v", err)
		}
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}
