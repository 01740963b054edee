package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// image is an image of a machine that is off.
type image struct {
	*qcow2.Image
	bitmaps []qcow2.Bitmap
}

// offline opens the image of a disk that nobody writes, and hands it to use. An
// image that is being written, or was by the end, is ErrUnreachable: a QEMU has it
// that we cannot ask.
func (d *Driver) offline(disk cbt.Disk, use func(image) error) error {
	if disk.Format != cbt.FormatQcow2 {
		return fmt.Errorf("%w: volume %s is %s", cbt.ErrNotPersistent, disk.Volume, disk.Format)
	}
	f, err := d.Roots.Open(disk.Path, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", cbt.ErrNoDisk, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if cbt.InUse(f) {
		return fmt.Errorf("%w, and %s is open for writing", cbt.ErrUnreachable, disk.Path)
	}
	before, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at image: %w", err)
	}
	im, err := qcow2.Open(f, before.Size())
	if err != nil {
		return err
	}
	bitmaps, err := im.Bitmaps()
	if err != nil {
		return err
	}
	if err := use(image{im, bitmaps}); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil || cbt.InUse(f) || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("%w: %s was written while it was read", cbt.ErrUnreachable, disk.Path)
	}
	return nil
}

func (im image) bitmap(name string) (qcow2.Bitmap, bool) {
	for _, b := range im.bitmaps {
		if b.Name == name {
			return b, true
		}
	}
	return qcow2.Bitmap{}, false
}

// checkpoints that the image has of a task, rising.
func (im image) checkpoints(t cbt.Target) []int {
	task, _ := cbt.TaskName(t.Task) // checked before anything is opened
	var found []int
	for _, b := range im.bitmaps {
		if of, seq, ok := cbt.ParseCheckpoint(b.Name); ok && of == task {
			found = append(found, seq)
		}
	}
	slices.Sort(found)
	return found
}

// spanned are the bitmaps of a span.
func (im image) spanned(t cbt.Target, span cbt.Span) (out []qcow2.Bitmap) {
	for _, seq := range spanned(im.checkpoints(t), span) {
		if b, ok := im.bitmap(cbt.CheckpointName(t.Task, seq)); ok {
			out = append(out, b)
		}
	}
	return out
}

// fault is what is wrong with a checkpoint in a stored image, as with that of a
// running machine: one bitmap has to go on recording when the machine starts.
func (im image) fault(t cbt.Target, p cbt.Point, disk int) cbt.Why {
	_, ok := im.bitmap(cbt.CheckpointName(t.Task, p.Seq))
	switch {
	case !ok:
		return cbt.WhyAbsent
	case disk < len(p.Sizes) && im.Size() < p.Sizes[disk]:
		return cbt.WhyResized
	}
	recording := false
	for _, b := range im.spanned(t, cbt.Span{From: p.Seq}) {
		if b.InUse {
			return cbt.WhyInconsistent
		}
		recording = recording || b.Recording
	}
	if !recording {
		return cbt.WhyDisabled
	}
	return ""
}

// stored reads one disk of a machine that is off.
func (d *Driver) stored(t cbt.Target, q question, disk int) (extents []cbt.Extent, err error) {
	err = d.offline(t.Disks[disk], func(im image) error {
		if len(q.points) == 0 {
			extents, err = allocated(im.Image)
			return err
		}
		for _, p := range q.points {
			if why := im.fault(t, p, disk); why != "" {
				return &cbt.ChainBroken{Volume: t.Disks[disk].Volume, Seq: p.Seq, Why: why}
			}
		}
		dirty, err := im.dirty(t, q.span)
		extents = grown(dirty, q.points[0], disk, im.Size())
		return err
	})
	return extents, err
}

// dirty is the union of the bitmaps of a span.
func (im image) dirty(t cbt.Target, span cbt.Span) ([]cbt.Extent, error) {
	var all [][]cbt.Extent
	for _, b := range im.spanned(t, span) {
		var one []cbt.Extent
		err := im.Dirty(b, func(offset, length uint64) error {
			one = append(one, cbt.Extent{Offset: offset, Length: length})
			return nil
		})
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return cbt.Union(all...), nil
}

// allocated lists what may hold data. What the image does not have may be in the one
// behind it.
func allocated(im *qcow2.Image) (extents []cbt.Extent, err error) {
	backing, _ := im.Backing()
	join := cbt.Joiner{Each: func(e cbt.Extent) error {
		extents = append(extents, e)
		return nil
	}}
	err = im.Walk(0, func(r qcow2.Run) error {
		switch {
		case r.Kind == qcow2.Data, r.Kind == qcow2.Compressed, r.Kind == qcow2.Unallocated && backing != "":
			return join.Add(cbt.Extent{Offset: r.Offset, Length: r.Length})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return extents, join.Flush()
}

// Probe looks; see cbt.Driver.
func (d *Driver) Probe(ctx context.Context, t cbt.Target) (cbt.Report, error) {
	m, release, err := d.contact(ctx, t)
	if errors.Is(err, cbt.ErrOff) {
		return d.probeStored(t)
	}
	if err != nil {
		return cbt.Report{}, err
	}
	defer release()
	return m.probe(ctx)
}

func (m *machine) probe(ctx context.Context) (cbt.Report, error) {
	r := cbt.Report{Running: true, Persistent: true, InUse: true}
	if broken := (*cbt.ChainBroken)(nil); errors.As(m.whole(m.t.Chain), &broken) {
		r.Broken = broken
	}
	for i, n := range m.disks {
		one := cbt.DiskReport{Volume: m.t.Disks[i].Volume, Size: n.Image.Size, Checkpoints: m.checkpoints(n)}
		one.Changed, one.Known = m.changedSince(n, m.t.Chain.Last())
		r.Persistent = r.Persistent && n.persistent()
		r.Disks = append(r.Disks, one)
	}
	jobs, err := m.jobs(ctx)
	if err != nil {
		return r, err
	}
	for id, j := range jobs {
		r.Session = r.Session || m.temporary().has(id) && j.Status != concluded
	}
	return r, nil
}

// changedSince counts what bitmaps hold since a checkpoint. Blocks that are in several
// count several times, so while one is not recorded this is the most it can be.
func (m *machine) changedSince(n *node, last int) (bytes uint64, known bool) {
	if last == 0 || n.bitmap(m.name(last)) == nil {
		return 0, false
	}
	for _, seq := range spanned(m.checkpoints(n), cbt.Span{From: last}) {
		b := n.bitmap(m.name(seq))
		if b.Inconsistent {
			return 0, false
		}
		bytes += b.Count
	}
	return bytes, true
}

func (d *Driver) probeStored(t cbt.Target) (cbt.Report, error) {
	if err := d.check(t); err != nil {
		return cbt.Report{}, err
	}
	r := cbt.Report{Persistent: true}
	for i, disk := range t.Disks {
		one := cbt.DiskReport{Volume: disk.Volume}
		err := d.offline(disk, func(im image) error {
			one.Size = im.Size()
			one.Checkpoints = im.checkpoints(t)
			for _, p := range t.Chain {
				if why := im.fault(t, p, i); why != "" && r.Broken == nil {
					r.Broken = &cbt.ChainBroken{Volume: disk.Volume, Seq: p.Seq, Why: why}
				}
			}
			return nil
		})
		if errors.Is(err, cbt.ErrNotPersistent) {
			r.Persistent, err = false, nil
		}
		if err != nil {
			return r, err
		}
		r.Disks = append(r.Disks, one)
	}
	return r, nil
}
