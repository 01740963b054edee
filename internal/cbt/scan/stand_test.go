package scan

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// leaving calls f when the first session is about to end, while it is still listed.
func (b *bench) leaving(f func()) {
	var once atomic.Bool
	b.driver.step = func(step string) {
		if step == "leaving" && once.CompareAndSwap(false, true) {
			f()
		}
	}
}

// While the end of a session waits for a reader to go, other machines are served.
func TestMachinesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	a, b := newBench(t, 1, 1<<20, cbt.FormatRaw), newBench(t, 1, 1<<20, cbt.FormatRaw)
	a.driver.Roots = append(a.driver.Roots, b.driver.Roots...)
	b.driver = a.driver
	s := cbt.Session{Seq: 1, Token: token}
	_, exports, err := a.driver.Open(t.Context(), a.target, s)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := nbd.Dial(t.Context(), exports[0].Network, exports[0].Address, exports[0].Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	a.leaving(func() {
		served := make(chan error, 1)
		go func() { served <- b.serveOnce(t.Context(), s) }()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("the other machine: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the other machine waits")
		}
	})
	if err := a.driver.Close(t.Context(), a.target, s); !errors.Is(err, cbt.ErrInUse) {
		t.Errorf("got error %v of a session with a reader, want ErrInUse", err)
	}
	if err := reader.Read(t.Context(), make([]byte, block), 0); err != nil {
		t.Errorf("the session that stays cannot be read: %v", err)
	}
}

// serveOnce opens a session, looks at it and ends it.
func (b *bench) serveOnce(ctx context.Context, s cbt.Session) error {
	if _, _, err := b.driver.Open(ctx, b.target, s); err != nil {
		return err
	}
	r, err := b.driver.Probe(ctx, b.target)
	if err == nil && !r.Session {
		err = errors.New("the open session is not seen")
	}
	return errors.Join(err, b.driver.Close(ctx, b.target, s))
}

// The worker may end while a session does.
func TestShutdownWhileASessionEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 1<<20, cbt.FormatRaw)
	s := cbt.Session{Seq: 1, Token: token}
	if _, _, err := b.driver.Open(t.Context(), b.target, s); err != nil {
		t.Fatal(err)
	}
	b.leaving(func() {
		if err := b.driver.Shutdown(); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	if err := b.driver.Close(t.Context(), b.target, s); err != nil {
		t.Errorf("got error %v of a session that went meanwhile", err)
	}
	if err := b.serveOnce(t.Context(), cbt.Session{Seq: 2, Token: token}); err != nil {
		t.Errorf("got error %v of a session after it", err)
	}
}

// A socket that was left goes. One that may be somebody's stays, and its machine is busy.
func TestSocketThatIsThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, network string
		listen        bool
		want          error
	}{
		{"of a process that is dead", "unix", false, nil},
		{"of one that listens", "unix", true, cbt.ErrBusy},
		{"of we do not know what", "unixgram", true, cbt.ErrBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, 1<<20, cbt.FormatRaw)
			path := filepath.Join(b.target.Dir, "nbd.sock")
			if err := os.Mkdir(b.target.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			other := occupy(t, c.network, path)
			if !c.listen {
				other.Close()
			}
			if _, _, err := b.driver.Open(t.Context(), b.target, cbt.Session{Seq: 1, Token: token}); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the socket: %v", err)
			}
		})
	}
}

// occupy has a socket that stays when it is closed.
func occupy(t *testing.T, network, path string) io.Closer {
	t.Helper()
	var other io.Closer
	var err error
	if address := (&net.UnixAddr{Name: path, Net: network}); network == "unix" {
		var l *net.UnixListener
		if l, err = net.ListenUnix(network, address); err == nil {
			l.SetUnlinkOnClose(false)
		}
		other = l
	} else {
		other, err = net.ListenUnixgram(network, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return other
}
