package scan

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// contextPrefix begins the names of contexts that show changes, as QEMU has them, so
// that readers need not care which driver serves.
const contextPrefix = "qemu:dirty-bitmap:"

// Open makes a checkpoint and serves the disks; see cbt.Driver. They show the moment
// as long as nobody writes to them.
func (d *Driver) Open(ctx context.Context, t cbt.Target, s cbt.Session) (cbt.Point, []cbt.Export, error) {
	if err := s.Check(); err != nil {
		return cbt.Point{}, nil, err
	}
	shelf, release, err := d.contact(ctx, t)
	if err != nil {
		return cbt.Point{}, nil, err
	}
	defer release()
	if err := shelf.ready(s.Seq); err != nil {
		return cbt.Point{}, nil, err
	}
	e, disks, err := d.moment(ctx, shelf, s)
	if err != nil {
		return cbt.Point{}, nil, err
	}
	exports, err := d.show(ctx, shelf, s, e, disks)
	if err != nil {
		closeDisks(disks)
		return cbt.Point{}, nil, err
	}
	d.at("published")
	return e.Point, exports, nil
}

// moment finds the session's checkpoint, or makes it, and opens its disks. One that
// was not recorded and is over is undone.
func (d *Driver) moment(ctx context.Context, shelf *shelf, s cbt.Session) (entry, []*images, error) {
	disks, err := d.openDisks(shelf.t)
	if err != nil {
		return entry{}, nil, err
	}
	e, ok := shelf.points[s.Seq]
	switch over := ok && !e.lasts(disks); {
	case ok && !over:
		err = shelf.fold(shelf.t.Chain, s.Seq)
	case over && shelf.t.Chain.Has(s.Seq):
		err = fmt.Errorf("%w: the disks were written since checkpoint %d", cbt.ErrSessionGone, s.Seq)
	default:
		e, err = d.begin(ctx, shelf, s.Seq)
	}
	if err != nil {
		closeDisks(disks)
	}
	return e, disks, err
}

// lasts says whether disks look as they did at a checkpoint.
func (e entry) lasts(disks []*images) bool {
	for i, im := range disks {
		now, err := im.stamps()
		if err != nil || i >= len(e.Stamps) || !slices.Equal(now, e.Stamps[i]) && !e.Point.Fuzzy {
			return false
		}
	}
	return true
}

// show serves a session, or finds that it is served. The machine's lock is held: nobody
// else but Shutdown changes what is served of it.
func (d *Driver) show(ctx context.Context, shelf *shelf, s cbt.Session, e entry, disks []*images) ([]cbt.Export, error) {
	name := cbt.CheckpointName(shelf.t.Task, s.Seq)
	if _, old := d.shown(shelf.t, name); old != nil {
		closeDisks(disks)
		return old.exports, nil
	}
	now := &showing{disks: disks}
	var all []nbd.Served
	for i, im := range disks {
		export, served, err := describe(shelf, s, e, i, im)
		if err != nil {
			return nil, err
		}
		now.exports, all = append(now.exports, export), append(all, served)
	}
	st, err := d.stand(ctx, shelf.t)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving[shelf.t.Dir] != st {
		return nil, errShutdown
	}
	for i := range now.exports {
		export := &now.exports[i]
		export.Network, export.Address = st.network, st.address
		st.server.Add(export.Name, all[i])
	}
	st.sessions[name] = now
	return now.exports, nil
}

func describe(shelf *shelf, s cbt.Session, e entry, disk int, im *images) (cbt.Export, nbd.Served, error) {
	export := cbt.Export{
		Volume: shelf.t.Disks[disk].Volume, Size: im.Size(), Name: s.ExportName(shelf.t.Task, disk),
		Mode: s.Mode(), Bitmap: cbt.CheckpointName(shelf.t.Task, s.Seq),
	}
	var data []cbt.Extent
	err := im.Data(func(e cbt.Extent) error {
		data = append(data, e)
		return nil
	})
	if err != nil {
		return export, nbd.Served{}, err
	}
	served := nbd.Served{Size: im.Size(), Data: &unchanged{im, e, disk}, Contexts: map[string]nbd.Context{
		nbd.Allocation: layer(data, nbd.AllocationHole|nbd.AllocationZero, 0),
	}}
	if s.From > 0 {
		changed, err := shelf.kept(cbt.Span{From: s.From, To: s.Seq}, disk)
		if err != nil {
			return export, served, err
		}
		export.Context = fmt.Sprintf("%s%sv%d", contextPrefix, export.Bitmap, disk)
		served.Contexts[export.Context] = layer(changed, 0, nbd.Dirty)
	}
	return export, served, nil
}

// layer is a context of extents.
func layer(extents []cbt.Extent, otherwise, flags uint32) nbd.Context {
	return nbd.Context{Default: otherwise, Walk: func(offset, length uint64, each func(nbd.Extent) error) error {
		first, _ := slices.BinarySearchFunc(extents, offset, func(e cbt.Extent, at uint64) int {
			if e.End() <= at {
				return -1
			}
			return 1
		})
		for _, e := range extents[first:] {
			if e.Offset >= offset+length {
				return nil
			}
			if err := each(nbd.Extent{Offset: e.Offset, Length: e.Length, Flags: flags}); err != nil {
				return err
			}
		}
		return nil
	}}
}

// unchanged reads a disk, and fails once it was written.
type unchanged struct {
	im   *images
	e    entry
	disk int
}

func (u *unchanged) ReadAt(p []byte, offset int64) (int, error) {
	n, err := u.im.ReadAt(p, offset)
	now, failed := u.im.stamps()
	if failed != nil || !u.e.Point.Fuzzy && !slices.Equal(now, u.e.Stamps[u.disk]) {
		return 0, cbt.ErrSessionGone
	}
	return n, err
}

// Close ends a session; see cbt.Driver.
func (d *Driver) Close(ctx context.Context, t cbt.Target, s cbt.Session) error {
	_, release, err := d.contact(ctx, t)
	if err != nil {
		return err
	}
	defer release()
	return d.hide(t, cbt.CheckpointName(t.Task, s.Seq), s.Force)
}

// hide ends a session of this process. ErrInUse: it has a reader and force is not set;
// the session stays whole then. The machine's lock is held; others go on meanwhile.
func (d *Driver) hide(t cbt.Target, name string, force bool) error {
	st, now := d.shown(t, name)
	if now == nil {
		return nil
	}
	d.at("leaving")
	var names []string
	for _, e := range now.exports {
		names = append(names, e.Name)
	}
	if err := leave(st.server, force, names); err != nil {
		return fmt.Errorf("%w: %w", cbt.ErrInUse, err)
	}
	mine, last := d.unlist(t, st, name)
	if !mine {
		return nil
	}
	defer closeDisks(now.disks)
	if last {
		return st.server.Close()
	}
	return nil
}

// leave removes exports, and gives readers a moment to go.
func leave(server *nbd.Server, force bool, names []string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(cbt.LeaveWait); ; <-tick.C {
		err := server.Remove(force, names...)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
