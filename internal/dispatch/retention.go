package dispatch

import (
	"context"
	"time"
)

const (
	retentionPace = 10 * time.Minute
	// retentionSoon is when a process that was started looks first: it may have been
	// started with a shorter retention since Redis is full.
	retentionSoon = 20 * time.Second
	// sweepRest follows each part of the runs, or of a trigger's fires, that are removed:
	// a million of them must not keep Redis from its work.
	sweepRest = 200 * time.Millisecond
	// workersKept is how long a worker without heartbeat is still shown.
	workersKept = 24 * time.Hour
)

// keepRetention removes what is past its time, until ctx ends: ledger entries,
// tombstones of deleted triggers, workers long gone. Runs have timers of their own, and
// are removed here where the retention was shortened after those were set.
func (r *Roles) keepRetention(ctx context.Context) {
	sweep := func() {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "retention waits", "err", err)
		}
	}
	select {
	case <-time.After(retentionSoon):
		sweep()
	case <-ctx.Done():
		return
	}
	every(ctx, retentionPace, sweep)
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
	if err := r.sweepRuns(ctx, n, now); err != nil {
		return err
	}
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
			if !rest(ctx, sweepRest) {
				return ctx.Err()
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

func (r *Roles) sweepRuns(ctx context.Context, n int, now time.Time) error {
	removed := 0
	for skip, more := 0, true; more; {
		runs, stay, further, err := r.store.Outlived(ctx, n, now, skip)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if err := r.store.Forget(ctx, run); err != nil {
				return err
			}
		}
		removed += len(runs)
		skip, more = skip+stay, further
		if more && len(runs) > 0 && !rest(ctx, sweepRest) {
			return ctx.Err()
		}
	}
	if removed > 0 {
		r.log.InfoContext(ctx, "runs removed that are older than the retention", "partition", n, "count", removed)
	}
	return nil
}

// rest waits, and reports whether ctx has lived through it.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
