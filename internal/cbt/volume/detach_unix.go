//go:build unix

package volume

import "syscall"

// detached keeps signals to the worker's group, as a terminal sends them, from the
// daemon.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
