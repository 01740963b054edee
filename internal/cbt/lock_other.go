//go:build !unix

package cbt

import (
	"errors"
	"os"
)

// tryLock refuses: without the lock a machine is not safe from a second worker.
func tryLock(*os.File) error { return errors.New("this system has no file locks") }
