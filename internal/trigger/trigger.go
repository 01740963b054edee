// Package trigger is the trigger process: it publishes each slot of each trigger
// on time and writes it into the ledger.
//
// M processes share the triggers by leased shards. Each holds the next slots of
// its shards in a heap. When a slot is due:
//
//	slot due ─▶ publish to JetStream, await the ack ─▶ advance: compare-and-set
//	            the next slot and write the ledger entry, in one script
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
	Trigger(ctx context.Context, uuid string, dead bool) (core.Trigger, error) // NotFound
	ListTriggers(ctx context.Context, partition int) ([]core.Trigger, error)
	NextSlots(ctx context.Context, partition int, until time.Time, most int) ([]core.Slot, error)
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

// Metrics are counted by the process; nil functions are passed over.
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
	// Clock is the wall clock by which slots are due; nil = time.Now. Waits and
	// leases go by the process's own monotonic clock in any case.
	Clock func() time.Time
}

// A Process publishes slots.
type Process struct {
	store  Store
	bus    Bus
	keeper *lease.Keeper
	log    *slog.Logger
	meter  Metrics
	clock  func() time.Time

	changed chan string // triggers that were rung

	// The fields below belong to the goroutine of Run.
	slots  slotHeap
	known  map[string]*entry
	shards map[int]int64 // loaded shards and the lease generation they were loaded under
	outage outage
	burst  burst
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
		store: store, bus: bus, log: o.Log, meter: o.Metrics, clock: o.Clock,
		keeper:  lease.New(store, "triggers", o.Member, store.Partitions(), o.Log),
		changed: make(chan string, 4096),
		known:   map[string]*entry{}, shards: map[int]int64{},
	}
}

const (
	// look is how often slots are compared with the store: the net below the doorbell.
	look = 2 * time.Second
	// ahead is how far that comparison looks.
	ahead = 10 * time.Second
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

	timer := time.NewTimer(0)
	defer timer.Stop()
	looked := time.Time{}
	for {
		leases := p.keeper.Changed()
		p.takeShards(ctx)
		if time.Since(looked) >= look {
			p.lookAround(ctx, p.clock())
			looked = time.Now()
		}
		timer.Reset(p.fireDue(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-leases:
		case uuid := <-p.changed:
			p.reload(ctx, uuid)
			for range len(p.changed) {
				p.reload(ctx, <-p.changed)
			}
		}
	}
}

// ring takes a doorbell. A full channel loses it; lookAround finds the change.
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
