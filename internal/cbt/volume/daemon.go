package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

// Waiting for the daemon.
const (
	startWait = 10 * time.Second
	endWait   = 10 * time.Second
	undoWait  = 8 * time.Second
	tick      = 10 * time.Millisecond
)

// daemon is the machine's, while one call works with it under the machine's lock.
type daemon struct {
	client *qmp.Client
	t      cbt.Target
}

func (d *daemon) release() { _ = d.client.Close() } // what was done is known from the replies

// daemon finds the machine's daemon, or starts it.
func (s *Server) daemon(ctx context.Context, t cbt.Target) (*daemon, error) {
	d, err := s.find(ctx, t)
	if err != nil || d != nil {
		return d, err
	}
	return s.start(ctx, t)
}

// find is nil if the machine has no daemon.
func (s *Server) find(ctx context.Context, t cbt.Target) (*daemon, error) {
	client, err := qmp.Dial(ctx, "unix", monitor(t))
	switch {
	case err == nil:
		return &daemon{client, t}, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case errors.Is(err, qmp.ErrBusy):
		return nil, fmt.Errorf("%w: the monitor of %s does not greet", cbt.ErrBusy, DefaultProgram)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", cbt.ErrUnreachable, err)
}

// start starts a daemon that outlives this process: in a session of its own, with no
// pipe that would break. Its messages are in <dir>/restore.log.
func (s *Server) start(ctx context.Context, t cbt.Target) (*daemon, error) {
	name := s.Program
	if name == "" {
		name = DefaultProgram
	}
	program, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%w: exports for a restore need %s, which is not installed here; it comes with QEMU", cbt.ErrUnsupported, name)
	}
	if err := vacant(ctx, t); err != nil {
		return nil, err
	}
	messages, err := os.OpenFile(filepath.Join(t.Dir, "restore.log"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer messages.Close()
	cmd := exec.Command(program, arguments(t)...) //nolint:noctx // it outlives the call
	cmd.Stdout, cmd.Stderr = messages, messages
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why it ended
		close(ended)
	}()
	d, err := s.await(ctx, t, ended)
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		return nil, fmt.Errorf("start %s: %w%s", name, err, said(messages))
	}
	return d, nil
}

// pidFile is locked by the daemon as long as it lives.
func pidFile(t cbt.Target) string { return filepath.Join(t.Dir, "restore.pid") }

// vacant waits until a daemon that has closed its monitor as it ends is gone. ErrBusy: it
// stays.
func vacant(ctx context.Context, t cbt.Target) error {
	for end := time.Now().Add(endWait); ; {
		held, err := locked(pidFile(t))
		if err != nil || !held {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s neither answers nor ends", cbt.ErrBusy, DefaultProgram)
		}
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await waits until a daemon that was started answers. While it starts it may take a
// connection and drop it.
func (s *Server) await(ctx context.Context, t cbt.Target, ended <-chan struct{}) (*daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		d, err := s.find(ctx, t)
		if d != nil {
			return d, d.protect()
		}
		if err != nil && !cbt.Retryable(err) {
			return nil, err
		}
		select {
		case <-ended:
			return nil, errors.New("it ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("it does not answer: %w", ctx.Err())
		case <-time.After(tick):
		}
	}
}

// protect closes the sockets to others. The directory is, too.
func (d *daemon) protect() error {
	paths := []string{monitor(d.t)}
	if network, address := where(d.t); network == "unix" {
		paths = append(paths, address)
	}
	for _, path := range paths {
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("protect socket: %w", err)
		}
	}
	return nil
}

func said(messages *os.File) string {
	text := make([]byte, 1000)
	n, _ := messages.ReadAt(text, 0) // what there is will do
	if n == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(text[:n]))
}

func arguments(t cbt.Target) []string {
	list := []string{
		"--chardev", "socket,id=monitor,server=on,wait=off,path=" + comma(monitor(t)),
		"--monitor", "chardev=monitor",
		"--pidfile", pidFile(t),
	}
	_, address := where(t)
	if !t.Listen.TCP() {
		return append(list, "--nbd-server", "addr.type=unix,max-connections=0,addr.path="+comma(address))
	}
	return append(list,
		"--object", "tls-creds-x509,id=tls,endpoint=server,verify-peer=on,dir="+comma(t.Listen.Certs),
		"--nbd-server", "addr.type=inet,max-connections=0,tls-creds=tls,addr.host="+comma(t.Listen.Host)+",addr.port="+strconv.Itoa(t.Listen.Port))
}

// comma writes a value as QEMU's options want it.
func comma(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// endIfIdle ends the daemon when it exports nothing, which closes the images.
func (d *daemon) endIfIdle(ctx context.Context) error {
	ids, err := d.ids(ctx)
	if err != nil || len(ids) > 0 {
		return err
	}
	if err := d.do(ctx, "quit", nil, nil); err != nil && !errors.Is(err, cbt.ErrUnreachable) {
		return err
	}
	return d.ended(ctx)
}

// ended waits until the daemon is gone, with its hold on the images.
func (d *daemon) ended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	for open := true; open; { // the channel is closed with the connection
		select {
		case _, open = <-d.client.Events:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s does not end", cbt.ErrBusy, DefaultProgram)
		}
	}
	_ = os.Remove(monitor(d.t)) // it may have done it; the next one replaces them
	if network, address := where(d.t); network == "unix" {
		_ = os.Remove(address)
	}
	return nil
}

// do runs a command. A lost connection is the daemon's end, or nearly; one that is silent
// for longer than any command takes is no better.
func (d *daemon) do(ctx context.Context, command string, arguments, result any) error {
	err := d.client.Do(ctx, command, arguments, result)
	if errors.Is(err, qmp.ErrLost) || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", cbt.ErrUnreachable, err)
	}
	return err
}
