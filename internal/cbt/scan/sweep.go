package scan

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/takt-dev/takt/internal/cbt"
)

// Drop removes all that is a task's; see cbt.Driver.
func (d *Driver) Drop(ctx context.Context, t cbt.Target) error {
	if err := d.check(t); err != nil {
		return err
	}
	task, _ := cbt.TaskName(t.Task) // checked above
	_, err := d.Sweep(ctx, t, func(other string) bool { return other != task })
	return err
}

// Sweep removes what belongs to tasks that are not live; see cbt.Driver.
func (d *Driver) Sweep(ctx context.Context, t cbt.Target, live func(task string) bool) ([]string, error) {
	_, release, err := d.contact(ctx, t)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := d.hideAll(t, live); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(t.Dir)
	if err != nil {
		return nil, fmt.Errorf("read directory of the machine: %w", err)
	}
	var swept []string
	for _, f := range files { // in the order of names
		task, rest, ok := cbt.ParseName(f.Name())
		if !ok || rest != shelfSuffix || live(task) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(t.Dir, f.Name())); err != nil {
			return swept, fmt.Errorf("remove what was kept of task %s: %w", task, err)
		}
		swept = append(swept, task)
	}
	return swept, nil
}

// hideAll ends the sessions of tasks that are not live.
func (d *Driver) hideAll(t cbt.Target, live func(task string) bool) error {
	for _, name := range d.sessions(t) {
		if task, _, _ := cbt.ParseName(name); live(task) {
			continue
		}
		if err := d.hide(t, name, true); err != nil {
			return err
		}
	}
	return nil
}
