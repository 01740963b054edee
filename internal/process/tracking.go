package process

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/executor/tracking"
)

// tracked is the host whose machines the worker tracks, nil where none is configured.
func tracked(cfg config.CBT, log *slog.Logger) (*tracking.Host, error) {
	if !cfg.Configured() {
		return nil, nil
	}
	s := tracking.Settings{Roots: cfg.Roots, Dir: cfg.Dir, Backups: cfg.Backups, Log: log}
	for _, m := range cfg.Machines {
		s.Machines = append(s.Machines, tracking.Machine{
			UUID: config.PlainUUID(m.UUID), Name: m.Name, QMP: m.QMP, Driver: m.Driver, Fuzzy: m.Fuzzy,
			Disks: disksOf(m.Disks), Listen: listenOf(cfg.Listen, m.Port, len(s.Machines)),
		})
	}
	for _, v := range cfg.Volumes {
		disks := disksOf([]config.CBTVolume{v})
		s.Machines = append(s.Machines, tracking.Machine{
			UUID: disks[0].Volume, Driver: cbt.DriverScan, Disks: disks, Listen: listenOf(cfg.Listen, 0, len(s.Machines)),
		})
	}
	return tracking.New(s)
}

func disksOf(volumes []config.CBTVolume) []cbt.Disk {
	disks := make([]cbt.Disk, len(volumes))
	for i, v := range volumes {
		disks[i] = cbt.Disk{Volume: config.PlainUUID(v.Volume), Path: v.Path, Format: v.Format}
	}
	return disks
}

// listenOf gives each machine a port of its own: QEMU has one NBD server each.
func listenOf(l config.CBTListen, own, index int) cbt.Listen {
	if l.Host == "" {
		return cbt.Listen{}
	}
	if own == 0 {
		own = l.PortFrom + index
	}
	return cbt.Listen{Host: l.Host, Port: own, Certs: l.Certs}
}

// withResources adds what a host has to what the configuration lists.
func withResources(listed []string, h *tracking.Host) []string {
	if h == nil {
		return listed
	}
	all := append(slices.Clone(listed), h.Resources()...)
	slices.Sort(all)
	return slices.Compact(all)
}

// A tracker lists the CBT tasks that there are.
type tracker interface {
	CBTTasks(ctx context.Context) ([]core.CBTTask, error)
}

// tend watches the room that sessions take and, beside that, serves again what the
// process before served and then sweeps, until stop is called, which waits.
func tend(ctx context.Context, h *tracking.Host, eng tracker, log *slog.Logger) (stop func()) {
	if h == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var tending sync.WaitGroup
	tending.Go(func() { h.Watch(ctx) })
	tending.Go(func() {
		h.Resume(ctx)
		g := grace{log: log, missing: map[string]time.Time{}}
		h.Sweep(ctx, func(ctx context.Context, name string) bool {
			return g.spares(name, exists(ctx, eng, name, log), time.Now())
		})
	})
	return func() {
		cancel()
		tending.Wait()
	}
}

// exists says of the name of a task whether it is one. While that cannot be asked, it
// is.
func exists(ctx context.Context, eng tracker, name string, log *slog.Logger) bool {
	tasks, err := eng.CBTTasks(core.WithCaller(ctx, core.Caller{Role: core.Admin}))
	if err != nil {
		log.WarnContext(ctx, "the sweeper cannot ask for CBT tasks", "err", err)
		return true
	}
	return slices.ContainsFunc(tasks, func(t core.CBTTask) bool {
		its, err := cbt.TaskName(t.UUID)
		return err == nil && its == name
	})
}

// sweepGrace is how long a task has to be missing before what it left is removed.
const sweepGrace = 30 * time.Minute

// A grace spares what a missing task has left for a while: a worker that was pointed at
// another Redis, or whose Redis was restored from an old copy, would else remove the
// checkpoints of all tasks before anybody notices. It is used by one goroutine.
type grace struct {
	log     *slog.Logger
	missing map[string]time.Time // tasks, and since when
}

func (g grace) spares(task string, exists bool, now time.Time) bool {
	if exists {
		delete(g.missing, task)
		return true
	}
	since, known := g.missing[task]
	if !known {
		g.missing[task] = now
		g.log.Warn("machines hold checkpoints of a CBT task that does not exist", "task", task, "removed", "after "+sweepGrace.String())
		return true
	}
	return now.Sub(since) < sweepGrace
}
