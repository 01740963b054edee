package engine_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/testenv"
)

// hourly is a simple schedule that leaves its start open.
func hourly(repeat int) schedule.Spec {
	return schedule.Spec{Kind: schedule.Simple, Interval: time.Hour, Repeat: repeat}
}

func TestAFloatingTriggerFiresAsOftenAsItSays(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", hourly(1), "")
	for _, on := range []bool{false, true} {
		got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = on; return nil }))(h)
		if !got.Floating || !got.Next.IsZero() {
			t.Errorf("enabled %v: got floating %v and the next slot %v", on, got.Floating, got.Next)
		}
	}
	h.bind(tr, ofJob(h.job("a")))
	h.bind(tr, ofJob(h.job("b")))
	if d := must(h.eng.DecideFire(t.Context(), h.due(tr)))(h); d != core.Fired {
		t.Errorf("its only slot: got %s", d)
	}
	if runs := h.runs(core.RunFilter{Trigger: tr.UUID}); len(runs) != 2 {
		t.Errorf("got %d runs, want one per target", len(runs))
	}
}

func TestTwoBindsBeginAFloatingTriggerOnce(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", hourly(0), "")
	var wg sync.WaitGroup
	for i := range 6 {
		j := h.job(fmt.Sprint("j", i))
		wg.Go(func() {
			if _, err := h.engine().Bind(h.ctx, tr.UUID, ofJob(j), false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := h.read(tr.UUID); got.Revision != 2 || len(got.Targets) != 6 || !got.Next.Equal(got.Schedule.Start) {
		t.Errorf("got revision %d with %d targets, start %v, next slot %v", got.Revision, len(got.Targets), got.Schedule.Start, got.Next)
	}
}

func TestADisabledFloatingTrigger(t *testing.T) {
	h := newHouse(t)
	tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Schedule: hourly(0)}))(h)
	h.bind(tr, ofJob(h.job("a")))
	if got := h.read(tr.UUID); !got.Next.IsZero() || got.Floating {
		t.Errorf("bound while it is off: got floating %v and the next slot %v", got.Floating, got.Next)
	}
	// Enabled within the same millisecond the start itself would still be to come.
	start := h.read(tr.UUID).Schedule.Start
	testenv.Eventually(t, time.Second, func() bool { return must(h.eng.Now(h.ctx))(h).After(start.Add(time.Millisecond)) })
	got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = true; return nil }))(h)
	if want := got.Schedule.Start.Add(time.Hour); !got.Next.Equal(want) {
		t.Errorf("on: got the next slot %v, want %v: the phase is the start's", got.Next, want)
	}
}

// TestAScheduleThatLosesItsStart is changed to one that leaves its start open:
// with a target it begins now, its first slot included, without it floats.
func TestAScheduleThatLosesItsStart(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	set := func() core.Trigger {
		return must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Schedule = hourly(1); return nil }))(h)
	}
	if got := set(); !got.Floating || !got.Next.IsZero() {
		t.Errorf("without targets: got floating %v and the next slot %v", got.Floating, got.Next)
	}
	h.bind(tr, ofJob(h.job("j")))
	for range 20 { // some within the millisecond that the slot of the one before has
		got := set()
		if d := got.Updated.Sub(got.Schedule.Start); got.Floating || !got.Next.Equal(got.Schedule.Start) || d < -20*time.Millisecond || d >= time.Millisecond {
			t.Errorf("with a target, at %v: got the start %v, the next slot %v and floating %v", got.Updated, got.Schedule.Start, got.Next, got.Floating)
		}
	}
}
