// Package dispatch holds the background roles of an api process. They are spread
// over the replicas by partition leases, but none depends on being the only one:
// all that they do is a compare-and-set.
//
//   - The dispatcher consumes fires and turns each into runs (fires.go). It needs
//     no lease: replicas share one consumer.
//   - The timer role acts on what is due: retries, run timeouts, retention (timer.go).
//   - The reconciler repairs what a crash left between two writes: dispatches that
//     never arrived, attempts of vanished workers, effects that nobody confirmed
//     (reconcile.go).
//   - The keeper removes what is past its retention (retention.go).
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/lease"
	"github.com/takt-dev/takt/internal/queue"
)

// A Store is what the roles read of the state. What they change they change
// through the engine, except to confirm or remove what is done.
type Store interface {
	lease.Store
	Partitions() int
	Now(ctx context.Context) (time.Time, error)
	Fleet(ctx context.Context) (core.Fleet, error)

	Due(ctx context.Context, partitions []int, now time.Time) (map[int][][]string, error)
	TimerDone(ctx context.Context, partition int, timer []string) error
	Outbox(ctx context.Context, partition int, before time.Time) ([][]string, error)
	TriggerOutbox(ctx context.Context, partition int, before time.Time) ([][]string, error)
	Done(ctx context.Context, partition int, effect []string) error
	TriggerDone(ctx context.Context, partition int, effect []string) error
	TellStop(ctx context.Context, st core.Stop) error

	SentBefore(ctx context.Context, partition int, before time.Time, skip int) (sent []core.Sent, next int, err error)
	Parked(ctx context.Context, partition int) ([]core.Dispatch, error)
	Live(ctx context.Context, partition int) ([]core.Under, error)

	Forget(ctx context.Context, run string) error
	Outlived(ctx context.Context, partition int, now time.Time, skip int) (runs []string, stay int, more bool, err error)
	ArchiveLog(ctx context.Context, run string, step, attempt int) error
	DropPlan(ctx context.Context, partition int, hash string) error
	ListTriggers(ctx context.Context, partition int) ([]core.Trigger, error)
	Tombstones(ctx context.Context, partition int) ([]core.Trigger, error)
	Bury(ctx context.Context, t core.Trigger) error
	TrimLedger(ctx context.Context, trigger string, now time.Time) (int, error)
	LedgerAge() time.Duration
	ForgetWorkers(ctx context.Context, before time.Time) error
}

// A Queue tells where dispatches are.
type Queue interface {
	Where(ctx context.Context, ds []core.Dispatch) ([]queue.Place, error)
	Remove(ctx context.Context, d core.Dispatch) error
}

// A Bus brings fires.
type Bus interface {
	ConsumeFires(ctx context.Context, decide func(context.Context, events.Batch) error)
}

// Metrics are counted by the roles; nil functions are passed over.
type Metrics struct {
	Decided  func(decision core.Decision)
	Repaired func(what string, n int) // sent, lost, outbox, parked, overdue
	Timer    func(kind string)
	Leases   func(held int)
}

// Options configure Roles.
type Options struct {
	Member  string // names this process; "" = a random name
	Log     *slog.Logger
	Metrics Metrics
}

// Roles are the background roles of one process.
type Roles struct {
	store  Store
	queue  Queue
	bus    Bus
	engine *engine.Engine
	keeper *lease.Keeper
	log    *slog.Logger
	meter  Metrics
}

// New makes the roles of a process.
func New(store Store, q Queue, bus Bus, eng *engine.Engine, o Options) *Roles {
	if o.Member == "" {
		o.Member = id.New()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Roles{
		store: store, queue: q, bus: bus, engine: eng, log: o.Log, meter: o.Metrics,
		keeper: lease.New(store, "partitions", o.Member, store.Partitions(), o.Log),
	}
}

// Run plays all roles until ctx ends.
func (r *Roles) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.keeper.Run(ctx) })
	wg.Go(func() { r.dispatchFires(ctx) })
	wg.Go(func() { r.runTimers(ctx) })
	wg.Go(func() { r.reconcile(ctx) })
	wg.Go(func() { r.keepRetention(ctx) })
	wg.Wait()
	return nil
}

// Leases gives how many partitions the process holds now.
func (r *Roles) Leases() int { return len(r.keeper.Held()) }

// every calls do at a steady pace until ctx ends.
func every(ctx context.Context, pace time.Duration, do func()) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// isOwn reports whether an error lies in the item at hand. Any other, the next
// item would meet too: the store is away, or the time is up.
func isOwn(ctx context.Context, err error) bool {
	return !core.Is(err, core.Unavailable) && ctx.Err() == nil
}

// ownFault logs and swallows an error of one item's own, so that it does not hold
// up the others for ever.
func (r *Roles) ownFault(ctx context.Context, err error, text, item string) error {
	if err == nil || !isOwn(ctx, err) {
		return err
	}
	r.log.ErrorContext(ctx, text, "item", item, "err", err)
	return nil
}

// redispatch dispatches steps again; when one of them spoils it, one by one.
func (r *Roles) redispatch(ctx context.Context, why core.MoveReason, of []core.Under) error {
	err := r.engine.Redispatch(ctx, why, of)
	if err == nil || !isOwn(ctx, err) {
		return err
	}
	for i, u := range of {
		err := r.engine.Redispatch(ctx, why, of[i:i+1])
		if err := r.ownFault(ctx, err, "step not dispatched again", u.Dispatch.ID()); err != nil {
			return err
		}
	}
	return nil
}

func (r *Roles) repaired(what string, n int) {
	if n > 0 && r.meter.Repaired != nil {
		r.meter.Repaired(what, n)
	}
}
