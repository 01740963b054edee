package tracking

import (
	"context"
	"errors"
	"fmt"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
	"github.com/takt-dev/takt/internal/cbt/volume"
)

// close ends the session, and what an attempt that died while it opened one has left.
func (w *work) close(ctx context.Context) (any, error) {
	d, err := w.driver(ctx)
	if w.record.Open == nil {
		if err == nil {
			err = w.clean(ctx, d)
		}
		if err != nil && ctx.Err() == nil {
			w.say("not cleaned up: %v; the next session does it", err)
			err = nil
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	s := w.record.Open.Session
	s.Force = w.o.Force
	if err := d.Close(ctx, w.target(), s); err != nil {
		return nil, err
	}
	w.record.Open, w.changed = nil, true
	return nil, w.unnote()
}

// clean ends sessions that are not recorded, and joins their checkpoints to the ones
// before.
func (w *work) clean(ctx context.Context, d cbt.Driver) error {
	if err := w.unnote(); err != nil {
		return err
	}
	if w.keep != "" { // a copy that was given up
		if err := backup.Of(w.keep, w.m.UUID, w.o.Task).Clear(); err != nil {
			return err
		}
	}
	t := w.target()
	report, err := d.Probe(ctx, t)
	if err != nil {
		return err
	}
	left := false
	for _, disk := range report.Disks {
		for _, seq := range disk.Checkpoints {
			if t.Chain.Has(seq) {
				continue
			}
			left = true
			if err := d.Close(ctx, t, cbt.Session{Seq: seq, Force: true}); err != nil {
				return err
			}
		}
	}
	if !left {
		return nil
	}
	return d.Trim(ctx, t)
}

// drop removes all that is the task's from the machine.
func (w *work) drop(ctx context.Context) (any, error) {
	var errs []error
	note := func(err error) {
		if err != nil && w.tolerates(err) {
			w.say("not all was removed: %v; the sweeper does it when the machine is back", err)
			err = nil
		}
		errs = append(errs, err)
	}
	if len(w.record.Restore) > 0 {
		_, err := w.volumes.Unexport(ctx, w.target(), volume.Ask{Force: w.o.Force})
		note(err)
	}
	for _, d := range w.drivers() {
		note(d.Drop(ctx, w.target()))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := w.dropBackups(); err != nil {
		return nil, err
	}
	w.record, w.changed = cbt.Record{}, true
	return nil, errors.Join(w.unnote(), w.digests().drop())
}

// drivers are those that may have something of the task here.
func (w *work) drivers() []cbt.Driver {
	if w.m.QMP == "" {
		return []cbt.Driver{w.scan}
	}
	return []cbt.Driver{w.qemu, w.scan}
}

// tolerates says whether a task may go though its machine could not be cleaned up: one
// that is off keeps checkpoints in its images until it runs.
func (w *work) tolerates(err error) bool {
	return errors.Is(err, cbt.ErrOff) || w.o.Force && (cbt.Retryable(err) || errors.Is(err, cbt.ErrNoDisk))
}

// forget takes a checkpoint out of the chain. Its interval is joined to the one before.
func (w *work) forget(ctx context.Context) (any, error) {
	if open := w.record.Open; open != nil && (w.o.Seq == open.Seq || w.o.Seq == open.From) {
		return nil, fmt.Errorf("%w: the open session is of checkpoint %d", cbt.ErrInUse, w.o.Seq)
	}
	if len(w.record.Chain) == 0 {
		return nil, nil
	}
	if err := w.matches(); err != nil {
		return nil, err
	}
	d, err := w.driver(ctx)
	if err != nil {
		return nil, err
	}
	w.record.Chain, w.changed = w.record.Chain.Without(w.o.Seq), true
	if r := w.record.Rescan; r != nil && (w.o.Seq == r.From || w.o.Seq == r.To) {
		// What was found between the two can be joined to nothing.
		w.record.Chain, w.record.Rescan = w.record.Chain.Without(r.From), nil
	}
	if err := d.Trim(ctx, w.target()); err != nil {
		w.record, w.changed = w.o.Record, false
		return nil, err
	}
	return nil, nil
}
