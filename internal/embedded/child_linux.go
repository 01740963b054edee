package embedded

import "syscall"

// childAttr gives the child a process group of its own, so that Ctrl-C at the
// terminal reaches us alone and we stop the child after our own work is done,
// and lets the kernel kill it should we die first.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
