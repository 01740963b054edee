//go:build unix

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// locked says whether a process has a lock on a file.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a daemon: %w", err)
	}
	defer func() { _ = f.Close() }() // only asked
	probe := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &probe); err != nil {
		return false, fmt.Errorf("look for a daemon: %w", err)
	}
	return probe.Type != syscall.F_UNLCK, nil
}
