package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A program is a process of the installation that dies and comes back. All its
// lives write to one log file.
type program struct {
	name    string
	command func() *exec.Cmd
	log     *os.File

	mu     sync.Mutex
	pid    int
	lives  int
	wanted bool          // it is to live
	done   chan struct{} // closed when its present life has ended
	early  []string      // ends nobody ordered
}

func newProgram(dir, name string, command func() *exec.Cmd) (*program, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &program{name: name, command: command, log: log}, nil
}

// start begins a life. The child gets a process group of its own, so that Ctrl-C
// reaches the harness alone, and dies with the harness.
func (p *program) start() error {
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// The death signal comes when the thread that forked ends: this one has to
		// live as long as the child does.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.ended(cmd.Wait(), done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.done, p.wanted = cmd.Process.Pid, done, true
	p.lives++
	fmt.Fprintf(p.log, "--- %s: life %d begins, pid %d\n", time.Now().UTC().Format(time.RFC3339Nano), p.lives, p.pid)
	return nil
}

func (p *program) ended(how error, done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.log, "--- %s: life %d ends: %v\n", time.Now().UTC().Format(time.RFC3339Nano), p.lives, how)
	if p.wanted {
		p.early = append(p.early, fmt.Sprintf("%s, life %d: %v", p.name, p.lives, how))
	}
	close(done)
}

// signal sends a signal to the present life.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		_ = syscall.Kill(p.pid, s) // gone already is as good
	}
}

// kill ends the present life as a power cut would.
func (p *program) kill() { p.end(syscall.SIGKILL) }

func (p *program) end(s syscall.Signal) {
	p.unwant()
	p.signal(s)
	<-p.over()
}

// stop asks the present life to end, and kills it when it has not within grace.
func (p *program) stop(grace time.Duration) {
	p.unwant()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.over():
	case <-time.After(grace):
		p.kill()
	}
}

// unwant says that the end of the present life is ordered.
func (p *program) unwant() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
}

// over is closed when the present life has ended.
func (p *program) over() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		never := make(chan struct{})
		close(never)
		return never
	}
	return p.done
}

func (p *program) alive() bool {
	select {
	case <-p.over():
		return false
	default:
		return true
	}
}

// life counts the starts: a survivor has had one.
func (p *program) life() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives
}

// id gives the process id of the present or last life.
func (p *program) id() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// unordered gives the ends that nobody ordered.
func (p *program) unordered() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.early
}

// until waits until ok gives nil, looking a few times a second, and gives its last
// error when ctx ends first.
func until(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// wait lets the installation run for a while, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
