package qemu

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
)

// Drop removes all that is a task's; see cbt.Driver. Of a machine that is off only the
// files can be removed: ErrOff says that bitmaps may be left in its images,
// for Sweep to find when it runs.
func (d *Driver) Drop(ctx context.Context, t cbt.Target) error {
	m, release, err := d.connect(ctx, t)
	if errors.Is(err, cbt.ErrOff) {
		return d.dropStored(ctx, t, err)
	}
	if err != nil {
		return err
	}
	defer release()
	return m.remove(ctx, m.everything(), true)
}

func (m *machine) everything() selection {
	return func(task, _ string) bool { return task == m.task }
}

// dropStored removes the files, and tells whether that was all.
func (d *Driver) dropStored(ctx context.Context, t cbt.Target, off error) error {
	if err := d.sweepFiles(ctx, t, (*machine).everything); err != nil {
		return err
	}
	report, err := d.probeStored(t)
	if err != nil {
		return err
	}
	for _, disk := range report.Disks {
		if len(disk.Checkpoints) > 0 {
			return off
		}
	}
	return nil
}

// sweepFiles removes the scratch images of a machine that is off, and notes.
func (d *Driver) sweepFiles(ctx context.Context, t cbt.Target, chosen func(*machine) selection) error {
	if err := d.check(t); err != nil {
		return err
	}
	unlock, err := cbt.Lock(ctx, t, lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	m := &machine{t: t}
	m.task, _ = cbt.TaskName(t.Task) // checked above
	removeFiles(t, chosen(m))
	return nil
}

// Sweep removes what belongs to tasks that are not live; see cbt.Driver.
func (d *Driver) Sweep(ctx context.Context, t cbt.Target, live func(task string) bool) ([]string, error) {
	m, release, err := d.connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer release()
	dead := func(task, _ string) bool { return !live(task) }
	tasks, err := m.tasks(ctx, dead)
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	return tasks, m.remove(ctx, dead, true)
}

// tasks are the names of the tasks of which selected objects exist, sorted.
func (m *machine) tasks(ctx context.Context, chosen selection) ([]string, error) {
	ids, err := m.exported(ctx)
	if err != nil {
		return nil, err
	}
	jobs, err := m.jobs(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for id := range ids {
		names = append(names, id)
	}
	for id := range jobs {
		names = append(names, id)
	}
	for _, n := range m.all {
		names = append(names, n.Name)
		for _, b := range n.Bitmaps {
			names = append(names, b.Name)
		}
	}
	files, _ := os.ReadDir(m.t.Dir) // it exists: the lock is in it
	for _, f := range files {
		names = append(names, named(f.Name()))
	}
	var tasks []string
	for _, name := range names {
		if task, _, ok := cbt.ParseName(name); ok && chosen.has(name) {
			tasks = append(tasks, task)
		}
	}
	slices.Sort(tasks)
	return slices.Compact(tasks), nil
}
