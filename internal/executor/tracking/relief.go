package tracking

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qemu"
)

const (
	// reliefEvery is the time between two looks at the disk of scratch images. What
	// guests can overwrite in that time has to fit into qemu.Room's spare part.
	reliefEvery = 100 * time.Millisecond
	// reliefPause follows a look that could not help.
	reliefPause = time.Second
	// reliefWait bounds the ending of one session: others may have to end instead.
	reliefWait = 5 * time.Second
)

// Watch ends sessions before their scratch images fill the disk, now and until ctx ends.
// It goes by the files that there are, so sessions of a worker that died are watched by
// the next one, and those of backups by whoever copies. It waits for no order: nothing
// else that a Host does may come before it.
func (h *Host) Watch(ctx context.Context) {
	for {
		wait := reliefEvery
		if err := h.relieve(ctx); err != nil && ctx.Err() == nil {
			h.log.ErrorContext(ctx, "guests' writes may fail: a session that fills the disk of scratch images could not be ended", "err", err)
			wait = reliefPause
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// relieve ends the session whose scratch images are largest, if their disk is short of
// room. One at a time: the next look tells whether that was enough.
func (h *Host) relieve(ctx context.Context) error {
	room, err := qemu.RoomOf(h.dir)
	if err != nil || !room.Short() {
		return err
	}
	var failed error
	for _, g := range h.growing() {
		if failed = h.relieveOf(ctx, g, room); failed == nil {
			return nil
		}
	}
	return failed
}

// growing is a session with scratch images.
type growing struct {
	qemu.Scratch
	m Machine
}

// growing lists the sessions of all machines, largest first.
func (h *Host) growing() (all []growing) {
	for _, uuid := range slices.Sorted(maps.Keys(h.machines)) {
		m := h.machines[uuid]
		for _, s := range qemu.Scratches(h.machineDir(m)) {
			all = append(all, growing{s, m})
		}
	}
	slices.SortStableFunc(all, func(a, b growing) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all
}

func (h *Host) relieveOf(ctx context.Context, g growing, room qemu.Room) error {
	ctx, cancel := context.WithTimeout(ctx, reliefWait)
	defer cancel()
	why := fmt.Sprintf("%v; its images took %d", room, g.Bytes)
	t := h.target(g.m, cbt.Order{Task: g.Task}, cbt.Record{})
	if err := h.qemu.Relieve(ctx, t, g.Seq, why); err != nil {
		return fmt.Errorf("end session %d of task %s on machine %s: %w", g.Seq, g.Task, g.m.UUID, err)
	}
	h.log.WarnContext(ctx, "session ended for its guest to go on writing", "machine", g.m.UUID, "task", g.Task, "checkpoint", g.Seq,
		"scratch", g.Bytes, "free", room.Free, "spare", room.Spare)
	return nil
}
