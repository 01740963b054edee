package engine

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// RunGroup starts a run of a group by hand. Equal keys are one run. Conflict when
// the group is disabled or empty, or the overlap policy refuses the run;
// Exhausted when too much waits.
func (e *Engine) RunGroup(ctx context.Context, group, key string, overlap core.Overlap) (core.Run, error) {
	return e.runTarget(ctx, core.Target{Kind: core.GroupTarget, UUID: group}, key, overlap)
}

// RunJob starts a run of one job by hand, as RunGroup does.
func (e *Engine) RunJob(ctx context.Context, job, key string, overlap core.Overlap) (core.Run, error) {
	return e.runTarget(ctx, core.Target{Kind: core.JobTarget, UUID: job}, key, overlap)
}

func (e *Engine) runTarget(ctx context.Context, t core.Target, key string, overlap core.Overlap) (core.Run, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return core.Run{}, err
	}
	request := requestKey(c, "run:"+t.UUID, key)
	if key != "" {
		// A key is good for its first answer, also when the target is gone by now.
		if a, ok, err := e.store.Decision(ctx, t.UUID, request); err != nil || ok {
			if err != nil {
				return core.Run{}, err
			}
			return e.started(ctx, a)
		}
	}
	// The instant only makes part of the run's id; what is judged is judged by the
	// store's time.
	r := RunRequest{Target: t, Request: request, Overlap: overlap, At: time.Now()}
	p, err := e.plan(ctx, r)
	if err != nil {
		return core.Run{}, err
	}
	if err := mayChange(ctx, noun(t.Kind), t.UUID, p.run.Account); err != nil {
		return core.Run{}, err
	}
	if err := overlap.Validate(); err != nil {
		return core.Run{}, err
	}
	a, err := e.carryOut(ctx, r, p)
	if err != nil {
		return core.Run{}, err
	}
	return e.started(ctx, a)
}

func (e *Engine) started(ctx context.Context, a core.Admitted) (core.Run, error) {
	if a.Made.ID != "" {
		return a.Made, nil
	}
	switch a.Word {
	case core.AdmitBusy:
		return core.Run{}, core.Errorf(core.Exhausted, "too many steps wait for workers; try again later or start more workers")
	case core.AdmitSkipped:
		return core.Run{}, core.Errorf(core.Conflict, "not started: %s", a.Reason)
	}
	return e.store.Run(ctx, a.Run)
}

// Run gives one run the caller may see.
func (e *Engine) Run(ctx context.Context, run string) (core.Run, error) {
	r, err := e.store.Run(ctx, run)
	if err != nil {
		return r, err
	}
	return r, maySee(ctx, "run", run, r.Account)
}

// Steps gives the steps of a run with their attempts, and of those that run the
// progress that their workers have told.
func (e *Engine) Steps(ctx context.Context, run string) ([]core.Step, error) {
	r, err := e.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	steps, err := e.store.Steps(ctx, run)
	if err != nil {
		return nil, err
	}
	veil(ctx, r, steps)
	return steps, e.addProgress(ctx, run, steps)
}

// addProgress asks for the fleet only where a step runs.
func (e *Engine) addProgress(ctx context.Context, run string, steps []core.Step) error {
	var f core.Fleet
	for i, s := range steps {
		if s.State != core.StepRunning {
			continue
		}
		if f.Held == nil {
			var err error
			if f, err = e.Fleet(ctx); err != nil {
				return err
			}
		}
		d := core.Dispatch{Run: run, Step: s.Index, Fence: s.Fence}
		steps[i].Progress = f.Held[s.Worker].Progress[d.ID()]
	}
	return nil
}

// Runs gives a page of the runs the caller may see.
func (e *Engine) Runs(ctx context.Context, f core.RunFilter) (core.RunPage, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return core.RunPage{}, err
	}
	if c.Role != core.Admin {
		if f.Account = c.Owner; c.Owner == "" {
			return core.RunPage{}, nil // "" would select the runs of every account
		}
	}
	return e.store.ListRuns(ctx, f)
}

// CancelRun asks a run to stop and returns it. What has not begun is canceled at
// once; what runs is told to stop. Conflict when it had ended.
func (e *Engine) CancelRun(ctx context.Context, run, reason string) (core.Run, error) {
	r, err := e.store.Run(ctx, run)
	if err != nil {
		return r, err
	}
	if err := mayChange(ctx, "run", run, r.Account); err != nil {
		return r, err
	}
	if reason == "" {
		reason = "canceled by request"
	}
	ended, err := e.EndRun(ctx, run, reason, core.RunCanceled)
	if err != nil {
		return r, err
	}
	if ended {
		return r, core.Errorf(core.Conflict, "the run has ended already (%s)", r.State)
	}
	return e.store.Run(ctx, run)
}

// EndRun asks a run to stop as canceled or timed out. It returns whether it had
// ended before.
func (e *Engine) EndRun(ctx context.Context, run, reason string, end core.RunState) (bool, error) {
	ended, eff, err := e.store.Cancel(ctx, run, reason, end)
	e.Deliver(ctx, eff)
	return ended, err
}

// RetryRun starts a new run of the steps of an ended one that did not succeed,
// as they were planned then and with as much time. Equal keys are one run.
func (e *Engine) RetryRun(ctx context.Context, run, key string) (core.Run, error) {
	old, err := e.store.Run(ctx, run)
	if err != nil {
		return old, err
	}
	if err := mayChange(ctx, "run", run, old.Account); err != nil {
		return old, err
	}
	if old.Target.Kind == core.CBTTarget {
		return old, core.Errorf(core.Conflict, "the run was part of CBT task %s and is not repeated by itself; ask the task again for what it was to do", old.Target.UUID)
	}
	if !old.State.Ended() {
		return old, core.Errorf(core.Conflict, "the run has not ended (%s); cancel it first or wait", old.State)
	}
	steps, err := e.store.Steps(ctx, run)
	if err != nil {
		return old, err
	}
	var left []core.PlannedStep
	for _, s := range steps {
		if s.State != core.StepSucceeded {
			left = append(left, s.PlannedStep)
		}
	}
	if len(left) == 0 {
		return old, core.Errorf(core.Conflict, "every step of the run succeeded; there is nothing to retry")
	}
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return old, err
	}
	again := core.Run{
		Account: old.Account, Dialect: old.Dialect, Target: old.Target, Name: old.Name, Type: old.Type,
		Request: requestKey(c, "retry:"+run, key), RetryOf: run,
	}
	timeout := time.Duration(0)
	if !old.Deadline.IsZero() {
		timeout = old.Deadline.Sub(old.Created)
	}
	a, err := e.admit(ctx, RunRequest{Target: old.Target, Request: again.Request, At: time.Now()},
		plan{run: again, steps: left, timeout: timeout})
	if err != nil {
		return old, err
	}
	return e.started(ctx, a)
}

// Log gives the pieces of an attempt's live log after a position, "" for all.
func (e *Engine) Log(ctx context.Context, run string, step, attempt int, after string) ([]core.LogPiece, error) {
	if _, err := e.Run(ctx, run); err != nil {
		return nil, err
	}
	return e.store.ReadLog(ctx, run, step, attempt, after)
}
