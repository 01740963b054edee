package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// Changes reads what was written in a span; see cbt.Driver. The machine is held for
// one disk at a time, and not while each is called.
func (d *Driver) Changes(ctx context.Context, t cbt.Target, span cbt.Span, from cbt.Cursor, each func(int, cbt.Extent) error) error {
	var points cbt.Chain
	if span.From > 0 {
		var err error
		points, err = t.Chain.Points(span)
		if err != nil || len(points) == 0 {
			return err // from a checkpoint to itself nothing was written
		}
	}
	asked := question{span, points}
	for i := from.Disk; i < len(t.Disks); i++ {
		extents, err := d.changed(ctx, t, asked, i, from.Start(i))
		if errors.Is(err, cbt.ErrOff) {
			extents, err = d.stored(t, asked, i)
		}
		if err != nil {
			return err
		}
		for _, e := range extents {
			if part, ok := from.Cut(i, e); ok {
				if err := each(i, part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// question is what Changes was asked. No points asks for what is allocated.
type question struct {
	span   cbt.Span
	points cbt.Chain // the recorded checkpoints of the span
}

// spanned are the checkpoints on a disk of which the bitmaps make up a span. Those
// that nobody recorded count: their intervals have not been joined to others yet.
func spanned(have []int, span cbt.Span) []int {
	return slices.DeleteFunc(slices.Clone(have), func(seq int) bool {
		return seq < span.From || span.To != 0 && seq >= span.To
	})
}

// changed asks a running machine for one disk.
func (d *Driver) changed(ctx context.Context, t cbt.Target, q question, disk int, from uint64) ([]cbt.Extent, error) {
	m, release, err := d.contact(ctx, t)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := m.whole(q.points); err != nil {
		return nil, err
	}
	name := m.part(0, "w", disk)
	ours := selection(func(task, rest string) bool { return task == m.task && strings.HasPrefix(rest, "0w") })
	if err := m.remove(ctx, ours, true); err != nil { // left by somebody who died here
		return nil, err
	}
	extents, err := m.view(ctx, q, disk, name, from)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the next call removes what is left
	}
	if gone := m.remove(ctx, ours, true); err == nil {
		err = gone
	}
	return extents, err
}

// view merges the bitmaps of the span into a temporary one and reads that.
func (m *machine) view(ctx context.Context, q question, disk int, name string, from uint64) ([]cbt.Extent, error) {
	n := m.disks[disk]
	bitmap, context := "", nbd.Allocation
	if len(q.points) > 0 {
		bitmap, context = name, contextPrefix+name
		if err := m.transaction(ctx, m.viewActions(n, name, q.span)); err != nil {
			return nil, fmt.Errorf("merge bitmaps: %w", err)
		}
	}
	m.at("viewed")
	if err := m.listen(ctx); err != nil {
		return nil, err
	}
	if err := m.export(ctx, name, n.Name, name, bitmap); err != nil {
		return nil, err
	}
	m.at("exported")
	client, err := m.reach(ctx, name, context)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // all was read, or err says what was not
	extents, err := read(ctx, client, context, from)
	if len(q.points) > 0 && err == nil {
		extents = grown(extents, q.points[0], disk, client.Size)
	}
	return extents, err
}

func (m *machine) viewActions(n *node, name string, span cbt.Span) list {
	var names []string
	for _, seq := range spanned(m.checkpoints(n), span) {
		names = append(names, m.name(seq))
	}
	return list{addView(n, name, m.t.Block()), merge(n, name, names)}
}

// read lists what a context marks: written, or allocated.
func read(ctx context.Context, client *nbd.Client, context string, from uint64) ([]cbt.Extent, error) {
	var extents []cbt.Extent
	from = min(from, client.Size)
	err := client.Status(ctx, context, from, client.Size-from, func(e nbd.Extent) error {
		wanted := e.Flags&nbd.Dirty != 0
		if context == nbd.Allocation {
			wanted = e.Flags&nbd.AllocationZero == 0
		}
		if wanted {
			extents = append(extents, cbt.Extent{Offset: e.Offset, Length: e.Length})
		}
		return nil
	})
	return extents, err
}

// grown adds what a disk grew by since a checkpoint: bitmaps do not mark it.
func grown(extents []cbt.Extent, since cbt.Point, disk int, size uint64) []cbt.Extent {
	if disk >= len(since.Sizes) || since.Sizes[disk] >= size {
		return extents
	}
	old := since.Sizes[disk]
	var out []cbt.Extent
	join := cbt.Joiner{Each: func(e cbt.Extent) error {
		out = append(out, e)
		return nil
	}}
	for _, e := range extents {
		if e.Offset < old {
			_ = join.Add(cbt.Extent{Offset: e.Offset, Length: min(e.End(), old) - e.Offset}) // Each returns nil
		}
	}
	_ = join.Add(cbt.Extent{Offset: old, Length: size - old})
	_ = join.Flush()
	return out
}
