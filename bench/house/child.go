package house

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cli"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/telemetry"
	"github.com/takt-dev/takt/pkg/executor"
)

// What needs a process of its own is this program, started again with childRole
// in its environment. So the harness needs no other binaries, and a child runs
// the code of the commands.
const (
	childRole = "BENCH_CHILD" // nats, worker or takt
	childDir  = "BENCH_DIR"   // of the NATS server
)

// Child plays the role of a child, and does not return, if this process was
// started for that. A main, or TestMain, calls it first.
func Child() {
	role := os.Getenv(childRole)
	if role == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		cancel()
	}()
	err := play(ctx, role)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(ctx context.Context, role string) error {
	switch role {
	case "nats":
		n, err := embedded.StartNATS(os.Getenv(childDir), embedded.NATSOptions{})
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, n.URL())
		<-ctx.Done()
		n.Stop()
		return nil
	case "worker":
		cfg, _, err := config.Load[config.Worker](os.Args[1:], os.Environ(), os.Stdout)
		if err != nil {
			return err
		}
		log, err := telemetry.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
		if err != nil {
			return err
		}
		return process.Worker(ctx, cfg, []executor.Type{Hold, nothing}, log)
	}
	if code := cli.Main(ctx, os.Args[1:], os.Environ(), cli.Streams{In: strings.NewReader(""), Out: os.Stdout, Err: os.Stderr}); code != 0 {
		return fmt.Errorf("exit code %d", code)
	}
	return nil
}

// Hold is a job type whose attempts last until they are told to stop.
var Hold = executor.Type{
	Spec: executor.Spec{Type: "hold"},
	Executor: executor.Func(func(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
		<-ctx.Done()
		return executor.Result{}, context.Cause(ctx)
	}),
}

var nothing = executor.Type{
	Spec: executor.Spec{Type: "noop"},
	Executor: executor.Func(func(context.Context, executor.Attempt) (executor.Result, error) {
		return executor.Result{}, nil
	}),
}

// A Process is a child of the harness.
type Process struct {
	cmd   *exec.Cmd
	alive io.Closer
	out   *bufio.Reader
}

// spawn starts a child.
func spawn(role string, environ []string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(self, args...)}
	p.cmd.Env = append(append(os.Environ(), childRole+"="+role), environ...)
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = os.Stderr
	p.alive, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return p, nil
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Line waits for a line of the child's output with this text in it.
func (p *Process) Line(text string) (string, error) {
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("a child ended without saying %q: %w", text, err)
		}
		if strings.Contains(line, text) {
			return strings.TrimSpace(line), nil
		}
	}
}

// Kill ends the child as kill -9 does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait()
}

// Stop ends the child in good order, or after 10 s as Kill does.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.alive.Close()
	kill := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait()
}

// NATS is a NATS server with JetStream on disk, in a process of its own.
type NATS struct {
	URL string
	*Process
}

func startNATS(dir string) (*NATS, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := spawn("nats", []string{childDir + "=" + dir})
	if err != nil {
		return nil, err
	}
	url, err := p.Line("nats://")
	if err != nil {
		p.Kill()
		return nil, err
	}
	return &NATS{URL: url, Process: p}, nil
}

// SpawnWorker starts a worker process, with the job types hold and noop, as a
// child on a host of this name.
func (h *House) SpawnWorker(host string) (*Process, error) {
	return spawn("worker", nil, "--redis-url", h.Redis.URL, "--nats-urls", h.NATS.URL, "--worker-host", host, "--log-level", "error")
}

// SpawnDev starts `takt dev` in a directory and returns when it has said that it
// is ready, with its address.
func SpawnDev(dir string) (p *Process, url string, err error) {
	p, err = spawn("takt", nil, "dev", "--dev-dir", filepath.Join(dir, "takt-data"), "--api-listen", "127.0.0.1:0", "--log-level", "error")
	if err != nil {
		return nil, "", err
	}
	line, err := p.Line("http://")
	if err != nil {
		p.Kill()
		return nil, "", err
	}
	url = line[strings.Index(line, "http://"):]
	if end := strings.IndexAny(url, " \t"); end > 0 {
		url = url[:end]
	}
	return p, url, nil
}
