package scan

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// What is served is changed by who holds the machine's lock, and taken away by Shutdown,
// which holds no such lock. Driver.mu guards the lists alone and nothing waits under it,
// so machines do not wait for each other.

// stand is the NBD server of a machine, with its sessions.
type stand struct {
	server           *nbd.Server
	network, address string
	sessions         map[string]*showing // by the name of their checkpoint; guarded by Driver.mu
}

// showing is a session that is served.
type showing struct {
	disks   []*images
	exports []cbt.Export
}

// stand is the machine's server, started if need be.
func (d *Driver) stand(ctx context.Context, t cbt.Target) (*stand, error) {
	if st, _ := d.shown(t, ""); st != nil {
		return st, nil
	}
	st, err := listen(ctx, t)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving == nil {
		d.serving = map[string]*stand{}
	}
	d.serving[t.Dir] = st
	return st, nil
}

// listen starts the server of a machine.
func listen(ctx context.Context, t cbt.Target) (*stand, error) {
	st := &stand{sessions: map[string]*showing{}, network: "unix", address: filepath.Join(t.Dir, "nbd.sock")}
	var secure *tls.Config
	if t.Listen.TCP() {
		st.network, st.address = "tcp", t.Listen.Address()
		var err error
		if secure, err = nbd.ServerTLS(t.Listen.Certs); err != nil {
			return nil, err
		}
	} else if err := clearSocket(st.address); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, st.network, st.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cbt.ErrBusy, err)
	}
	if st.network == "unix" {
		if err := os.Chmod(st.address, 0o600); err != nil {
			listener.Close()
			return nil, fmt.Errorf("protect socket: %w", err)
		}
	}
	st.server = nbd.Serve(listener, secure)
	return st, nil
}

// clearSocket removes the socket of a process that is gone. ErrBusy: it is there, or
// that cannot be told.
func clearSocket(path string) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%w: another process serves the machine", cbt.ErrBusy)
	case errors.Is(err, os.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: whether another process serves the machine: %w", cbt.ErrBusy, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	return nil
}

// errShutdown: Shutdown came in between.
var errShutdown = fmt.Errorf("%w: the worker ends", cbt.ErrBusy)

// shown finds what is served of a machine, and a session in it.
func (d *Driver) shown(t cbt.Target, name string) (*stand, *showing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.serving[t.Dir]
	if st == nil {
		return nil, nil
	}
	return st, st.sessions[name]
}

// sessions are the names of those that are served of a machine.
func (d *Driver) sessions(t cbt.Target) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.serving[t.Dir]; st != nil {
		names = slices.Sorted(maps.Keys(st.sessions))
	}
	return names
}

func (d *Driver) hasSession(t cbt.Target) bool {
	want, _ := cbt.TaskName(t.Task) // checked before
	return slices.ContainsFunc(d.sessions(t), func(name string) bool {
		task, _, _ := cbt.ParseName(name)
		return task == want
	})
}

// unlist takes a session off the list, with its server if it was the last one. mine is
// false where Shutdown did so, which closes what it takes.
func (d *Driver) unlist(t cbt.Target, st *stand, name string) (mine, last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving[t.Dir] != st {
		return false, false
	}
	delete(st.sessions, name)
	if len(st.sessions) == 0 {
		delete(d.serving, t.Dir)
	}
	return true, len(st.sessions) == 0
}

// Shutdown ends what this process serves, as its end would. Sessions are not closed:
// the worker that follows opens them again.
func (d *Driver) Shutdown() (err error) {
	d.mu.Lock()
	serving := d.serving
	d.serving = nil
	d.mu.Unlock()
	for _, st := range serving { // which nobody else finds any more
		err = errors.Join(err, st.server.Close())
		for _, now := range st.sessions {
			closeDisks(now.disks)
		}
	}
	return err
}
