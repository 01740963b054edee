// Package scan finds changed blocks by reading images and comparing digests: for
// machines that have no QEMU to ask, disks that cannot keep bitmaps, and after a
// crash has broken a chain.
//
// A checkpoint is a reading of all disks. The oldest one of a task keeps a digest of
// each block, its base; each later one keeps what differed from the one before: the
// blocks and their new digests. So the digests of any checkpoint are the base overlaid
// by what came after:
//
//	<dir>/cbt-<task>-scan/key                32 random bytes
//	                     /point-<seq>        the checkpoint and what the images looked like; written last
//	                     /base-<seq>-<disk>  of the oldest
//	                     /delta-<from>-<to>-<disk>
//
// A file that does not lie between neighbors is what a dead worker left, and goes.
//
// Digests are BLAKE3 with the task's key, cut to 128 bits. A guest that could choose
// two contents of equal digest would hide a change; without the key it cannot look
// for them. Blocks of zeros have no digest, and holes are not read.
//
// A block that is written with what it held does not count as changed, so a scan
// reports less than a bitmap would, and never more.
//
// The driver reads raw files, block devices and qcow2 images (with those behind them)
// that nobody writes. Of a raw image that is being written each block would be as of
// its own moment: that is refused, or allowed by Target.AllowFuzzy and then said in
// the point. An image of qcow2 is refused always, since its tables move.
//
// Sessions are served by this process, end with it, and are opened again by the
// worker that follows. The disk itself is served, so a session lives as long as nobody
// writes to it: a reader then gets errors, never mixed data.
package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

const (
	// DefaultWorkers read at the same time where Driver.Workers is 0.
	DefaultWorkers = 4
	lockWait       = 10 * time.Second
)

// Driver implements cbt.Driver. Its zero value allows no path. It is not copied after
// first use.
type Driver struct {
	// Roots are where images and directories of machines may lie.
	Roots cbt.Roots
	// Workers is how many reads are under way at once.
	Workers int

	// step, in tests, is told how far a method has come, and may end it there.
	step func(name string)

	mu      sync.Mutex        // guards serving, and the sessions of each
	serving map[string]*stand // by Target.Dir
}

var _ cbt.Driver = (*Driver)(nil)

// Name is "scan".
func (d *Driver) Name() string { return "scan" }

func (d *Driver) at(step string) {
	if d.step != nil {
		d.step(step)
	}
}

func (d *Driver) workers() int {
	if d.Workers > 0 {
		return d.Workers
	}
	return DefaultWorkers
}

// contact takes the machine's lock and reads what is kept of the task.
func (d *Driver) contact(ctx context.Context, t cbt.Target) (*shelf, func(), error) {
	if err := d.check(t); err != nil {
		return nil, nil, err
	}
	unlock, err := cbt.Lock(ctx, t, lockWait)
	if err != nil {
		return nil, nil, err
	}
	s, err := openShelf(t)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	s.at = d.at
	return s, unlock, nil
}

func (d *Driver) check(t cbt.Target) error {
	if err := t.Check(); err != nil {
		return err
	}
	if err := d.Roots.Check(t.Dir); err != nil {
		return err
	}
	for _, disk := range t.Disks {
		if err := d.Roots.Check(disk.Path); err != nil {
			return err
		}
	}
	return nil
}

// Probe looks; see cbt.Driver. How much has changed is not known without a scan.
func (d *Driver) Probe(ctx context.Context, t cbt.Target) (cbt.Report, error) {
	s, release, err := d.contact(ctx, t)
	if err != nil {
		return cbt.Report{}, err
	}
	defer release()
	r := cbt.Report{Persistent: true, Session: d.hasSession(t)}
	if broken := (*cbt.ChainBroken)(nil); errors.As(s.whole(t.Chain), &broken) {
		r.Broken = broken
	}
	for _, disk := range t.Disks {
		source, err := openSource(d.Roots, disk)
		if errors.Is(err, os.ErrNotExist) {
			return r, fmt.Errorf("%w: %w", cbt.ErrNoDisk, err)
		}
		if err != nil {
			return r, err
		}
		r.InUse = r.InUse || source.InUse()
		r.Disks = append(r.Disks, cbt.DiskReport{Volume: disk.Volume, Size: source.Size(), Checkpoints: s.seqs()})
		source.Close()
	}
	return r, nil
}
