package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// due gives the next slot of a trigger as its process would publish it.
func (h *house) due(t core.Trigger) core.FireID {
	h.Helper()
	at := h.read(t.UUID)
	return core.FireID{Trigger: t.UUID, Revision: at.Revision, Slot: at.Next.UTC()}
}

// pass advances a trigger past a slot that was published.
func (h *house) pass(f core.FireID) {
	h.Helper()
	must(h.store.Advance(h.Context(), []core.Advance{{
		Trigger: f.Trigger, Revision: f.Revision, From: f.Slot, Next: f.Slot.Add(time.Second), Entries: []core.LedgerEntry{{
			ID: f.Entry(), Revision: f.Revision, From: f.Slot, To: f.Slot, Count: 1, Published: f.Slot,
		}},
	}}))(h)
}

func TestDecideFire(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	g, _ := h.group("g", 2)
	j := h.job("j")
	h.bind(tr, ofGroup(g))
	h.bind(tr, ofJob(j))
	f := h.due(tr)
	if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Fired {
		t.Errorf("got %s, want fired", d)
	}
	runs := h.runs(core.RunFilter{Trigger: tr.UUID})
	if len(runs) != 2 {
		t.Fatalf("got %d runs, want one per target", len(runs))
	}
	for _, r := range runs {
		if r.Fire != f || r.Trigger != tr.UUID || r.Account != "acc" || r.State != core.RunPending {
			t.Errorf("got %+v", r)
		}
	}
	entry := h.ledger(tr.UUID)[0]
	if len(entry.Runs) != 2 || !entry.From.Equal(f.Slot) || entry.Decided.IsZero() {
		t.Errorf("got %+v", entry)
	}
	if sent := h.queue.take(); len(sent) != 3 {
		t.Errorf("got %d dispatches, want 3", len(sent))
	}
	h.pass(f)
	if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Fired {
		t.Errorf("again: got %s", d)
	}
	if again := h.runs(core.RunFilter{Trigger: tr.UUID}); len(again) != 2 || len(h.ledger(tr.UUID)) != 1 {
		t.Errorf("again: got %d runs and %d entries", len(again), len(h.ledger(tr.UUID)))
	}
	for name, wrong := range map[string]core.FireID{
		"to come":          {Trigger: tr.UUID, Revision: 1, Slot: f.Slot.Add(time.Hour)},
		"another revision": {Trigger: tr.UUID, Revision: 2, Slot: f.Slot.Add(time.Second)},
		"no such trigger":  {Trigger: id.New(), Revision: 1, Slot: f.Slot},
		"by hand, unasked": {Trigger: tr.UUID, Revision: 1, Slot: f.Slot.Add(time.Second), Manual: id.New()},
	} {
		if d := must(h.eng.DecideFire(t.Context(), wrong))(h); d != "" {
			t.Errorf("%s: got %s, want nothing done", name, d)
		}
	}
	if again := h.runs(core.RunFilter{Trigger: tr.UUID}); len(again) != 2 {
		t.Errorf("fires that are none made runs: got %d", len(again))
	}
}

// TestDecideFireOnce lets two engines decide the same fires at the same time,
// while their slots are advanced.
func TestDecideFireOnce(t *testing.T) {
	for _, policy := range []core.OverlapPolicy{core.OverlapAllow, core.OverlapSkip, core.OverlapBufferAll} {
		t.Run(string(policy), func(t *testing.T) {
			h := newHouse(t)
			tr := h.trigger("t", everySecond(), policy)
			targets := []core.Job{h.job("a"), h.job("b")}
			for _, j := range targets {
				h.bind(tr, ofJob(j))
			}
			engines := []decider{h.engine(), h.engine()}
			const fires, times = 5, 10
			for range fires {
				f := h.due(tr)
				var wg sync.WaitGroup
				for i := range times {
					wg.Go(func() {
						if i == times/2 {
							h.pass(f)
						}
						if _, err := engines[i%2].DecideFire(t.Context(), f); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			perSlot := map[string]int{}
			for _, r := range h.runs(core.RunFilter{Trigger: tr.UUID}) {
				perSlot[fmt.Sprint(r.Target.UUID, r.Fire.Slot.UnixMilli())]++
			}
			want := fires * len(targets)
			if policy == core.OverlapSkip {
				want = len(targets)
			}
			if len(perSlot) != want {
				t.Errorf("got runs for %d slots and targets, want %d", len(perSlot), want)
			}
			for slot, n := range perSlot {
				if n != 1 {
					t.Errorf("slot and target %s have %d runs", slot, n)
				}
			}
			for id, n := range h.queue.sent {
				if n != 1 || !strings.Contains(id, ":1-") {
					t.Errorf("dispatch %s was sent %d times", id, n)
				}
			}
			covered := 0
			for _, e := range h.ledger(tr.UUID) {
				covered += e.Count
				if e.Decision == "" || e.Decision == core.Fired && len(e.Runs) != len(targets) {
					t.Errorf("got %+v", e)
				}
			}
			if covered != fires {
				t.Errorf("the ledger covers %d slots, want %d", covered, fires)
			}
			days := int64(0)
			for _, day := range must(h.store.LedgerDays(t.Context(), tr.UUID))(h) {
				for _, n := range day {
					days += n
				}
			}
			if days != fires {
				t.Errorf("the counters count %d slots, want %d", days, fires)
			}
		})
	}
}

// TestDecisions fires at targets in every condition.
func TestDecisions(t *testing.T) {
	for _, row := range []struct {
		name   string
		policy core.OverlapPolicy
		setUp  func(h *house, tr core.Trigger)
		want   core.Decision
		runs   int
		reason string
	}{
		{"no targets", "", func(*house, core.Trigger) {}, core.Skipped, 0, "the trigger has no targets"},
		{"a disabled job", "", func(h *house, tr core.Trigger) { h.bind(tr, ofJob(h.disabled())) }, core.Skipped, 0, "the job is disabled"},
		{"an empty group", "", func(h *house, tr core.Trigger) { g, _ := h.group("g", 0); h.bind(tr, ofGroup(g)) }, core.Skipped, 0, "the job group has no enabled jobs"},
		{"a group of disabled jobs", "", func(h *house, tr core.Trigger) {
			g, _ := h.group("g", 0)
			must(h.eng.AddJobs(h.ctx, g.UUID, []string{h.disabled().UUID}))(h)
			h.bind(tr, ofGroup(g))
		}, core.Skipped, 0, "the job group has no enabled jobs"},
		{"a disabled group", "", func(h *house, tr core.Trigger) {
			g, _ := h.group("g", 1)
			must(h.eng.UpdateGroup(h.ctx, g.UUID, 0, func(g *core.Group) error { g.Enabled = false; return nil }))(h)
			h.bind(tr, ofGroup(g))
		}, core.Skipped, 0, "the job group is disabled"},
		{"a deleted job", "", func(h *house, tr core.Trigger) {
			j := h.job("j")
			h.bind(tr, ofJob(j))
			h.faults.die("SetLink", "PutTrigger")
			must(h.eng.DeleteJob(h.ctx, j.UUID))(h)
			h.faults.die()
		}, core.Skipped, 0, " is deleted"},
		{"a deleted job and one that is there", "", func(h *house, tr core.Trigger) {
			j := h.job("j")
			h.bind(tr, ofJob(j))
			h.bind(tr, ofJob(h.job("k")))
			h.faults.die("SetLink", "PutTrigger")
			must(h.eng.DeleteJob(h.ctx, j.UUID))(h)
			h.faults.die()
		}, core.Fired, 1, " is deleted"},
		{"skipped and fired", core.OverlapSkip, func(h *house, tr core.Trigger) {
			h.bind(tr, ofJob(h.busy()))
			h.bind(tr, ofJob(h.job("k")))
		}, core.Fired, 1, "(overlap skip)"},
		{"skipped", core.OverlapSkip, func(h *house, tr core.Trigger) { h.bind(tr, ofJob(h.busy())) }, core.Skipped, 0, "(overlap skip)"},
		{"buffered", core.OverlapBufferOne, func(h *house, tr core.Trigger) { h.bind(tr, ofJob(h.busy())) }, core.Buffered, 1, "waits for an earlier run"},
		{"skipped and buffered", core.OverlapBufferOne, func(h *house, tr core.Trigger) {
			h.bind(tr, ofJob(h.busy()))
			h.bind(tr, ofJob(h.disabled()))
		}, core.Buffered, 1, "the job is disabled"},
		{"skipped steps", core.OverlapSkipSteps, func(h *house, tr core.Trigger) { h.bind(tr, ofJob(h.busy())) }, core.Fired, 1, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			tr := h.trigger("t", everySecond(), row.policy)
			row.setUp(h, tr)
			f := h.due(tr)
			must(h.eng.DecideFire(t.Context(), f))(h)
			entry := h.ledger(tr.UUID)[0]
			if entry.Decision != row.want || len(entry.Runs) != row.runs || !strings.Contains(entry.Reason, row.reason) {
				t.Errorf("got %s with %d runs (%s), want %s with %d (%s)", entry.Decision, len(entry.Runs), entry.Reason, row.want, row.runs, row.reason)
			}
			if runs := h.runs(core.RunFilter{Trigger: tr.UUID}); len(runs) != row.runs {
				t.Errorf("got %d runs, want %d", len(runs), row.runs)
			}
		})
	}
}

func (h *house) disabled() core.Job {
	h.Helper()
	return must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("off"), Type: "noop"}))(h)
}

// busy is a job with a run under way.
func (h *house) busy() core.Job {
	h.Helper()
	j := h.job("busy")
	must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{Policy: core.OverlapSkipSteps}))(h)
	return j
}

// TestDecideFireMeetsALoss fails to write the decision once the runs are made:
// the fire comes again, and finds them.
func TestDecideFireMeetsALoss(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), core.OverlapSkip)
	h.bind(tr, ofJob(h.job("j")))
	f := h.due(tr)
	h.faults.die("Decide")
	if _, err := h.eng.DecideFire(t.Context(), f); err == nil {
		t.Fatal("the decision cannot have been written")
	}
	h.faults.die()
	h.pass(f)
	if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Fired {
		t.Errorf("again: got %s, want fired as the first time", d)
	}
	if runs := h.runs(core.RunFilter{Trigger: tr.UUID}); len(runs) != 1 {
		t.Errorf("got %d runs, want 1", len(runs))
	}
}

func TestGiveUp(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	j := h.job("j")
	h.bind(tr, ofJob(j))
	f := h.due(tr)
	for range 2 {
		h.ok(h.eng.GiveUp(t.Context(), f, "failed|again\nand again"))
	}
	h.pass(f)
	if l := h.ledger(tr.UUID); len(l) != 1 || l[0].Decision != core.Failed || l[0].Reason != "failed|again\nand again" {
		t.Errorf("got %+v", l)
	}
	if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Failed || len(h.runs(core.RunFilter{Trigger: tr.UUID})) != 0 {
		t.Errorf("decided after it was given up: got %s", d)
	}
	next := h.due(tr)
	must(h.eng.DecideFire(t.Context(), next))(h)
	h.ok(h.eng.GiveUp(t.Context(), next, "too late"))
	h.ok(h.eng.GiveUp(t.Context(), core.FireID{Trigger: tr.UUID, Revision: 9, Slot: next.Slot}, "unknown"))
	if l := h.ledger(tr.UUID); len(l) != 2 || l[1].Decision != core.Fired {
		t.Errorf("given up once decided: got %+v", l)
	}
}

// TestGiveUpTellsOfTheRunsThereAre gives a fire up that became a run for one of its
// targets: the ledger must not hide it.
func TestGiveUpTellsOfTheRunsThereAre(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	h.bind(tr, ofJob(h.job("a")))
	h.bind(tr, ofJob(h.job("b")))
	f := h.due(tr)
	h.faults.then("Admit", func() { h.faults.die("Admit") })
	if _, err := h.eng.DecideFire(t.Context(), f); err == nil {
		t.Fatal("the second target cannot have been started")
	}
	h.ok(h.eng.GiveUp(t.Context(), f, "failed 20 times"))
	runs := h.runs(core.RunFilter{Trigger: tr.UUID})
	if l := h.ledger(tr.UUID); len(runs) != 1 || l[0].Decision != core.Failed || !slices.Equal(l[0].Runs, []string{runs[0].ID}) {
		t.Errorf("got %d runs and %+v", len(runs), l)
	}
}

func TestFireNow(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	a, b := h.job("a"), h.job("b")
	h.bind(tr, ofJob(a))
	h.bind(tr, ofJob(b))
	first := must(h.eng.FireNow(h.ctx, tr.UUID, "key", nil))(h)
	if !first.Manual || first.Decision != core.Fired || len(first.Runs) != 2 || first.Lateness != 0 {
		t.Errorf("got %+v", first)
	}
	must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = false; return nil }))(h)
	again := must(h.eng.FireNow(h.ctx, tr.UUID, "key", nil))(h)
	wantEqual(t, "the same key again, also under a new revision", again, first)
	other := must(h.eng.FireNow(core.WithCaller(t.Context(), admin), tr.UUID, "key", []string{b.UUID}))(h)
	if other.ID == first.ID || len(other.Runs) != 1 || !slices.Equal(other.Only, []string{b.UUID}) {
		t.Errorf("another caller's key, one target: got %+v", other)
	}
	for range 2 {
		must(h.eng.FireNow(h.ctx, tr.UUID, "", nil))(h)
	}
	if runs := h.runs(core.RunFilter{Trigger: tr.UUID}); len(runs) != 7 {
		t.Errorf("without a key each is a fire: got %d runs, want 2+1+2+2", len(runs))
	}
	_, err := h.eng.FireNow(h.ctx, tr.UUID, "", []string{id.New()})
	wantInvalid(t, "a target that is not bound", err, "targets")
	_, err = h.eng.FireNow(h.ctx, id.New(), "", nil)
	wantKind(t, "a missing trigger", err, core.NotFound)
}

func TestFireNowIsOneFireAmongMany(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	h.bind(tr, ofJob(h.job("a")))
	engines := []decider{h.engine(), h.engine()}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := engines[i%2].FireNow(h.ctx, tr.UUID, "key", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if runs, l := h.runs(core.RunFilter{Trigger: tr.UUID}), h.ledger(tr.UUID); len(runs) != 1 || len(l) != 1 {
		t.Errorf("got %d runs and %d entries, want one", len(runs), len(l))
	}
}

// TestFireNowOutlivesItsProcess lets the process die between the durable entry
// and the decision: the fire is published again as undecided, and only its
// targets are fired at.
func TestFireNowOutlivesItsProcess(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	a, b := h.job("a"), h.job("b")
	h.bind(tr, ofJob(a))
	h.bind(tr, ofJob(b))
	h.faults.die("Decide")
	_, _ = h.eng.FireNow(h.ctx, tr.UUID, "key", []string{b.UUID})
	h.faults.die()
	open := must(h.store.Undecided(t.Context(), id.Partition(tr.UUID, 16), time.Now().Add(time.Minute)))(h)
	if len(open) != 1 {
		t.Fatalf("undecided: got %v", open)
	}
	if d := must(h.eng.DecideFire(t.Context(), open[0]))(h); d != core.Fired {
		t.Errorf("got %s", d)
	}
	if runs := h.runs(core.RunFilter{Trigger: tr.UUID}); len(runs) != 1 || runs[0].Target != ofJob(b) {
		t.Errorf("got the runs %+v, want one of the target asked for", runs)
	}
	entry := must(h.eng.FireNow(h.ctx, tr.UUID, "key", []string{b.UUID}))(h)
	if entry.Decision != core.Fired || len(entry.Runs) != 1 {
		t.Errorf("the same key again: got %+v", entry)
	}
}
