package tracking

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
)

// SweepEvery is the time between two rounds of the sweeper.
const SweepEvery = 10 * time.Minute

// Sweep removes, now and every SweepEvery until ctx ends, what tasks have left that are
// no more: live says of a task's name (cbt.TaskName) whether it is one. It is asked
// after the object was seen, so a task that is new by then is spared.
func (h *Host) Sweep(ctx context.Context, live func(ctx context.Context, name string) bool) {
	tick := time.NewTicker(SweepEvery)
	defer tick.Stop()
	for {
		h.SweepOnce(ctx, live)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// SweepOnce is one round of Sweep.
func (h *Host) SweepOnce(ctx context.Context, live func(ctx context.Context, name string) bool) {
	known := map[string]bool{} // a task has many objects
	alive := func(name string) bool {
		answer, asked := known[name]
		if !asked {
			answer = live(ctx, name)
			known[name] = answer
		}
		return answer
	}
	for _, uuid := range slices.Sorted(maps.Keys(h.machines)) {
		w := &work{Host: h, m: h.machines[uuid], o: cbt.Order{Task: noTask}}
		h.sweepDigests(ctx, w.m, alive)
		h.sweepBackups(ctx, w.m, alive)
		for _, d := range w.drivers() {
			tasks, err := d.Sweep(ctx, h.target(w.m, w.o, w.record), alive)
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, cbt.ErrUnreachable), errors.Is(err, cbt.ErrBusy):
				h.log.DebugContext(ctx, "machine not swept", "machine", w.m.UUID, "driver", d.Name(), "err", err)
			case err != nil:
				h.log.WarnContext(ctx, "machine not swept", "machine", w.m.UUID, "driver", d.Name(), "err", err)
			}
			if len(tasks) > 0 {
				h.log.InfoContext(ctx, "removed what tasks left that are no more", "machine", w.m.UUID, "driver", d.Name(), "tasks", tasks)
			}
		}
	}
}

// sweepDigests removes the digests of tasks that are no more.
func (h *Host) sweepDigests(ctx context.Context, m Machine, alive func(name string) bool) {
	files, err := os.ReadDir(h.machineDir(m))
	if err != nil {
		return // there is no directory yet
	}
	for _, f := range files {
		name, ok := strings.CutPrefix(f.Name(), digestsPrefix)
		if !ok || alive(name) {
			continue
		}
		if err := (digests{filepath.Join(h.machineDir(m), f.Name())}).drop(); err != nil {
			h.log.WarnContext(ctx, "digests not swept", "machine", m.UUID, "err", err)
		}
	}
}

// sweepBackups removes copies that tasks which are no more have not finished. Those that
// are done stay.
func (h *Host) sweepBackups(ctx context.Context, m Machine, alive func(name string) bool) {
	if h.keep == "" {
		return
	}
	for _, name := range backup.Unfinished(h.keep, m.UUID) {
		if alive(name) {
			continue
		}
		if err := backup.Of(h.keep, m.UUID, name).Clear(); err != nil {
			h.log.WarnContext(ctx, "unfinished backups not swept", "machine", m.UUID, "err", err)
		}
	}
}
