package engine_test

import (
	"slices"
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

// groupOf makes a group of the given jobs.
func (h *house) groupOf(jobs ...core.Job) core.Group {
	h.Helper()
	g, _ := h.group("g", 0)
	uuids := make([]string, len(jobs))
	for i, j := range jobs {
		uuids[i] = j.UUID
	}
	return must(h.eng.AddJobs(h.ctx, g.UUID, uuids))(h)
}

// A fire by hand may name jobs of a group that is bound: the group then runs them
// and no others. A job that is bound besides runs once.
func TestFireNowOfSomeJobsOfAGroup(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	a, b, c, loose := h.job("a"), h.job("b"), h.job("c"), h.job("loose")
	g := h.groupOf(a, b, c)
	h.bind(tr, ofGroup(g))
	h.bind(tr, ofJob(a))
	fired := func(only ...string) []string {
		t.Helper()
		entry := must(h.eng.FireNow(h.ctx, tr.UUID, "", only))(h)
		if entry.Decision != core.Fired {
			t.Errorf("fire of %v: got %+v", only, entry)
		}
		var names []string
		for _, run := range entry.Runs {
			for _, s := range must(h.eng.Steps(h.ctx, run))(h) {
				names = append(names, s.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	wantEqual(t, "two of the group", fired(b.UUID, c.UUID), []string{"b", "c"})
	wantEqual(t, "one that is bound besides", fired(a.UUID), []string{"a"})
	wantEqual(t, "one of either", fired(a.UUID, c.UUID), []string{"a", "c"})
	wantEqual(t, "the group as a whole", fired(g.UUID, b.UUID), []string{"a", "b", "c"})
	wantEqual(t, "everything", fired(), []string{"a", "a", "b", "c"})

	_, err := h.eng.FireNow(h.ctx, tr.UUID, "", []string{b.UUID, loose.UUID})
	wantInvalid(t, "a job of no bound group", err, "targets")

	must(h.eng.UpdateJob(h.ctx, b.UUID, 0, func(j *core.Job) error { j.Enabled = false; return nil }))(h)
	entry := must(h.eng.FireNow(h.ctx, tr.UUID, "", []string{b.UUID}))(h)
	if entry.Decision != core.Skipped || entry.Reason != "none of the jobs asked for is enabled" {
		t.Errorf("a disabled job: got %+v", entry)
	}

	h.faults.die("Decide") // between the durable entry and the decision
	_, _ = h.eng.FireNow(h.ctx, tr.UUID, "left", []string{c.UUID})
	h.faults.die()
	must(h.eng.RemoveJobs(h.ctx, g.UUID, []string{c.UUID}))(h)
	entry = must(h.eng.FireNow(h.ctx, tr.UUID, "once more", []string{a.UUID}))(h)
	if len(entry.Runs) != 1 {
		t.Errorf("after the job left the group: got %+v", entry)
	}
}
