package cbttest

import (
	"os"
	"syscall"
	"testing"
)

// childAttr lets the kernel kill a QEMU whose test process was killed, and keeps the
// terminal's Ctrl-C to the test, which then ends it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func freeze(t testing.TB, p *os.Process) { signal(t, p, syscall.SIGSTOP) }
func thaw(t testing.TB, p *os.Process)   { signal(t, p, syscall.SIGCONT) }

func signal(t testing.TB, p *os.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatalf("signal QEMU: %v", err)
	}
}
