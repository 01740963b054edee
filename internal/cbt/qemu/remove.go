package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// Waiting for what QEMU does in the background.
const (
	firstLook = time.Millisecond
	lastLook  = 100 * time.Millisecond
	goneWait  = 20 * time.Second // for a job or an export that was told to end
)

// selection says which objects of ours are meant: by the task's part of the name, and
// what follows it.
type selection func(task, rest string) bool

func (s selection) has(name string) bool {
	task, rest, ok := cbt.ParseName(name)
	return ok && s(task, rest)
}

// temporary are the objects of one task that serve sessions and reading.
func (m *machine) temporary() selection {
	return func(task, rest string) bool { return task == m.task && strings.Trim(rest, "0123456789") != "" }
}

// ofSession are the temporary objects of one session.
func (m *machine) ofSession(seq int) selection {
	prefix := fmt.Sprint(seq)
	return func(task, rest string) bool {
		after, ok := strings.CutPrefix(rest, prefix)
		return ok && task == m.task && after != "" && (after[0] < '0' || after[0] > '9')
	}
}

// remove ends and removes all selected objects: exports, then the jobs, bitmaps and
// nodes that they use, then files. It goes by what QEMU has, so it does not matter
// how much of it there is. ErrInUse: an export has a reader and force is not set;
// what that reader needs stays.
func (m *machine) remove(ctx context.Context, chosen selection, force bool) error {
	if err := m.removeExports(ctx, chosen, force); err != nil {
		return err
	}
	m.at("exports gone")
	starved, err := m.starved(ctx, chosen)
	if err != nil {
		return err
	}
	if err := m.removeJobs(ctx, chosen); err != nil {
		return err
	}
	m.at("jobs gone")
	if starved {
		if err := m.do(ctx, "cont", nil, nil); err != nil {
			return fmt.Errorf("let the guest go on: %w", err)
		}
	}
	if err := m.look(ctx); err != nil {
		return err
	}
	if err := m.removeBitmaps(ctx, chosen); err != nil {
		return err
	}
	if err := m.removeNodes(ctx, chosen); err != nil {
		return err
	}
	removeFiles(m.t, chosen)
	if err := m.unlisten(ctx); err != nil {
		return err
	}
	return m.look(ctx)
}

func (m *machine) removeExports(ctx context.Context, chosen selection, force bool) error {
	if !force {
		if err := m.askReaders(ctx, chosen); err != nil {
			return err
		}
	}
	return m.until(ctx, func() (bool, error) {
		left, err := m.chosenExports(ctx, chosen)
		for _, id := range left {
			_ = m.do(ctx, "block-export-del", object{"id": id, "mode": "hard"}, nil) // the next look tells
		}
		return len(left) == 0, err
	})
}

// askReaders removes the exports that nobody reads, and gives those who do a moment to
// go.
func (m *machine) askReaders(ctx context.Context, chosen selection) error {
	for end := time.Now().Add(cbt.LeaveWait); ; {
		left, err := m.chosenExports(ctx, chosen)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, id := range left {
			_ = m.do(ctx, "block-export-del", object{"id": id, "mode": "safe"}, nil) // refused while it is read
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: a reader is connected to %s", cbt.ErrInUse, left[0])
		}
		select {
		case <-time.After(firstLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// chosenExports are those that exist, sorted.
func (m *machine) chosenExports(ctx context.Context, chosen selection) ([]string, error) {
	ids, err := m.exported(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for id := range ids {
		if chosen.has(id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// until looks again and again, ever less often, until done.
func (m *machine) until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, goneWait)
	defer cancel()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: QEMU does not end what it was told to end: %w", cbt.ErrBusy, ctx.Err())
		}
	}
}

type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// concluded is the status of a job whose outcome waits to be read.
const concluded = "concluded"

func (m *machine) jobs(ctx context.Context) (map[string]job, error) {
	var all []job
	if err := m.do(ctx, "query-jobs", nil, &all); err != nil {
		return nil, err
	}
	jobs := map[string]job{}
	for _, j := range all {
		jobs[j.ID] = j
	}
	return jobs, nil
}

// removeJobs cancels jobs and waits until they are gone. A job may refuse to be
// canceled because it has just ended: the next look tells.
func (m *machine) removeJobs(ctx context.Context, chosen selection) error {
	return m.until(ctx, func() (bool, error) {
		jobs, err := m.jobs(ctx)
		if err != nil {
			return false, err
		}
		left := false
		for id, j := range jobs {
			if !chosen.has(id) {
				continue
			}
			left = true
			if j.Status == concluded {
				_ = m.do(ctx, "job-dismiss", object{"id": id}, nil)
			} else {
				_ = m.do(ctx, "job-cancel", object{"id": id}, nil)
			}
		}
		return !left, nil
	})
}

func (m *machine) removeBitmaps(ctx context.Context, chosen selection) error {
	for i := range m.all {
		n := &m.all[i]
		for _, b := range n.Bitmaps {
			if !chosen.has(b.Name) {
				continue
			}
			if err := m.removeBitmap(ctx, n, b.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeNodes removes scratch nodes, those that stand on others first.
func (m *machine) removeNodes(ctx context.Context, chosen selection) error {
	var names []string
	for _, n := range m.all {
		if chosen.has(n.Name) {
			names = append(names, n.Name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789"))
	})
	for _, name := range names {
		if err := m.do(ctx, "blockdev-del", object{"node-name": name}, nil); err != nil {
			return fmt.Errorf("remove node %s: %w", name, err)
		}
	}
	return nil
}

// removeFiles removes scratch images and notes from the machine's directory.
func removeFiles(t cbt.Target, chosen selection) {
	entries, err := os.ReadDir(t.Dir)
	if err != nil {
		return // there is no directory: there are no files
	}
	for _, e := range entries {
		if chosen.has(named(e.Name())) {
			_ = os.Remove(filepath.Join(t.Dir, e.Name())) // Sweep finds what stays
		}
	}
}

// named is the name that a file of ours was given, "" for any other file.
func named(file string) string {
	for _, suffix := range []string{scratchSuffix, noteSuffix} {
		if name, ok := strings.CutSuffix(file, suffix); ok {
			return name
		}
	}
	return ""
}
