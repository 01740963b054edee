package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// TestMove moves a step once for every reason, and once more: the second time
// changes nothing.
func TestMove(t *testing.T) {
	t.Parallel()
	sent := func(w *world) core.Dispatch {
		_, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
		return ds[0]
	}
	begun := func(w *world) core.Dispatch {
		_, d := anAttempt(w)
		return d
	}
	waits := func(w *world) core.Dispatch {
		a := must(w.store.Admit(w.Context(), w.admission("A", w.group("G"), 1, core.OverlapAllow, parked)))(w)
		return core.Dispatch{Run: a.Run, Fence: w.steps(a.Run)[0].Fence}
	}
	retries := func(w *world) core.Dispatch {
		_, d := anAttempt(w)
		w.finish(d, "w1", failure(time.Hour))
		return d
	}
	for _, row := range []struct {
		name   string
		from   func(*world) core.Dispatch
		why    core.MoveReason
		worker string
		route  core.Route
		sends  int
		want   []string
	}{
		{"retry due", retries, core.MoveWaiting, "", queued(0), 1, []string{
			"- run:A s0 w|1|F|1|1|0|default|w1|T|0|0|attempt 1 failed: it broke", "+ run:A s0 d|2|F|1|1|0|default||T|0|0|",
			"- timers retry|A:0:1", "+ sent A:0:2-F",
		}},
		{"retry due, no worker", retries, core.MoveWaiting, "", parked(0), 0, []string{
			"- run:A s0 w|1|F|1|1|0|default|w1|T|0|0|attempt 1 failed: it broke", "+ run:A s0 w|2|F|1|1|0|||T|0|0|waits for a worker",
			"- timers retry|A:0:1", "+ parked A:0",
		}},
		{"worker is back", waits, core.MoveWaiting, "", queued(0), 1, []string{
			"- run:A s0 w|1|F|0|0|0|||0|0|0|waits for a worker", "+ run:A s0 d|2|F|0|0|0|default||0|0|0|", "- parked A:0", "+ sent A:0:2-F",
		}},
		{"dispatch lost", sent, core.MoveSent, "", queued(0), 1, []string{
			"- run:A s0 d|1|F|0|0|0|default||0|0|0|", "+ run:A s0 d|2|F|0|0|0|default||0|0|0|", "- sent A:0:1-F", "+ sent A:0:2-F", "+ count redispatch 1",
		}},
		{"dispatch lost, no worker", sent, core.MoveSent, "", parked(0), 0, []string{
			"- run:A s0 d|1|F|0|0|0|default||0|0|0|", "+ run:A s0 w|2|F|0|0|0|||0|0|0|waits for a worker", "- sent A:0:1-F", "+ parked A:0", "+ count redispatch 1",
		}},
		{"worker lost", begun, core.MoveLost, "w1", queued(0), 1, []string{
			"- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "+ run:A s0 d|2|F|1|0|1|default||T|0|0|", "- live A:0:1-F w1|T", "+ sent A:0:2-F",
			"+ run:A a0.1 l|w1|T|T|0|the worker vanished", "+ count lost 1",
		}},
		{"worker lost, no other", begun, core.MoveLost, "w1", parked(0), 0, []string{
			"- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "+ run:A s0 w|2|F|1|0|1|||T|0|0|waits for a worker", "- live A:0:1-F w1|T", "+ parked A:0",
			"+ run:A a0.1 l|w1|T|T|0|the worker vanished", "+ count lost 1",
		}},
		{"released", begun, core.MoveReleased, "w1", queued(0), 1, []string{
			"- run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "+ run:A s0 d|2|F|1|0|0|default||T|0|0|", "- live A:0:1-F w1|T", "+ sent A:0:2-F",
			"+ run:A a0.1 R|w1|T|T|0|the worker handed it back", "+ count released 1",
		}},
		{"lost, but at another worker", begun, core.MoveLost, "w2", queued(0), 0, nil},
		{"released by another worker", begun, core.MoveReleased, "w2", queued(0), 0, nil},
		{"sent, but begun", begun, core.MoveSent, "", queued(0), 0, nil},
		{"wait, but begun", begun, core.MoveWaiting, "", queued(0), 0, nil},
		{"wait, but sent", sent, core.MoveWaiting, "", queued(0), 0, nil},
		{"lost, but not begun", sent, core.MoveLost, "w1", queued(0), 0, nil},
		{"sent, but waiting", waits, core.MoveSent, "", queued(0), 0, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			d := row.from(w)
			if row.want == nil && row.why != core.MoveWaiting {
				// What only loses a mark: the mark of the very dispatch goes with it.
				w.wantMark(row.why, d, row.worker, row.route)
				return
			}
			var got core.Effects
			w.wantChanges("move", func() { got = w.move(row.why, d, row.worker, row.route) }, row.want...)
			if len(got.Sends) != row.sends {
				t.Errorf("got %d dispatches, want %d", len(got.Sends), row.sends)
			}
			w.wantChanges("move again", func() {
				if again := w.move(row.why, d, row.worker, row.route); len(again.Sends) != 0 {
					t.Errorf("again: got %+v, want nothing", again)
				}
			})
		})
	}
}

// TestAnOldTimerFiresAgain waits for a second retry when the timer of the first
// one comes once more.
func TestAnOldTimerFiresAgain(t *testing.T) {
	w := newWorld(t, store.Options{})
	_, d := anAttempt(w)
	w.finish(d, "w1", failure(0))
	second := w.move(core.MoveWaiting, d, "", queued(0)).Sends[0]
	w.begin(second, "w1")
	w.finish(second, "w1", failure(time.Hour))
	w.wantChanges("the first timer", func() {
		if eff := w.move(core.MoveWaiting, d, "", queued(0)); len(eff.Sends) != 0 {
			t.Errorf("got %+v, want the step to wait on", eff)
		}
	})
}

// wantMark checks a move that must not touch the step's row.
func (w *world) wantMark(why core.MoveReason, d core.Dispatch, worker string, r core.Route) {
	w.Helper()
	before := w.steps(d.Run)
	if got := w.move(why, d, worker, r); len(got.Sends) != 0 {
		w.Errorf("got %+v, want nothing sent", got)
	}
	wantEqual(w.T, "steps", w.steps(d.Run), before)
	w.check()
}

func TestMoveOfWhatIsGone(t *testing.T) {
	w := newWorld(t, store.Options{RunRetention: time.Millisecond})
	run, d := anAttempt(w)
	w.finish(d, "w1", success)
	w.ok(w.store.Forget(t.Context(), run))
	root := "takt:{p:" + itoa(id.Partition(w.idOf("G"), 16)) + "}"
	w.ok(w.rdb.ZAdd(t.Context(), root+":sent", zAt(1, d.ID())).Err())
	w.ok(w.rdb.ZAdd(t.Context(), root+":parked", zAt(1, d.Key())).Err())
	w.ok(w.rdb.ZAdd(t.Context(), root+":timers", zAt(1, "retry|"+d.Key()+":1")).Err())
	w.ok(w.rdb.HSet(t.Context(), root+":live", d.ID(), "w1|5").Err())
	for _, why := range []core.MoveReason{core.MoveWaiting, core.MoveSent, core.MoveLost, core.MoveReleased} {
		if got := w.move(why, d, "w1", queued(0)); len(got.Sends) != 0 {
			t.Errorf("%s: got %+v, want nothing sent", why, got)
		}
	}
	w.check() // every mark is gone
}

func TestAStepThatKillsItsWorkersFails(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
	d := ds[0]
	for n := 1; ; n++ {
		worker := fmt.Sprint("w", n)
		w.begin(d, worker)
		eff := w.move(core.MoveLost, d, worker, queued(0))
		if n == core.MaxLost {
			if len(eff.Sends) != 0 {
				t.Errorf("loss %d: got %+v, want no further attempt", n, eff)
			}
			break
		}
		if len(eff.Sends) != 1 {
			t.Fatalf("loss %d: got %+v, want another attempt", n, eff)
		}
		d = eff.Sends[0]
	}
	w.check()
	s := w.steps(run)[0]
	if s.State != core.StepFailed || s.Lost != core.MaxLost || s.Failures != 0 || len(s.Attempts) != core.MaxLost {
		t.Errorf("got %s, lost %d, failures %d, %d attempts", s.State, s.Lost, s.Failures, len(s.Attempts))
	}
	for _, a := range s.Attempts {
		if a.State != core.AttemptLost || a.Worker != fmt.Sprint("w", a.Number) {
			t.Errorf("attempt: got %+v, want it lost", a)
		}
	}
	if got := w.run(run).State; got != core.RunFailed {
		t.Errorf("run: got %s, want failed", got)
	}
}

func TestReleasesNeverCount(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, ds := w.start("A", w.group("G"), 1, core.OverlapAllow)
	d := ds[0]
	for range core.MaxLost + 5 {
		w.begin(d, "w1")
		d = w.move(core.MoveReleased, d, "w1", queued(0)).Sends[0]
	}
	w.check()
	if s := w.steps(run)[0]; s.State != core.StepDispatched || s.Lost != 0 || s.Failures != 0 {
		t.Errorf("got %s, lost %d, failures %d", s.State, s.Lost, s.Failures)
	}
	if got := w.drive(run).State; got != core.RunSucceeded {
		t.Errorf("run: got %s", got)
	}
}

// TestLossWhileCanceling loses an attempt that was told to stop: nothing is
// executed again, and the run ends.
func TestLossWhileCanceling(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		why  core.MoveReason
		end  core.RunState
		step core.StepState
		last core.AttemptState
	}{
		{core.MoveLost, core.RunCanceled, core.StepCanceled, core.AttemptLost},
		{core.MoveReleased, core.RunTimedOut, core.StepTimedOut, core.AttemptReleased},
	} {
		t.Run(string(row.why), func(t *testing.T) {
			w := newWorld(t, store.Options{})
			run, d := anAttempt(w)
			next := must(w.store.Admit(t.Context(), w.admission("B", core.Target{Kind: core.GroupTarget, UUID: w.idOf("G")}, 1, core.OverlapBufferOne, queued)))(w)
			_, _, err := w.store.Cancel(t.Context(), run, "enough", row.end)
			w.ok(err)
			eff := w.move(row.why, d, "w1", queued(0))
			w.check()
			if len(eff.Sends) != 0 || len(eff.Expand) != 1 || eff.Expand[0] != next.Run {
				t.Errorf("got %+v, want only the next run to start", eff)
			}
			s := w.steps(run)[0]
			if s.State != row.step || s.Attempts[0].State != row.last || s.Reason != "enough" {
				t.Errorf("got %+v", s)
			}
			if got := w.run(run).State; got != row.end {
				t.Errorf("run: got %s, want %s", got, row.end)
			}
		})
	}
}

func TestMoveOfManySteps(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, sends := w.start("A", w.group("G"), 1201, core.OverlapAllow)
	sends = append(sends, w.expand(run)...)
	other, more := w.start("B", w.group("H"), 3, core.OverlapAllow)
	moves := make([]core.Move, 0, len(sends)+len(more))
	for _, d := range append(sends, more...) {
		moves = append(moves, core.Move{Dispatch: d, Route: queued(0)})
	}
	eff := must(w.store.Move(t.Context(), core.MoveSent, moves))(w)
	w.check()
	if len(eff.Sends) != 1204 {
		t.Errorf("got %d dispatches, want 1204", len(eff.Sends))
	}
	for _, id := range []string{run, other} {
		for _, s := range w.steps(id) {
			if s.Fence.Counter != 2 {
				t.Fatalf("step %d: got the fence %v", s.Index, s.Fence)
			}
		}
	}
	sent := 0
	home := id.Partition(w.idOf("G"), 16)
	for skip := 0; ; {
		page, next, err := w.store.SentBefore(t.Context(), home, w.now().Add(time.Second), skip)
		w.ok(err)
		for _, s := range page {
			if s.Dispatch.Queue != "default" || s.Since.IsZero() {
				t.Fatalf("got %+v, want its queue and time", s)
			}
		}
		if sent += len(page); next == 0 {
			break
		}
		skip = next
	}
	if sent < 1201 {
		t.Errorf("got %d sent dispatches, want 1201", sent)
	}
}

// TestParkedStepsAreAllFound parks more steps than are looked at together. Those
// behind must not wait for those in front, whose worker may never come.
func TestParkedStepsAreAllFound(t *testing.T) {
	w := newWorld(t, store.Options{})
	g := w.group("G")
	for _, n := range []int{500, 500, 3} {
		must(w.store.Admit(t.Context(), w.admission("run of "+itoa(n)+id.New(), g, n, core.OverlapAllow, parked)))(w)
	}
	w.check()
	seen := map[string]bool{}
	testenv.Eventually(t, 5*time.Second, func() error {
		page := must(w.store.Parked(t.Context(), id.Partition(g.UUID, 16)))(w)
		if len(page) > core.Chunk {
			return fmt.Errorf("got %d steps together, want at most %d", len(page), core.Chunk)
		}
		for _, d := range page {
			if d.Fence.Counter != 1 || len(d.Fence.Random) != 16 {
				return fmt.Errorf("step %s: got the fence %v", d.Key(), d.Fence)
			}
			seen[d.Key()] = true
		}
		if len(seen) != 1003 {
			return fmt.Errorf("saw %d of 1003 steps", len(seen))
		}
		return nil
	})
}
