package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// An executor that does not hear that its time is up loses its step, not its slot:
// the steps of others go through the slots that are left, and never are more under
// way than there are slots.
func TestDeafExecutorKeepsItsSlot(t *testing.T) {
	t.Parallel()
	deaf, work := newHolder(true), newHolder(false)
	deaf.Spec.Type = "deaf"
	h := newHouse(t, deaf.Spec, work.Spec)
	h.roles()
	h.worker("one", 2, deaf.Type, work.Type)
	r := h.runJob("deaf", func(j *core.Job) { j.Timeout = time.Second })
	run := deaf.next(t, 10*time.Second)

	under := struct {
		sync.Mutex
		now, most int
	}{now: 1, most: 1}
	count := func(by int) {
		under.Lock()
		defer under.Unlock()
		under.now += by
		under.most = max(under.most, under.now)
	}
	const others = 40
	var runs []core.Run
	for range others {
		runs = append(runs, h.runJob("held", nil))
	}
	// They go on while the deaf one is told to stop (1 s), given up (11 s) and after.
	for n := range others {
		next := work.next(t, elsewhere)
		count(1)
		if n < others-5 {
			h.pause(200 * time.Millisecond)
		} else {
			testenv.Eventually(t, 20*time.Second, func() bool { return h.step(r.ID).State == core.StepTimedOut })
		}
		count(-1)
		next.end <- "done"
	}
	if under.most > 2 {
		t.Errorf("%d executors at a time on 2 slots", under.most)
	}
	for _, other := range runs {
		if other = h.await(other.ID, elsewhere); other.State != core.RunSucceeded {
			t.Errorf("run beside the deaf executor ended as %s (%s)", other.State, other.Reason)
		}
	}
	if err := <-run.told; err == nil {
		t.Error("the deaf executor was not told why it should stop")
	}
	run.end <- "too late"
	// Its slot is there again: two at a time.
	runs = []core.Run{h.runJob("held", nil), h.runJob("held", nil)}
	first, second := work.next(t, elsewhere), work.next(t, elsewhere)
	first.end <- "done"
	second.end <- "done"
	for _, other := range runs {
		h.await(other.ID, elsewhere)
	}
	if s := h.step(r.ID); s.State != core.StepTimedOut || len(s.Attempts) != 1 {
		t.Errorf("the deaf one's step is %s with attempts %+v, want timed_out with one", s.State, s.Attempts)
	}
	work.none(t)
	deaf.none(t)
}
