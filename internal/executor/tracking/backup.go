package tracking

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// A backup is a session that nobody else reads: it is opened, copied and closed in one
// order.
//
//	done already ─▶ close what is left, answer the same
//	base there?  ─▶ open ─▶ copy ─▶ is it one moment still? ─▶ seal ─▶ close
//
// From the seal on the backup is done, and an order that comes again finds it. One that
// comes before copies from the beginning: the moment may be another one.

// backups are where the task's lie.
func (w *work) backups() (backup.Set, error) {
	if w.keep == "" {
		return backup.Set{}, fmt.Errorf("%w: this worker keeps no backups: set worker.cbt.backups to a directory", cbt.ErrUnsupported)
	}
	return backup.Of(w.keep, w.m.UUID, w.o.Task), nil
}

// backup copies a moment into files. The detail is a cbt.Backup.
func (w *work) backup(ctx context.Context) (any, error) {
	set, err := w.backups()
	if err != nil {
		return nil, err
	}
	if err := w.o.Session.Check(); err != nil {
		return nil, err
	}
	sheet, err := set.Read(w.o.Session.Seq)
	switch {
	case err == nil && sheet.Token == w.o.Session.Token:
		return w.already(ctx, sheet)
	case err == nil: // of an order that the record has lost
		return nil, fmt.Errorf("%w: backup %s is there already, by another order: discard it", cbt.ErrInUse, cbt.CheckpointName(w.o.Task, w.o.Session.Seq))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case len(w.record.Backups) >= cbt.MaxBackups:
		return nil, fmt.Errorf("%w: there are %d backups, which is the most: discard some", cbt.ErrUnsupported, cbt.MaxBackups)
	}
	if strays := set.Strays(w.record.Backups); len(strays) > 0 {
		w.say("backups of checkpoints %v are in no record: discard them if they are not wanted", strays)
	}
	w.o.Session.From = w.base(set)
	detail, err := w.begin(ctx, func(ctx context.Context, d cbt.Driver, t cbt.Target, _ cbt.Details) (any, error) {
		return w.copyInto(ctx, set, d, t)
	})
	if err != nil && final(ctx, err) {
		err = errors.Join(err, set.Clear())
	}
	return detail, err
}

// already answers for a backup that an attempt before has made.
func (w *work) already(ctx context.Context, sheet backup.Sheet) (any, error) {
	w.say("backup %s is done already", cbt.CheckpointName(w.o.Task, sheet.Backup.Seq))
	recorded := w.record.Backups
	w.record, w.changed = sheet.Record, true
	w.record.Backups = append(slices.Clone(recorded), sheet.Backup)
	d, err := w.driver(ctx)
	if err == nil {
		err = w.endSession(ctx, d, w.o.Session)
	}
	if err != nil {
		w.record, w.changed = w.o.Record, false
		return nil, err
	}
	return sheet.Backup, nil
}

// base is the checkpoint of the backup that a new one can be based on, 0 if it has to be
// full.
func (w *work) base(set backup.Set) int {
	from := w.o.Session.From
	if from == 0 {
		return 0
	}
	chain, err := backup.Chain(w.record.Backups, from)
	if err != nil {
		w.say("%v; the backup will be full", err)
		return 0
	}
	for _, b := range chain {
		if !set.Has(b) {
			w.say("files of backup %s are missing; the backup will be full", cbt.CheckpointName(w.o.Task, b.Seq))
			return 0
		}
	}
	return from
}

// copyInto copies the session that is open, and ends it.
func (w *work) copyInto(ctx context.Context, set backup.Set, d cbt.Driver, t cbt.Target) (any, error) {
	open := *w.record.Open
	c := backup.Copy{Seq: open.Seq, Base: open.From, Rate: w.o.Rate, Progress: t.Progress}
	for i, e := range open.Exports {
		disk, err := w.disk(ctx, t, i, e)
		if err != nil {
			return nil, w.why(ctx, d, fmt.Errorf("read what to copy of volume %s: %w", e.Volume, err))
		}
		c.Disks = append(c.Disks, disk)
	}
	w.say("copy %s", cbt.CheckpointName(w.o.Task, open.Seq))
	files, err := set.Write(ctx, c)
	if err != nil {
		return nil, w.why(ctx, d, err)
	}
	if err := w.lasts(ctx, d); err != nil {
		return nil, err
	}
	b := cbt.Backup{Seq: open.Seq, Base: open.From, At: open.At, Fuzzy: open.Fuzzy, Dir: set.Dir(open.Seq), Files: files}
	w.record.Open = nil
	w.record.Backups = append(slices.Clone(w.record.Backups), b)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := set.Seal(backup.Sheet{Token: open.Token, Backup: b, Record: w.record}); err != nil {
		return nil, err
	}
	w.say("backup %s is done", cbt.CheckpointName(w.o.Task, b.Seq))
	return b, w.endSession(ctx, d, open.Session)
}

// endSession ends the session of a backup that is done, come what may. What cannot be
// ended now is left to the next attempt.
func (w *work) endSession(ctx context.Context, d cbt.Driver, s cbt.Session) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
	defer cancel()
	s.Force = true
	err := d.Close(ctx, w.target(), s)
	if err != nil && !cbt.Retryable(err) {
		err = fmt.Errorf("%w: %w", cbt.ErrBusy, err)
	}
	if err != nil {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}

// lasts is an error unless the open session shows its moment still. One whose scratch
// image was given up reads as the disk does now.
func (w *work) lasts(ctx context.Context, d cbt.Driver) error {
	if _, _, err := d.Open(ctx, w.target(), w.known()); err != nil {
		return fmt.Errorf("look at the session: %w", err)
	}
	return nil
}

// why says of a read that was refused or cut off that the moment is gone, if that is
// why: no further attempt would find it.
func (w *work) why(ctx context.Context, d cbt.Driver, err error) error {
	if !errors.As(err, new(*nbd.IOError)) && !errors.Is(err, cbt.ErrUnreachable) {
		return err
	}
	if gone := w.lasts(ctx, d); errors.Is(gone, cbt.ErrSessionGone) {
		return gone
	}
	return err
}

// disk is an export, and what is to be copied of it.
func (w *work) disk(ctx context.Context, t cbt.Target, i int, e cbt.Export) (backup.Disk, error) {
	d := backup.Disk{Volume: e.Volume, Size: e.Size, Based: w.basedOn(e.Volume), Open: func(ctx context.Context) (backup.Reader, error) {
		client, err := dial(ctx, t.Listen, e)
		return momentReader{client}, gone(ctx, err)
	}}
	have, err := allocation(ctx, t.Listen, e)
	if err != nil {
		return d, gone(ctx, err)
	}
	if !d.Based {
		d.Extents = slices.DeleteFunc(have, func(x cbt.Extent) bool { return x.Zero })
		return d, nil
	}
	changed, err := w.marked(ctx, t, i, e)
	d.Extents = cbt.Intersect(changed, have)
	return d, gone(ctx, err)
}

// basedOn says whether the backup that the open session continues has a volume.
func (w *work) basedOn(volume string) bool {
	for _, b := range w.record.Backups {
		if b.Seq == w.record.Open.From {
			return slices.ContainsFunc(b.Files, func(f cbt.BackupFile) bool { return f.Volume == volume })
		}
	}
	return false
}

// marked is what changed on a disk of the open session: as a rescan found, or as the
// export tells.
func (w *work) marked(ctx context.Context, t cbt.Target, i int, e cbt.Export) (changed []cbt.Extent, err error) {
	if r := w.record.Rescan; r != nil && r.To == w.record.Open.Seq && r.From == w.record.Open.From {
		return w.digests().changed(r.To, i, e.Volume)
	}
	err = walk(ctx, t.Listen, e, 0, func(x cbt.Extent) error {
		changed = append(changed, x)
		return nil
	})
	return changed, err
}

// allocation is all of an export, and says which parts are zeros.
func allocation(ctx context.Context, l cbt.Listen, e cbt.Export) (all []cbt.Extent, err error) {
	client, err := dial(ctx, l, e, nbd.Allocation)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // all was read, or the error says what was not
	err = client.Status(ctx, nbd.Allocation, 0, client.Size, func(x nbd.Extent) error {
		all = append(all, cbt.Extent{Offset: x.Offset, Length: x.Length, Zero: x.Flags&nbd.AllocationZero != 0})
		return nil
	})
	return all, err
}

// momentReader reads an export. A connection that is lost went with its server.
type momentReader struct{ *nbd.Client }

func (m momentReader) Read(ctx context.Context, p []byte, offset uint64) error {
	return gone(ctx, m.Client.Read(ctx, p, offset))
}

// gone says of an error that no server answered with that the server is gone.
func gone(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.As(err, new(*nbd.IOError)) {
		return err
	}
	return fmt.Errorf("%w: %w", cbt.ErrUnreachable, err)
}
