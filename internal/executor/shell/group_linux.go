package shell

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the leader's end, kills the rest of the group, and only then
// reaps the leader: until that, no other group can get its number. Where waitid
// is not to be had, the leader is reaped first.
func (g *group) reap() (*os.ProcessState, error) {
	if awaitExit(g.leader.Pid) {
		g.kill()
		return g.leader.Wait()
	}
	defer g.kill()
	return g.leader.Wait()
}

// awaitExit blocks until the child can be reaped without waiting, and reports
// whether it could: waitid(2) with WNOWAIT.
func awaitExit(pid int) bool {
	const byPid = 1 // P_PID
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPid, uintptr(pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return errno == 0
		}
	}
}

// sweep kills the processes that inherited the mark but left the group.
func sweep(mark string) {
	// What forks while it is looked for is found in the next round.
	for range 8 {
		if killMarked([]byte(markVariable+"="+mark)) == 0 {
			return
		}
	}
}

func killMarked(variable []byte) (killed int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || !hasVariable(pid, variable) {
			continue
		}
		// FindProcess holds on to the process, not to its number, so a second look
		// makes sure that the number still means the same one.
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if hasVariable(pid, variable) && p.Kill() == nil {
			killed++
		}
		_ = p.Release()
	}
	return killed
}

func hasVariable(pid int, variable []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false // ended, or another user's
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, variable) {
			return true
		}
	}
	return false
}
