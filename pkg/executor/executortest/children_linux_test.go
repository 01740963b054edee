package executortest

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/takt-dev/takt/pkg/executor"
)

// The grandchild is what a plain exec.CommandContext forgets.
func TestForgottenGrandchildIsFound(t *testing.T) {
	adoptOrphans(t)
	var groups []int
	h := harness(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 &")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err := cmd.Run()
		groups = append(groups, cmd.Process.Pid)
		return executor.Result{}, err
	})
	t.Cleanup(func() {
		for _, group := range groups {
			_ = syscall.Kill(-group, syscall.SIGKILL)
		}
	})
	if got, want := observe(t, checkSuccess, h), `command "sleep`; !strings.Contains(got, want) {
		t.Errorf("the suite says %q, want something with %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		name, stat, state string
		parent            int
	}{
		{"plain", "7 (sleep) S 3 7 7", "S", 3},
		{"name with parentheses and blanks", "7 (a) Z 1) R 4 7", "R", 4},
		{"cut", "7 (sleep)", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if state, parent := status(tt.stat); state != tt.state || parent != tt.parent {
				t.Errorf("status(%q) = %s, %d, want %s, %d", tt.stat, state, parent, tt.state, tt.parent)
			}
		})
	}
}
