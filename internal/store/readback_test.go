package store_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

func TestListRunsOfSeveral(t *testing.T) {
	h := newHistory(t, 400)
	a, b := h.runs[30].Target.UUID, h.runs[77].Target.UUID
	all := func(core.Run) bool { return true }
	for _, row := range []struct {
		name   string
		filter core.RunFilter
		keep   func(core.Run) bool
	}{
		{"all", core.RunFilter{}, all},
		{"of two targets", core.RunFilter{Targets: []string{a, b, a}}, func(r core.Run) bool { return r.Target.UUID == a || r.Target.UUID == b }},
		{"of two triggers", core.RunFilter{Triggers: []string{"tr1", "tr2"}}, func(r core.Run) bool { return r.Trigger != "" }},
		{"of a target and two triggers", core.RunFilter{Targets: []string{a}, Triggers: []string{"tr1", "none"}}, func(r core.Run) bool { return r.Target.UUID == a && r.Trigger == "tr1" }},
		{"in between", core.RunFilter{After: h.runs[300].Created, Before: h.runs[50].Created}, func(r core.Run) bool {
			return r.Created.Before(h.runs[50].Created) && !r.Created.Before(h.runs[300].Created)
		}},
		{"with a job, which is in every plan", core.RunFilter{Targets: []string{a}, Jobs: []string{"job0", "job9"}}, func(r core.Run) bool { return r.Target.UUID == a }},
		{"with a job that is in no plan", core.RunFilter{Targets: []string{a}, Jobs: []string{"job9"}}, func(core.Run) bool { return false }},
	} {
		for _, limit := range []int{7, 1000} {
			row.filter.Limit, row.filter.Oldest = limit, false
			want := h.ids(row.keep)
			wantEqual(t, row.name+", newest first, pages of "+itoa(limit), h.walk(row.filter, func() {}), want)
			row.filter.Oldest = true
			slices.Reverse(want)
			wantEqual(t, row.name+", oldest first, pages of "+itoa(limit), h.walk(row.filter, func() {}), want)
		}
	}
}

// TestJobTargets follows a job through its groups: its history is in all of them.
func TestJobTargets(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	a := w.job("A")
	targets := func() []string { return must(w.store.JobTargets(ctx, a))(w) }
	wantEqual(t, "in no group", targets(), []string{a})
	want := []string{a}
	for i := range 66 {
		g := w.jobGroup("G" + itoa(i))
		w.ok(w.store.Claim(ctx, g, []string{a}))
		w.ok(w.store.Enroll(ctx, g, []string{a}, 9))
		w.ok(w.store.SettleMember(ctx, g, a))
		must(w.store.Withdraw(ctx, g, []string{a}))(w)
		w.ok(w.store.SettleMember(ctx, g, a))
		want = append(want, g)
		if i == 1 {
			got := targets()
			slices.Sort(got)
			wantEqual(t, "after two groups", got, slices.Sorted(slices.Values(want)))
		}
	}
	if got := targets(); len(got) != 65 || slices.Contains(got, want[1]) && slices.Contains(got, want[2]) {
		t.Errorf("after 66 groups: got %d targets, want the job and the latest 64", len(got))
	}
	if _, _, ok, err := w.store.DeleteJob(ctx, a); !ok || err != nil {
		t.Fatalf("delete: got %v, %v", ok, err)
	}
	if got := targets(); len(got) != 65 {
		t.Errorf("of the deleted job: got %d targets, want 65", len(got))
	}
	old := w.job("B") // whose group an older version noted in the claim only
	w.ok(w.rdb.HSet(ctx, "takt:{p:"+itoa(id.Partition(old, 16))+"}:jobgroup", old, "G").Err())
	wantEqual(t, "claimed by an older version", must(w.store.JobTargets(ctx, old))(w), []string{old, "G"})
}

// TestStepsOfIsSteps compares what is read of some steps with what is read of all.
func TestStepsOfIsSteps(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, sends := w.start("A", w.group("G"), 8, core.OverlapAllow)
	end := func(i int, o core.Outcome) {
		w.begin(sends[i], "w")
		w.finish(sends[i], "w", o)
	}
	end(0, core.Outcome{State: core.AttemptSucceeded, Output: "fine", Retry: -1})
	end(1, failure(-1))
	end(2, failure(time.Hour)) // waits for its second attempt
	w.begin(sends[3], "w")
	end(4, failure(0))
	again := w.move(core.MoveWaiting, core.Dispatch{Run: run, Step: 4, Fence: w.steps(run)[4].Fence}, "", queued(0)).Sends[0]
	w.begin(again, "x")
	w.finish(again, "x", core.Outcome{State: core.AttemptSucceeded, Output: "at last", Retry: -1})
	large, _ := w.start("B", w.group("H"), 1203, core.OverlapAllow) // of which 500 steps are made

	a, b := w.run(run), w.run(large)
	gone := core.Run{ID: w.store.NewRunID(a.Target.UUID, time.Now(), "gone"), Plan: a.Plan, Target: a.Target}
	every := make([]int, 1203)
	for i := range every {
		every[i] = 1202 - i
	}
	ask := []core.StepsOf{{Run: &a, Steps: []int{4, 0, 1, 2, 3, 7}}, {Run: &b, Steps: every}, {Run: &gone, Steps: []int{0}}, {Run: &core.Run{ID: "x"}, Steps: []int{0}}}
	for _, outputs := range []bool{true, false} {
		got := must(w.store.StepsOf(t.Context(), ask, outputs))(w)
		for k, o := range ask[:2] {
			all := w.steps(o.Run.ID)
			for n, i := range o.Steps {
				want := all[i]
				for k := range want.Attempts {
					if last := k == len(want.Attempts)-1; !last || !outputs || !want.State.Ended() {
						want.Attempts[k].Output = ""
					}
				}
				if n := len(want.Attempts); n > 2 {
					t.Fatalf("%d attempts, and those in between are not read", n)
				}
				wantEqual(t, "step "+itoa(i), got[k][n], want)
			}
		}
		if got[2][0].State != "" || got[3][0].State != "" {
			t.Errorf("steps of runs that are not there: got %+v", got[2:])
		}
	}
	if must(w.store.StepsOf(t.Context(), nil, true))(w) == nil {
		t.Error("of no runs: got nil, want no steps")
	}
	o := must(w.store.Outlines(t.Context(), []core.Run{a, b, {Plan: "none", Target: a.Target}}))(w)
	if len(o) != 2 || len(o[a.Plan]) != 8 || o[b.Plan]["job1202"] != 1202 {
		t.Errorf("outlines: got %d of %d and %d steps", len(o), len(o[a.Plan]), len(o[b.Plan]))
	}
}

// countedAs is what a tally must say of a run. fine tells whether targets, triggers
// and plans are told apart.
func countedAs(r core.Run, fine bool) core.Tally {
	t := core.Tally{Account: r.Account, Dialect: r.Dialect, Type: r.Type, Class: core.RunPartly}
	switch {
	case !r.State.Ended():
		t.Class = core.RunOpen
	case r.Counts.Succeeded == r.Counts.Total:
		t.Class = core.RunWhole
	case r.Counts.Succeeded == 0:
		t.Class = core.RunNone
	}
	if fine {
		t.Target, t.Trigger, t.Plan = r.Target, r.Trigger, r.Plan
	}
	return t
}

// naiveTally counts runs one by one.
func naiveTally(runs []core.Run, fine bool, keep func(core.Run) bool, cuts []time.Time) [][]core.Tally {
	out := make([][]core.Tally, len(cuts)-1)
	for i := range out {
		sums := map[core.Tally][3]int64{}
		for _, r := range runs {
			if keep(r) && !r.Created.Before(cuts[i]) && r.Created.Before(cuts[i+1]) {
				n := sums[countedAs(r, fine)]
				sums[countedAs(r, fine)] = [3]int64{n[0] + 1, n[1] + int64(r.Counts.Total), n[2] + int64(r.Counts.Succeeded)}
			}
		}
		out[i] = []core.Tally{}
		for t, n := range sums {
			t.Runs, t.Steps, t.Succeeded = n[0], n[1], n[2]
			out[i] = append(out[i], t)
		}
	}
	return sorted(out)
}

func sorted(parts [][]core.Tally) [][]core.Tally {
	for _, p := range parts {
		slices.SortFunc(p, func(a, b core.Tally) int {
			return cmp.Or(strings.Compare(a.Account+string(a.Dialect)+a.Type+string(a.Class), b.Account+string(b.Dialect)+b.Type+string(b.Class)),
				strings.Compare(a.Target.UUID+a.Trigger+a.Plan, b.Target.UUID+b.Trigger+b.Plan))
		})
	}
	return parts
}

// TestTallyIsACount compares counts with runs counted one by one, while runs end,
// come and go, and the store remembers what it saw.
func TestTallyIsACount(t *testing.T) {
	for name, leaf := range map[string]int64{"in small spans": 2, "in spans of the usual size": 0} {
		t.Run(name, func(t *testing.T) { testTally(t, leaf) })
	}
}

func testTally(t *testing.T, leaf int64) {
	h := newHistory(t, 300)
	h.store.TallyInSmallSpans(leaf)
	r := rand.New(rand.NewPCG(1, 2))
	birth := h.runs[len(h.runs)-1].Created
	// Spread them over weeks, densely in places, so that every size of span is met.
	for i, run := range slices.Backward(h.runs) {
		at := birth.Add(time.Duration(i) * time.Millisecond)
		switch i % 3 {
		case 1:
			at = birth.Add(time.Duration(r.IntN(40*24)) * time.Hour)
		case 2:
			at = birth.Add(time.Duration(r.IntN(5_000_000)) * time.Millisecond)
		}
		h.stampAnew(run, at.UnixMilli())
	}
	read := func() []core.Run {
		return must(h.store.ListRuns(t.Context(), core.RunFilter{Limit: 1000}))(h.world).Runs
	}
	cuts := make([]time.Time, 0, 12)
	for i := range 12 {
		cuts = append(cuts, birth.Add(time.Duration(i-1)*5*24*time.Hour+17*time.Minute))
	}
	whole := []time.Time{{}, birth.AddDate(10, 0, 0)}
	target := h.runs[30].Target.UUID
	check := func(when string) {
		t.Helper()
		runs := read()
		for _, row := range []struct {
			name   string
			filter core.RunFilter
			cuts   []time.Time
			keep   func(core.Run) bool
		}{
			{"all", core.RunFilter{}, whole, func(core.Run) bool { return true }},
			{"all, in columns", core.RunFilter{}, cuts, func(core.Run) bool { return true }},
			{"of a target", core.RunFilter{Targets: []string{target}}, whole, func(r core.Run) bool { return r.Target.UUID == target }},
			{"of two triggers, in columns", core.RunFilter{Triggers: []string{"tr1", "tr2"}}, cuts, func(r core.Run) bool { return r.Trigger != "" }},
			{"of a job, which is its own target", core.RunFilter{Jobs: []string{target}}, whole, func(r core.Run) bool { return r.Target.UUID == target }},
		} {
			fine := len(row.filter.Targets)+len(row.filter.Triggers)+len(row.filter.Jobs) > 0
			got := sorted(must(h.store.Tally(t.Context(), row.filter, row.cuts))(h.world))
			wantEqual(t, when+": "+row.name, got, naiveTally(runs, fine, row.keep, row.cuts))
		}
	}
	check("at first")
	check("remembered")
	for i, run := range read() {
		if i%2 == 0 && !run.State.Ended() {
			h.drive(run.ID)
		}
	}
	check("after runs have ended")
	for i, run := range read() {
		if i%3 == 0 && run.State.Ended() {
			h.ok(h.store.Forget(t.Context(), run.ID))
		}
	}
	check("after runs have gone")
	for i := range 20 {
		a := h.admission("late "+itoa(i), core.Target{Kind: core.GroupTarget, UUID: target}, 3, core.OverlapAllow, queued)
		must(h.store.Admit(t.Context(), a))(h.world)
	}
	check("after runs have come")
	if got := must(h.store.Tally(t.Context(), core.RunFilter{}, whole[:1]))(h.world); len(got) != 0 {
		t.Errorf("from one cut on: got %v, want nothing", got)
	}
}

// stampAnew is stamp for a run that has its place already.
func (h *history) stampAnew(r core.Run, ms int64) {
	h.Helper()
	h.stamp(r.ID, r.Target.UUID, r.Trigger, ms)
}
