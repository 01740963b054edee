// Package qemu tracks changed blocks with the dirty bitmaps of a running QEMU.
//
// Checkpoint 3 of a task is a persistent bitmap named cbt-<task>-3 on the node of
// every disk. Making the next one is a single transaction: add bitmap 4 to all disks
// and disable bitmap 3. A session adds to that transaction a job for each disk that
// copies old data to a scratch image before the guest overwrites it, so that the
// scratch image, backed by the disk, goes on showing the moment:
//
//	guest ─writes─▶ disk node (bitmaps 3, 4) ◀─backing─ scratch node ─▶ NBD export ─▶ reader
//	                    └─ old data, by the job ──────────▲
//
// What changed is read over NBD too, from a temporary bitmap into which those of the
// span are merged: bitmaps that record are never exported, since that would keep
// them from being ended.
//
// Every method looks at QEMU before it acts, and every name is derived from task,
// checkpoint and disk, so what a dead worker began is found:
//
//	cbt-<task>-<seq>        bitmap of a checkpoint
//	cbt-<task>-<seq>j<disk> job that keeps the moment   …s<disk>, …s<disk>f  scratch nodes
//	cbt-<task>-<seq>e<disk> export                      …v<disk>  bitmap of what changed
//	cbt-<task>-<seq>n       file that says why a session was ended; see Relieve
//	cbt-<task>-0w<disk>     bitmap, and export, of Changes
//
// A bitmap reaches the image only when QEMU closes it. When QEMU is killed, bitmaps
// made in its run are gone, and those it had loaded are marked inconsistent: the
// chain is broken, and that is what is said.
//
// When the machine is off, stored bitmaps are read from the images.
package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

// lockWait is how long a method waits for another one to leave the machine alone.
const lockWait = 10 * time.Second

// Driver implements cbt.Driver. Its zero value allows no path.
type Driver struct {
	// Roots are where images, monitors and directories of machines may lie.
	Roots cbt.Roots

	// step, in tests, is told how far a method has come, and may end it there.
	step func(name string)
	// lockWait, in tests, replaces the time below.
	lockWait time.Duration
}

var _ cbt.Driver = (*Driver)(nil)

// Name is "qemu".
func (d *Driver) Name() string { return "qemu" }

func (d *Driver) at(step string) {
	if d.step != nil {
		d.step(step)
	}
}

// check judges a target before anything is touched.
func (d *Driver) check(t cbt.Target) error {
	if err := t.Check(); err != nil {
		return err
	}
	paths := []string{t.Dir}
	if t.QMP != "" {
		paths = append(paths, t.QMP)
	}
	for _, disk := range t.Disks {
		paths = append(paths, disk.Path)
	}
	for _, path := range paths {
		if err := d.Roots.Check(path); err != nil {
			return err
		}
	}
	return nil
}

// contact takes the machine's lock and connects to its monitor. release gives both
// back. All disks are there.
func (d *Driver) contact(ctx context.Context, t cbt.Target) (m *machine, release func(), err error) {
	m, release, err = d.connect(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if err := m.present(); err != nil {
		release()
		return nil, nil, err
	}
	return m, release, nil
}

// connect is contact for what does not need the disks.
func (d *Driver) connect(ctx context.Context, t cbt.Target) (m *machine, release func(), err error) {
	if err := d.check(t); err != nil {
		return nil, nil, err
	}
	unlock, err := cbt.Lock(ctx, t, cmp.Or(d.lockWait, lockWait))
	if err != nil {
		return nil, nil, err
	}
	client, err := dial(ctx, t)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	release = func() {
		_ = client.Close() // what was done is known from the replies
		unlock()
	}
	m = &machine{client: client, t: t, at: d.at}
	m.task, _ = cbt.TaskName(t.Task) // checked above
	if err := m.look(ctx); err != nil {
		release()
		return nil, nil, err
	}
	return m, release, nil
}

func dial(ctx context.Context, t cbt.Target) (*qmp.Client, error) {
	if t.QMP == "" {
		return nil, cbt.ErrOff
	}
	client, err := qmp.Dial(ctx, "unix", t.QMP)
	switch {
	case err == nil:
		return client, nil
	case errors.Is(err, qmp.ErrBusy):
		return nil, fmt.Errorf("%w: its monitor does not greet", cbt.ErrBusy)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, cbt.ErrOff
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", cbt.ErrUnreachable, err)
}
