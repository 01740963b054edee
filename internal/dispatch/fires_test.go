package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// trigger makes a trigger for a new job, due in an hour, and gives the fire of
// its next slot.
func (r *rig) trigger() (core.FireID, core.Job) {
	r.t.Helper()
	j := r.job(nil)
	tr, err := r.eng.CreateTrigger(r.ctx, core.Trigger{Meta: core.Meta{Name: "t"}, Enabled: true,
		Schedule: schedule.Spec{Kind: schedule.Simple, Interval: time.Hour, Start: time.Now().Add(time.Hour)}})
	r.must(err)
	_, err = r.eng.Bind(r.ctx, tr.UUID, core.Target{Kind: core.JobTarget, UUID: j.UUID}, false)
	r.must(err)
	return core.FireID{Trigger: tr.UUID, Revision: tr.Revision, Slot: tr.Next.Truncate(time.Millisecond)}, j
}

// fill starts the one run that a partition of the smallest backlog takes.
func (r *rig) fill(partition int) {
	r.t.Helper()
	for {
		if j := r.job(nil); id.Partition(j.UUID, r.store.Partitions()) == partition {
			_, err := r.eng.RunJob(r.ctx, j.UUID, "", core.Overlap{})
			r.must(err)
			return
		}
	}
}

// spoil makes a job one that nobody can read.
func (r *rig) spoil(j core.Job) {
	r.t.Helper()
	n := id.Partition(j.UUID, r.store.Partitions())
	r.must(r.rdb.HSet(r.ctx, "takt:{p:"+strconv.Itoa(n)+"}:job", j.UUID, "1|{broken").Err())
}

func (r *rig) entry(f core.FireID) (core.LedgerEntry, bool) {
	r.t.Helper()
	e, ok, err := r.store.LedgerEntry(r.ctx, f)
	r.must(err)
	return e, ok
}

func TestFireBecomesOneRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	f, j := r.trigger()
	for tries := range 3 { // delivered again, as after a lost ack
		r.must(r.roles.decide(r.ctx, events.Batch{Fires: []core.FireID{f, f}, Tries: tries + 1}))
	}
	e, _ := r.entry(f)
	if e.Decision != core.Fired || len(e.Runs) != 1 {
		t.Errorf("entry is %s with runs %q, want fired with one", e.Decision, e.Runs)
	}
	page, err := r.eng.Runs(r.ctx, core.RunFilter{Target: j.UUID})
	r.must(err)
	if len(page.Runs) != 1 {
		t.Errorf("%d runs, want one", len(page.Runs))
	}
}

func TestUnknownFiresAreTurnedAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	f, j := r.trigger()
	other := f
	other.Slot = f.Slot.Add(time.Minute) // a slot that the trigger does not have
	old := f
	old.Revision = 7
	r.must(r.roles.decide(r.ctx, events.Batch{Tries: 1, Fires: []core.FireID{other, old, {Trigger: id.New(), Revision: 1, Slot: f.Slot}}}))
	page, err := r.eng.Runs(r.ctx, core.RunFilter{Target: j.UUID})
	r.must(err)
	if len(page.Runs) != 0 {
		t.Errorf("%d runs, want none", len(page.Runs))
	}
}

// What waits for room waits as long as it takes.
func TestExhaustedFireIsNeverGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{Backlog: 1})
	r.worker("a", "default")
	f, j := r.trigger()
	r.fill(id.Partition(j.UUID, r.store.Partitions()))
	for _, tries := range []int{1, events.MaxTries, 10 * events.MaxTries} {
		if err := r.roles.decide(r.ctx, events.Batch{Fires: []core.FireID{f}, Tries: tries}); !core.Is(err, core.Exhausted) {
			t.Errorf("at try %d the decision gives %v, want exhausted", tries, err)
		}
	}
	if e, ok := r.entry(f); ok {
		t.Errorf("the fire has the entry %+v, want it open", e)
	}
}

func TestFailingFireIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	f, j := r.trigger()
	r.spoil(j)
	if err := r.roles.decide(r.ctx, events.Batch{Fires: []core.FireID{f}, Tries: events.MaxTries - 1}); err == nil {
		t.Error("a fire that fails is not tried again")
	}
	if e, ok := r.entry(f); ok {
		t.Fatalf("after %d tries the fire has the entry %+v, want it open", events.MaxTries-1, e)
	}
	r.must(r.roles.decide(r.ctx, events.Batch{Fires: []core.FireID{f}, Tries: events.MaxTries}))
	if e, _ := r.entry(f); e.Decision != core.Failed || e.Reason == "" {
		t.Errorf("entry is %q (%q), want failed with a reason", e.Decision, e.Reason)
	}
}

// A fire that fails does not keep the others of its message back.
func TestFailingFireHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	bad, j := r.trigger()
	r.spoil(j)
	fires := []core.FireID{bad}
	for range 2 * fireWorkers {
		f, _ := r.trigger()
		fires = append(fires, f)
	}
	if err := r.roles.decide(r.ctx, events.Batch{Fires: fires, Tries: 1}); err == nil {
		t.Error("the message is acknowledged though a fire failed")
	}
	for _, f := range fires[1:] {
		if e, _ := r.entry(f); e.Decision != core.Fired {
			t.Errorf("entry of a good fire is %q, want fired", e.Decision)
		}
	}
}

// gusts is a bus that brings the given messages and counts what was refused.
type gusts struct {
	batches []events.Batch
	refused chan error
}

func (g gusts) ConsumeFires(ctx context.Context, decide func(context.Context, events.Batch) error) {
	for _, b := range g.batches {
		if err := decide(ctx, b); err != nil {
			g.refused <- err
		}
	}
	<-ctx.Done()
}

// All roles start, do their work and stop.
func TestRolesRunAndStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	f, _ := r.trigger()
	bus := gusts{batches: []events.Batch{{Fires: []core.FireID{f}, Tries: 1}}, refused: make(chan error, 1)}
	roles := New(r.store, r.queue, bus, r.eng, Options{})
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() { ended <- roles.Run(ctx) }()
	testenv.Eventually(t, 5*time.Second, func() error {
		select {
		case err := <-bus.refused:
			t.Fatalf("fire refused: %v", err)
		default:
		}
		if e, _ := r.entry(f); e.Decision != core.Fired {
			return fmt.Errorf("entry is %q", e.Decision)
		}
		if roles.Leases() == 0 {
			return errors.New("no partition is held")
		}
		return nil
	})
	cancel()
	testenv.Eventually(t, 5*time.Second, func() bool { return len(ended) == 1 })
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
	if roles.Leases() != 0 {
		t.Errorf("%d partitions are held after the end, want none", roles.Leases())
	}
}
