package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// TestAccess asks for every verb as everybody. What a caller may not see does not
// exist for them; a delete of what does not exist says only that there was none.
func TestAccess(t *testing.T) {
	h := newHouse(t)
	g, jobs := h.group("g", 1)
	job := jobs[0]
	spare := h.job("spare")
	tr := h.trigger("t", yearly(), "")
	h.bind(tr, ofGroup(g))
	run := must(h.eng.RunJob(h.ctx, job.UUID, "", core.Overlap{}))(h)

	// unchanged is returned by changes: the verb gets as far as it may, and changes nothing.
	unchanged := core.Errorf(core.Exhausted, "as far as it may")
	verbs := []struct {
		name    string
		changes bool // takes more than to see
		do      func(ctx context.Context) error
	}{
		{"job", false, func(ctx context.Context) error { _, err := h.eng.Job(ctx, job.UUID); return err }},
		{"group", false, func(ctx context.Context) error { _, err := h.eng.Group(ctx, g.UUID); return err }},
		{"trigger", false, func(ctx context.Context) error { _, err := h.eng.Trigger(ctx, tr.UUID); return err }},
		{"ledger", false, func(ctx context.Context) error {
			_, err := h.eng.Ledger(ctx, tr.UUID, time.Time{}, time.Time{}, 0, 9)
			return err
		}},
		{"ledger days", false, func(ctx context.Context) error { _, err := h.eng.LedgerDays(ctx, tr.UUID); return err }},
		{"run", false, func(ctx context.Context) error { _, err := h.eng.Run(ctx, run.ID); return err }},
		{"steps", false, func(ctx context.Context) error { _, err := h.eng.Steps(ctx, run.ID); return err }},
		{"log", false, func(ctx context.Context) error { _, err := h.eng.Log(ctx, run.ID, 0, 1, ""); return err }},
		{"update job", true, func(ctx context.Context) error {
			_, err := h.eng.UpdateJob(ctx, job.UUID, 0, func(*core.Job) error { return unchanged })
			return err
		}},
		{"update group", true, func(ctx context.Context) error {
			_, err := h.eng.UpdateGroup(ctx, g.UUID, 0, func(*core.Group) error { return unchanged })
			return err
		}},
		{"update trigger", true, func(ctx context.Context) error {
			_, err := h.eng.UpdateTrigger(ctx, tr.UUID, 0, func(*core.Trigger) error { return unchanged })
			return err
		}},
		{"add jobs", true, func(ctx context.Context) error { _, err := h.eng.AddJobs(ctx, g.UUID, []string{job.UUID}); return err }},
		{"remove jobs", true, func(ctx context.Context) error {
			_, err := h.eng.RemoveJobs(ctx, g.UUID, []string{spare.UUID})
			return err
		}},
		{"bind", true, func(ctx context.Context) error { _, err := h.eng.Bind(ctx, tr.UUID, ofGroup(g), false); return err }},
		{"unbind", true, func(ctx context.Context) error { _, err := h.eng.Unbind(ctx, tr.UUID, ofJob(spare)); return err }},
		{"fire", true, func(ctx context.Context) error { _, err := h.eng.FireNow(ctx, tr.UUID, "key", nil); return err }},
		{"run a job", true, func(ctx context.Context) error {
			_, err := h.eng.RunJob(ctx, job.UUID, "key", core.Overlap{Policy: core.OverlapSkip})
			return err
		}},
		{"run a group", true, func(ctx context.Context) error {
			_, err := h.eng.RunGroup(ctx, g.UUID, "key", core.Overlap{Policy: "?"})
			return err
		}},
		{"retry", true, func(ctx context.Context) error { _, err := h.eng.RetryRun(ctx, run.ID, ""); return err }},
		{"cancel", true, func(ctx context.Context) error { _, err := h.eng.CancelRun(ctx, run.ID, ""); return err }},
	}
	for _, who := range []struct {
		name          string
		caller        core.Caller
		sees, changes bool
	}{
		{"viewer", viewer, true, false},
		{"stranger", stranger, false, false},
		{"nobody", core.Caller{}, false, false},
		{"operator", operator, true, true},
		{"admin", admin, true, true},
	} {
		ctx := core.WithCaller(t.Context(), who.caller)
		if who.name == "nobody" {
			ctx = t.Context()
		}
		for _, verb := range verbs {
			err := verb.do(ctx)
			switch {
			case who.name == "nobody":
				wantKind(t, who.name+": "+verb.name, err, core.Unauthenticated)
			case !who.sees:
				wantKind(t, who.name+": "+verb.name, err, core.NotFound)
			case verb.changes && !who.changes:
				wantKind(t, who.name+": "+verb.name, err, core.Denied)
			case core.Is(err, core.Denied), core.Is(err, core.NotFound), core.Is(err, core.Unauthenticated):
				t.Errorf("%s: %s: got %v", who.name, verb.name, err)
			}
		}
	}
}

func TestDeletesByThoseWhoMayNot(t *testing.T) {
	h := newHouse(t)
	g, jobs := h.group("g", 1)
	tr := h.trigger("t", yearly(), "")
	deletes := map[string]func(context.Context) (bool, error){
		"job":     func(ctx context.Context) (bool, error) { return h.eng.DeleteJob(ctx, jobs[0].UUID) },
		"group":   func(ctx context.Context) (bool, error) { return h.eng.DeleteGroup(ctx, g.UUID) },
		"trigger": func(ctx context.Context) (bool, error) { return h.eng.DeleteTrigger(ctx, tr.UUID) },
	}
	for name, del := range deletes {
		if ok, err := del(core.WithCaller(t.Context(), stranger)); ok || err != nil {
			t.Errorf("a stranger deletes the %s: got %v, %v; want to hear of none", name, ok, err)
		}
		ok, err := del(core.WithCaller(t.Context(), viewer))
		if wantKind(t, "a viewer deletes the "+name, err, core.Denied); ok {
			t.Errorf("a viewer deleted the %s", name)
		}
		_, err = del(t.Context())
		wantKind(t, "nobody deletes the "+name, err, core.Unauthenticated)
	}
	for name, del := range deletes {
		if ok, err := del(core.WithCaller(t.Context(), admin)); !ok || err != nil {
			t.Errorf("an admin deletes the %s: got %v, %v", name, ok, err)
		}
	}
}

func TestWhoMayMakeWhat(t *testing.T) {
	h := newHouse(t)
	makes := map[string]func(context.Context) (string, error){
		"job": func(ctx context.Context) (string, error) {
			j, err := h.eng.CreateJob(ctx, core.Job{Meta: core.Meta{Name: "x", Account: "forged"}, Type: "noop"})
			return j.Account, err
		},
		"group": func(ctx context.Context) (string, error) {
			g, err := h.eng.CreateGroup(ctx, core.Group{Meta: core.Meta{Name: "x", Account: "forged"}, Type: "noop"})
			return g.Account, err
		},
		"trigger": func(ctx context.Context) (string, error) {
			tr, err := h.eng.CreateTrigger(ctx, core.Trigger{Meta: core.Meta{Name: "x", Account: "forged"}, Schedule: yearly()})
			return tr.Account, err
		},
	}
	for name, create := range makes {
		for _, c := range []core.Caller{admin, operator, stranger} {
			if account, err := create(core.WithCaller(t.Context(), c)); err != nil || account != c.Owner {
				t.Errorf("%s makes a %s: it belongs to %q, %v", c.Name, name, account, err)
			}
		}
		_, err := create(core.WithCaller(t.Context(), viewer))
		wantKind(t, "a viewer makes a "+name, err, core.Denied)
		_, err = create(t.Context())
		wantKind(t, "nobody makes a "+name, err, core.Unauthenticated)
	}
}

// TestListsShowWhatIsSeen lists as everybody.
func TestListsShowWhatIsSeen(t *testing.T) {
	h := newHouse(t)
	for _, c := range []core.Caller{operator, stranger} {
		ctx := core.WithCaller(t.Context(), c)
		j := must(h.eng.CreateJob(ctx, core.Job{Meta: named("x"), Type: "noop", Enabled: true}))(h)
		must(h.eng.CreateGroup(ctx, core.Group{Meta: named("x"), Type: "noop"}))(h)
		must(h.eng.CreateTrigger(ctx, core.Trigger{Meta: named("x"), Schedule: yearly()}))(h)
		must(h.eng.RunJob(ctx, j.UUID, "", core.Overlap{}))(h)
	}
	for _, row := range []struct {
		caller core.Caller
		want   int
	}{
		{admin, 2}, {operator, 1}, {viewer, 1}, {stranger, 1},
		{core.Caller{Account: "x", Owner: "third", Role: core.Operator}, 0},
		{core.Caller{Account: "x", Role: core.Viewer}, 0}, // owns nothing, sees nothing
	} {
		ctx := core.WithCaller(t.Context(), row.caller)
		jobs, groups, triggers := must(h.eng.Jobs(ctx))(h), must(h.eng.Groups(ctx))(h), must(h.eng.Triggers(ctx))(h)
		runs := must(h.eng.Runs(ctx, core.RunFilter{}))(h)
		asked := must(h.eng.Runs(ctx, core.RunFilter{Account: "acc"}))(h)
		got := []int{len(jobs), len(groups), len(triggers), len(runs.Runs)}
		for _, n := range got {
			if n != row.want {
				t.Errorf("%s of %q: got %v jobs, groups, triggers and runs, want %d of each", row.caller.Role, row.caller.Owner, got, row.want)
				break
			}
		}
		for _, r := range asked.Runs {
			if !row.caller.Sees(r.Account) {
				t.Errorf("%s of %q sees a run of %q by asking for it", row.caller.Role, row.caller.Owner, r.Account)
			}
		}
	}
	for name, list := range map[string]func() error{
		"jobs":     func() error { _, err := h.eng.Jobs(t.Context()); return err },
		"groups":   func() error { _, err := h.eng.Groups(t.Context()); return err },
		"triggers": func() error { _, err := h.eng.Triggers(t.Context()); return err },
		"runs":     func() error { _, err := h.eng.Runs(t.Context(), core.RunFilter{}); return err },
	} {
		wantKind(t, "nobody lists "+name, list(), core.Unauthenticated)
	}
}
