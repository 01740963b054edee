package tracking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/pkg/executor"
)

// undoWait bounds the undoing of a session. The worker waits ten seconds for an
// executor that was told to stop.
const undoWait = 8 * time.Second

// open begins a checkpoint and exports its moment. The detail is cbt.Details.
func (w *work) open(ctx context.Context) (any, error) { return w.begin(ctx, w.publish) }

// use is what a session is opened for. details are nil where the exports tell what
// changed. It is given up if that fails for good.
type use func(ctx context.Context, d cbt.Driver, t cbt.Target, details cbt.Details) (any, error)

// publish tells what there is to read of a session, and notes it.
func (w *work) publish(ctx context.Context, _ cbt.Driver, t cbt.Target, details cbt.Details) (any, error) {
	if details == nil {
		var err error
		if details, err = readDetails(ctx, t.Listen, w.record.Open.Exports); err != nil {
			return nil, fmt.Errorf("read what changed: %w", err)
		}
	}
	return details, w.note()
}

// begin opens the session of the order, as the policy for broken chains has it, and
// makes use of it.
func (w *work) begin(ctx context.Context, u use) (any, error) {
	s := w.o.Session
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := w.closeOther(ctx, s); err != nil {
		return nil, err
	}
	if s.From > 0 && !w.record.Chain.Has(s.From) {
		missing := &cbt.ChainBroken{Seq: s.From, Why: cbt.WhyUnknown}
		if w.o.OnBroken == cbt.OnBrokenFail {
			return nil, missing
		}
		w.noteBroken(missing)
		s.From = 0
	}
	if r := w.record.Rescan; r != nil && s.From == r.From {
		w.say("checkpoint %d is known by a rescan alone; the copy will be full", s.From)
		s.From = 0
	}
	detail, err := w.show(ctx, s, nil, u)
	if broken := (*cbt.ChainBroken)(nil); errors.As(err, &broken) && w.mayRestart(s) {
		return w.showAnew(ctx, s, broken, u)
	}
	return detail, err
}

// showAnew opens a session of a new chain: since the checkpoint that was asked for if
// digests can tell what was written, else a full one.
func (w *work) showAnew(ctx context.Context, s cbt.Session, why *cbt.ChainBroken, u use) (any, error) {
	var lost *cbt.Point
	for _, p := range w.record.Chain {
		if p.Seq == s.From && w.comparable(s.From) {
			lost = &p
		}
	}
	w.restart(why)
	if lost == nil {
		s.From = 0
	}
	return w.show(ctx, s, lost, u)
}

// closeOther ends the session that a task which failed has left. That of the order
// itself is found by the driver.
func (w *work) closeOther(ctx context.Context, s cbt.Session) error {
	old := w.record.Open
	if old == nil || old.Seq == s.Seq {
		return nil
	}
	d, err := w.driver(ctx)
	if err != nil {
		return err
	}
	gone := old.Session
	gone.Force = true
	if err := d.Close(ctx, w.target(), gone); err != nil {
		return fmt.Errorf("close the session before: %w", err)
	}
	w.record.Open, w.changed = nil, true
	return w.unnote()
}

// mayRestart says whether a chain that is broken gives way to a new one. Who asks for
// a full copy relies on no chain.
func (w *work) mayRestart(s cbt.Session) bool {
	return s.From == 0 || w.o.OnBroken != cbt.OnBrokenFail
}

// restart begins a new chain. What is left of the old one goes when the driver makes
// the first checkpoint of the new.
func (w *work) restart(why *cbt.ChainBroken) {
	w.noteBroken(why)
	w.record.Chain, w.record.Open, w.record.Rescan = nil, nil, nil
}

func (w *work) noteBroken(why *cbt.ChainBroken) {
	w.say("the chain is broken: %v", why)
	w.record.Broken, w.record.BrokenAt, w.changed = why.Error(), time.Now().UTC(), true
}

// show opens the session, writes the record and makes use of it. lost is set where
// the driver does not know the checkpoint that changes are asked since, and digests do.
// If that fails for good, the moment is given up and its checkpoint joined to the one
// before.
func (w *work) show(ctx context.Context, s cbt.Session, lost *cbt.Point, u use) (any, error) {
	if err := w.matches(); err != nil {
		return nil, err
	}
	d, err := w.driver(ctx)
	if err != nil {
		return nil, err
	}
	t, known := w.target(), s
	if lost != nil {
		known.From = 0
	}
	w.say("open checkpoint %d by %s, %s", s.Seq, d.Name(), s.Mode())
	point, exports, err := d.Open(ctx, t, known)
	if err != nil {
		return nil, w.failed(ctx, d, t, s, err)
	}
	before := w.record
	w.opened(d, t, known, point, exports)
	details, err := w.describe(ctx, d, t, s, lost)
	var detail any
	if err == nil {
		detail, err = u(ctx, d, t, details)
	}
	if err != nil {
		w.record = before
		return nil, w.failed(ctx, d, t, s, err)
	}
	return detail, nil
}

// describe keeps the digests of a session that was opened, and finds by them what there
// is to copy where the driver does not know.
func (w *work) describe(ctx context.Context, d cbt.Driver, t cbt.Target, s cbt.Session, lost *cbt.Point) (details cbt.Details, err error) {
	exports := w.record.Open.Exports
	digested := w.o.OnBroken == cbt.OnBrokenRescan && d.Name() == cbt.DriverQEMU
	if digested {
		if err := w.digest(ctx, t, w.record.Open.Session, exports); err != nil {
			return nil, err
		}
	}
	if lost != nil {
		details, err = w.compare(s, *lost)
	}
	if err == nil && digested {
		err = w.digests().keep(w.wanted(s)...)
	}
	return details, err
}

// wanted are the checkpoints of which digests are kept: the session's, the one that it
// is since, for an attempt that follows this one, and what a rescan found.
func (w *work) wanted(s cbt.Session) []int {
	seqs := []int{s.Seq, s.From}
	if w.record.Rescan != nil {
		seqs = append(seqs, w.record.Rescan.To)
	}
	return seqs
}

func (w *work) opened(d cbt.Driver, t cbt.Target, s cbt.Session, p cbt.Point, exports []cbt.Export) {
	w.record.Driver, w.record.Block, w.changed = d.Name(), t.Block(), true
	if !w.record.Chain.Has(p.Seq) {
		w.record.Chain = append(w.record.Chain[:len(w.record.Chain):len(w.record.Chain)], p)
	}
	w.record.Open = &cbt.OpenSession{Session: s, At: p.At, Fuzzy: p.Fuzzy, Exports: exports}
	w.record.Volumes = nil
	for i, disk := range t.Disks {
		v := cbt.Volume{UUID: disk.Volume, Path: disk.Path, Format: disk.Format}
		if i < len(exports) {
			v.Size = exports[i].Size
		}
		w.record.Volumes = append(w.record.Volumes, v)
	}
}

// failed undoes a session that nobody will be given. It stays where another attempt
// goes on with it: after what may pass, or when this one was released. A broken chain
// was not touched.
func (w *work) failed(ctx context.Context, d cbt.Driver, t cbt.Target, s cbt.Session, err error) error {
	broken := errors.As(err, new(*cbt.ChainBroken))
	if !final(ctx, err) || broken || t.Chain.Has(s.Seq) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
	defer cancel()
	w.say("undo checkpoint %d", s.Seq)
	s.Force = true
	if undone := d.Close(ctx, t, s); undone != nil {
		return errors.Join(err, fmt.Errorf("undo session: %w", undone))
	}
	if undone := d.Trim(ctx, t); undone != nil {
		return errors.Join(err, fmt.Errorf("undo checkpoint: %w", undone))
	}
	return err
}

// final says whether no attempt goes on with what one left that failed.
func final(ctx context.Context, err error) bool {
	if errors.Is(context.Cause(ctx), executor.ErrReleased) {
		return false
	}
	return ctx.Err() != nil || !cbt.Retryable(err)
}
