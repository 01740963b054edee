//go:build !unix

package volume

import "syscall"

func detached() *syscall.SysProcAttr { return nil }
