//go:build !linux

package cbttest

import (
	"os"
	"syscall"
	"testing"
)

func childAttr() *syscall.SysProcAttr { return nil }

func freeze(t testing.TB, _ *os.Process) { t.Skip("processes are frozen on Linux only") }
func thaw(testing.TB, *os.Process)       {}
