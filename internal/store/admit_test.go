package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestAdmitMakesTheRun(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	a := w.admission("A", g, 2, core.OverlapAllow, queued)
	a.Run.Trigger, a.Timeout = w.call(id.New(), "TR"), time.Hour
	var got core.Admitted
	w.wantChanges("admit", func() { got = must(w.store.Admit(t.Context(), a))(w) },
		"+ plan:P 0 60000", "+ plan:P 1 60000", "+ plan:P refs 1", "+ timers plan|P",
		"+ run:A cr T", "+ run:A cur 2", "+ run:A dl T", "+ run:A go 1", "+ run:A m …", "+ run:A n 2", "+ run:A pl …", "+ run:A pol a",
		"+ run:A ret …", "+ run:A together 0-2:F:default", "+ run:A left 2", "+ waiting 1",
		"+ run:A st p", "+ run:A tg G", "+ run:A tr TR",
		"+ runs A", "+ runs:G A", "+ runs:by:TR A", "+ act:G A", "+ timers deadline|A",
		"+ sent A:0-2:1-F", "+ req:request of A started|A|")
	if got.Word != core.AdmitStarted || got.Again || got.Run != a.Run.ID || len(got.Sends) != 2 || len(got.Expand) != 0 {
		t.Errorf("got %+v", got)
	}
	for i, d := range got.Sends {
		if d.Run != a.Run.ID || d.Step != i || d.Queue != "default" || d.Fence.Counter != 1 || len(d.Fence.Random) != 16 {
			t.Errorf("dispatch %d: got %+v", i, d)
		}
	}
	r := w.run(a.Run.ID)
	want := core.Run{
		ID: a.Run.ID, Account: "acc", Dialect: core.Native, Target: g, Name: "A", Type: "noop", Trigger: a.Run.Trigger, Request: "request of A",
		State: core.RunPending, Created: r.Created, Deadline: r.Deadline, Plan: r.Plan, Counts: core.StepCounts{Total: 2},
	}
	wantEqual(t, "run", r, want)
	if d := r.Deadline.Sub(r.Created); d < time.Hour-time.Second || d > time.Hour {
		t.Errorf("deadline lies %v after the creation, want 1h", d)
	}
}

func TestAdmitKeepsTextsWithBarsAndNewlines(t *testing.T) {
	w := newWorld(t, store.Options{})
	a := w.admission("A", w.group("G"), 1, core.OverlapAllow, queued)
	a.Run.Name = "a|b\nc\x00 \"{}\" ü"
	a.Run.Request = "key|with\nall {sorts} of: bytes \x00\xff"
	a.Plan[0].Name, a.Plan[0].Parameters = "x|y\nz", map[string]string{"k|": "v\n|"}
	a.Run.Fire = core.FireID{Trigger: "tr", Revision: 3, Slot: time.UnixMilli(1_770_000_000_000).UTC(), Manual: "by.hand"}
	a.Run.Trigger = "tr"
	a.Routes[0] = core.Route{Wait: "waits|for\nwhat"}
	got := must(w.store.Admit(t.Context(), a))(w)
	w.check()
	r := w.run(got.Run)
	if r.Name != a.Run.Name || r.Fire != a.Run.Fire {
		t.Errorf("got name %q and fire %v", r.Name, r.Fire)
	}
	s := w.steps(got.Run)[0]
	a.Plan[0].Parameters = map[string]string{"k|": "v\n|"}
	wantEqual(t, "planned step", s.PlannedStep, a.Plan[0])
	if s.Reason != "waits|for\nwhat" {
		t.Errorf("got reason %q", s.Reason)
	}
	again := must(w.store.Admit(t.Context(), a))(w)
	if !again.Again || again.Run != got.Run {
		t.Errorf("again: got %+v", again)
	}
}

// TestOverlap admits a run while another one of its target is under way.
func TestOverlap(t *testing.T) {
	t.Parallel()
	const waits = "waits for an earlier run of the target to end"
	made := func(policy string) []string {
		return []string{
			"+ run:B cr T", "+ run:B cur 0", "+ run:B m …", "+ run:B n 1", "+ run:B pl …", "+ run:B pol " + policy, "+ run:B ret …",
			"+ run:B st p", "+ run:B tg G", "+ run:B why " + waits, "+ runs B", "+ runs:G B", "+ buf:G B",
			"+ plan:P refs 2", "- plan:P refs 1", "+ req:request of B buffered|B|" + waits,
		}
	}
	for _, row := range []struct {
		policy core.OverlapPolicy
		word   core.AdmitWord
		reason string
		want   []string
	}{
		{core.OverlapAllow, core.AdmitStarted, "", []string{
			"+ run:B cr T", "+ run:B cur 1", "+ run:B m …", "+ run:B n 1", "+ run:B pl …", "+ run:B pol a", "+ run:B ret …",
			"+ run:B st p", "+ run:B tg G", "+ run:B go 1", "+ run:B s0 d|1|F|0|0|0|default||0|0|0|", "+ runs B", "+ runs:G B", "+ act:G B",
			"+ plan:P refs 2", "- plan:P refs 1", "+ req:request of B started|B|", "+ sent B:0:1-F",
		}},
		{core.OverlapSkip, core.AdmitSkipped, "an earlier run of the target has not ended (overlap skip)", []string{
			"+ req:request of B skipped||an earlier run of the target has not ended (overlap skip)",
		}},
		{core.OverlapBufferOne, core.AdmitBuffered, waits, made("1")},
		{core.OverlapBufferAll, core.AdmitBuffered, waits, made("b")},
		{core.OverlapCancel, core.AdmitBuffered, waits, append(made("o"),
			"+ run:A st c", "- run:A st r", "+ run:A end x", "+ run:A why replaced by a later run (overlap cancel_other)",
			"+ run:A stop 0", "+ run:A made 1",
			"+ run:A s0 c|1|F|1|0|0|default|w1|T|0|0|", "- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "+ outbox stop|w1|A:0:1-F",
		)},
	} {
		t.Run(string(row.policy), func(t *testing.T) {
			w := newWorld(t, store.Options{})
			g := w.group("G")
			_, ds := w.start("A", g, 1, row.policy)
			w.begin(ds[0], "w1")
			var got core.Admitted
			b := w.admission("B", g, 1, row.policy, queued)
			w.wantChanges("admit", func() { got = must(w.store.Admit(t.Context(), b))(w) }, row.want...)
			if got.Word != row.word || got.Reason != row.reason {
				t.Errorf("got %s (%s), want %s (%s)", got.Word, got.Reason, row.word, row.reason)
			}
			if (got.Run == "") != (row.word == core.AdmitSkipped) {
				t.Errorf("got run %q for %s", got.Run, got.Word)
			}
			w.wantChanges("admit again", func() {
				again := must(w.store.Admit(t.Context(), b))(w)
				want := core.Admitted{Word: got.Word, Again: true, Run: got.Run, Reason: got.Reason, Effects: again.Effects}
				wantEqual(t, "the stored decision", again, want)
				if len(again.Sends)+len(again.Stops)+len(again.Expand) != 0 {
					t.Errorf("again: got the effects %+v, want none", again.Effects)
				}
			})
		})
	}
}

func TestCancelOtherTellsTheWorkers(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	first, ds := w.start("A", g, 2, core.OverlapCancel)
	w.begin(ds[0], "w1")
	b := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapCancel, queued)))(w)
	wantEqual(t, "stops", b.Stops, []core.Stop{{Worker: "w1", Dispatch: ds[0].ID()}})
	c := must(w.store.Admit(t.Context(), w.admission("C", g, 1, core.OverlapCancel, queued)))(w)
	if got := w.run(b.Run); got.State != core.RunCanceled || got.Counts.Canceled != 1 {
		t.Errorf("the buffered run: got %s, %+v; want it canceled by the later one", got.State, got.Counts)
	}
	f := w.finish(ds[0], "w1", core.Outcome{State: core.AttemptCanceled, Reason: "told to", Retry: -1})
	if f.Run != core.RunCanceled || len(f.Expand) != 1 || f.Expand[0] != c.Run {
		t.Errorf("the end of the first run: got %+v, want the third run to start", f)
	}
	w.check()
	if got := w.run(first); got.Counts.Canceled != 2 || got.Reason != "replaced by a later run (overlap cancel_other)" {
		t.Errorf("first run: got %+v", got)
	}
	if got := w.drive(c.Run); got.State != core.RunSucceeded {
		t.Errorf("third run: got %s", got.State)
	}
	w.check()
}

func TestCancelOtherStartsAtOnceWhenNothingRuns(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	w.start("A", g, 3, core.OverlapCancel)
	b := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapCancel, queued)))(w)
	if len(b.Expand) != 1 || b.Expand[0] != b.Run {
		t.Errorf("got %+v, want the run to be expanded: the one before had not begun", b)
	}
	w.check()
	if got := w.drive(b.Run); got.State != core.RunSucceeded || got.Reason != "" {
		t.Errorf("got %s (%s)", got.State, got.Reason)
	}
}

func TestCancelOtherOfALargeRunGoesOnInTheOutbox(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	large, _ := w.start("A", g, 1201, core.OverlapCancel)
	w.expand(large)
	b := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapCancel, queued)))(w)
	w.check()
	if effects := w.outbox(large); len(effects) != 1 || effects[0] != "cancel|"+large {
		t.Fatalf("outbox: got %q, want the rest of the cancel", effects)
	}
	_, eff, err := w.store.Cancel(t.Context(), large, "canceled", core.RunCanceled)
	w.ok(err)
	if len(eff.Expand) != 1 || eff.Expand[0] != b.Run {
		t.Errorf("after the rest: got %+v, want the second run to start", eff)
	}
	w.check()
	for _, i := range []int{0, 499, 500, 1200} {
		if got, want := w.steps(large)[i].Reason, "replaced by a later run (overlap cancel_other)"; got != want {
			t.Errorf("step %d: got the reason %q, want %q", i, got, want)
		}
	}
}

// outbox gives the effects of the partition of a run, or target.
func (w *world) outbox(run string) (out []string) {
	w.Helper()
	n, ok := id.RunPartition(run)
	if !ok {
		n = id.Partition(run, w.store.Partitions())
	}
	for _, e := range must(w.store.Outbox(w.Context(), n, w.now().Add(time.Hour)))(w) {
		out = append(out, strings.Join(e, "|"))
	}
	return out
}

func TestBufferLimits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		overlap core.Overlap
		room    int
		reason  string
	}{
		{"buffer_one", core.Overlap{Policy: core.OverlapBufferOne}, 1, "a run is waiting already (overlap buffer_one)"},
		{"buffer_all of 3", core.Overlap{Policy: core.OverlapBufferAll, Limit: 3}, 3, "the buffer is full (overlap buffer_all, limit 3)"},
		{"buffer_all of 100", core.Overlap{Policy: core.OverlapBufferAll}, 100, "the buffer is full (overlap buffer_all, limit 100)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			g := w.group("G")
			w.start("first", g, 1, core.OverlapAllow)
			for range row.room {
				a := w.admission("run "+id.New(), g, 1, "", queued)
				a.Overlap = row.overlap
				if got := must(w.store.Admit(t.Context(), a))(w); got.Word != core.AdmitBuffered {
					t.Fatalf("got %s (%s), want buffered", got.Word, got.Reason)
				}
			}
			a := w.admission("one too many", g, 1, "", queued)
			a.Overlap = row.overlap
			w.wantChanges("one too many", func() {
				if got := must(w.store.Admit(t.Context(), a))(w); got.Word != core.AdmitSkipped || got.Reason != row.reason || got.Run != "" {
					t.Errorf("got %+v, want it skipped: %s", got, row.reason)
				}
			}, "+ req:request of one too many skipped||"+row.reason)
		})
	}
}

func TestBufferedRunsStartInOrder(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	runs := []string{}
	for _, name := range []string{"A", "B", "C"} {
		a := must(w.store.Admit(t.Context(), w.admission(name, g, 2, core.OverlapBufferAll, queued)))(w)
		runs = append(runs, a.Run)
	}
	for i, run := range runs {
		for later := i + 1; later < len(runs); later++ {
			if p, made, started, _ := w.store.Plan(t.Context(), runs[later]); started || made != 0 || len(p) != 2 {
				t.Errorf("run %s may start before %s has ended", w.names[runs[later]], w.names[run])
			}
		}
		w.expand(run)
		w.check()
		steps := w.steps(run)
		for k, s := range steps {
			d := core.Dispatch{Run: run, Step: k, Fence: s.Fence}
			w.begin(d, "w1")
			f := w.finish(d, "w1", success)
			if last := k == len(steps)-1; last && i+1 < len(runs) && (len(f.Expand) != 1 || f.Expand[0] != runs[i+1]) {
				t.Errorf("the end of %s: got %+v, want the next run to start", w.names[run], f)
			}
			w.check()
		}
	}
}

func TestExpandOfABufferedRunIsRefused(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	w.start("A", g, 1, core.OverlapBufferOne)
	b := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapBufferOne, queued)))(w)
	w.wantChanges("expand", func() {
		eff := must(w.store.Expand(t.Context(), b.Run, plan(1), 0, []core.Route{queued(0)}))(w)
		if len(eff.Sends) != 0 {
			t.Errorf("got %+v, want nothing sent", eff)
		}
	})
}

func TestSkipSteps(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	_, first := w.start("A", g, 2, core.OverlapSkipSteps)
	w.begin(first[0], "w1")
	w.finish(first[0], "w1", success)
	var second core.Admitted
	w.wantChanges("the second run", func() {
		second = must(w.store.Admit(t.Context(), w.admission("B", g, 3, core.OverlapSkipSteps, queued)))(w)
	},
		"+ plan:P 0 60000", "+ plan:P 1 60000", "+ plan:P 2 60000", "+ plan:P refs 1", "+ timers plan|P",
		"+ run:B cr T", "+ run:B cur 3", "+ run:B go 1", "+ run:B m …", "+ run:B n 3", "+ run:B pl …", "+ run:B pol j", "+ run:B ret …",
		"+ run:B st p", "+ run:B tg G", "+ runs B", "+ runs:G B", "+ act:G B", "+ req:request of B started|B|",
		"+ run:B j0 job0", "+ run:B j2 job2", "+ busy:G job0 B:0", "+ busy:G job2 B:2", "+ run:B ck 1", "+ count step.k 1",
		"+ run:B s0 d|1|F|0|0|0|default||0|0|0|", "+ run:B s1 k|0||0|0|0|||0|T|0|"+core.SkipText, "+ run:B s2 d|1|F|0|0|0|default||0|0|0|",
		"+ sent B:0:1-F", "+ sent B:2:1-F")
	if len(second.Sends) != 2 {
		t.Errorf("got %d dispatches, want 2", len(second.Sends))
	}
	third := must(w.store.Admit(t.Context(), w.admission("C", g, 3, core.OverlapSkipSteps, queued)))(w)
	if got := w.run(third.Run); got.State != core.RunSucceeded || got.Counts.Skipped != 3 {
		t.Errorf("all jobs busy: got %s, %+v; want an ended run with 3 skipped steps", got.State, got.Counts)
	}
	w.check()
	w.drive(w.idOf("A"))
	w.drive(second.Run)
	w.check()
	if keys := must(w.rdb.Keys(t.Context(), "*:busy:*").Result())(w); len(keys) != 0 {
		t.Errorf("nothing runs, yet jobs are busy: %q", keys)
	}
}

// idOf gives the id of a name in the test's texts.
func (w *world) idOf(name string) string {
	for id, n := range w.names {
		if n == name {
			return id
		}
	}
	w.Fatalf("nothing is called %s", name)
	return ""
}

func TestSkipStepsAcrossChunks(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	_, ds := w.start("A", g, 1, core.OverlapSkipSteps)
	b, _ := w.start("B", g, 501, core.OverlapSkipSteps)
	w.check()
	w.begin(ds[0], "w1")
	w.finish(ds[0], "w1", success)
	w.expand(b)
	w.check()
	if got := w.run(b).Counts; got.Skipped != 1 || got.Open() != 500 {
		t.Errorf("got %+v, want 1 skipped and 500 open", got)
	}
	w.drive(b)
	w.check()
}

func TestFullBacklogChangesNothing(t *testing.T) {
	w := newWorld(t, store.Options{Backlog: 3})
	g := w.group("G")
	w.start("A", g, 2, core.OverlapAllow)
	b := w.admission("B", g, 1, core.OverlapAllow, parked)
	if got := must(w.store.Admit(t.Context(), b))(w); got.Word != core.AdmitStarted {
		t.Fatalf("one below the limit: got %s, want started", got.Word)
	}
	for _, policy := range []core.OverlapPolicy{core.OverlapAllow, core.OverlapSkip, core.OverlapCancel} {
		c := w.admission("C", g, 7, policy, queued)
		w.wantChanges("full, "+string(policy), func() {
			if got := must(w.store.Admit(t.Context(), c))(w); got.Word != core.AdmitBusy || got.Run != "" {
				t.Errorf("full, %s: got %+v, want busy", policy, got)
			}
		})
	}
	if again := must(w.store.Admit(t.Context(), b))(w); !again.Again || again.Word != core.AdmitStarted {
		t.Errorf("a decision that stands: got %+v", again)
	}
	w.drive(w.idOf("A"))
	if got := must(w.store.Admit(t.Context(), w.admission("C", g, 7, core.OverlapAllow, queued)))(w); got.Word != core.AdmitStarted {
		t.Errorf("after a run has ended: got %s, want started", got.Word)
	}
	w.check()
}

func TestAdmitRefusesARunOfAnotherPartition(t *testing.T) {
	w := newWorld(t, store.Options{})
	a := w.admission("A", w.group("G"), 1, core.OverlapAllow, queued)
	home := id.Partition(a.Run.Target.UUID, 16)
	a.Run.ID = id.Run(time.Now(), (home+1)%16)
	if got, err := w.store.Admit(t.Context(), a); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
	a.Run.ID = id.New()
	if got, err := w.store.Admit(t.Context(), a); err == nil {
		t.Errorf("no run id: got %+v, want an error", got)
	}
}

func TestAdmitRefusesAPlanWithoutStepsOrWithTooMany(t *testing.T) {
	w := newWorld(t, store.Options{})
	for _, n := range []int{0, core.MaxSteps + 1} {
		a := w.admission("A", w.group("G"), n, core.OverlapAllow, queued)
		w.wantChanges("admit", func() {
			_, err := w.store.Admit(t.Context(), a)
			wantErrorKind(t, "plan out of bounds", err, core.Invalid)
		})
	}
}

func TestPlansAreShared(t *testing.T) {
	w := newWorld(t, store.Options{RunRetention: time.Millisecond})
	g := w.group("G")
	a, _ := w.start("A", g, 2, core.OverlapAllow)
	b, _ := w.start("B", g, 2, core.OverlapAllow)
	c, _ := w.start("C", g, 3, core.OverlapAllow)
	if pa, pb, pc := w.run(a).Plan, w.run(b).Plan, w.run(c).Plan; pa != pb || pa == pc {
		t.Errorf("plans: got %s, %s, %s; want the first two equal", pa, pb, pc)
	}
	home := id.Partition(g.UUID, 16)
	w.drive(a)
	w.wantChanges("drop a plan in use", func() { w.ok(w.store.DropPlan(t.Context(), home, w.run(b).Plan)) }, "- timers plan|P")
	w.drive(b)
	w.ok(w.store.Forget(t.Context(), a))
	w.check()
	if got := len(w.steps(b)); got != 2 {
		t.Errorf("after the first run is gone: got %d steps, want 2", got)
	}
	hash := w.run(b).Plan
	w.ok(w.store.Forget(t.Context(), b))
	w.check()
	if n := w.rdb.Exists(t.Context(), "takt:{p:"+itoa(home)+"}:plan:"+hash).Val(); n != 0 {
		t.Error("the plan outlived its last run")
	}
}

func TestUnusedPlanIsDropped(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	root := "takt:{p:" + itoa(id.Partition(g.UUID, 16)) + "}"
	w.start("A", g, 1, core.OverlapAllow)
	w.ok(w.rdb.HSet(t.Context(), root+":plan:abc", "0", "1|{}", "refs", 0).Err())
	w.ok(w.rdb.ZAdd(t.Context(), root+":timers", zAt(1, "plan|abc")).Err())
	w.wantChanges("drop", func() { w.ok(w.store.DropPlan(t.Context(), id.Partition(g.UUID, 16), "abc")) },
		"- plan:abc 0 1", "- plan:abc refs 0", "- timers plan|abc")
}

func TestExpandInChunks(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, sends := w.start("A", w.group("G"), 1201, core.OverlapAllow)
	if len(sends) != 500 || w.outbox(run)[0] != "expand|"+run {
		t.Fatalf("got %d dispatches and the outbox %q, want 500 and the rest", len(sends), w.outbox(run))
	}
	w.check()
	p, made, started, err := w.store.Plan(t.Context(), run)
	if err != nil || made != 500 || !started || len(p) != 1201 {
		t.Fatalf("plan: got %d steps, %d made, started %v, %v", len(p), made, started, err)
	}
	routes := make([]core.Route, 500)
	for i := range routes {
		routes[i] = queued(i)
	}
	eff := must(w.store.Expand(t.Context(), run, p, 500, routes))(w)
	if len(eff.Sends) != 500 || eff.Sends[0].Step != 500 || eff.Sends[499].Step != 999 {
		t.Errorf("second chunk: got %d dispatches", len(eff.Sends))
	}
	w.check()
	w.wantChanges("the second chunk again", func() {
		if again := must(w.store.Expand(t.Context(), run, p, 500, routes))(w); len(again.Sends) != 0 {
			t.Errorf("got %d dispatches, want none", len(again.Sends))
		}
	})
	if rest := w.expand(run); len(rest) != 201 || len(w.outbox(run)) != 0 {
		t.Errorf("rest: got %d dispatches and the outbox %q, want 201 and nothing", len(rest), w.outbox(run))
	}
	w.check()
	ids := map[string]bool{}
	for i, s := range w.steps(run) {
		ids[core.Dispatch{Run: run, Step: i, Fence: s.Fence}.ID()] = true
		if s.State != core.StepDispatched || s.Job != "job"+itoa(i) {
			t.Fatalf("step %d: got %+v", i, s)
		}
	}
	if len(ids) != 1201 {
		t.Errorf("got %d distinct dispatches, want 1201", len(ids))
	}
}

func TestForgottenDecisionMakesNoSecondRun(t *testing.T) {
	w := newWorld(t, store.Options{})
	a := w.admission("A", w.group("G"), 1, core.OverlapAllow, queued)
	a.Remember = time.Millisecond
	first := must(w.store.Admit(t.Context(), a))(w)
	w.begin(first.Sends[0], "w1")
	w.finish(first.Sends[0], "w1", success)
	testenv.Eventually(t, time.Second, func() bool { return len(must(w.rdb.Keys(t.Context(), "*:req:*").Result())(w)) == 0 })
	w.wantChanges("admit again", func() {
		again := must(w.store.Admit(t.Context(), a))(w)
		if !again.Again || again.Run != first.Run || len(again.Sends) != 0 {
			t.Errorf("got %+v, want the run that exists", again)
		}
	})
}
