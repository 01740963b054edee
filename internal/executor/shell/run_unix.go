//go:build linux || darwin

package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// pipeGrace is how long output is awaited after the group is gone. Only a process
// that left the group can still hold a pipe then.
const pipeGrace = time.Second

// run starts the process and returns when nothing of it is left. There is an
// ending whenever it was started. An error beside it is the cause of ctx.
func (p process) run(ctx context.Context) (*ending, error) {
	// Linux sends the signal for the parent's death when the thread that forked
	// ends, and Go ends threads at will. A locked one lives until Unlock.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	pipes, err := p.openPipes()
	if err != nil {
		return nil, err
	}
	started, err := os.StartProcess(p.path, p.argv, &os.ProcAttr{
		Dir: p.dir, Env: p.env, Files: pipes.child[:], Sys: processAttributes(),
	})
	pipes.closeChild()
	if err != nil {
		pipes.abandon()
		return nil, startError(err)
	}
	g := &group{leader: started}
	pipes.pump(p)
	state, err := g.await(ctx, p.grace)
	sweep(p.mark)
	pipes.finish()
	if state == nil {
		return &ending{code: -1}, err
	}
	return endingOf(state), err
}

// startError marks what another attempt on this worker meets again. The working
// directory was there a moment ago, so it is the program that is not.
func startError(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return executor.Permanent(fmt.Errorf("the program cannot be started on this worker: %w", err))
	}
	return err
}

func endingOf(state *os.ProcessState) *ending {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return &ending{code: 128 + int(status.Signal()), signal: status.Signal().String()}
	}
	return &ending{code: state.ExitCode()}
}

// A group is the process group of a command. mu keeps signals from a group whose
// leader was reaped: its number may belong to somebody else by then.
type group struct {
	leader *os.Process
	mu     sync.Mutex
	gone   bool
}

// await waits for the leader's end and kills the rest. If ctx ends first, the
// error is its cause.
func (g *group) await(ctx context.Context, grace time.Duration) (*os.ProcessState, error) {
	type reaped struct {
		state *os.ProcessState
		err   error
	}
	done := make(chan reaped, 1)
	go func() {
		state, err := g.reap()
		done <- reaped{state, err}
	}()
	select {
	case r := <-done:
		return r.state, r.err
	case <-ctx.Done():
	}
	g.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.state, context.Cause(ctx)
	case <-timer.C:
	}
	g.signal(syscall.SIGKILL)
	r := <-done
	return r.state, context.Cause(ctx)
}

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		_ = syscall.Kill(-g.leader.Pid, s) // an empty group is fine
	}
}

// kill ends what is left of the group, for the last time.
func (g *group) kill() {
	g.signal(syscall.SIGKILL)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
}

// pipes connect the worker with the command. Ends of the child are closed here
// once it has its own.
type pipes struct {
	child          [3]*os.File
	stdin          *os.File // nil: the null device
	stdout, stderr *os.File
	pumps          sync.WaitGroup
}

func (p process) openPipes() (*pipes, error) {
	var ps pipes
	var errs [3]error
	if p.stdin == "" {
		ps.child[0], errs[0] = os.Open(os.DevNull)
	} else {
		ps.child[0], ps.stdin, errs[0] = os.Pipe()
	}
	ps.stdout, ps.child[1], errs[1] = os.Pipe()
	ps.stderr, ps.child[2], errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		ps.closeChild()
		ps.abandon()
		return nil, fmt.Errorf("open pipes: %w", err)
	}
	return &ps, nil
}

func (ps *pipes) closeChild() {
	for _, f := range ps.child {
		f.Close() // a nil *os.File returns an error
	}
}

// abandon closes the worker's ends, which stops the pumps.
func (ps *pipes) abandon() {
	for _, f := range []*os.File{ps.stdin, ps.stdout, ps.stderr} {
		f.Close()
	}
}

func (ps *pipes) pump(p process) {
	for from, to := range map[*os.File]*stream{ps.stdout: p.stdout, ps.stderr: p.stderr} {
		ps.pumps.Go(func() {
			_, _ = io.Copy(to, from)
			to.close()
		})
	}
	if ps.stdin != nil {
		ps.pumps.Go(func() {
			_, _ = io.WriteString(ps.stdin, p.stdin) // a command need not read it all
			ps.stdin.Close()
		})
	}
}

// finish waits until all output is read, or for pipeGrace.
func (ps *pipes) finish() {
	timer := time.AfterFunc(pipeGrace, ps.abandon)
	ps.pumps.Wait()
	if timer.Stop() {
		ps.abandon()
	}
}
