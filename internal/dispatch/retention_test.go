package dispatch

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

const day = 24 * time.Hour

// slots writes n ledger entries that do not merge.
func (r *rig) slots(f core.FireID, n int) {
	r.t.Helper()
	var entries []core.LedgerEntry
	for k := range n {
		at := f.Slot.Add(time.Duration(k) * time.Second)
		decision := core.Missed
		if k%2 == 1 {
			decision = core.Skipped
		}
		id := core.FireID{Trigger: f.Trigger, Revision: f.Revision, Slot: at}
		entries = append(entries, core.LedgerEntry{ID: id.Entry(), Revision: f.Revision, From: at, To: at, Count: 1, Decided: at, Decision: decision})
	}
	moved, err := r.store.Advance(r.ctx, []core.Advance{{Trigger: f.Trigger, Revision: f.Revision, From: f.Slot, Next: f.Slot.Add(time.Hour), Entries: entries}})
	r.must(err)
	if !moved[0] {
		r.t.Fatal("the trigger did not advance")
	}
}

func (r *rig) ledger(trigger string) int {
	r.t.Helper()
	e, err := r.store.Ledger(r.ctx, trigger, time.Time{}, time.Time{}, 0, 10_000)
	r.must(err)
	return len(e)
}

func TestSweepTrimsLedgers(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{LedgerAge: 7 * day})
	f, _ := r.trigger()
	r.slots(f, 1200) // more than a script trims at once
	r.store.ahead = 6 * day
	r.must(r.roles.sweep(r.ctx))
	if n := r.ledger(f.Trigger); n != 1200 {
		t.Fatalf("%d entries are left within their age, want 1200", n)
	}
	r.store.ahead = 8 * day
	r.must(r.roles.sweep(r.ctx))
	if n := r.ledger(f.Trigger); n != 0 {
		t.Errorf("%d entries are left past their age, want none", n)
	}
	days, err := r.store.LedgerDays(r.ctx, f.Trigger)
	r.must(err)
	if len(days) == 0 {
		t.Error("the counters per day went with the entries, want them kept")
	}
	r.store.ahead = store.DayCountersKept + 3*day
	r.must(r.roles.sweep(r.ctx))
	if days, _ = r.store.LedgerDays(r.ctx, f.Trigger); len(days) != 0 {
		t.Errorf("counters %v are left, want none", days)
	}
}

// What is published and not decided stays however old it is.
func TestSweepLeavesOpenEntries(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{LedgerAge: 7 * day})
	f, _ := r.trigger()
	r.must(r.store.OpenFire(r.ctx, f, core.LedgerEntry{ID: f.Entry(), Revision: f.Revision, From: f.Slot, To: f.Slot, Count: 1, Published: f.Slot}))
	r.store.ahead = 30 * day
	r.must(r.roles.sweep(r.ctx))
	if n := r.ledger(f.Trigger); n != 1 {
		t.Fatalf("%d entries are left, want the open one", n)
	}
	r.store.ahead = 0
	r.worker("a", "default")
	r.must(r.roles.decide(r.ctx, events.Batch{Fires: []core.FireID{f}, Tries: 1}))
	if e, _ := r.entry(f); e.Decision == "" {
		t.Error("the entry cannot be decided any more")
	}
}

func TestSweepBuriesTombstones(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{LedgerAge: 7 * day})
	f, _ := r.trigger()
	r.slots(f, 3)
	_, err := r.eng.DeleteTrigger(r.ctx, f.Trigger)
	r.must(err)
	r.store.ahead = 6 * day
	r.must(r.roles.sweep(r.ctx))
	if _, err := r.store.Trigger(r.ctx, f.Trigger, true); err != nil {
		t.Fatalf("within the ledger's age the tombstone is gone: %v", err)
	}
	r.store.ahead = 8 * day
	r.must(r.roles.sweep(r.ctx))
	if _, err := r.store.Trigger(r.ctx, f.Trigger, true); !core.Is(err, core.NotFound) {
		t.Errorf("reading the tombstone gives %v, want not found", err)
	}
	if keys := r.rdb.Keys(r.ctx, "*"+f.Trigger+"*").Val(); len(keys) != 0 {
		t.Errorf("keys %q are left of the trigger", keys)
	}
}

func TestSweepForgetsWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.worker("a", "default")
	for _, c := range []struct {
		ahead time.Duration
		want  int
	}{{workersKept - time.Hour, 1}, {workersKept + time.Hour, 0}} {
		r.store.ahead = c.ahead
		r.must(r.roles.sweep(r.ctx))
		f, err := r.store.Fleet(r.ctx)
		r.must(err)
		if len(f.Workers) != c.want {
			t.Errorf("%s after the last heartbeat %d workers are shown, want %d", c.ahead, len(f.Workers), c.want)
		}
	}
}

// A retention that was shortened counts for the runs that are there.
func TestSweepRemovesRunsPastAShorterRetention(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{RunRetention: 7 * day})
	r.worker("a", "default")
	var ended []string
	for range 3 {
		d := r.run(nil)
		b, err := r.eng.Begin(r.ctx, d, "a")
		r.must(err)
		_, err = r.eng.Finish(r.ctx, d, "a", b, core.Outcome{State: core.AttemptSucceeded}, false)
		r.must(err)
		ended = append(ended, d.Run)
	}
	waits := r.run(nil)
	left := func() (n int) {
		for _, run := range append(ended, waits.Run) {
			if _, err := r.store.Run(r.ctx, run); err == nil {
				n++
			}
		}
		return n
	}
	r.store.ahead = 2 * time.Hour
	r.must(r.roles.sweep(r.ctx))
	if n := left(); n != 4 {
		t.Fatalf("%d of 4 runs are left within the retention they were made with", n)
	}
	r.store.Store = store.New(r.rdb, store.Options{Partitions: 2, RunRetention: 3 * time.Hour})
	r.must(r.roles.sweep(r.ctx))
	if n := left(); n != 4 {
		t.Fatalf("%d of 4 runs are left within the shorter retention", n)
	}
	r.store.Store = store.New(r.rdb, store.Options{Partitions: 2, RunRetention: time.Hour})
	r.must(r.roles.sweep(r.ctx))
	if _, err := r.store.Run(r.ctx, waits.Run); err != nil || left() != 1 {
		t.Errorf("%d runs are left (%v), want the one that has not ended", left(), err)
	}
	for _, run := range ended {
		if timers := r.left(run); slices.Contains(timers, "forget|"+run) {
			t.Errorf("of the removed runs the timers %q are left", timers)
		}
	}
}

// More runs than are looked at in one part go in one sweep, past those that stay.
func TestSweepRemovesManyRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{RunRetention: 7 * day})
	r.worker("a", "default")
	waits := r.run(nil)
	root := r.root(waits.Run)
	d := r.run(nil)
	for r.root(d.Run) != root {
		d = r.run(nil)
	}
	b, err := r.eng.Begin(r.ctx, d, "a")
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "a", b, core.Outcome{State: core.AttemptSucceeded}, false)
	r.must(err)
	ended, err := r.rdb.HGetAll(r.ctx, root+":run:"+d.Run).Result()
	r.must(err)
	open, err := r.rdb.HGetAll(r.ctx, root+":run:"+waits.Run).Result()
	r.must(err)
	partition, err := strconv.ParseInt(d.Run[len(d.Run)-2:], 16, 0)
	r.must(err)
	pipe := r.rdb.Pipeline()
	const stay = core.Chunk + 3 // the oldest
	for k := range 3*core.Chunk + 7 {
		at := time.Now().Add(-time.Duration(k) * time.Millisecond)
		copied, fields := id.Run(at, int(partition)), ended
		if k >= 3*core.Chunk+7-stay {
			fields = open
		}
		pipe.HSet(r.ctx, root+":run:"+copied, fields)
		pipe.ZAdd(r.ctx, root+":runs", redis.Z{Score: float64(at.UnixMilli()), Member: copied})
	}
	_, err = pipe.Exec(r.ctx)
	r.must(err)
	r.store.Store = store.New(r.rdb, store.Options{Partitions: 2, RunRetention: time.Hour})
	r.store.ahead = 2 * time.Hour
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	r.must(r.roles.sweep(ctx))
	left := r.rdb.ZRange(r.ctx, root+":runs", 0, -1).Val()
	if slices.Contains(left, d.Run) || !slices.Contains(left, waits.Run) || len(left) < stay || len(left) > stay+20 {
		t.Errorf("%d runs are left in the index, want those alone that have not ended", len(left))
	}
}
