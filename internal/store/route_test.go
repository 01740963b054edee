package store_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// ways are the routes of the tests here: neighbors that go one way, and others.
var ways = []core.Route{
	{Queue: "default"}, {Queue: "default"}, {Wait: "for a|worker"}, {Wait: "for another\nworker"}, {Queue: "low"}, {Queue: "default"}, {Wait: "for a|worker"}, {Queue: "default"},
}

func way(i int) core.Route { return ways[i%len(ways)] }

// What is told to be sent is what the steps' rows and the sent set say, however the
// steps are routed, in the first chunk and in later ones.
func TestSendsAreThoseOfTheRows(t *testing.T) {
	t.Parallel()
	for _, policy := range []core.OverlapPolicy{core.OverlapAllow, core.OverlapSkipSteps} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t, store.Options{Partitions: 1})
			g := w.group("G")
			busy := w.admission("A", g, 3, policy, queued)
			for i, job := range []string{"job0", "job4", "job502"} {
				busy.Plan[i].Job = job
			}
			first := must(w.store.Admit(t.Context(), busy))(w)
			a := w.admission("B", g, 520, policy, way)
			got := must(w.store.Admit(t.Context(), a))(w)
			w.check()
			p, made, _, err := w.store.Plan(t.Context(), got.Run)
			w.ok(err)
			routes := make([]core.Route, len(p)-made)
			for i := range routes {
				routes[i] = way(i)
			}
			later := must(w.store.Expand(t.Context(), got.Run, p, made, routes))(w)
			w.check()
			sends := slices.Concat(got.Sends, later.Sends)
			var want []core.Dispatch
			for i, s := range w.steps(got.Run) {
				r := way(i)
				if i >= core.Chunk {
					r = way(i - core.Chunk)
				}
				skipped := policy == core.OverlapSkipSteps && slices.Contains([]string{"job0", "job4", "job502"}, s.Job)
				switch {
				case skipped && s.State != core.StepSkipped, !skipped && s.State == core.StepSkipped:
					t.Errorf("step %d of %s is %s", i, s.Job, s.State)
				case s.State == core.StepDispatched:
					want = append(want, core.Dispatch{Run: got.Run, Step: i, Fence: s.Fence, Queue: s.Queue})
				}
				if !skipped && (s.Queue != r.Queue || s.Reason != r.Wait) {
					t.Errorf("step %d: got queue %q and reason %q, want %+v", i, s.Queue, s.Reason, r)
				}
			}
			wantEqual(t, "sends", sends, want)
			var noted []core.Dispatch
			for skip, more := 0, true; more; more = skip != 0 {
				var page []core.Sent
				page, skip, err = w.store.SentBefore(t.Context(), 0, w.now().Add(time.Second), skip)
				w.ok(err)
				for _, s := range page {
					noted = append(noted, s.Dispatch)
				}
			}
			byID := func(a, b core.Dispatch) int { return cmp.Compare(a.ID(), b.ID()) }
			all := slices.SortedFunc(slices.Values(slices.Concat(first.Sends, sends)), byID)
			wantEqual(t, "dispatches that are noted as sent", slices.SortedFunc(slices.Values(noted), byID), all)
		})
	}
}

// A plan of which a part is stored is no plan; asking with it leaves no trace.
func TestAPlanInTheMaking(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	done, _ := w.start("done", w.group("G1"), 2, core.OverlapAllow)
	key := "takt:{p:0}:plan:" + w.run(done).Plan
	w.drive(done)
	w.ok(w.store.Forget(t.Context(), done))
	if n := w.rdb.Exists(t.Context(), key).Val(); n != 0 {
		t.Fatal("the plan is still there")
	}
	w.ok(w.rdb.HSet(t.Context(), key, "0", "60000|{}", "refs", 0).Err())
	run, ds := w.start("A", w.group("G2"), 2, core.OverlapAllow)
	w.check()
	if got := w.rdb.HGet(t.Context(), key, "refs").Val(); got != "1" || len(ds) != 2 {
		t.Errorf("the plan counts %s runs and %d steps are sent, want 1 and 2", got, len(ds))
	}
	if steps := w.steps(run); steps[0].Job != "job0" || steps[1].Job != "job1" {
		t.Errorf("the steps are %+v", steps)
	}
}

// A target's plan is named by what it is now, though it is remembered.
func TestPlansOfOneTargetThatChange(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1, RunRetention: time.Millisecond})
	g := w.group("G")
	seen := map[string]string{}
	for i, name := range []string{"one", "two", "one", "one", "two"} {
		a := w.admission("run "+itoa(i), g, 2, core.OverlapAllow, queued)
		a.Plan[1].Parameters = map[string]string{"name": name}
		got := must(w.store.Admit(t.Context(), a))(w)
		if p := w.steps(got.Run)[1].Parameters["name"]; p != name {
			t.Errorf("run %d: planned with %q, want %q", i, p, name)
		}
		plan := w.run(got.Run).Plan
		if before, ok := seen[name]; ok && before != plan {
			t.Errorf("run %d: plan %s, want that of equal content, %s", i, plan, before)
		}
		seen[name] = plan
		w.drive(got.Run)
		if i%2 == 1 { // its plan goes with the last run: the next has to store it again
			for run, name := range w.names {
				if name != "G" {
					w.ok(w.store.Forget(t.Context(), run))
				}
			}
		}
		w.check()
	}
	if seen["one"] == seen["two"] {
		t.Error("two plans have one name")
	}
}

// A run that is skipped needs no plan.
func TestASkippedRunStoresNoPlan(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	w.start("A", g, 1, core.OverlapSkip)
	w.wantChanges("skipped", func() {
		must(w.store.Admit(t.Context(), w.admission("B", g, 9, core.OverlapSkip, queued)))(w)
	}, "+ req:request of B skipped||an earlier run of the target has not ended (overlap skip)")
}
