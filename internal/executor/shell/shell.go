// Package shell executes jobs of type shellCommand: one program with arguments,
// judged by its exit code. No shell reads the arguments, whatever the type's name.
//
// The worker's configuration says which programs with which arguments may run;
// by default none. A command gets a clean environment and starts within a
// configured directory, in a process group of its own. Cancel, timeout and
// release ask the group to end by SIGTERM and kill it after a grace. When the
// program has ended, by itself or not, the rest of the group is killed: a job
// leaves no process behind. On Linux that holds for processes that changed their
// session too, as long as they kept the environment, and the program is killed
// when the worker dies.
//
// A command that is not allowed or not there is a permanent failure, an
// unexpected exit code one that is tried again.
//
// The command's output goes to the log in whole lines while it runs. What it
// prints is its own affair: secrets of its environment and input are not taken
// out of it.
package shell

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// New returns the type, or an error if the policy's rules are malformed. On
// systems other than Linux and macOS every Execute fails.
func New(policy Policy) (executor.Type, error) {
	rules, err := compile(policy.Rules)
	if err != nil {
		return executor.Type{}, err
	}
	for _, root := range policy.Roots {
		if !filepath.IsAbs(root) {
			return executor.Type{}, fmt.Errorf("%s entry %q is not an absolute path", RootsKey, root)
		}
	}
	policy.Grace = cmp.Or(policy.Grace, DefaultGrace)
	return executor.Type{Spec: Spec(), Executor: &commander{policy: policy, rules: rules}}, nil
}

type commander struct {
	policy Policy
	rules  []rule
}

var _ executor.Executor = (*commander)(nil)

// A process is a command that may run.
type process struct {
	path           string
	argv           []string
	env            []string
	dir            string
	stdin          string
	stdout, stderr *stream
	mark           string // the value of markVariable in env
	grace          time.Duration
}

// An ending is how a process ended.
type ending struct {
	code   int    // 128 and the signal's number where a signal ended it, as shells have it
	signal string // "" if it ended by itself
}

// Execute runs the command. The result's ExitCode is the command's, its Output
// the ends of what it wrote, as JSON; both are there whenever it ran.
func (c *commander) Execute(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	asked, err := parse(a.Parameters)
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	p, err := c.prepare(asked, a)
	if err != nil {
		return executor.Result{}, err
	}
	if ctx.Err() != nil {
		return executor.Result{}, fmt.Errorf("run %s: %w", p.path, context.Cause(ctx))
	}
	started := time.Now()
	e, err := p.run(ctx)
	if e == nil {
		return executor.Result{}, fmt.Errorf("run %s: %w", p.path, err)
	}
	result := executor.Result{ExitCode: e.code, Output: report(*e, time.Since(started), p.stdout, p.stderr)}
	if err != nil {
		return result, fmt.Errorf("run %s: %w", p.path, err)
	}
	return result, asked.judge(p, *e)
}

// prepare holds the command against the policy.
func (c *commander) prepare(asked command, a executor.Attempt) (process, error) {
	path, err := find(c.rules, asked.argv)
	if err != nil {
		return process{}, err
	}
	mark := rand.Text()
	env, err := c.policy.environ(asked.env, a.Key, mark)
	if err != nil {
		return process{}, err
	}
	dir, err := c.policy.workDir(asked.dir)
	if err != nil {
		return process{}, err
	}
	return process{
		path:   path,
		argv:   append([]string{path}, asked.argv[1:]...),
		env:    env,
		dir:    dir,
		stdin:  asked.stdin,
		stdout: newStream(a.Log, asked.maxOutput),
		stderr: newStream(a.Log, asked.maxOutput),
		mark:   mark,
		grace:  c.policy.Grace,
	}, nil
}

func (c command) judge(p process, e ending) error {
	if e.signal == "" && slices.Contains(c.expect, int64(e.code)) {
		return nil
	}
	how := fmt.Sprintf("ended with exit code %d", e.code)
	if e.signal != "" {
		how = "was ended by a signal: " + e.signal
	}
	codes := strings.Trim(strings.ReplaceAll(fmt.Sprint(c.expect), " ", ", "), "[]")
	err := fmt.Errorf("%s %s, expected %s", p.path, how, codes)
	if line := lastLine(p.stderr.tail()); line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	return err
}
