package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// confirm is the time between two looks for orphans: a script's steps, and a
// caller's between two scripts, are done by then.
const confirm = time.Second

// orphanAdvice says what a kind of orphan means and what to do, of its key (%[1]s)
// and what it names (%[2]s).
var orphanAdvice = map[core.OrphanKind]struct{ what, do string }{
	core.OrphanActive: {"runs count as under way for a target and have ended or are gone: the target's next runs may be skipped or wait for ever", "remove them from the target's set (ZREM %s %s), and report it: this must not happen"},
	core.OrphanBusy:   {"jobs count as running and their step has ended or is gone: they are skipped under skip_steps", "remove the mark (HDEL %[1]s, the job named), and report it: this must not happen"},
	core.OrphanPlan:   {"plans do not stand for the runs that name them", "cancel and start the runs that name %[2]s again, and report it: this must not happen"},
	core.OrphanIndex:  {"listed runs are gone", "remove them from the list (ZREM %s %s), and report it: this must not happen"},
	core.OrphanSent:   {"dispatches or attempts belong to runs that are gone", "start api processes; if it stays, remove them (ZREM or HDEL, %s or :live, %s) and report it"},
	core.OrphanRun:    {"runs are under way and their target does not know", "cancel the run (%[2]s), and report it: this must not happen"},
	core.OrphanTask:   {"CBT tasks wait for a run that has ended or is gone: they take no other order", "delete the task with force (%[2]s) and make it anew, and report it: this must not happen"},
	core.OrphanStep:   {"open steps have no dispatch, attempt, timer or place to wait: nothing will move them", "cancel the run (%[2]s) and retry it, and report it: this must not happen"},
}

// orphans looks through all partitions, and again where something was found.
func (c *chart) orphans(ctx context.Context) {
	var sum core.Orphans
	var suspects []int
	for n := range c.Records.Partitions() {
		of, err := c.Records.Orphans(ctx, n)
		if err != nil {
			c.unread(Records, "orphans", err)
			return
		}
		sum.Targets, sum.Runs, sum.Stopped = sum.Targets+of.Targets, sum.Runs+of.Runs, sum.Stopped || of.Stopped
		if len(of.Found) > 0 {
			suspects = append(suspects, n)
			sum.Found = append(sum.Found, of.Found...)
		}
	}
	found, err := c.confirmed(ctx, suspects, sum.Found)
	if err != nil {
		c.unread(Records, "orphans", err)
		return
	}
	looked := fmt.Sprintf("looked at %s and %s", plural(sum.Targets, "target", "targets"), plural(sum.Runs, "run", "runs"))
	if sum.Stopped {
		looked += ", a sample of what there is"
	}
	if len(found) == 0 {
		c.ok(Records, "orphans", "none found; "+looked)
		return
	}
	kinds := byKind(found)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		of, advice := kinds[kind], orphanAdvice[kind]
		c.problem(Records, "orphans", fmt.Sprintf("%s. %d found, the first: %s, %s, %s", advice.what, len(of), of[0].Key, of[0].Of, of[0].Text),
			fmt.Sprintf(advice.do, of[0].Key, of[0].Of))
	}
}

// confirmed gives the suspects that are there at a second look.
func (c *chart) confirmed(ctx context.Context, partitions []int, suspects []core.Orphan) ([]core.Orphan, error) {
	if len(suspects) == 0 {
		return nil, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(confirm):
	}
	there := map[core.Orphan]bool{}
	for _, n := range partitions {
		of, err := c.Records.Orphans(ctx, n)
		if err != nil {
			return nil, err
		}
		for _, o := range of.Found {
			there[o] = true
		}
	}
	var found []core.Orphan
	for _, o := range suspects {
		if there[o] {
			found = append(found, o)
		}
	}
	return found, nil
}

func byKind(found []core.Orphan) map[core.OrphanKind][]core.Orphan {
	out := map[core.OrphanKind][]core.Orphan{}
	for _, o := range found {
		out[o.Kind] = append(out[o.Kind], o)
	}
	return out
}

// kept tells how much is kept. What is past its time shows as timers overdue.
func (c *chart) kept(t *tallyOf, now time.Time) {
	text := fmt.Sprintf("%s, %s, %s", plural(t.Jobs, "job", "jobs"), plural(t.Groups, "group", "groups"), plural(t.Runs, "run", "runs"))
	if !t.OldestRun.IsZero() {
		text += ", the oldest made " + ago(now, t.OldestRun)
	}
	c.ok(Records, "runs kept", text)
	text = plural(t.triggers.Entries, "entry", "entries")
	if t.triggers.Looked < t.triggers.Triggers {
		text += fmt.Sprintf(" at %d of %d triggers", t.triggers.Looked, t.triggers.Triggers)
	}
	if !t.triggers.OldestEntry.IsZero() {
		text += ", the oldest for a slot " + ago(now, t.triggers.OldestEntry)
	}
	c.ok(Records, "ledger kept", text)
}

func ago(now, then time.Time) string {
	age := now.Sub(then)
	if age >= 48*time.Hour {
		return fmt.Sprintf("%.1f days ago", age.Hours()/24)
	}
	return age.Round(time.Second).String() + " ago"
}
