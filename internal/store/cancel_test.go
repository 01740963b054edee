package store_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// cancel cancels a run and gives whether it had ended, and the effects.
func (w *world) cancel(run string, end core.RunState) (bool, core.Effects) {
	w.Helper()
	ended, eff, err := w.store.Cancel(w.Context(), run, "enough", end)
	w.ok(err)
	return ended, eff
}

// TestCancel cancels a run of one step in each state that the step may have.
func TestCancel(t *testing.T) {
	t.Parallel()
	over := func(was string, more ...string) []string {
		return append([]string{
			"- run:A st " + was, "+ run:A st x", "+ run:A t1 T", "+ run:A why enough", "- run:A cur 1", "- run:A go 1", "- act:G A",
			"+ timers forget|A", "+ run:A cx 1", "+ count step.x 1", "+ count run.x 1",
		}, more...)
	}
	for _, row := range []struct {
		name  string
		until func(w *world) string
		stops int
		want  []string
	}{
		{"sent", func(w *world) string { run, _ := w.start("A", w.group("G"), 1, core.OverlapAllow); return run }, 0,
			over("p", "- sent A:0:1-F", "- run:A s0 d|1|F|0|0|0|default||0|0|0|", "+ run:A s0 x|1|F|0|0|0|default||0|T|0|enough")},
		{"parked", func(w *world) string {
			return must(w.store.Admit(w.Context(), w.admission("A", w.group("G"), 1, core.OverlapAllow, parked)))(w).Run
		}, 0, over("p", "- parked A:0", "- run:A s0 w|1|F|0|0|0|||0|0|0|waits for a worker", "+ run:A s0 x|1|F|0|0|0|||0|T|0|enough")},
		{"between two attempts", func(w *world) string {
			run, d := anAttempt(w)
			w.finish(d, "w1", failure(time.Hour))
			return run
		}, 0, over("r", "- timers retry|A:0:1", "- run:A s0 w|1|F|1|1|0|default|w1|T|0|0|attempt 1 failed: it broke",
			"+ run:A s0 x|1|F|1|1|0|default|w1|T|T|0|enough")},
		{"running", func(w *world) string { run, _ := anAttempt(w); return run }, 1, []string{
			"- run:A st r", "+ run:A st c", "+ run:A why enough", "+ run:A end x", "+ run:A stop 0", "+ run:A made 1",
			"- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "+ run:A s0 c|1|F|1|0|0|default|w1|T|0|0|", "+ outbox stop|w1|A:0:1-F",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			run := row.until(w)
			w.wantChanges("cancel", func() {
				if ended, eff := w.cancel(run, core.RunCanceled); ended || len(eff.Stops) != row.stops {
					t.Errorf("got ended %v and %+v, want %d stops", ended, eff, row.stops)
				}
			}, row.want...)
			w.wantChanges("cancel again", func() {
				ended, _, err := w.store.Cancel(t.Context(), run, "another reason", core.RunTimedOut)
				if err != nil || ended != (row.stops == 0) {
					t.Errorf("again: got ended %v, %v", ended, err)
				}
			})
		})
	}
}

func TestALongReasonForACancel(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, _ := w.start("A", w.group("G"), 2, core.OverlapAllow)
	_, _, err := w.store.Cancel(t.Context(), run, strings.Repeat("why|\n", 5000)+"\xff", core.RunCanceled)
	w.ok(err)
	w.check()
	if got := w.run(run).Reason; len(got) > 4200 || !strings.HasPrefix(got, "why|\nwhy|") || !utf8.ValidString(got) {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestCancelOfABufferedRun(t *testing.T) {
	t.Parallel()
	for _, end := range []core.RunState{core.RunCanceled, core.RunTimedOut} {
		t.Run(string(end), func(t *testing.T) {
			w := newWorld(t, store.Options{})
			g := w.group("G")
			first, _ := w.start("A", g, 1, core.OverlapBufferAll)
			a := w.admission("B", g, 700, core.OverlapBufferAll, queued)
			a.Timeout = time.Hour
			second := must(w.store.Admit(t.Context(), a))(w).Run
			third := must(w.store.Admit(t.Context(), w.admission("C", g, 1, core.OverlapBufferAll, queued)))(w).Run
			w.cancel(second, end)
			w.check()
			if r := w.run(second); r.State != end || r.Counts.Canceled != 700 || r.Reason != "enough" {
				t.Errorf("got %s, %+v (%s)", r.State, r.Counts, r.Reason)
			}
			for _, s := range w.steps(second) {
				if s.State != core.StepCanceled {
					t.Fatalf("step %d: got %s, want canceled", s.Index, s.State)
				}
			}
			w.drive(first)
			if _, _, started, err := w.store.Plan(t.Context(), third); err != nil || !started {
				t.Errorf("the run behind it: started %v, %v", started, err)
			}
			w.check()
			w.drive(third)
			w.check()
		})
	}
}

func TestCancelStartsTheNextRun(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	first, _ := w.start("A", g, 3, core.OverlapBufferOne)
	second := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapBufferOne, queued)))(w).Run
	_, eff := w.cancel(first, core.RunCanceled)
	wantEqual(t, "runs to expand", eff.Expand, []string{second})
	w.check()
	w.drive(second)
	w.check()
}

func TestCancelOfALargeRun(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, ds := w.start("A", w.group("G"), 1700, core.OverlapAllow)
	ds = append(ds, w.expand(run)...)
	for _, i := range []int{0, 499, 500, 1234, 1699} {
		w.begin(ds[i], "w"+itoa(i))
	}
	_, eff := w.cancel(run, core.RunCanceled)
	w.check()
	if len(eff.Stops) != 5 {
		t.Errorf("got %d stops, want 5", len(eff.Stops))
	}
	if r := w.run(run); r.State != core.RunCanceling || r.Counts.Canceled != 1695 {
		t.Errorf("got %s, %+v", r.State, r.Counts)
	}
	for _, i := range []int{0, 499, 500, 1234, 1699} {
		w.finish(ds[i], "w"+itoa(i), success)
		w.check()
	}
	if r := w.run(run); r.State != core.RunCanceled || r.Counts.Canceled != 1700 {
		t.Errorf("got %s, %+v", r.State, r.Counts)
	}
}

// TestCancelOfARunHalfMade cancels while steps are still to be made: these never
// come to be, and are shown as canceled from then on.
func TestCancelOfARunHalfMade(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, ds := w.start("A", w.group("G"), 1201, core.OverlapAllow)
	w.begin(ds[3], "w1")
	w.cancel(run, core.RunCanceled)
	w.check()
	r := w.run(run)
	if r.State != core.RunCanceling || r.Counts.Open() != 1 {
		t.Errorf("got %s, %+v; want one open step", r.State, r.Counts)
	}
	open := 0
	for _, s := range w.steps(run) {
		if !s.State.Ended() {
			open++
		}
	}
	if open != 1 {
		t.Errorf("got %d steps that have not ended, want 1, as the counters say", open)
	}
	w.wantChanges("expand", func() {
		eff := must(w.store.Expand(t.Context(), run, plan(1201), 500, []core.Route{queued(0)}))(w)
		if len(eff.Sends) != 0 {
			t.Errorf("got %+v, want no step made after the cancel", eff)
		}
	})
	w.finish(ds[3], "w1", success)
	w.check()
	counters := must(w.store.Counters(t.Context(), id.Partition(w.idOf("G"), 16)))(w)
	wantEqual(t, "counters", counters, map[string]int64{"step.x": 1201, "run.x": 1})
}

// TestEndOfARunBetweenTwoParts lets the last open step end while a cancel in
// parts has not come to it: nothing of the cancel may stay behind.
func TestEndOfARunBetweenTwoParts(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	large, ds := w.start("A", g, 501, core.OverlapCancel)
	last := w.expand(large)[0]
	for _, d := range ds {
		w.begin(d, "w1")
		w.finish(d, "w1", success)
	}
	w.begin(last, "w1")
	b := must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapCancel, queued)))(w)
	if got := w.outbox(large); len(got) != 1 {
		t.Fatalf("outbox: got %q, want the rest of the cancel", got)
	}
	w.check()
	if got := w.finish(last, "w1", success); got.Run != core.RunCanceled || len(got.Expand) != 1 || got.Expand[0] != b.Run {
		t.Errorf("got %+v, want the run to end and the next one to start", got)
	}
	w.check()
	w.drive(b.Run)
	if got := w.outbox(large); len(got) != 0 {
		t.Errorf("outbox: got %q, want nothing", got)
	}
}

// TestWorkGoesOnBetweenTwoParts begins, fails and loses steps that a cancel in
// parts has not come to yet.
func TestWorkGoesOnBetweenTwoParts(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	large, _ := w.start("A", g, 505, core.OverlapCancel)
	rest := w.expand(large)
	must(w.store.Admit(t.Context(), w.admission("B", g, 1, core.OverlapCancel, queued)))(w)
	for i, d := range rest {
		w.begin(d, "w1")
		switch i {
		case 0:
			w.finish(d, "w1", failure(time.Hour))
		case 1:
			w.move(core.MoveLost, d, "w1", queued(0))
		case 2:
			w.finish(d, "w1", success)
		case 3:
			w.finish(d, "w1", failure(-1))
		}
		w.check()
	}
	_, eff := w.cancel(large, core.RunCanceled)
	wantEqual(t, "stops", eff.Stops, []core.Stop{{Worker: "w1", Dispatch: rest[4].ID()}})
	w.check()
	w.finish(rest[4], "w1", core.Outcome{State: core.AttemptCanceled, Retry: -1})
	w.check()
	if r := w.run(large); r.State != core.RunCanceled || r.Counts != (core.StepCounts{Total: 505, Succeeded: 1, Failed: 1, Canceled: 503}) {
		t.Errorf("got %s, %+v", r.State, r.Counts)
	}
}

func TestCancelOfWhatIsGone(t *testing.T) {
	w := newWorld(t, store.Options{})
	for _, run := range []string{w.store.NewRunID(id.New(), time.Now(), "x"), id.New(), "", "x"} {
		_, _, err := w.store.Cancel(t.Context(), run, "enough", core.RunCanceled)
		wantErrorKind(t, "cancel "+run, err, core.NotFound)
	}
	gone := w.store.NewRunID(id.New(), time.Now(), "x")
	n, _ := id.RunPartition(gone)
	root := "takt:{p:" + itoa(n) + "}"
	w.ok(w.rdb.ZAdd(t.Context(), root+":timers", zAt(1, "deadline|"+gone)).Err())
	w.ok(w.rdb.ZAdd(t.Context(), root+":outbox", zAt(1, "cancel|"+gone)).Err())
	_, _, err := w.store.Cancel(t.Context(), gone, "enough", core.RunTimedOut)
	wantErrorKind(t, "its deadline", err, core.NotFound)
	w.check()
}

func TestDeadlineOfARun(t *testing.T) {
	w := newWorld(t, store.Options{})
	a := w.admission("A", w.group("G"), 3, core.OverlapAllow, queued)
	a.Timeout = time.Minute
	run := must(w.store.Admit(t.Context(), a))(w)
	w.begin(run.Sends[0], "w1")
	w.finish(run.Sends[0], "w1", success)
	w.begin(run.Sends[1], "w1")
	home := id.Partition(a.Run.Target.UUID, 16)
	if due := must(w.store.Due(t.Context(), []int{home}, w.now().Add(59*time.Second)))(w)[home]; len(due) != 0 {
		t.Errorf("due before the deadline: got %q", due)
	}
	due := must(w.store.Due(t.Context(), []int{home}, w.now().Add(time.Minute)))(w)[home]
	wantEqual(t, "due at the deadline", due, [][]string{{"deadline", run.Run}})
	w.cancel(run.Run, core.RunTimedOut)
	w.check()
	due = must(w.store.Due(t.Context(), []int{home}, w.now().Add(time.Minute)))(w)[home]
	if len(due) != 0 {
		t.Errorf("due once it was acted on: got %q", due)
	}
	w.finish(run.Sends[1], "w1", core.Outcome{State: core.AttemptCanceled, Retry: -1})
	w.check()
	if r := w.run(run.Run); r.State != core.RunTimedOut || r.Counts != (core.StepCounts{Total: 3, Succeeded: 1, Canceled: 1, TimedOut: 1}) {
		t.Errorf("got %s, %+v", r.State, r.Counts)
	}
}

func TestForgetRemovesEveryKey(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	// What stays for ever, a row per partition, is there before.
	first, ds := w.start("first", g, 1, core.OverlapAllow)
	w.begin(ds[0], "w1")
	w.finish(ds[0], "w1", success)
	w.ok(w.rdb.HSet(t.Context(), "takt:{p:"+itoa(id.Partition(g.UUID, 16))+"}:count", "step.f", 1, "step.x", 1, "run.x", 1, "retry", 1, "lost", 1, "step.k", 1).Err())
	w.ok(w.store.Forget(t.Context(), first))
	w.ok(w.rdb.Del(t.Context(), w.keysLike(":req:")...).Err())
	before := w.keys()

	a := w.admission("A", g, 4, core.OverlapSkipSteps, queued)
	a.Run.Trigger, a.Timeout = id.New(), time.Hour
	run := must(w.store.Admit(t.Context(), a))(w)
	w.begin(run.Sends[0], "w1")
	w.finish(run.Sends[0], "w1", core.Outcome{State: core.AttemptSucceeded, Output: "out", Retry: -1})
	w.begin(run.Sends[1], "w1")
	w.finish(run.Sends[1], "w1", failure(time.Hour))
	w.begin(run.Sends[2], "w1")
	again := w.move(core.MoveLost, run.Sends[2], "w1", queued(0)).Sends[0]
	w.begin(again, "w2")
	w.ok(w.store.Forget(t.Context(), run.Run)) // it has not ended: nothing happens
	w.check()
	w.cancel(run.Run, core.RunCanceled)
	w.finish(again, "w2", core.Outcome{State: core.AttemptSucceeded, Output: "late", Retry: -1})
	w.check()
	if keys := w.keysLike(":out:"); len(keys) != 1 {
		t.Fatalf("outputs: got %q", keys)
	}
	w.ok(w.store.Forget(t.Context(), run.Run))
	w.ok(w.rdb.Del(t.Context(), w.keysLike(":req:")...).Err()) // they expire by themselves
	wantEqual(t, "keys", w.keys(), before)
	if _, err := w.store.Run(t.Context(), run.Run); !core.Is(err, core.NotFound) {
		t.Errorf("a forgotten run: got %v", err)
	}
	_, err := w.store.Steps(t.Context(), run.Run)
	wantErrorKind(t, "steps of a forgotten run", err, core.NotFound)
	w.wantChanges("forget again", func() { w.ok(w.store.Forget(t.Context(), run.Run)) })
}

func TestDecisionsExpire(t *testing.T) {
	w := newWorld(t, store.Options{})
	w.start("A", w.group("G"), 1, core.OverlapAllow)
	keys := w.keysLike(":req:")
	if ttl := w.rdb.PTTL(t.Context(), keys[0]).Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("the decision is kept for %v, want at most the hour asked for", ttl)
	}
}

// keysLike gives the keys that contain a text.
func (w *world) keysLike(part string) []string {
	w.Helper()
	return must(w.rdb.Keys(w.Context(), "*"+part+"*").Result())(w)
}
