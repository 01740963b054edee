package tracking

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
)

// errEnough ends a walk.
var errEnough = errors.New("enough")

// changes reads one page of what was written to a volume. The detail is a cbt.Page.
func (w *work) changes(ctx context.Context) (any, error) {
	q := w.o.Changes
	if err := w.matches(); err != nil && q.Span.From > 0 {
		return nil, err
	}
	t := w.target()
	disk := slices.IndexFunc(t.Disks, func(d cbt.Disk) bool { return d.Volume == q.Volume })
	if disk < 0 {
		return nil, fmt.Errorf("%w: the machine has no volume %s", cbt.ErrNoDisk, q.Volume)
	}
	d, err := w.driver(ctx)
	if err != nil {
		return nil, err
	}
	report, err := d.Probe(ctx, t)
	if err != nil {
		return nil, err
	}
	p := newPage(q, report.Disks[disk].Size, t.Block())
	if e := w.shown(q); e != nil {
		err = walk(ctx, t.Listen, *e, q.Offset, p.add)
	} else if r := w.record.Rescan; r != nil && q.Span.From == r.From {
		err = w.across(ctx, d, t, q, disk, p.add)
	} else {
		err = changesOf(ctx, d, t, q.Span, cbt.Cursor{Disk: disk, Offset: q.Offset}, p.add)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return p.Page, nil
}

// changesOf reads a span of one disk, from a cursor on it.
func changesOf(ctx context.Context, d cbt.Driver, t cbt.Target, span cbt.Span, from cbt.Cursor, each func(cbt.Extent) error) error {
	over := errors.New("the disk is over")
	err := d.Changes(ctx, t, span, from, func(disk int, e cbt.Extent) error {
		if disk != from.Disk {
			return over
		}
		return each(e)
	})
	if errors.Is(err, over) {
		return nil
	}
	return err
}

// shown is the export that answers what was allocated at the moment of an open
// session: what is allocated now may be less. nil: the driver answers.
func (w *work) shown(q cbt.PageOrder) *cbt.Export {
	if q.Span.From != 0 || w.record.Open == nil {
		return nil
	}
	for _, e := range w.record.Open.Exports {
		if e.Volume == q.Volume {
			e.Context = ""
			return &e
		}
	}
	return nil
}

// page fills a cbt.Page.
type page struct {
	cbt.Page
	most int
}

func newPage(q cbt.PageOrder, size, block uint64) *page {
	most := q.Most
	if most < 1 || most > cbt.MaxPage {
		most = cbt.MaxPage
	}
	return &page{cbt.Page{Volume: q.Volume, Size: size, Block: block, Extents: []cbt.PageExtent{}}, most}
}

func (p *page) add(e cbt.Extent) error {
	if len(p.Extents) == p.most {
		p.Next = e.Offset
		return errEnough
	}
	p.Extents = append(p.Extents, cbt.PageExtent(e))
	return nil
}

// probe tells how the machine is. The detail is a cbt.Estimate. An order to check looks
// at the recorded session as a reader does; others take what the driver sees.
func (w *work) probe(ctx context.Context) (any, error) {
	d, err := w.driver(ctx)
	if err != nil {
		return nil, err
	}
	t := w.target()
	report, err := d.Probe(ctx, t)
	if err != nil {
		return nil, err
	}
	report.Session = report.Session && w.record.Open != nil
	if !w.o.Check || w.record.Open == nil {
		return estimate(t, report), nil
	}
	gone, err := w.lost(ctx, d, t, report)
	if err != nil {
		return nil, err
	}
	if report.Session = gone == ""; !report.Session {
		w.say("the session is gone: %s", gone)
	}
	e := estimate(t, report)
	if e.Broken == "" {
		e.Gone = gone
	}
	return e, nil
}

func estimate(t cbt.Target, r cbt.Report) cbt.Estimate {
	e := cbt.Estimate{Running: r.Running, InUse: r.InUse, Session: r.Session, Volumes: []cbt.VolumeEstimate{}}
	if r.Broken != nil {
		e.Broken = r.Broken.Error()
	}
	for i, disk := range r.Disks {
		// Without a checkpoint there is nothing to count from.
		known := disk.Known && len(t.Chain) > 0
		e.Volumes = append(e.Volumes, cbt.VolumeEstimate{Volume: t.Disks[i].Volume, Size: disk.Size, Changed: disk.Changed, Known: known})
	}
	return e
}

// lost says why the recorded session cannot be read, "" if it can. It opens it again,
// which finds what lives, and mends what a worker took with it.
func (w *work) lost(ctx context.Context, d cbt.Driver, t cbt.Target, r cbt.Report) (why string, err error) {
	if d.Name() == cbt.DriverQEMU && !r.Running {
		return "the machine does not run", nil
	}
	release, err := w.hold(ctx, w.m)
	if err != nil {
		return "", err
	}
	defer release()
	if !w.noted(w.record.Open.Session) {
		return "it was closed", nil
	}
	_, _, err = d.Open(ctx, t, w.known())
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil, cbt.Retryable(err):
		return "", err
	}
	return err.Error(), nil
}

// known is the open session as the driver knows it.
func (w *work) known() cbt.Session {
	s := w.record.Open.Session
	if r := w.record.Rescan; r != nil && s.From == r.From {
		s.From = 0
	}
	return s
}
