// Package volume serves volumes of a machine that is off, writable, for a restore.
//
// A qemu-storage-daemon of the machine's own holds the images and serves them over
// NBD, on a unix socket in the machine's directory or over TCP with TLS. It outlives
// the worker that started it, and is found again by its monitor:
//
//	worker ─▶ <dir>/restore.qmp ─▶ qemu-storage-daemon ─▶ images
//	                                  ▲ <dir>/restore.nbd
//	                             backup product
//
// What is exported is asked of the daemon, and nothing else is kept: the id of an
// export tells its volume and the token that makes its name hard to guess. The daemon
// ends with its last export.
//
// The daemon locks the images as any QEMU does, so that the machine cannot start on
// them meanwhile. While the machine's process runs, or anybody else writes to an
// image, nothing is exported.
package volume

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

const (
	// DefaultProgram is what serves.
	DefaultProgram = "qemu-storage-daemon"
	lockWait       = 10 * time.Second
)

// A Server serves the volumes of this host's machines. Its zero value allows no path.
type Server struct {
	// Roots are where images and directories of machines may lie.
	Roots cbt.Roots
	// Program is started to serve; DefaultProgram where it is empty.
	Program string
}

// Ask says which volumes of a machine are meant.
type Ask struct {
	Volumes []string // uuids; none means all
	// Token makes names hard to guess: 16 hexadecimal digits at least. The same ask
	// with the same token is the same export.
	Token string
	// Force ends what is in the way: to export, an export of the volume under another
	// token; to end an export, its readers and writers.
	Force bool
}

// Export serves volumes, all of those asked for or none, and returns how they are
// reached. What is served already under the same token stays as it is. Of t the task
// and the chain are not looked at.
//
// ErrInUse: the machine runs, somebody writes to an image, or a volume is exported
// under another token. ErrUnsupported: the program is not installed. ErrNoDisk: the
// machine has no such volume, or its image is not there. ErrBusy may pass.
func (s *Server) Export(ctx context.Context, t cbt.Target, ask Ask) ([]cbt.Export, error) {
	if len(ask.Token) < 16 || strings.Trim(ask.Token, "0123456789abcdef") != "" {
		return nil, errors.New("the token of an export has 16 hexadecimal digits or more")
	}
	disks, err := s.disks(t, ask.Volumes)
	if err != nil {
		return nil, err
	}
	unlock, err := cbt.Lock(ctx, t, lockWait)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := off(ctx, t); err != nil {
		return nil, err
	}
	d, err := s.daemon(ctx, t)
	if err != nil {
		return nil, err
	}
	defer d.release()
	made, err := s.serve(ctx, d, disks, ask)
	if err != nil {
		return nil, errors.Join(err, d.undo(ctx, made))
	}
	return d.exports(ctx, disks)
}

// Unexport ends exports of volumes, under whatever token, and returns those that are
// left. ErrInUse: one has a client and force is not set; that one stays.
func (s *Server) Unexport(ctx context.Context, t cbt.Target, ask Ask) ([]cbt.Export, error) {
	disks, err := s.disks(t, ask.Volumes)
	if err != nil {
		return nil, err
	}
	d, release, err := s.hold(ctx, t)
	if err != nil || d == nil {
		return nil, err
	}
	defer release()
	if err := d.drop(ctx, disks, ask.Force); err != nil {
		return nil, err
	}
	left, err := d.exports(ctx, t.Disks)
	if err != nil {
		return nil, err
	}
	return left, d.endIfIdle(ctx)
}

// Exports tells what of a machine is served.
func (s *Server) Exports(ctx context.Context, t cbt.Target) ([]cbt.Export, error) {
	d, release, err := s.hold(ctx, t)
	if err != nil || d == nil {
		return nil, err
	}
	defer release()
	return d.exports(ctx, t.Disks)
}

// hold locks the machine and finds its daemon, nil if there is none; then nothing is to
// be released.
func (s *Server) hold(ctx context.Context, t cbt.Target) (d *daemon, release func(), err error) {
	unlock, err := cbt.Lock(ctx, t, lockWait)
	if err != nil {
		return nil, nil, err
	}
	d, err = s.find(ctx, t)
	if err != nil || d == nil {
		unlock()
		return nil, nil, err
	}
	return d, func() {
		d.release()
		unlock()
	}, nil
}

// disks are the machine's own that are asked for, in the machine's order.
func (s *Server) disks(t cbt.Target, volumes []string) ([]cbt.Disk, error) {
	for _, path := range []string{t.Dir, t.Listen.Certs} {
		if path == "" {
			continue
		}
		if err := s.Roots.Check(path); err != nil {
			return nil, err
		}
	}
	var out []cbt.Disk
	for _, disk := range t.Disks {
		if len(volumes) == 0 || slices.Contains(volumes, disk.Volume) {
			out = append(out, disk)
		}
	}
	for _, volume := range volumes {
		if !slices.ContainsFunc(out, func(d cbt.Disk) bool { return d.Volume == volume }) {
			return nil, fmt.Errorf("%w: the machine has no volume %s", cbt.ErrNoDisk, volume)
		}
	}
	return out, nil
}

// off is ErrInUse while the machine's process runs, and ErrUnreachable where that cannot
// be told: only a monitor that is not there or that nobody listens on tells that it is off.
func off(ctx context.Context, t cbt.Target) error {
	if t.QMP == "" {
		return nil
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", t.QMP)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("%w: the machine runs; it has to be stopped", cbt.ErrInUse)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: whether the machine runs is not known: %w", cbt.ErrUnreachable, err)
}

// serve exports what is not exported yet. made are the disks of what it began, also if it
// fails.
func (s *Server) serve(ctx context.Context, d *daemon, disks []cbt.Disk, ask Ask) (made []cbt.Disk, err error) {
	if err := d.clear(ctx, disks, ask); err != nil {
		return nil, err
	}
	have, err := d.ids(ctx)
	if err != nil {
		return nil, err
	}
	for _, disk := range disks {
		if slices.Contains(have, exportID(disk.Volume, ask.Token)) {
			continue
		}
		made = append(made, disk)
		if err := s.admit(disk); err != nil {
			return made, err
		}
		if err := d.add(ctx, disk, exportID(disk.Volume, ask.Token)); err != nil {
			return made, err
		}
	}
	return made, nil
}

// admit looks at an image, and those behind it, before a program opens them.
func (s *Server) admit(disk cbt.Disk) error {
	f, err := s.Roots.Open(disk.Path, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", cbt.ErrNoDisk, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if cbt.InUse(f) {
		return fmt.Errorf("%w: somebody writes to %s", cbt.ErrInUse, disk.Path)
	}
	return s.admitBacking(disk.Path, f, disk.Format, 0)
}

// Ids of exports and names of nodes: "r-", then 16 digits that stand for the volume;
// exports add the token.
const volumeDigits = 16

func nodeName(volume string) string {
	sum := sha256.Sum256([]byte(volume))
	return "r-" + hex.EncodeToString(sum[:volumeDigits/2])
}

func exportID(volume, token string) string { return nodeName(volume) + "-" + token }

// ofVolume says whether an export's id is of a volume.
func ofVolume(id, volume string) bool { return strings.HasPrefix(id, nodeName(volume)+"-") }

func monitor(t cbt.Target) string { return filepath.Join(t.Dir, "restore.qmp") }

// where is the address of the daemon's NBD server.
func where(t cbt.Target) (network, address string) {
	if t.Listen.TCP() {
		return "tcp", t.Listen.Address()
	}
	return "unix", filepath.Join(t.Dir, "restore.nbd")
}
