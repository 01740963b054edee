package volume

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// A machine is off if nobody listens on its monitor. All else that keeps us from connecting
// says nothing of the machine.
func TestWhetherAMachineIsOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		with func(t *testing.T, path string)
		want error
	}{
		{"no monitor is configured", nil, nil},
		{"no socket", func(*testing.T, string) {}, nil},
		{"the socket of a process that is dead", abandon, nil},
		{"somebody listens", func(t *testing.T, path string) { listenOn(t, path) }, cbt.ErrInUse},
		{"somebody listens and has no time", besiege, cbt.ErrUnreachable},
		{"something else has the socket", datagrams, cbt.ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var target cbt.Target
			if c.with != nil {
				target.QMP = filepath.Join(cbttest.Dir(t), "qmp")
				c.with(t, target.QMP)
			}
			if err := off(t.Context(), target); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := off(ended, cbt.Target{QMP: filepath.Join(cbttest.Dir(t), "qmp")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
}

func listenOn(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// abandon leaves a socket that nobody listens on.
func abandon(t *testing.T, path string) {
	t.Helper()
	l := listenOn(t, path)
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

// besiege fills the queue of a listener that takes nobody.
func besiege(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not fill up")
}

func datagrams(t *testing.T, path string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
}

// An export that is given up ends also when the daemon hangs.
func TestExportFromADaemonThatHangs(t *testing.T) {
	t.Parallel()
	dir := cbttest.Dir(t)
	target := cbt.Target{Dir: dir, Disks: []cbt.Disk{{Volume: "volume0", Path: filepath.Join(dir, "disk"), Format: cbt.FormatRaw}}}
	s := Server{Roots: cbt.Roots{filepath.Dir(dir)}}
	heard, _ := cbttest.Mute(t, monitor(target))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Export(ctx, target, Ask{Token: token})
		ended <- err
	}()
	<-heard
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that of the context", err)
		}
	case <-time.After(2 * undoWait):
		t.Errorf("it goes on for longer than %v", 2*undoWait)
	}
}
