package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/excerpt"
)

const (
	// slotPatience is how long a dispatch waits for a slot before it is handed back.
	slotPatience = time.Second
	// deafAfter is how long an executor may take to return once its context has
	// ended, before its attempt is ended without it.
	deafAfter = 10 * time.Second
	// again is the wait before a write that did not go through is repeated.
	again = 200 * time.Millisecond
	// faultPatience is for how long a write is repeated that fails by something else than
	// an outage.
	faultPatience = time.Minute
)

// An attempt is an execution under way.
type attempt struct {
	cancel   context.CancelCauseFunc
	released bool // told to stop since others take the step over; guarded by Worker.mu
	progress atomic.Pointer[core.Progress]
}

var errStepElsewhere = core.Errorf(core.Stale, "the step was dispatched elsewhere")

// Handle carries out one dispatch; package queue says what its return means.
func (w *Worker) Handle(ctx context.Context, d core.Dispatch) error {
	switch w.take(d) {
	case draining:
		return w.handBack(ctx, d)
	case already:
		w.log.WarnContext(ctx, "message dropped: its dispatch is in work here", "dispatch", d.ID())
		return nil
	}
	defer w.idle.Done()
	if !w.slot(ctx) {
		w.drop(d)
		return w.handBack(ctx, d)
	}
	free := func() { w.freeSlot(ctx) }
	if err := w.contact.await(ctx); err != nil {
		free()
		w.drop(d)
		return fmt.Errorf("begin %s: %w", d.ID(), err)
	}
	asked := time.Now()
	b, err := w.engine.Begin(ctx, d, w.self.ID)
	if err != nil {
		free()
		w.drop(d)
		if core.Is(err, core.Stale) {
			if w.meter.Stale != nil {
				w.meter.Stale()
			}
			return nil
		}
		return fmt.Errorf("begin %s: %w", d.ID(), err)
	}
	if took := time.Since(asked); took >= ContactLimit {
		return w.tooLate(ctx, d, took, free)
	}
	return w.attempt(d, b, free)
}

// tooLate gives back what was begun before this process stood still: others may have
// taken the step over and ended it, and an executor entered now would do it again.
func (w *Worker) tooLate(ctx context.Context, d core.Dispatch, took time.Duration, free func()) error {
	free()
	defer w.drop(d)
	w.log.WarnContext(ctx, "attempt released: its beginning took too long", "dispatch", d.ID(), "took", took)
	return w.record(d, func(ctx context.Context) error { return w.engine.Release(ctx, d, w.self.ID) })
}

// The answers of take.
const (
	taken = iota
	draining
	already // the queue brings again what this worker has: its own lease has lapsed
)

// take notes a dispatch as taken. Begin would let this worker begin it twice, since
// the reply to the first Begin may have been lost.
func (w *Worker) take(d core.Dispatch) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known := w.taken[d.ID()]
	_, runs := w.running[d.ID()]
	switch {
	case known && at.IsZero() || runs:
		return already
	case w.draining:
		delete(w.taken, d.ID())
		return draining
	}
	w.taken[d.ID()] = time.Time{}
	w.idle.Add(1)
	return taken
}

func (w *Worker) drop(d core.Dispatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.taken, d.ID())
}

// slot waits for a slot. The queue brings no more than there are slots, so it waits
// only for an executor that is deaf to its context.
func (w *Worker) slot(ctx context.Context) bool {
	select {
	case w.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(slotPatience)
	defer timer.Stop()
	select {
	case w.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// freeSlot gives the slot of a dispatch back, then lets the queue of ctx bring
// another.
func (w *Worker) freeSlot(ctx context.Context) {
	<-w.slots
	queue.FreeSlot(ctx)
}

// handBack has a dispatch that was not begun sent anew.
func (w *Worker) handBack(ctx context.Context, d core.Dispatch) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return w.engine.Redispatch(ctx, core.MoveSent, []core.Under{{Dispatch: d}})
}

// attempt executes what was begun and records how it ended. free, the slot's, is
// called when the executor has really ended.
func (w *Worker) attempt(d core.Dispatch, b core.Begun, free func()) error {
	base, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	timedOut := fmt.Errorf("%w after %s", executor.ErrTimedOut, b.Step.Timeout) // which limit it was is what its reader asks next
	ctx, stop := context.WithTimeoutCause(base, b.Step.Timeout, timedOut)
	defer stop()
	under := &attempt{cancel: cancel}
	w.begin(d, under)
	defer w.end(d)

	kind, ok := w.types[b.Step.Type]
	if !ok {
		free()
		w.log.WarnContext(ctx, "attempt released: this worker has no executor for its type", "dispatch", d.ID(), "type", b.Step.Type)
		return w.record(d, func(ctx context.Context) error { return w.engine.Release(ctx, d, w.self.ID) })
	}
	log := newLog(w.store, w.log, d, b.Attempt)
	began := time.Now()
	res, err := w.execute(ctx, kind.Executor, d, b, under, log, free)
	log.Close()
	if errors.Is(context.Cause(ctx), executor.ErrReleased) && err != nil {
		return w.record(d, func(ctx context.Context) error { return w.engine.Release(ctx, d, w.self.ID) })
	}
	res.Output = within(res.Output, cmp.Or(kind.MaxOutput, executor.MaxOutputBytes))
	o := outcome(ctx, res, err)
	if err != nil {
		w.log.WarnContext(ctx, "attempt ended", "run", d.Run, "step", d.Step, "attempt", b.Attempt, "job", b.Step.Job, "state", o.State, "reason", short(o.Reason))
	}
	if w.meter.Ended != nil {
		w.meter.Ended(b.Step.Type, o.State, time.Since(began))
	}
	return w.record(d, func(ctx context.Context) error {
		f, ferr := w.engine.Finish(ctx, d, w.self.ID, b, o, executor.IsPermanent(err))
		if ferr == nil && f.Step == "" {
			return errStepElsewhere
		}
		return ferr
	})
}

func (w *Worker) begin(d core.Dispatch, a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.taken, d.ID())
	w.running[d.ID()] = a
}

func (w *Worker) end(d core.Dispatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, d.ID())
}

type result struct {
	executor.Result
	err error
}

// execute runs the executor and waits for it, but once its context has ended no
// longer than deafAfter: a deaf executor keeps its slot, not its step.
func (w *Worker) execute(ctx context.Context, ex executor.Executor, d core.Dispatch, b core.Begun, under *attempt, log *attemptLog, free func()) (executor.Result, error) {
	a := executor.Attempt{
		ID: d.ID(), Key: d.Key(), Number: b.Attempt, Run: d.Run, Job: b.Step.Job, Type: b.Step.Type,
		Target: b.Step.Target, Parameters: b.Step.Parameters, Log: log,
		Progress: func(done, total int64) { under.progress.Store(&core.Progress{Done: done, Total: total}) },
	}
	a.Deadline, _ = ctx.Deadline()
	done := make(chan result, 1)
	go func() {
		defer free()
		done <- call(ctx, ex, a)
	}()
	select {
	case r := <-done:
		return r.Result, r.err
	case <-ctx.Done():
	}
	deaf := time.NewTimer(deafAfter)
	defer deaf.Stop()
	select {
	case r := <-done:
		return r.Result, r.err
	case <-deaf.C:
	}
	stacks := make([]byte, 64<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	w.log.ErrorContext(ctx, "executor is deaf to its context; its slot is lost until it returns",
		"dispatch", d.ID(), "type", b.Step.Type, "stacks", string(stacks))
	return executor.Result{}, fmt.Errorf("the executor did not stop within %s after it was told to", deafAfter)
}

// call turns a panic of an executor into a failure.
func call(ctx context.Context, ex executor.Executor, a executor.Attempt) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = result{err: fmt.Errorf("executor panicked: %v\n%s", p, debug.Stack())}
		}
	}()
	res, err := ex.Execute(ctx, a)
	return result{res, err}
}

// short gives the beginning of a text, for the log.
func short(text string) string {
	text, cut := excerpt.Head([]byte(text), 500)
	if cut {
		text += " …"
	}
	return text
}

// within bounds what is kept with an attempt.
func within(output string, most int) string {
	if len(output) <= most {
		return output
	}
	return strings.ToValidUTF8(output[:most], "")
}

func outcome(ctx context.Context, res executor.Result, err error) core.Outcome {
	o := core.Outcome{State: core.AttemptSucceeded, ExitCode: res.ExitCode, Output: res.Output}
	if err == nil {
		return o
	}
	o.Reason = err.Error()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, executor.ErrCanceled):
		o.State = core.AttemptCanceled
	case errors.Is(cause, executor.ErrTimedOut):
		o.State = core.AttemptTimedOut
	default:
		o.State = core.AttemptFailed
	}
	return o
}

// record repeats a write until it is done, however long the store is away: what
// was executed must not be executed again for want of a record. The step may be
// taken over meanwhile; the fence then turns this write away, and that is fine.
// Anything else than an outage may never end, so such a write is given up after a
// while: no heartbeat lists the attempt then, and it counts as lost.
func (w *Worker) record(d core.Dispatch, write func(context.Context) error) error {
	var faulty time.Time // since when it fails by something else
	for wait := again; ; wait = min(2*wait, 2*time.Second) {
		err := once(write)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errStepElsewhere):
			w.log.Info("outcome refused: the step was taken over", "dispatch", d.ID())
			return nil
		case isOutage(err):
			faulty = time.Time{}
		case faulty.IsZero():
			faulty = time.Now()
		case time.Since(faulty) >= faultPatience:
			w.log.Error("outcome given up: it cannot be recorded; the attempt will count as lost and its step be dispatched again", "dispatch", d.ID(), "err", err)
			return nil
		}
		w.log.Warn("outcome not recorded yet", "dispatch", d.ID(), "err", err)
		<-time.After(wait)
	}
}

// once makes a write that belongs to no caller.
func once(write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return write(ctx)
}

// isOutage reports whether a write failed since the store is away or does not answer.
func isOutage(err error) bool {
	return core.Is(err, core.Unavailable) || errors.Is(err, context.DeadlineExceeded)
}
