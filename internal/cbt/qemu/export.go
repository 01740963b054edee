package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

// credentials is the id of the TLS object in QEMU.
const credentials = "cbt-tls"

// contextPrefix begins the names of the NBD contexts that show bitmaps.
const contextPrefix = "qemu:dirty-bitmap:"

// where is the address of the machine's NBD server.
func where(t cbt.Target) (network, address string) {
	if t.Listen.TCP() {
		return "tcp", t.Listen.Address()
	}
	return "unix", filepath.Join(t.Dir, "nbd.sock")
}

// listen starts QEMU's NBD server. It has one at most, and does not tell where that
// listens: one that runs already may be ours or not, which reach finds out.
func (m *machine) listen(ctx context.Context) error {
	arguments, err := m.serverArguments(ctx)
	if err != nil {
		return err
	}
	started := m.do(ctx, "nbd-server-start", arguments, nil)
	if no := (*qmp.Error)(nil); started != nil && !errors.As(started, &no) {
		return started
	}
	if network, address := where(m.t); started == nil && network == "unix" {
		return os.Chmod(address, 0o600)
	}
	return nil
}

func (m *machine) serverArguments(ctx context.Context) (object, error) {
	if _, address := where(m.t); !m.t.Listen.TCP() {
		return object{"addr": object{"type": "unix", "data": object{"path": address}}}, nil
	}
	dir, err := m.certs()
	if err != nil {
		return nil, err
	}
	// One that is left from before may be of other files; if the server uses it, it
	// stays, and adding is refused.
	_ = m.do(ctx, "object-del", object{"id": credentials}, nil)
	err = m.do(ctx, "object-add", object{
		"qom-type": "tls-creds-x509", "id": credentials, "endpoint": "server",
		"dir": dir, "verify-peer": true,
	}, nil)
	if no := (*qmp.Error)(nil); err != nil && !errors.As(err, &no) {
		return nil, err
	}
	host := object{"host": m.t.Listen.Host, "port": strconv.Itoa(m.t.Listen.Port)}
	return object{"addr": object{"type": "inet", "data": host}, "tls-creds": credentials}, nil
}

// reach connects to an export of ours. ErrBusy: the NBD server is somebody else's.
func (m *machine) reach(ctx context.Context, export string, contexts ...string) (*nbd.Client, error) {
	options := nbd.Options{Contexts: contexts}
	if m.t.Listen.TCP() {
		config, err := nbd.ClientTLS(m.t.Listen.Certs, m.t.Listen.Host)
		if err != nil {
			return nil, err
		}
		options.TLS = config
	}
	network, address := where(m.t)
	short, cancel := context.WithTimeout(ctx, qmp.CommandWait)
	defer cancel()
	client, err := nbd.Dial(short, network, address, export, options)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w: its NBD server is silent", cbt.ErrUnreachable)
	}
	if failed := (*net.OpError)(nil); errors.As(err, &failed) && failed.Op == "dial" {
		return nil, fmt.Errorf("%w: the machine's NBD server listens elsewhere: %w", cbt.ErrBusy, err)
	}
	return client, err
}

// export makes a node readable under a name, with a bitmap if that is not empty.
func (m *machine) export(ctx context.Context, id, nodeName, name, bitmap string) error {
	data := object{"type": "nbd", "id": id, "node-name": nodeName, "name": name}
	if bitmap != "" {
		data["bitmaps"] = list{bitmap}
	}
	if err := m.do(ctx, "block-export-add", data, nil); err != nil {
		return fmt.Errorf("export %s: %w", nodeName, err)
	}
	return nil
}

// exported are the ids of all exports. Those that are being closed count.
func (m *machine) exported(ctx context.Context) (map[string]bool, error) {
	var all []struct {
		ID string `json:"id"`
	}
	if err := m.do(ctx, "query-block-exports", nil, &all); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, e := range all {
		ids[e.ID] = true
	}
	return ids, nil
}

// unlisten stops the NBD server when nothing is exported, so that it can be started
// elsewhere. Where it is not ours that would do harm: only ours has nothing to serve.
func (m *machine) unlisten(ctx context.Context) error {
	ids, err := m.exported(ctx)
	if err != nil || len(ids) > 0 {
		return err
	}
	network, address := where(m.t)
	if network == "unix" {
		if _, err := os.Stat(address); err != nil {
			return nil
		}
	}
	_ = m.do(ctx, "nbd-server-stop", nil, nil) // refused if there is none
	if network == "unix" {
		_ = os.Remove(address) // QEMU may have done it; a new server replaces it
	}
	return nil
}
