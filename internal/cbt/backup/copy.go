package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// A Copy is what Write is to copy: disks that show one moment.
type Copy struct {
	Seq   int
	Base  int // the backup that Extents are what changed since; 0: the backup is full
	Disks []Disk
	// Rate bounds the bytes a second, all disks together; 0: no bound.
	Rate uint64
	// Progress, if set, is told the bytes done and to do, from the caller's goroutine.
	Progress func(done, total uint64)
}

// A Disk is read for a backup.
type Disk struct {
	Volume string
	Size   uint64 // bytes
	// Extents are what is copied, by rising offset. Of a disk that is Based they are what
	// changed since the base's copy of it; else they are all that may be other than zeros.
	Extents []cbt.Extent
	Based   bool
	// Open connects to it; some connections are used at once.
	Open func(ctx context.Context) (Reader, error)
}

// A Reader reads a disk; a *nbd.Client is one.
type Reader interface {
	Read(ctx context.Context, p []byte, offset uint64) error
	Close() error
}

// Write copies disks into files that are no backup yet: Seal makes them one. What an
// attempt before has left is removed. The files are on the disk when it returns.
//
// ErrNoSpace: the file system has no room for it, or had none in the end. Errors of
// Reader are passed on.
func (s Set) Write(ctx context.Context, c Copy) ([]cbt.BackupFile, error) {
	if err := s.Clear(); err != nil {
		return nil, err
	}
	w := &writing{Copy: c, dir: s.partial(c.Seq), pace: pace{rate: c.Rate}}
	need := uint64(0)
	for _, d := range c.Disks {
		l, err := s.plan(c, d)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", d.Volume, err)
		}
		w.layouts = append(w.layouts, l)
		w.total += copied(l)
		need += l.Length()
	}
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of backups: %w", full(err))
	}
	if err := cbt.NeedSpace(s.dir(), need); err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the backup: %w", full(err))
	}
	return w.write(ctx)
}

// plan lays out the image of a disk.
func (s Set) plan(c Copy, d Disk) (*qcow2.Layout, error) {
	if d.Volume == "" || d.Volume != filepath.Base(d.Volume) {
		return nil, fmt.Errorf("%w: it cannot name a file", cbt.ErrUnsupported)
	}
	runs := make([]qcow2.Run, len(d.Extents))
	for i, e := range d.Extents {
		runs[i] = qcow2.Run{Offset: e.Offset, Length: e.Length, Kind: qcow2.Data}
		if e.Zero {
			runs[i].Kind = qcow2.Zero
		}
	}
	if !d.Based {
		return qcow2.Plan(d.Size, runs, "", "")
	}
	return qcow2.Plan(d.Size, runs, s.behind(c.Base, d.Volume), cbt.FormatQcow2)
}

// behind is the name that an image has for the one of its base.
func (s Set) behind(base int, volume string) string {
	return filepath.Join("..", s.name(base), volume+imageSuffix)
}

// copied is how many bytes of data an image takes.
func copied(l *qcow2.Layout) (n uint64) {
	for _, r := range l.Runs() {
		if r.Kind == qcow2.Data {
			n += r.Length
		}
	}
	return n
}

// writing is one call of Write.
type writing struct {
	Copy
	dir         string
	layouts     []*qcow2.Layout
	pace        pace
	done, total uint64
}

func (w *writing) write(ctx context.Context) (files []cbt.BackupFile, err error) {
	for i, d := range w.Disks {
		f, err := w.disk(ctx, d, w.layouts[i])
		if err != nil {
			return nil, fmt.Errorf("copy volume %s: %w", d.Volume, full(err))
		}
		files = append(files, f)
	}
	return files, nil
}

// disk writes the image of one disk.
func (w *writing) disk(ctx context.Context, d Disk, l *qcow2.Layout) (cbt.BackupFile, error) {
	name := d.Volume + imageSuffix
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return cbt.BackupFile{}, err
	}
	out := newSummed(f)
	err = l.WriteTables(out)
	if err == nil {
		err = w.data(ctx, d, l, out)
	}
	if err == nil {
		err = f.Truncate(int64(l.Length())) //nolint:gosec // Plan bounds the size
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return cbt.BackupFile{}, err
	}
	return cbt.BackupFile{Volume: d.Volume, Name: name, Size: d.Size, Bytes: copied(l), Sum: hex.EncodeToString(out.sum())}, nil
}

// data copies the runs of a disk in their order.
func (w *writing) data(ctx context.Context, d Disk, l *qcow2.Layout, out *summed) error {
	return stream(ctx, d.Open, l.Runs(), &w.pace, func(p []byte) error {
		if _, err := out.Write(p); err != nil {
			return err
		}
		if over := len(p) % hole; over > 0 { // the disk ends within a cluster
			if _, err := out.Write(make([]byte, hole-over)); err != nil {
				return err
			}
		}
		w.done += uint64(len(p))
		if w.Progress != nil {
			w.Progress(w.done, w.total)
		}
		return nil
	})
}
