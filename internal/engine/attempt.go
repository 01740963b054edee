package engine

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// Begin begins the attempt of a dispatch at a worker. Stale: drop the dispatch.
func (e *Engine) Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) {
	b, err := e.store.Begin(ctx, d, worker)
	if err != nil {
		return b, err
	}
	return e.openBegun(ctx, d, worker, b)
}

// Finish records an attempt's outcome and sends what it makes ready. permanent
// failures are not tried again.
func (e *Engine) Finish(ctx context.Context, d core.Dispatch, worker string, b core.Begun, o core.Outcome, permanent bool) (core.Finished, error) {
	if b.Step.Type == core.CBTType {
		o, permanent = judged(b.Step, o, permanent)
	}
	o.Retry = -1
	failed := o.State == core.AttemptFailed || o.State == core.AttemptTimedOut
	if wait, again := b.Step.Retry.Delay(b.Failures+1, random()); failed && again && !permanent {
		o.Retry = wait
	}
	f, err := e.store.Finish(ctx, d, worker, o)
	if err != nil {
		return f, err
	}
	e.Deliver(ctx, f.Effects)
	return f, nil
}

// Release hands an attempt back: it does not count, and the step is dispatched
// anew.
func (e *Engine) Release(ctx context.Context, d core.Dispatch, worker string) error {
	return e.Redispatch(ctx, core.MoveReleased, []core.Under{{Dispatch: d, Worker: worker}})
}

// Redispatch dispatches steps again, routing them by the workers there are now.
func (e *Engine) Redispatch(ctx context.Context, why core.MoveReason, of []core.Under) error {
	if len(of) == 0 {
		return nil
	}
	ds := make([]core.Dispatch, len(of))
	for i, u := range of {
		ds[i] = u.Dispatch
	}
	f, err := e.Fleet(ctx)
	if err != nil {
		return err
	}
	steps, err := e.store.PlannedSteps(ctx, ds)
	if err != nil {
		return err
	}
	moves := make([]core.Move, len(of))
	for i, u := range of {
		moves[i] = core.Move{Dispatch: u.Dispatch, Worker: u.Worker, Route: Route(f, steps[u.Dispatch.Key()])}
	}
	eff, err := e.store.Move(ctx, why, moves)
	for i := range eff.Sends {
		eff.Sends[i].Timeout = steps[eff.Sends[i].Key()].Timeout
	}
	e.Deliver(ctx, eff)
	return err
}

// Unpark tries again to route steps that wait for a worker. It touches only
// those for which one is alive now.
func (e *Engine) Unpark(ctx context.Context, parked []core.Dispatch) (int, error) {
	if len(parked) == 0 {
		return 0, nil
	}
	f, err := e.Fleet(ctx)
	if err != nil {
		return 0, err
	}
	steps, err := e.store.PlannedSteps(ctx, parked)
	if err != nil {
		return 0, err
	}
	var ready []core.Under
	for _, d := range parked {
		p, ok := steps[d.Key()]
		if !ok || Route(f, p).Queue != "" {
			ready = append(ready, core.Under{Dispatch: d})
		}
	}
	return len(ready), e.Redispatch(ctx, core.MoveWaiting, ready)
}

// TimeOut ends an attempt whose worker let its timeout and grace pass.
func (e *Engine) TimeOut(ctx context.Context, u core.Under) error {
	steps, err := e.store.Steps(ctx, u.Dispatch.Run)
	if core.Is(err, core.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if u.Dispatch.Step >= len(steps) {
		return nil
	}
	st := steps[u.Dispatch.Step]
	b := core.Begun{Step: st.PlannedStep, Failures: st.Failures}
	_, err = e.Finish(ctx, u.Dispatch, u.Worker, b, core.Outcome{
		State: core.AttemptTimedOut, Reason: "the worker did not stop the attempt at its timeout",
	}, false)
	return err
}
