//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockWait is how long lockDir waits for the last user of a directory to be
// gone: a server killed a moment ago may still have a child that writes.
const lockWait = time.Second

// lockDir makes dir (mode 0700) and claims it for one server: it returns the
// open lock file, and closing that gives the claim back. A child process that
// inherits the file shares the claim, so a server that outlives its parent
// keeps others away from its files.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "takt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for end := time.Now().Add(lockWait); ; <-time.After(10 * time.Millisecond) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(end) {
			break
		}
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s: stop the other one or name another directory", ErrDirInUse, dir)
	}
	return nil, fmt.Errorf("lock data directory: %w", err)
}
