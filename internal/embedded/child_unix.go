//go:build unix && !linux

package embedded

import "syscall"

// childAttr gives the child a process group of its own, so that Ctrl-C at the
// terminal reaches us alone. Only Linux can tie its life to ours; elsewhere the
// lock file it inherits keeps a left-over child's directory safe.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
