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

// anAttempt starts a run of one step and begins it at w1.
func anAttempt(w *world) (run string, d core.Dispatch) {
	w.Helper()
	run, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
	w.begin(ds[0], "w1")
	return run, ds[0]
}

func TestBegin(t *testing.T) {
	w := newWorld(t, store.Options{})
	_, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
	var b core.Begun
	w.wantChanges("begin", func() { b = w.begin(ds[0], "w1") },
		"- run:A s0 d|1|F|0|0|0|default||0|0|0|", "+ run:A s0 r|1|F|1|0|0|default|w1|T|0|0|",
		"- run:A st p", "+ run:A st r", "+ run:A t0 T", "- sent A:0:1-F", "+ live A:0:1-F w1|T")
	wantEqual(t, "planned step", b.Step, plan(1)[0])
	if b.Attempt != 1 || b.Failures != 0 {
		t.Errorf("got %+v", b)
	}
	live := must(w.store.Live(t.Context(), id.Partition(w.idOf("G"), 16)))(w)
	if len(live) != 1 || live[0].Worker != "w1" || live[0].Dispatch.ID() != ds[0].ID() {
		t.Fatalf("under way: got %+v", live)
	}
	if late := live[0].Overdue.Sub(b.Now); late != time.Minute+store.Grace {
		t.Errorf("overdue after %v, want the timeout and the grace", late)
	}
	w.wantChanges("begin again", func() {
		if again := w.begin(ds[0], "w1"); again.Attempt != 1 {
			t.Errorf("got attempt %d, want 1", again.Attempt)
		}
	})
}

func TestBeginRefusesWhatIsStale(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(w *world, d *core.Dispatch)
	}{
		{"another worker has begun", func(w *world, d *core.Dispatch) { w.begin(*d, "w2") }},
		{"an older fence", func(w *world, d *core.Dispatch) { w.move(core.MoveSent, *d, "", queued(0)) }},
		{"another random part", func(w *world, d *core.Dispatch) { d.Fence.Random = "0000000000000000" }},
		{"the step succeeded", func(w *world, d *core.Dispatch) { w.begin(*d, "w1"); w.finish(*d, "w1", success) }},
		{"the step failed", func(w *world, d *core.Dispatch) { w.begin(*d, "w1"); w.finish(*d, "w1", failure(-1)) }},
		{"the step waits for its retry", func(w *world, d *core.Dispatch) { w.begin(*d, "w1"); w.finish(*d, "w1", failure(time.Hour)) }},
		{"the step is told to stop", func(w *world, d *core.Dispatch) {
			w.begin(*d, "w1")
			_, _, err := w.store.Cancel(w.Context(), d.Run, "no", core.RunCanceled)
			w.ok(err)
		}},
		{"the run is canceled", func(w *world, d *core.Dispatch) {
			_, _, err := w.store.Cancel(w.Context(), d.Run, "no", core.RunCanceled)
			w.ok(err)
		}},
		{"no such step", func(w *world, d *core.Dispatch) { d.Step = 1 }},
		{"no such run", func(w *world, d *core.Dispatch) { d.Run = w.store.NewRunID(id.New(), time.Now(), "x") }},
		{"not the id of a run", func(w *world, d *core.Dispatch) { d.Run = id.New() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			_, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
			row.spoil(w, &ds[0])
			w.wantChanges("begin", func() {
				_, err := w.store.Begin(t.Context(), ds[0], "w1")
				wantErrorKind(t, "begin", err, core.Stale)
			})
		})
	}
}

// TestFinish ends the only attempt of a run's only step.
func TestFinish(t *testing.T) {
	t.Parallel()
	const (
		running = "- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|"
		gone    = "- live A:0:1-F w1|T"
	)
	end := func(letter, step string, more ...string) []string {
		return append([]string{
			running, "+ run:A s0 " + step, gone, "- run:A st r", "+ run:A st " + letter, "+ run:A t1 T", "- run:A cur 1", "- run:A go 1",
			"- act:G A", "+ timers forget|A", "+ count run." + letter + " 1",
		}, more...)
	}
	for _, row := range []struct {
		name    string
		outcome core.Outcome
		step    core.StepState
		run     core.RunState
		want    []string
	}{
		{"success", core.Outcome{State: core.AttemptSucceeded, Output: "o|p\nq", Retry: -1}, core.StepSucceeded, core.RunSucceeded,
			end("s", "s|1|F|1|0|0|default|w1|T|T|0|", "+ run:A cs 1", "+ count step.s 1", "+ out:A 0.1 o|p\nq")},
		{"failure", failure(-1), core.StepFailed, core.RunFailed,
			end("f", "f|1|F|1|1|0|default|w1|T|T|3|it broke", "+ run:A cf 1", "+ count step.f 1")},
		{"failure with bars and newlines", core.Outcome{State: core.AttemptFailed, ExitCode: -9, Reason: "a|b\nc|", Retry: -1}, core.StepFailed, core.RunFailed,
			end("f", "f|1|F|1|1|0|default|w1|T|T|-9|a|b\nc|", "+ run:A cf 1", "+ count step.f 1")},
		{"timeout", core.Outcome{State: core.AttemptTimedOut, Retry: -1}, core.StepTimedOut, core.RunFailed,
			end("f", "t|1|F|1|1|0|default|w1|T|T|0|", "+ run:A ct 1", "+ count step.t 1")},
		{"canceled by the worker", core.Outcome{State: core.AttemptCanceled, Retry: time.Second}, core.StepCanceled, core.RunCanceled,
			end("x", "x|1|F|1|0|0|default|w1|T|T|0|", "+ run:A cx 1", "+ count step.x 1")},
		{"failure to be retried", failure(5 * time.Second), core.StepWaiting, "", []string{
			running, "+ run:A s0 w|1|F|1|1|0|default|w1|T|0|0|attempt 1 failed: it broke", gone,
			"+ run:A a0.1 f|w1|T|T|3|it broke", "+ timers retry|A:0:1", "+ count retry 1",
		}},
		{"timeout to be retried at once", core.Outcome{State: core.AttemptTimedOut, Reason: "slow", Retry: 0}, core.StepWaiting, "", []string{
			running, "+ run:A s0 w|1|F|1|1|0|default|w1|T|0|0|attempt 1 failed: slow", gone,
			"+ run:A a0.1 t|w1|T|T|0|slow", "+ timers retry|A:0:1", "+ count retry 1",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			_, d := anAttempt(w)
			var got core.Finished
			w.wantChanges("finish", func() { got = w.finish(d, "w1", row.outcome) }, row.want...)
			if got.Step != row.step || got.Run != row.run || got.Late {
				t.Errorf("got %+v, want step %s, run %q", got, row.step, row.run)
			}
			w.wantChanges("finish again, as the reply was lost", func() {
				again := w.finish(d, "w1", row.outcome)
				if again.Step != row.step || again.Late {
					t.Errorf("again: got %+v, want step %s", again, row.step)
				}
			})
			w.wantChanges("finish from another worker", func() {
				if stale := w.finish(d, "w2", success); stale.Step != "" || stale.Late {
					t.Errorf("another worker: got %+v, want it refused", stale)
				}
			})
		})
	}
}

func TestFinishRefusesAStaleFence(t *testing.T) {
	w := newWorld(t, store.Options{})
	_, d := anAttempt(w)
	w.move(core.MoveLost, d, "w1", queued(0))
	w.wantChanges("finish", func() {
		if got := w.finish(d, "w1", success); got.Step != "" {
			t.Errorf("got %+v, want it refused", got)
		}
	})
	gone := d
	gone.Step = 7
	w.wantChanges("no such step", func() {
		if got := w.finish(gone, "w1", success); got.Step != "" {
			t.Errorf("got %+v, want it refused", got)
		}
	})
	if _, err := w.store.Finish(t.Context(), d, "w1", core.Outcome{State: core.AttemptLost}); err == nil {
		t.Error("a worker cannot call itself lost")
	}
}

// TestOutcomeAfterCancel ends an attempt that was told to stop.
func TestOutcomeAfterCancel(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		end     core.RunState
		outcome core.Outcome
		step    core.StepState
		attempt core.AttemptState
	}{
		{"it stopped", core.RunCanceled, core.Outcome{State: core.AttemptCanceled, Reason: "told to", Retry: -1}, core.StepCanceled, core.AttemptCanceled},
		{"it succeeded all the same", core.RunCanceled, core.Outcome{State: core.AttemptSucceeded, Output: "done", Retry: -1}, core.StepCanceled, core.AttemptSucceeded},
		{"it failed and would be retried", core.RunCanceled, failure(0), core.StepCanceled, core.AttemptFailed},
		{"the run's time was up", core.RunTimedOut, core.Outcome{State: core.AttemptCanceled, Retry: -1}, core.StepTimedOut, core.AttemptCanceled},
		{"success after the run's time", core.RunTimedOut, success, core.StepTimedOut, core.AttemptSucceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			run, d := anAttempt(w)
			_, eff, err := w.store.Cancel(t.Context(), run, "why|not", row.end)
			w.ok(err)
			wantEqual(t, "stops", eff.Stops, []core.Stop{{Worker: "w1", Dispatch: d.ID()}})
			w.check()
			got := w.finish(d, "w1", row.outcome)
			w.check()
			if got.Step != row.step || got.Run != row.end {
				t.Errorf("got %+v, want step %s, run %s", got, row.step, row.end)
			}
			s := w.steps(run)[0]
			if s.State != row.step || s.Reason != "why|not" || len(s.Attempts) != 1 {
				t.Fatalf("got %+v", s)
			}
			if a := s.Attempts[0]; a.State != row.attempt || a.Output != row.outcome.Output || a.ExitCode != row.outcome.ExitCode {
				t.Errorf("attempt: got %+v, want what it came to: %s", a, row.attempt)
			}
			if r := w.run(run); r.State != row.end || r.Counts.Open() != 0 {
				t.Errorf("run: got %s, %+v", r.State, r.Counts)
			}
		})
	}
}

// TestResultAfterTheEnd brings a result when the reconciler has ended the
// attempt in the worker's stead: it is too late, and no second execution.
func TestResultAfterTheEnd(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, d := anAttempt(w)
	w.finish(d, "w1", core.Outcome{State: core.AttemptTimedOut, Reason: "overdue", Retry: -1})
	w.wantChanges("late success", func() {
		if got := w.finish(d, "w1", core.Outcome{State: core.AttemptSucceeded, Output: "done", Retry: -1}); !got.Late || got.Step != core.StepTimedOut {
			t.Errorf("got %+v, want it late", got)
		}
	}, "+ run:A a0.1 s|w1|T|T|0|", "+ out:A 0.1 done")
	if a := w.steps(run)[0].Attempts[0]; a.State != core.AttemptSucceeded || a.Output != "done" {
		t.Errorf("attempt: got %+v", a)
	}
	if r := w.run(run); r.State != core.RunFailed {
		t.Errorf("run: got %s, want it to stay failed", r.State)
	}
}

func TestRetriesRunTheirCourse(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, d := anAttempt(w)
	w.finish(d, "w1", failure(0))
	now := w.now()
	home := id.Partition(w.idOf("G"), 16)
	var timers [][]string
	testenv.Eventually(t, time.Second, func() bool {
		timers = must(w.store.Due(t.Context(), []int{home}, now.Add(time.Second)))(w)[home]
		return len(timers) == 1
	})
	if timers[0][0] != "retry" || timers[0][1] != run+":0:1" {
		t.Fatalf("due: got %q", timers)
	}
	due := core.Dispatch{Run: run, Fence: core.Fence{Counter: 1, Random: "0"}}
	eff := w.move(core.MoveWaiting, due, "", queued(0))
	w.check()
	if len(eff.Sends) != 1 || eff.Sends[0].Fence.Counter != 2 {
		t.Fatalf("got %+v, want one dispatch under the second fence", eff)
	}
	w.wantChanges("the timer again", func() { w.move(core.MoveWaiting, due, "", queued(0)) })
	if b := w.begin(eff.Sends[0], "w2"); b.Attempt != 2 || b.Failures != 1 {
		t.Errorf("second attempt: got %+v", b)
	}
	w.finish(eff.Sends[0], "w2", core.Outcome{State: core.AttemptSucceeded, Output: "second", Retry: -1})
	w.check()
	s := w.steps(run)[0]
	s.Started, s.Ended = time.Time{}, time.Time{}
	for i := range s.Attempts {
		if a := &s.Attempts[i]; a.Started.IsZero() || a.Ended.Before(a.Started) {
			t.Errorf("attempt %d: from %v to %v", a.Number, a.Started, a.Ended)
		}
		s.Attempts[i].Started, s.Attempts[i].Ended = time.Time{}, time.Time{}
	}
	wantEqual(t, "step", s, core.Step{
		PlannedStep: plan(1)[0], State: core.StepSucceeded, Fence: eff.Sends[0].Fence, Queue: "default", Worker: "w2", Failures: 1,
		Attempts: []core.Attempt{
			{Number: 1, State: core.AttemptFailed, Worker: "w1", ExitCode: 3, Error: "it broke"},
			{Number: 2, State: core.AttemptSucceeded, Worker: "w2", Output: "second"},
		},
	})
}

// TestRunEnd checks how the ends of the steps make the end of the run.
func TestRunEnd(t *testing.T) {
	t.Parallel()
	s, f, x, to := core.AttemptSucceeded, core.AttemptFailed, core.AttemptCanceled, core.AttemptTimedOut
	for _, row := range []struct {
		name  string
		steps []core.AttemptState
		want  core.RunState
	}{
		{"all succeeded", []core.AttemptState{s, s}, core.RunSucceeded},
		{"one failed", []core.AttemptState{s, f}, core.RunFailed},
		{"one timed out", []core.AttemptState{to, s}, core.RunFailed},
		{"one canceled", []core.AttemptState{s, x}, core.RunCanceled},
		{"failed and canceled", []core.AttemptState{x, f}, core.RunFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			run, ds := w.start("A", w.group("G"), len(row.steps), core.OverlapAllow)
			for i, end := range row.steps {
				w.begin(ds[i], "w1")
				got := w.finish(ds[i], "w1", core.Outcome{State: end, Retry: -1})
				if last := i == len(row.steps)-1; last != (got.Run != "") {
					t.Errorf("step %d: the run ended as %q", i, got.Run)
				}
				w.check()
			}
			if got := w.run(run); got.State != row.want || got.Counts.Open() != 0 || got.Ended.IsZero() {
				t.Errorf("got %s, %+v", got.State, got.Counts)
			}
		})
	}
}

func TestLongReasonsAreCut(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, d := anAttempt(w)
	w.finish(d, "w1", core.Outcome{State: core.AttemptFailed, Reason: strings.Repeat("ü", 5000) + "\xff", Retry: -1})
	got := w.steps(run)[0].Reason
	if len(got) > 4200 || !strings.HasSuffix(got, " …") || strings.Contains(got, "\xff") {
		t.Errorf("got %d bytes, ending in %q", len(got), got[len(got)-8:])
	}
}
