package dispatch

import (
	"context"
	"time"
)

const (
	retentionPace = 10 * time.Minute
	// workersKept is how long a worker without heartbeat is still shown.
	workersKept = 24 * time.Hour
)

// keepRetention removes what is past its time, until ctx ends: ledger entries,
// tombstones of deleted triggers, workers long gone. Runs have timers of their own.
func (r *Roles) keepRetention(ctx context.Context) {
	every(ctx, retentionPace, func() {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "retention waits", "err", err)
		}
	})
}

func (r *Roles) sweep(ctx context.Context) error {
	now, err := r.store.Now(ctx)
	if err != nil {
		return err
	}
	for _, n := range r.keeper.Shards() {
		if err := r.sweepShard(ctx, n, now); err != nil {
			return err
		}
	}
	return r.store.ForgetWorkers(ctx, now.Add(-workersKept))
}

func (r *Roles) sweepShard(ctx context.Context, n int, now time.Time) error {
	live, err := r.store.ListTriggers(ctx, n)
	if err != nil {
		return err
	}
	dead, err := r.store.Tombstones(ctx, n)
	if err != nil {
		return err
	}
	for _, t := range append(live, dead...) {
		for {
			removed, err := r.store.TrimLedger(ctx, t.UUID, now)
			if err != nil {
				return err
			}
			if removed < 500 {
				break
			}
		}
	}
	for _, t := range dead {
		if now.Sub(t.Deleted) > r.store.LedgerAge() {
			if err := r.store.Bury(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}
