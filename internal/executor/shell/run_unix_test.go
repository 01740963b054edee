//go:build linux || darwin

package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/executortest"
)

// scripts allows what the tests need: sh with any script. No operator should.
var scripts = Policy{
	Rules: []Rule{{Path: "/bin/sh", Args: []string{"-c", "..."}}},
	Env:   []string{"PASSWORD"},
	Grace: time.Second,
}

func newType(t *testing.T, policy Policy) executor.Type {
	t.Helper()
	typ, err := New(policy)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// script returns the parameters that run a shell script; pairs are more.
func script(text string, pairs ...string) map[string]string {
	argv, err := json.Marshal([]string{"/bin/sh", "-c", text})
	if err != nil {
		panic(err)
	}
	parameters := map[string]string{"argv": string(argv)}
	for i := 0; i < len(pairs); i += 2 {
		parameters[pairs[i]] = pairs[i+1]
	}
	return parameters
}

func execute(ctx context.Context, t *testing.T, policy Policy, parameters map[string]string, log io.Writer) (executor.Result, output, error) {
	t.Helper()
	typ := newType(t, policy)
	if err := typ.Spec.Validate(parameters); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	result, err := typ.Executor.Execute(ctx, executor.Attempt{ID: "run:step:1", Key: "run:step", Parameters: parameters, Log: log})
	var o output
	if result.Output != "" {
		if err := json.Unmarshal([]byte(result.Output), &o); err != nil {
			t.Fatalf("output %q is not JSON: %v", result.Output, err)
		}
	}
	return result, o, err
}

func TestConformance(t *testing.T) {
	secret := []string{"env", `{"PASSWORD":"hunter2"}`, "stdin", "swordfish"}
	executortest.Run(t, executortest.Harness{
		Type:    newType(t, scripts),
		Success: script("cat >/dev/null; sleep 600 & echo done", secret...),
		Failure: script("echo out; echo err >&2; exit 3", secret...),
		Blocking: func(testing.TB) (map[string]string, <-chan struct{}) {
			return script("sleep 600 & sleep 600 & echo started; wait", secret...), nil
		},
		Secrets: []string{"hunter2", "swordfish"},
	})
}

func TestExitCodeDecides(t *testing.T) {
	tests := []struct {
		name, script, expect string
		code                 int
		signal, want         string // want "" means success
	}{
		{"zero", "exit 0", "", 0, "", ""},
		{"not zero", "echo first >&2; echo last >&2; exit 3", "", 3, "", "/bin/sh ended with exit code 3, expected 0: last"},
		{"expected", "exit 3", "[0,3]", 3, "", ""},
		{"zero not expected", "exit 0", "[1,3]", 0, "", "expected 1, 3"},
		{"signal", "kill -KILL $$", "[0,137]", 137, "killed", "ended by a signal: killed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, o, err := execute(t.Context(), t, scripts, script(tt.script, "expect", tt.expect), io.Discard)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if executor.IsPermanent(err) {
				t.Errorf("error %v is permanent", err)
			}
			if result.ExitCode != tt.code || o.ExitCode != tt.code || o.Signal != tt.signal {
				t.Errorf("result %+v, want exit code %d and signal %q", result, tt.code, tt.signal)
			}
		})
	}
}

func TestProgramThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.WriteFile(locked, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "absent"), plain, locked, dir} {
		argv, _ := json.Marshal([]string{path})
		result, _, err := execute(t.Context(), t, Policy{Rules: []Rule{{Path: path}}}, map[string]string{"argv": string(argv)}, io.Discard)
		if !executor.IsPermanent(err) || result != (executor.Result{}) {
			t.Errorf("running %s = %+v, %v, want a permanent error", filepath.Base(path), result, err)
		}
	}
}

// The link is not in the list, although what it leads to is.
func TestLinkToAnAllowedProgram(t *testing.T) {
	link := filepath.Join(t.TempDir(), "sh")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	argv, _ := json.Marshal([]string{link, "-c", "true"})
	if _, _, err := execute(t.Context(), t, scripts, map[string]string{"argv": string(argv)}, io.Discard); !executor.IsPermanent(err) {
		t.Errorf("error %v, want a permanent one", err)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("WORKER_SECRET", "hunter2")
	_, o, err := execute(t.Context(), t, scripts, script("/usr/bin/env", "env", `{"PASSWORD":"p"}`), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(o.Stdout) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	// PWD and _ come from the shell.
	names = slices.DeleteFunc(names, func(n string) bool { return n == "PWD" || n == "_" || n == "SHLVL" || n == "OLDPWD" })
	if want := []string{"HOME", "LANG", "PASSWORD", "PATH", markVariable, keyVariable}; !slices.Equal(names, want) {
		t.Errorf("the command sees %v, want %v", names, want)
	}
	if !strings.Contains(o.Stdout, "TAKT_KEY=run:step\n") {
		t.Errorf("environment %q, want the attempt's key in it", o.Stdout)
	}
}

func TestCommandStartsInItsDirectory(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(root, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	policy := scripts
	policy.Roots = []string{root}
	for dir, want := range map[string]string{"": root, sub: sub} {
		_, o, err := execute(t.Context(), t, policy, script("pwd", "dir", dir), io.Discard)
		if err != nil || o.Stdout != want+"\n" {
			t.Errorf("in %q pwd says %q, %v, want %q", dir, o.Stdout, err, want)
		}
	}
	if _, _, err := execute(t.Context(), t, policy, script("pwd", "dir", "/"), io.Discard); !executor.IsPermanent(err) {
		t.Errorf("outside the root: error %v, want a permanent one", err)
	}
}

func TestStdin(t *testing.T) {
	long := strings.Repeat("line\n", 40000) // more than a pipe holds
	tests := []struct {
		name, script, stdin, want string
	}{
		{"read", "cat", "text", "text"},
		{"none", "cat", "", ""},
		{"long", "wc -l", long, "40000"},
		{"not read", "echo deaf", long, "deaf"},
		{"left to a grandchild", "sleep 600 & echo gone", long, "gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, o, err := execute(t.Context(), t, scripts, script(tt.script, "stdin", tt.stdin), io.Discard)
			if err != nil || strings.TrimSpace(o.Stdout) != tt.want {
				t.Errorf("stdout %q, error %v, want %q", o.Stdout, err, tt.want)
			}
		})
	}
}

// A lineLog hands each write to a test that waits for it.
type lineLog chan string

func (l lineLog) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// The command ends only after its first output was seen in the log.
func TestOutputIsStreamed(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go-on")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, redirect := range []string{"", " >&2"} {
		log := make(lineLog, 10)
		ended := make(chan error, 1)
		go func() {
			_, _, err := execute(t.Context(), t, scripts, script("echo one"+redirect+"; cat "+fifo+redirect), log)
			close(log)
			ended <- err
		}()
		if got := <-log; got != "one\n" {
			t.Fatalf("first output %q, want one", got)
		}
		if err := os.WriteFile(fifo, []byte("two\nthree"), 0); err != nil {
			t.Fatal(err)
		}
		var rest strings.Builder
		for line := range log {
			rest.WriteString(line)
		}
		if err := <-ended; err != nil || rest.String() != "two\nthree\n" {
			t.Errorf("rest %q, error %v, want two and three", rest.String(), err)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	const flood = `i=0; while [ $i -lt 2000 ]; do printf '%s %0100d\n' "$0" $i; i=$((i+1)); done`
	both := flood + "; (" + strings.Replace(flood, `"$0"`, "err", 1) + ") >&2"
	tests := []struct {
		name, script, maxOutput string
		stdout, stderr          int // at least
		total                   int // of the output, at most
	}{
		{"one, small", flood, "100", 100, 0, 300},
		{"one, all the room", flood, "65536", 64000, 0, executor.MaxOutputBytes},
		{"both, all the room", both, "65536", 32000, 32000, executor.MaxOutputBytes},
		{"long and short", flood + "; echo short >&2", "65536", 64000, 6, executor.MaxOutputBytes},
		{"nothing wanted", both, "0", 0, 0, 200},
		{"grows as JSON", `head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2`, "65536", 5400, 5400, executor.MaxOutputBytes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, o, err := execute(t.Context(), t, scripts, script(tt.script, "maxOutput", tt.maxOutput), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Stdout) < tt.stdout || len(o.Stderr) < tt.stderr || len(result.Output) > tt.total || !o.Truncated {
				t.Errorf("stdout %d, stderr %d, output %d bytes, truncated %v; want at least %d and %d, at most %d",
					len(o.Stdout), len(o.Stderr), len(result.Output), o.Truncated, tt.stdout, tt.stderr, tt.total)
			}
			if strings.HasPrefix(tt.script, flood) && tt.stdout > 0 && !strings.HasSuffix(o.Stdout, "1999\n") {
				t.Errorf("stdout ends in %q, want the last line", o.Stdout[max(0, len(o.Stdout)-20):])
			}
		})
	}
}

func TestCancelAsksBeforeItKills(t *testing.T) {
	tests := []struct {
		name, script string
		code         int
		stdout       string
	}{
		{"gives way", `trap 'echo bye; exit 7' TERM; echo up; sleep 600 & wait`, 7, "up\nbye\n"},
		{"does not listen", `trap '' TERM; echo up; while :; do sleep 600; done`, 137, "up\n"},
		{"does not care", `echo up; sleep 600 & wait`, 143, "up\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := scripts
			policy.Grace = 300 * time.Millisecond
			ctx, cancel := context.WithCancelCause(t.Context())
			log := writerFunc(func(p []byte) { cancel(executor.ErrReleased) })
			result, o, err := execute(ctx, t, policy, script(tt.script), log)
			if !errors.Is(err, executor.ErrReleased) || executor.IsPermanent(err) {
				t.Errorf("error %v, want the cause, not permanent", err)
			}
			if result.ExitCode != tt.code || o.Stdout != tt.stdout {
				t.Errorf("exit code %d, stdout %q, want %d, %q", result.ExitCode, o.Stdout, tt.code, tt.stdout)
			}
		})
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func TestNoGrandchildSurvives(t *testing.T) {
	tests := []struct {
		name   string
		script string // prints the grandchild's pid
		cancel bool   // once the pid is printed
		linux  bool   // only there
	}{
		{"after success, output closed", `sleep 600 >/dev/null 2>&1 & echo $!`, false, false},
		{"after success, output held", `sleep 600 & echo $!`, false, false},
		{"deaf, after success", `(trap '' TERM HUP; exec sleep 600) & echo $!`, false, false},
		{"without the environment", `env -i sleep 600 >/dev/null 2>&1 & echo $!`, false, false},
		{"cancelled", `sleep 600 & echo $!; wait`, true, false},
		{"deaf, cancelled", `(trap '' TERM HUP; exec sleep 600) & echo $!; wait`, true, false},
		{"in a session of its own", `p=$(setsid sh -c 'sleep 600 >/dev/null & echo $!'); echo $p`, false, true},
		{"in a session of its own, cancelled", `p=$(setsid sh -c 'sleep 600 >/dev/null & echo $!'); echo $p; sleep 600`, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.linux && runtime.GOOS != "linux" {
				t.Skip("only Linux shows which processes belong to a command")
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var mu sync.Mutex
			var printed bytes.Buffer
			_, _, err := execute(ctx, t, scripts, script(tt.script), writerFunc(func(p []byte) {
				mu.Lock()
				defer mu.Unlock()
				printed.Write(p)
				if tt.cancel {
					cancel(executor.ErrCanceled)
				}
			}))
			if tt.cancel != errors.Is(err, executor.ErrCanceled) {
				t.Errorf("error %v", err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(printed.String()))
			if err != nil {
				t.Fatalf("the script printed %q, want a pid", printed.String())
			}
			awaitDeath(t, pid)
		})
	}
}

// awaitDeath fails the test unless the process is dead soon; a zombie, which
// waits for whoever adopted it, counts as dead.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(5 * time.Second)
	for alive(pid) {
		select {
		case <-tick.C:
		case <-limit:
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is still alive", pid)
		}
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}
