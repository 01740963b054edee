package executortest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of prctl(2).
const prSetChildSubreaper = 36

// adoptOrphans makes the test process the parent of processes whose own parent
// ends, so that a forgotten grandchild is found among the children.
func adoptOrphans(t testing.TB) {
	t.Helper()
	if err := setSubreaper(1); err != nil {
		t.Logf("orphans are not looked for: %v", err)
	}
	t.Cleanup(func() { _ = setSubreaper(0) })
}

func setSubreaper(on uintptr) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, on, 0); errno != 0 {
		return errno
	}
	return nil
}

// children returns the command of every living child of this process by its
// name, "process 12".
func children() map[string]string {
	found := map[string]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		pid, _, _ := strings.Cut(string(data), " ")
		state, parent := status(string(data))
		if parent == os.Getpid() && state != "Z" {
			command, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			found["process "+pid] = fmt.Sprintf("state %s, command %q", state, command)
		}
	}
	return found
}

// status reads state and parent, the two fields after the name in parentheses,
// which may itself hold parentheses and blanks: proc_pid_stat(5).
func status(stat string) (state string, parent int) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}
