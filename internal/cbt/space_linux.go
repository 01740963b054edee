package cbt

import (
	"fmt"
	"syscall"
)

// NeedSpace is ErrNoSpace if the file system of a directory has less than so many
// bytes free.
func NeedSpace(dir string, bytes uint64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < bytes {
		return fmt.Errorf("%w: %s has %d bytes, %d are needed", ErrNoSpace, dir, free, bytes)
	}
	return nil
}
