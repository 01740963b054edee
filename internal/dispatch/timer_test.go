package dispatch

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/store"
)

// fire lets the timer role look once, as if so much time had passed.
func (r *rig) fire(ahead time.Duration) {
	r.t.Helper()
	r.store.ahead = ahead
	r.must(r.roles.fireTimers(r.ctx, faults{}))
}

// left gives the timers of a run's partition that are still to come.
func (r *rig) left(run string) []string {
	r.t.Helper()
	out, err := r.rdb.ZRange(r.ctx, r.root(run)+":timers", 0, -1).Result()
	r.must(err)
	return out
}

func TestRetryIsDispatchedWhenDue(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	d := r.run(func(j *core.Job) { j.Retry = core.Retry{Attempts: 3, Backoff: time.Minute} })
	b, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "a", b, core.Outcome{State: core.AttemptFailed, Reason: "no"}, false)
	r.must(err)
	r.fire(50 * time.Second)
	if st := r.step(d.Run); st.State != core.StepWaiting {
		t.Fatalf("before its back-off has passed the step is %s, want waiting", st.State)
	}
	r.fire(61 * time.Second)
	now := r.dispatch(d.Run)
	if now.Fence.Counter != d.Fence.Counter+1 || r.place(now) != queue.Pending {
		t.Errorf("dispatch is %s with fence %s, want pending with the fence raised from %s", r.place(now), now.Fence, d.Fence)
	}
	r.fire(time.Hour)
	if again := r.dispatch(d.Run); again.Fence != now.Fence {
		t.Errorf("fired again the fence went from %s to %s", now.Fence, again.Fence)
	}
}

func TestRunDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	g, err := r.eng.CreateGroup(r.ctx, core.Group{Meta: core.Meta{Name: "g"}, Type: "noop", Enabled: true, Timeout: time.Minute})
	r.must(err)
	_, err = r.eng.AddJobs(r.ctx, g.UUID, []string{r.job(nil).UUID})
	r.must(err)
	run, err := r.eng.RunGroup(r.ctx, g.UUID, "", core.Overlap{})
	r.must(err)
	r.fire(50 * time.Second)
	if now, _ := r.store.Run(r.ctx, run.ID); now.State.Ended() {
		t.Fatalf("run is %s before its deadline", now.State)
	}
	r.fire(61 * time.Second)
	now, err := r.store.Run(r.ctx, run.ID)
	r.must(err)
	if now.State != core.RunTimedOut {
		t.Errorf("run is %s, want timed_out", now.State)
	}
	for _, timer := range r.left(run.ID) {
		if timer == "deadline|"+run.ID {
			t.Error("the deadline is still to come")
		}
	}
}

func TestRetentionOfRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{RunRetention: 24 * time.Hour})
	r.worker("a", "default")
	d := r.run(nil)
	b, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "a", b, core.Outcome{State: core.AttemptSucceeded}, false)
	r.must(err)
	r.fire(23 * time.Hour)
	if _, err := r.store.Run(r.ctx, d.Run); err != nil {
		t.Fatalf("within its retention the run is gone: %v", err)
	}
	r.fire(25 * time.Hour)
	if _, err := r.store.Run(r.ctx, d.Run); !core.Is(err, core.NotFound) {
		t.Errorf("reading the run gives %v, want not found", err)
	}
	if keys := r.rdb.Keys(r.ctx, "takt:*"+d.Run+"*").Val(); len(keys) != 0 {
		t.Errorf("keys %q are left of the run", keys)
	}
}

func TestTimersThatMeanNothingGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, timer, log string }{
		{"of a kind nobody knows", "levitate|x", "timer dropped"},
		{"a retry that cannot be read", "retry|x", "timer dropped"},
		{"a retry of a run that is gone", "retry|" + gone + ":0:1", ""},
		{"the deadline of a run that is gone", "deadline|" + gone, ""},
		{"the end of a run that is gone", "forget|" + gone, ""},
		{"a plan that is gone", "plan|feed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, store.Options{})
			r.must(r.rdb.ZAdd(r.ctx, "takt:{p:0}:timers", redis.Z{Score: 1, Member: c.timer}).Err())
			r.fire(0)
			if left := r.left(gone); len(left) != 0 {
				t.Errorf("timers %q are left", left)
			}
			if c.log != "" && r.log.count(c.log) != 1 {
				t.Errorf("%q was logged %d times, want once", c.log, r.log.count(c.log))
			}
		})
	}
}

func TestUnusedPlanGoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	r.run(nil)
	plans := func() int {
		n := 0
		for _, p := range []string{"takt:{p:0}:plan:*", "takt:{p:1}:plan:*"} {
			n += len(r.rdb.Keys(r.ctx, p).Val())
		}
		return n
	}
	r.must(r.rdb.HSet(r.ctx, "takt:{p:0}:plan:feed", "refs", 0).Err())
	r.must(r.rdb.ZAdd(r.ctx, "takt:{p:0}:timers", redis.Z{Score: 1, Member: "plan|feed"}).Err())
	if plans() != 2 {
		t.Fatalf("%d plans, want two", plans())
	}
	r.fire(2 * time.Hour)
	if plans() != 1 {
		t.Errorf("%d plans are left, want the one in use", plans())
	}
}

// A timer that fails for a reason of its own holds up no other, and rests.
func TestSpoiledTimerHoldsUpNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	r.spoiled()
	var d core.Dispatch
	for d.Run == "" || r.root(d.Run) != r.root(gone) { // in the spoiled timer's partition
		d = r.run(func(j *core.Job) { j.Retry = core.Retry{Attempts: 2, Backoff: time.Millisecond} })
	}
	b, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "a", b, core.Outcome{State: core.AttemptFailed, Reason: "no"}, false)
	r.must(err)
	// A retry whose plan cannot be read spoils the batch it goes in.
	r.must(r.rdb.HSet(r.ctx, "takt:{p:0}:plan:none", "0", "broken").Err())
	for _, m := range []string{"deadline|" + gone, "retry|" + gone + ":0:1"} {
		r.must(r.rdb.ZAdd(r.ctx, "takt:{p:0}:timers", redis.Z{Score: 1, Member: m}).Err())
	}
	bad := faults{}
	r.store.ahead = time.Minute
	r.must(r.roles.fireTimers(r.ctx, bad))
	if st := r.step(d.Run); st.State != core.StepDispatched {
		t.Errorf("the step whose retry is due is %s, want dispatched", st.State)
	}
	for range 3 {
		r.must(r.roles.fireTimers(r.ctx, bad))
	}
	if n := r.log.count("timer not done"); n != 2 {
		t.Errorf("%d failures were logged, want one for each spoiled timer", n)
	}
}

func TestSpoiledTimerIsTriedAgain(t *testing.T) {
	t.Parallel()
	bad, begun := faults{}, time.Now()
	timer := []string{"forget", "x"}
	if bad.rest(timer, begun) {
		t.Error("a timer rests that never failed")
	}
	bad.note(timer, begun)
	if !bad.rest(timer, begun.Add(badRest-1)) {
		t.Error("a timer that has just failed does not rest")
	}
	if bad.rest(timer, begun.Add(badRest)) || len(bad) != 0 {
		t.Errorf("after its rest %d faults are remembered, want none", len(bad))
	}
}

// A timer that failed and is never seen again, since its partition moved on, is forgotten.
func TestFaultsDoNotPileUp(t *testing.T) {
	t.Parallel()
	bad, now := faults{}, time.Now()
	for _, run := range []string{"x", "y", "z"} {
		bad.note([]string{"forget", run}, now)
		now = now.Add(badRest)
	}
	if len(bad) != 1 {
		t.Errorf("%d faults are remembered, want that of the latest", len(bad))
	}
}

func TestTimersWaitForRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.redis.Kill()
	if err := r.roles.fireTimers(r.ctx, faults{}); !core.Is(err, core.Unavailable) {
		t.Errorf("with Redis away the timer role returns %v, want unavailable", err)
	}
}
