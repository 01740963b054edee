package zstack

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Takeover. A receipt that is not finished, be it that its request is to be
// carried out or that its web hook is to be told, is held by one process at a
// time, which renews its lease. Each replica looks every second for receipts that
// nobody holds and goes on where another one stopped:
//
//	held ── dies, is cut off: lease ends after 5 s ──▶ free ── look, 1 s ──▶ held by another
//
// A request that is carried out a second time finds what the first has made:
// core.Request says how. Whoever held it before and comes too late is refused.

const (
	lookEvery = time.Second
	// atOnce bounds what a replica takes over, and tells, at the same time.
	atOnce = 16
	// renewEvery and trust: a holder stops its work before another can begin it.
	renewEvery = core.ReceiptLease / 5
	trust      = core.ReceiptLease - time.Second
	// A request that meets no store, and a web hook that does not get through, is
	// tried again so often and so far apart: ZStack's numbers for web hooks.
	mostTries = 15
	tryEvery  = 2 * time.Second
	// writePatience is how long the end of a piece of work is tried to be stored.
	writePatience = core.ReceiptLease
	// strangeWait leaves what this version does not know to another one.
	strangeWait = core.ReceiptLease
)

// errRelieved is the cause of a context whose work another replica may have by now.
var errRelieved = errors.New("the receipt's lease was not renewed in time")

// A work is a receipt with the operation that it asks for.
type work struct {
	receipt core.Receipt
	run     operation
	invalid *fault
	again   bool          // somebody may have begun it before
	late    time.Duration // how much of its time was over when we began
}

func (w work) left() time.Duration { return w.receipt.Timeout - w.late }

// Run takes over what other replicas have left unfinished, and tells web hooks,
// until ctx ends. Every replica runs it.
func (a *API) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	hands := make(chan struct{}, atOnce)
	var under sync.WaitGroup
	defer under.Wait()
	defer a.depart() // what waits for a worker ends, and is given back
	for failing := false; ; {
		err := a.look(ctx, func(id string) {
			select {
			case hands <- struct{}{}:
				under.Go(func() {
					defer func() { <-hands }()
					a.takeOver(ctx, id)
				})
			case <-ctx.Done():
			}
		})
		if err != nil && !failing && ctx.Err() == nil {
			a.log.WarnContext(ctx, "open receipts wait", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-a.due:
		}
	}
}

// look finds receipts that nobody holds.
func (a *API) look(ctx context.Context, take func(id string)) error {
	ids, err := a.eng.DueReceipts(ctx, atOnce)
	for _, id := range ids {
		take(id)
	}
	return err
}

// wake has Run look at once.
func (a *API) wake() {
	select {
	case a.due <- struct{}{}:
	default:
	}
}

// takeOver goes on with a receipt, if nobody else does.
func (a *API) takeOver(ctx context.Context, id string) {
	since := time.Now()
	r, ok, err := a.eng.TakeReceipt(ctx, id)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			a.log.WarnContext(ctx, "receipt not taken over", "receipt", id, "err", err)
		}
	case !ok:
	case r.Done:
		a.tell(ctx, r, since)
	default:
		a.resume(context.WithoutCancel(ctx), r, since)
	}
}

// resume carries out a request that another process has left.
func (a *API) resume(ctx context.Context, r core.Receipt, since time.Time) {
	w, err := a.revive(ctx, r)
	switch {
	case core.Is(err, core.Unavailable):
		a.leave(ctx, r, tryEvery)
	case r.Lost > core.MaxReceiptLost:
		a.settle(ctx, r, a.failure(ctx, failed(codeInternal, "%d servers ended while they carried out %s; whether it took effect is not known", r.Lost, r.Call)))
	case w.left() <= 0:
		a.settle(ctx, r, a.failure(ctx, failed(codeTimeout, "%s did not end within %s; whether it took effect is not known", r.Call, r.Timeout)))
	case err != nil:
		// Written by a newer version, perhaps, which may still take it.
		a.log.ErrorContext(ctx, "receipt not understood", "receipt", r.ID, "call", r.Call, "err", err)
		a.leave(ctx, r, strangeWait)
	default:
		a.log.InfoContext(ctx, "receipt taken over", "receipt", r.ID, "call", r.Call, "lost", r.Lost)
		a.finish(ctx, w, since)
	}
}

// revive makes the work of a stored receipt.
func (a *API) revive(ctx context.Context, r core.Receipt) (work, error) {
	w := work{receipt: r, again: true}
	now, err := a.eng.Now(ctx)
	if err != nil {
		return w, err
	}
	w.late = now.Sub(r.Created)
	q, err := askedOf(r.Asked)
	if err != nil {
		return w, err
	}
	w.run, w.invalid, err = a.prepare(q, r.Seed)
	return w, err
}

// finish carries out what a receipt asks for and closes it. since is when the
// lease was asked for.
func (a *API) finish(ctx context.Context, w work, since time.Time) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	release := a.keep(ctx, w.receipt, since, stop)
	o := a.do(ctx, w)
	release()
	a.settle(context.WithoutCancel(ctx), w.receipt, o)
}

// keep renews the lease on a receipt until release is called. When another
// replica has it, or might soon, the work is stopped.
func (a *API) keep(ctx context.Context, r core.Receipt, since time.Time, stop context.CancelCauseFunc) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for trusted := since.Add(trust); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			asked := time.Now()
			err := a.renew(ctx, r)
			switch {
			case err == nil:
				trusted = asked.Add(trust)
			case core.Is(err, core.Stale), time.Now().After(trusted):
				stop(errRelieved)
				return
			}
		}
	})
	return func() {
		cancel()
		renewing.Wait()
	}
}

func (a *API) renew(ctx context.Context, r core.Receipt) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	return a.eng.KeepReceipt(ctx, r)
}

// settle stores how the work on a receipt ended. What could not be stored is done
// again, by whoever takes the receipt over.
func (a *API) settle(ctx context.Context, r core.Receipt, o outcome) {
	if o.open && r.Tries+1 < mostTries {
		r.Tries++
		a.leave(ctx, r, tryEvery)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	r.OK, r.Body = o.ok, o.body
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err := a.eng.CloseReceipt(ctx, r)
		if err == nil {
			break
		}
		if !core.Is(err, core.Unavailable) || !pause(ctx, wait) {
			a.log.WarnContext(ctx, "receipt not closed", "receipt", r.ID, "call", r.Call, "err", err)
			return
		}
	}
	if len(r.Hook) > 0 {
		a.wake()
	}
}

// leave gives a receipt back. Where that fails, its lease ends by itself.
func (a *API) leave(ctx context.Context, r core.Receipt, wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewEvery)
	defer cancel()
	if err := a.eng.LeaveReceipt(ctx, r, wait); err != nil {
		a.log.WarnContext(ctx, "receipt not given back", "receipt", r.ID, "err", err)
		return
	}
	if unfinished := !r.Done || len(r.Hook) > 0; unfinished {
		time.AfterFunc(wait, a.wake)
	}
}

// pause waits, and reports false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
