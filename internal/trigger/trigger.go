// Package trigger is the trigger process: it publishes each slot of each trigger
// on time and writes it into the ledger.
//
// M processes share the triggers by leased shards. Each holds the next slots of
// its shards in a heap. When a slot is due:
//
//	slot due ─▶ publish to JetStream, await the ack ─▶ advance: compare-and-set
//	            the next slot and write the ledger entry, in one script
//
// The two halves overlap: what is published is advanced by a goroutine of its own,
// while the next slots are published already. An entry is out of the heap meanwhile.
//
// A process that dies in between has published a slot that its successor
// publishes again; the ledger turns the second away. When more than one slot of
// a trigger is due, or some are passed over by the misfire policy, the ledger is
// written first and the fires follow: which slots fire then is fixed, and what
// was not published is published again as undecided.
package trigger

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/lease"
)

// A Store is what the process needs of the state.
type Store interface {
	lease.Store
	Partitions() int
	Triggers(ctx context.Context, uuids []string) (map[string]core.Trigger, error)
	ListTriggers(ctx context.Context, partition int) ([]core.Trigger, error)
	Edits(ctx context.Context, since map[int]int64) (uuids []string, upTo map[int]int64, lost []int, err error)
	EditMark(ctx context.Context, partition int) (int64, error)
	Advance(ctx context.Context, items []core.Advance) ([]bool, error)
	Undecided(ctx context.Context, partition int, before time.Time) ([]core.FireID, error)
	PutOffUndecided(ctx context.Context, partition int, fires []core.FireID, until time.Time) error
	Now(ctx context.Context) (time.Time, error)
}

// A Bus carries fires.
type Bus interface {
	PublishFires(ctx context.Context, fires []core.FireID) error
	Republish(ctx context.Context, fires []core.FireID) error
	OnTrigger(changed func(uuid string)) error
}

// Metrics are counted by the process, several goroutines at a time; nil functions are
// passed over.
type Metrics struct {
	Published func(fires int, lateness time.Duration) // lateness of the first
	Repaired  func(fires int)                         // undecided fires published again
	Shards    func(held int)
}

// Options configure a Process.
type Options struct {
	Member  string // names this process; "" = a random name
	Log     *slog.Logger
	Metrics Metrics
	// Clock is the wall clock by which slots are due; nil = time.Now. It has to be safe
	// for concurrent use. Waits and
	// leases go by the process's own monotonic clock in any case.
	Clock func() time.Time
	// Exact has slots awaited by the system's timer too, which is not a millisecond late
	// as Go's may be. It knows real time only.
	Exact bool
}

// A Process publishes slots.
type Process struct {
	store  Store
	bus    Bus
	keeper *lease.Keeper
	log    *slog.Logger
	meter  Metrics
	clock  func() time.Time
	exact  bool

	changed  chan string  // triggers that were rung, or edited as Edits tells
	doubtful chan int     // shards of which edits may have been missed
	advanced chan outcome // of advances under way; it holds them all
	marks    marks

	// The fields below belong to the goroutine of Run.
	slots  slotHeap
	known  map[string]*entry
	shards map[int]int64 // loaded shards and the lease generation they were loaded under
	outage outage
	burst  burst

	published []plan // to be advanced
	advancing int    // advances under way
	rest      time.Time
}

// New makes a Process.
func New(store Store, bus Bus, o Options) *Process {
	if o.Member == "" {
		o.Member = id.New()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Process{
		store: store, bus: bus, log: o.Log, meter: o.Metrics, clock: o.Clock, exact: o.Exact,
		keeper:  lease.New(store, "triggers", o.Member, store.Partitions(), o.Log),
		changed: make(chan string, 4096), doubtful: make(chan int), advanced: make(chan outcome, advances),
		known: map[string]*entry{}, shards: map[int]int64{},
	}
}

const (
	// reloads is how many triggers are read anew at a time.
	reloads = 256
	// wall is how often due-ness is judged anew by the wall clock at least.
	wall = time.Second
	// undecidedAfter is the age from which an undecided fire is published again,
	// and undecidedAgain the wait until it is once more.
	undecidedAfter = 5 * time.Second
	undecidedAgain = time.Minute
)

// Run works until ctx ends, then gives its shards back.
func (p *Process) Run(ctx context.Context) error {
	if err := p.bus.OnTrigger(p.ring); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.keeper.Run(ctx) })
	wg.Go(func() { p.repair(ctx) })
	wg.Go(func() { p.followEdits(ctx) })
	defer p.finish(ctx)

	alarm := newAlarm(p.exact)
	defer alarm.close()
	for {
		leases := p.keeper.Changed()
		p.takeShards(ctx)
		alarm.set(p.fireDue(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-alarm.timer.C:
		case <-alarm.precise():
		case <-leases:
		case o := <-p.advanced:
			p.take(ctx, o)
		case n := <-p.doubtful:
			p.dropShard(n) // it is loaded anew
		case uuid := <-p.changed:
			uuids := []string{uuid}
			for range min(len(p.changed), reloads-1) {
				uuids = append(uuids, <-p.changed)
			}
			p.reload(ctx, uuids)
		}
	}
}

// ring takes a doorbell. A full channel loses it; followEdits finds the change.
func (p *Process) ring(uuid string) {
	if !p.keeper.Holds(id.Partition(uuid, p.store.Partitions())) {
		return
	}
	select {
	case p.changed <- uuid:
	default:
	}
}

// Shards gives how many shards the process holds now.
func (p *Process) Shards() int { return len(p.keeper.Held()) }
