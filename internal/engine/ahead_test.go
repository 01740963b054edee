package engine_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

// TestFireBelievesNoMemory changes everything that a fire could remember of the one
// before: the next one goes by what there is now.
func TestFireBelievesNoMemory(t *testing.T) {
	fire := func(h *house, tr core.Trigger) []core.Run {
		h.Helper()
		f := h.due(tr)
		must(h.eng.DecideFire(t.Context(), f))(h)
		h.pass(f)
		var made []core.Run
		for _, r := range h.runs(core.RunFilter{Trigger: tr.UUID}) {
			if r.Fire == f {
				made = append(made, r)
			}
		}
		return made
	}
	for _, row := range []struct {
		name   string
		change func(h *house, tr core.Trigger, g core.Group, j core.Job)
		steps  map[core.TargetKind]int // of the runs of the next fire
	}{
		{"nothing", func(*house, core.Trigger, core.Group, core.Job) {}, map[core.TargetKind]int{core.GroupTarget: 2, core.JobTarget: 1}},
		{"a job is disabled", func(h *house, _ core.Trigger, _ core.Group, j core.Job) {
			must(h.eng.UpdateJob(h.ctx, j.UUID, 0, func(j *core.Job) error { j.Enabled = false; return nil }))(h)
		}, map[core.TargetKind]int{core.GroupTarget: 2}},
		{"a job joins the group", func(h *house, _ core.Trigger, g core.Group, _ core.Job) {
			must(h.eng.AddJobs(h.ctx, g.UUID, []string{h.job("k").UUID}))(h)
		}, map[core.TargetKind]int{core.GroupTarget: 3, core.JobTarget: 1}},
		{"a target is unbound", func(h *house, tr core.Trigger, _ core.Group, j core.Job) {
			must(h.eng.Unbind(h.ctx, tr.UUID, ofJob(j)))(h)
		}, map[core.TargetKind]int{core.GroupTarget: 2}},
		{"a target is deleted", func(h *house, _ core.Trigger, g core.Group, _ core.Job) {
			must(h.eng.DeleteGroup(h.ctx, g.UUID))(h)
		}, map[core.TargetKind]int{core.JobTarget: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			tr := h.trigger("t", everySecond(), core.OverlapAllow)
			g, _ := h.group("g", 2)
			j := h.job("j")
			h.bind(tr, ofGroup(g))
			h.bind(tr, ofJob(j))
			if first := fire(h, tr); len(first) != 2 {
				t.Fatalf("got %d runs, want one per target", len(first))
			}
			row.change(h, tr, g, j)
			got := map[core.TargetKind]int{}
			for _, r := range fire(h, tr) {
				got[r.Target.Kind] = r.Counts.Total
			}
			wantEqual(t, "steps of the next fire's runs", got, row.steps)
		})
	}
}
