package zstack

import (
	"context"
	"errors"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Waiting for the transition of a CBT task. It may take hours; the run goes on
// whoever waits. When this process stops, the receipt is given back, and another
// replica finds the transition by the request and waits for the rest of it.

var (
	// errAnswerDue ends the waiting of a direct call.
	errAnswerDue = errors.New("the answer is due")
	// errLeaving ends all waiting when the process stops. A receipt whose work ends
	// with an Unavailable error is given back.
	errLeaving = core.Errorf(core.Unavailable, "this server is stopping; what was asked for goes on, see the task's status")
)

type answerDueKey struct{}

// withAnswerDue says that a call has to be answered before patience ends, with or
// without its result.
func withAnswerDue(ctx, patience context.Context, most time.Duration) context.Context {
	end, ok := patience.Deadline()
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, answerDueKey{}, end.Add(-most/10))
}

// isDirect reports whether a client waits for the answer itself.
func isDirect(ctx context.Context) bool { return ctx.Value(answerDueKey{}) != nil }

// untilAnswerDue ends, with errAnswerDue as its cause, when a direct call has to be
// answered. For any other call it ends with ctx only.
func untilAnswerDue(ctx context.Context) (context.Context, context.CancelFunc) {
	due, ok := ctx.Value(answerDueKey{}).(time.Time)
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, due, errAnswerDue)
}

// staying gives the context of work that may take long: it ends when this process
// stops, too.
func (a *API) staying(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	settle := context.AfterFunc(a.leaving, func() { stop(errLeaving) })
	return ctx, func() {
		settle()
		stop(nil)
	}
}

// interrupted says why work has ended before its time, if that is why it failed.
func interrupted(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errAnswerDue) || errors.Is(cause, errLeaving)) {
		return cause
	}
	return err
}

// ended waits until a task's transition has ended and gives the task as it is then,
// which is the zero task if it is gone. A transition that failed is an error.
func (a *API) ended(ctx context.Context, t core.CBTTask) (core.CBTTask, error) {
	now, how, err := a.eng.AwaitCBT(ctx, t.UUID, t.Pending.Run)
	if err != nil {
		return now, interrupted(ctx, err)
	}
	return now, failedCBT(how)
}

// failedCBT is how a transition failed, or nil.
func failedCBT(how core.CBTPending) error {
	if !how.Failed() {
		return nil
	}
	code := codeOperation
	switch how.State {
	case core.RunCanceled:
		code = codeCanceled
	case core.RunTimedOut:
		code = codeTimeout
	}
	return failed(code, "%s of the CBT task failed: %s", how.Op, how.Reason)
}
