package qemu

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// Checkpoint makes a checkpoint; see cbt.Driver.
func (d *Driver) Checkpoint(ctx context.Context, t cbt.Target, seq int) (cbt.Point, error) {
	m, release, err := d.contact(ctx, t)
	if err != nil {
		return cbt.Point{}, err
	}
	defer release()
	if err := m.ready(seq); err != nil {
		return cbt.Point{}, err
	}
	if i := m.recorded(seq); i != nil {
		return *i, nil
	}
	if m.made(seq) {
		err := m.fold(ctx, seq)
		return m.point(seq), err
	}
	if err := m.fold(ctx, 0); err != nil {
		return cbt.Point{}, err
	}
	if err := m.room(); err != nil {
		return cbt.Point{}, err
	}
	if err := m.begin(ctx, seq, nil, nil); err != nil {
		return cbt.Point{}, fmt.Errorf("make checkpoint %d: %w", seq, err)
	}
	d.at("begun")
	if err := m.look(ctx); err != nil {
		return cbt.Point{}, err
	}
	return m.point(seq), nil
}

// ready judges whether a checkpoint can be made or found: the chain is whole, all
// disks can keep it, and no younger one exists.
func (m *machine) ready(seq int) error {
	if m.t.Chain.Last() > seq {
		return fmt.Errorf("%w: %d is recorded", cbt.ErrStale, m.t.Chain.Last())
	}
	for i, n := range m.disks {
		if have := m.checkpoints(n); len(have) > 0 && have[len(have)-1] > seq {
			return fmt.Errorf("%w: %d on volume %s", cbt.ErrStale, have[len(have)-1], m.t.Disks[i].Volume)
		}
		if len(m.t.Chain) == 0 && n.ReadOnly {
			return fmt.Errorf("%w: the machine does not write to %s", cbt.ErrNoDisk, m.t.Disks[i].Path)
		}
		if !n.persistent() {
			return fmt.Errorf("%w: volume %s is %s", cbt.ErrNotPersistent, m.t.Disks[i].Volume, describe(n))
		}
	}
	return m.whole(m.t.Chain)
}

func describe(n *node) string {
	if n.Driver == cbt.FormatQcow2 {
		return "qcow2 version 2"
	}
	return n.Driver
}

// whole says whether all checkpoints of a part of the chain are on all disks, complete.
func (m *machine) whole(points cbt.Chain) error {
	for i, n := range m.disks {
		for _, p := range points {
			if why := m.fault(n, i, p); why != "" {
				return &cbt.ChainBroken{Volume: m.t.Disks[i].Volume, Seq: p.Seq, Why: why}
			}
		}
	}
	return nil
}

// fault says what is wrong with a checkpoint on a disk. It and the younger ones, whether
// they are in the chain or not, hold what was written since. One of them must be
// recording: the youngest, or, where fold was cut short, the one it folded into.
func (m *machine) fault(n *node, disk int, p cbt.Point) cbt.Why {
	b := n.bitmap(m.name(p.Seq))
	switch {
	case n.ReadOnly:
		return cbt.WhySnapshot
	case b == nil:
		return cbt.WhyAbsent
	case b.Inconsistent:
		return cbt.WhyInconsistent
	case disk < len(p.Sizes) && n.Image.Size < p.Sizes[disk]:
		return cbt.WhyResized
	}
	recording := false
	for _, seq := range spanned(m.checkpoints(n), cbt.Span{From: p.Seq}) {
		younger := n.bitmap(m.name(seq))
		if younger.Inconsistent {
			return cbt.WhyInconsistent
		}
		recording = recording || younger.Recording
	}
	if !recording {
		return cbt.WhyDisabled
	}
	return ""
}

func (m *machine) recorded(seq int) *cbt.Point {
	for _, p := range m.t.Chain {
		if p.Seq == seq {
			return &p
		}
	}
	return nil
}

// made says whether a checkpoint that is not recorded exists on all disks and records.
func (m *machine) made(seq int) bool {
	for _, n := range m.disks {
		if b := n.bitmap(m.name(seq)); b == nil || !b.Recording || b.Inconsistent {
			return false
		}
	}
	return true
}

func (m *machine) point(seq int) cbt.Point {
	p := cbt.Point{Seq: seq, At: time.Now().UTC()}
	for _, n := range m.disks {
		p.Sizes = append(p.Sizes, n.Image.Size)
		if b := n.bitmap(m.name(m.t.Chain.Before(seq))); b != nil {
			p.Changed += b.Count
		}
	}
	return p
}

// room looks for the space that the bitmaps will take when QEMU closes the images.
// QEMU itself notices too late: it can leave an image that does not open.
func (m *machine) room() error {
	for i, n := range m.disks {
		bits := n.Image.Size/m.t.Block()/8 + 1<<20
		if err := cbt.NeedSpace(filepath.Dir(m.t.Disks[i].Path), 2*bits); err != nil {
			return err
		}
	}
	return nil
}

// begin is the moment: all disks end the interval before and begin the new one. What
// comes first in the transaction stops the guest's writes until all is done: jobs do,
// bitmaps do not.
func (m *machine) begin(ctx context.Context, seq int, jobs, more list) error {
	actions := jobs
	last := m.t.Chain.Before(seq)
	for _, n := range m.disks {
		actions = append(actions, addBitmap(n, m.name(seq), m.t.Block()))
		if last > 0 {
			actions = append(actions, disable(n, m.name(last)))
		}
	}
	return m.transaction(ctx, append(actions, more...))
}

// fold joins the intervals of checkpoints that nobody recorded to those before them,
// and removes them. keep is spared. One transaction moves the bits and the recording,
// so that no write falls between; dying behind it leaves bitmaps that are merged a
// second time, which changes nothing.
func (m *machine) fold(ctx context.Context, keep int) error {
	var actions list
	gone := make([][]string, len(m.disks))
	for i, n := range m.disks {
		more, names := m.foldDisk(n, keep)
		actions, gone[i] = append(actions, more...), names
	}
	if err := m.transaction(ctx, actions); err != nil {
		return fmt.Errorf("join intervals: %w", err)
	}
	m.at("folded")
	for i, n := range m.disks {
		for _, name := range gone[i] {
			if err := m.removeBitmap(ctx, n, name); err != nil {
				return err
			}
		}
	}
	return m.look(ctx)
}

func (m *machine) foldDisk(n *node, keep int) (actions list, names []string) {
	for _, seq := range m.checkpoints(n) {
		if seq == keep || m.t.Chain.Has(seq) {
			continue
		}
		name := m.name(seq)
		names = append(names, name)
		b, older := n.bitmap(name), n.bitmap(m.name(m.t.Chain.Before(seq)))
		if older == nil || b.Inconsistent || older.Inconsistent {
			continue
		}
		if b.Recording && !older.Recording {
			actions = append(actions, enable(n, older.Name))
		}
		actions = append(actions, merge(n, older.Name, []string{name}))
		if b.Recording {
			actions = append(actions, disable(n, name))
		}
	}
	return actions, names
}

// Trim removes checkpoints that are not recorded; see cbt.Driver. Where the chain is
// broken it removes what it can.
func (d *Driver) Trim(ctx context.Context, t cbt.Target) error {
	m, release, err := d.contact(ctx, t)
	if err != nil {
		return err
	}
	defer release()
	return m.fold(ctx, 0)
}
