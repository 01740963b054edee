package tracking

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
	"github.com/takt-dev/takt/internal/cbt/volume"
)

// restore writes volumes of a backup to new files, or to the volumes themselves.
func (w *work) restore(ctx context.Context) (any, error) {
	r, err := w.restoring()
	if err != nil {
		return nil, err
	}
	if w.o.Into != "" {
		return nil, r.toFiles(ctx)
	}
	return nil, r.toVolumes(ctx)
}

// restoring is a restore while it is carried out.
type restoring struct {
	*work
	set   backup.Set
	wants []backup.Restore
}

func (w *work) restoring() (*restoring, error) {
	set, err := w.backups()
	if err != nil {
		return nil, err
	}
	chain, err := backup.Chain(w.record.Backups, w.o.Seq)
	if err != nil {
		return nil, err
	}
	volumes := w.o.Volumes
	if len(volumes) == 0 {
		for _, f := range chain[0].Files {
			volumes = append(volumes, f.Volume)
		}
	}
	r, tell, pace := &restoring{work: w, set: set}, w.target().Progress, backup.NewPace(w.o.Rate)
	done, total := uint64(0), uint64(0)
	for _, name := range volumes {
		one := backup.Restore{Chain: chain, Volume: name, Pace: pace, Progress: func(more uint64) {
			done += more
			tell(done, total)
		}}
		size, err := one.Size()
		if err != nil {
			return nil, err
		}
		total += size
		r.wants = append(r.wants, one)
	}
	return r, nil
}

// Names of files that a restore makes: the volume's, then one of these.
const (
	rawSuffix     = ".raw"
	partialSuffix = rawSuffix + ".partial" // until it is whole
)

// toFiles makes a raw file of each volume. One that is there and reads as the backup
// does was made by an attempt before. ErrNoSpace: there is no room for the others.
func (r *restoring) toFiles(ctx context.Context) error {
	dir, err := r.into()
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // what was made in it is on the disk
	made, missing, err := r.sort(dir)
	if err != nil {
		return err
	}
	need := uint64(0)
	for _, want := range missing {
		need += most(want)
	}
	if err := cbt.NeedSpace(r.o.Into, need); err != nil {
		return err
	}
	for _, want := range made {
		if err := r.isRestored(ctx, dir, want); err != nil {
			return err
		}
	}
	for _, want := range missing {
		if err := r.toFile(ctx, dir, want); err != nil {
			return err
		}
	}
	return nil
}

// sort tells volumes whose files are there from those that are missing. What an attempt
// before has half made goes: it takes the room that its file needs.
func (r *restoring) sort(dir *os.Root) (made, missing []backup.Restore, err error) {
	for _, want := range r.wants {
		if err := dir.Remove(want.Volume + partialSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("remove half a file: %w", err)
		}
		switch _, err := dir.Lstat(want.Volume + rawSuffix); {
		case err == nil:
			made = append(made, want)
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, want)
		default:
			return nil, nil, fmt.Errorf("look for the file of volume %s: %w", want.Volume, err)
		}
	}
	return made, missing, nil
}

// most is how many bytes a volume's file may take.
func most(want backup.Restore) (n uint64) {
	for _, b := range want.Chain {
		for _, f := range b.Files {
			if f.Volume == want.Volume {
				n += f.Bytes
			}
		}
	}
	size, err := want.Size()
	if err != nil {
		return n
	}
	return min(n, size)
}

// into opens the directory of the order. What was checked is what was opened, whatever
// links lead there.
func (r *restoring) into() (*os.Root, error) {
	found, err := r.roots.Open(r.o.Into, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("the directory to restore into: %w", err)
	}
	defer func() { _ = found.Close() }() // it was looked at
	dir, err := os.OpenRoot(r.o.Into)
	if err != nil {
		return nil, fmt.Errorf("the directory to restore into: %w", err)
	}
	was, failed := found.Stat()
	is, err := dir.Stat(".")
	if err := errors.Join(failed, err); err != nil || !os.SameFile(was, is) {
		_ = dir.Close() // nothing was made in it
		return nil, fmt.Errorf("%w: %s", cbt.ErrNotAllowed, r.o.Into)
	}
	return dir, nil
}

func (r *restoring) toFile(ctx context.Context, dir *os.Root, want backup.Restore) error {
	name, partial := want.Volume+rawSuffix, want.Volume+partialSuffix
	r.say("restore volume %s", want.Volume)
	err := r.fill(ctx, dir, partial, want)
	if err == nil {
		err = dir.Rename(partial, name)
	}
	if err == nil {
		err = syncRoot(dir)
	}
	if err == nil {
		return nil
	}
	if final(ctx, err) {
		_ = dir.Remove(partial) // it may not be there; the error says what happened
	}
	return fmt.Errorf("restore into %s: %w", filepath.Join(r.o.Into, name), err)
}

func (r *restoring) fill(ctx context.Context, dir *os.Root, partial string, want backup.Restore) error {
	f, err := dir.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	size, err := want.Size()
	if err == nil {
		err = f.Truncate(int64(size)) //nolint:gosec // of a disk
	}
	if err == nil {
		err = r.set.Restore(ctx, want, backup.NewFile(f))
	}
	return errors.Join(err, f.Close())
}

func syncRoot(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// isRestored refuses a file that is there, unless it is the restored volume.
func (r *restoring) isRestored(ctx context.Context, dir *os.Root, want backup.Restore) error {
	name := want.Volume + rawSuffix
	refused := fmt.Errorf("%w: %s is there already", cbt.ErrInUse, filepath.Join(r.o.Into, name))
	f, err := dir.Open(name)
	if err != nil {
		return refused
	}
	defer func() { _ = f.Close() }() // only read
	size, err := want.Size()
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || uint64(info.Size()) != size { //nolint:gosec // never negative
		return refused
	}
	same, err := r.set.Same(ctx, want, f)
	if err != nil {
		return err
	}
	if !same {
		return refused
	}
	r.say("volume %s is restored already", want.Volume)
	return nil
}

// toVolumes writes the volumes of the machine, which has to be off, whole.
func (r *restoring) toVolumes(ctx context.Context) (err error) {
	var names []string
	for _, want := range r.wants {
		if slices.ContainsFunc(r.record.Restore, func(e cbt.Export) bool { return e.Volume == want.Volume }) {
			return fmt.Errorf("%w: volume %s is exported for a restore", cbt.ErrInUse, want.Volume)
		}
		names = append(names, want.Volume)
	}
	t := r.target()
	ask := volume.Ask{Volumes: names, Token: randomToken(), Force: true} // an attempt before may have left an export
	exports, err := r.volumes.Export(ctx, t, ask)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.endExports(ctx, t, ask)) }()
	for _, want := range r.wants {
		if _, err := r.room(exports, want); err != nil {
			return err
		}
	}
	for _, want := range r.wants {
		if err := r.toVolume(ctx, t, exports, want); err != nil {
			return err
		}
	}
	return nil
}

// endExports ends what toVolumes has exported, come what may. While the attempt lasts that
// takes its time; a daemon that hangs keeps one that is over no longer than undoWait.
func (r *restoring) endExports(ctx context.Context, t cbt.Target, ask volume.Ask) error {
	_, err := r.volumes.Unexport(ctx, t, ask)
	if ctx.Err() != nil {
		undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
		defer cancel()
		_, err = r.volumes.Unexport(undoing, t, ask)
	}
	if err != nil {
		return fmt.Errorf("end the exports of the restore: %w", err)
	}
	return nil
}

func randomToken() string {
	random := make([]byte, 16)
	rand.Read(random)
	return hex.EncodeToString(random)
}

// room finds the export of a volume, which has to be as large as the backup's.
func (r *restoring) room(exports []cbt.Export, want backup.Restore) (cbt.Export, error) {
	size, err := want.Size()
	if err != nil {
		return cbt.Export{}, err
	}
	i := slices.IndexFunc(exports, func(e cbt.Export) bool { return e.Volume == want.Volume })
	if i < 0 {
		return cbt.Export{}, fmt.Errorf("%w: volume %s is not exported", cbt.ErrNoDisk, want.Volume)
	}
	if exports[i].Size < size {
		return cbt.Export{}, fmt.Errorf("%w: volume %s has %d bytes, in the backup it has %d", cbt.ErrUnsupported, want.Volume, exports[i].Size, size)
	}
	return exports[i], nil
}

// toVolume writes a volume. What it has beyond the backup's size becomes zeros.
func (r *restoring) toVolume(ctx context.Context, t cbt.Target, exports []cbt.Export, want backup.Restore) error {
	e, err := r.room(exports, want)
	if err != nil {
		return err
	}
	client, err := dial(ctx, t.Listen, e)
	if err != nil {
		return gone(ctx, err)
	}
	defer func() { _ = client.Close() }() // all was flushed, or the error says what was not
	r.say("restore volume %s", want.Volume)
	size, err := want.Size()
	if err != nil {
		return err
	}
	if err := client.WriteZeroes(ctx, size, e.Size-size); err != nil {
		return fmt.Errorf("write volume %s: %w", want.Volume, gone(ctx, err))
	}
	return r.set.Restore(ctx, want, client)
}

// verify reads a backup, with all that it is based on, and compares it with its sums.
func (w *work) verify(ctx context.Context) (any, error) {
	set, err := w.backups()
	if err != nil {
		return nil, err
	}
	chain, err := backup.Chain(w.record.Backups, w.o.Seq)
	if err != nil {
		return nil, err
	}
	return nil, set.Verify(ctx, chain, w.target().Progress)
}

// discard deletes a backup that no other is based on.
func (w *work) discard(context.Context) (any, error) {
	set, err := w.backups()
	if err != nil {
		return nil, err
	}
	if err := set.Discard(w.o.Seq, w.record.Backups); err != nil {
		return nil, err
	}
	w.record.Backups = slices.DeleteFunc(slices.Clone(w.record.Backups), func(b cbt.Backup) bool { return b.Seq == w.o.Seq })
	w.changed = true
	return nil, nil
}

// dropBackups removes what a task that goes has of backups: all, or what is not finished.
func (w *work) dropBackups() error {
	if w.keep == "" {
		if w.o.Backups && len(w.record.Backups) > 0 && !w.o.Force {
			_, err := w.backups()
			return err
		}
		return nil
	}
	set := backup.Of(w.keep, w.m.UUID, w.o.Task)
	if w.o.Backups {
		return set.Drop()
	}
	return set.Clear()
}
