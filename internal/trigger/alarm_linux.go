package trigger

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// clockMonotonic is CLOCK_MONOTONIC, by which Go measures waits too.
const clockMonotonic = 1

// An exactTimer is a timerfd(2), which the poller hears of like of any file.
type exactTimer struct {
	file *os.File
	rung chan struct{}
	done chan struct{} // closed when its reader has ended
}

// newExactTimer returns nil where the system refuses one.
func newExactTimer() *exactTimer {
	fd, _, refused := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if refused != 0 {
		return nil
	}
	t := &exactTimer{file: os.NewFile(fd, "timer"), rung: make(chan struct{}, 1), done: make(chan struct{})}
	go t.listen()
	return t
}

// listen passes on each ring until the file is closed. A ring that was not heard yet
// stands for this one too.
func (t *exactTimer) listen() {
	defer close(t.done)
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return
		}
		select {
		case t.rung <- struct{}{}:
		default:
		}
	}
}

// set is without effect if it fails: the alarm's other timer rings.
func (t *exactTimer) set(wait time.Duration) {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return
	}
	// Zero would stop the timer.
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(int64(max(wait, 1)))} // interval, value
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	})
}

func (t *exactTimer) close() {
	_ = t.file.Close()
	<-t.done
}
