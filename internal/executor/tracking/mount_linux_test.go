package tracking

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// mount puts a small file system on a directory, until the test ends.
func mount(t *testing.T, dir string, bytes int) {
	t.Helper()
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
}
