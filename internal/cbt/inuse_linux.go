package cbt

import (
	"os"
	"syscall"
)

// QEMU holds locks on single bytes of an image, one for each thing it may do. This
// is the one for writing.
const (
	writeLockByte = 101
	getOpenLock   = 36 // F_OFD_GETLK
)

// InUse says whether somebody has an image open for writing: a QEMU by its lock, and
// on a local file system any process, because a read lease is granted only where
// there is no writer. What cannot be found out counts as not in use.
func InUse(f *os.File) bool {
	probe := syscall.Flock_t{Type: syscall.F_WRLCK, Start: writeLockByte, Len: 1}
	if syscall.FcntlFlock(f.Fd(), getOpenLock, &probe) == nil && probe.Type != syscall.F_UNLCK {
		return true
	}
	return hasWriter(f)
}

func hasWriter(f *os.File) bool {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	fd := f.Fd()
	if _, _, number := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETLEASE, syscall.F_RDLCK); number != 0 {
		return number == syscall.EAGAIN
	}
	// Closing the file would end the lease as well.
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETLEASE, syscall.F_UNLCK)
	return false
}
