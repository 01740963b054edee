package shell

import (
	"os"
	"syscall"
)

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// reap waits for the leader's end and kills the rest of the group.
func (g *group) reap() (*os.ProcessState, error) {
	defer g.kill()
	return g.leader.Wait()
}

// sweep does nothing: macOS does not show the environment of other processes.
func sweep(string) {}
