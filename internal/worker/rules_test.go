package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// The last act of a handler is the reply to its own Finish: a write on its way is
// no record. Were nil returned before, a crash then would lose the outcome.
func TestNilWaitsForTheReplyToFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, ok)
		reply := make(chan struct{})
		b.engine = lateFinish{b.eng, reply}
		done := b.handle(0)
		pass(3 * time.Second)
		select {
		case err := <-done:
			t.Errorf("the handler returned %v before the reply to Finish had come", err)
		default:
		}
		if h := b.heartbeat(); len(h.Running) != 1 {
			t.Errorf("while Finish is on its way the heartbeat is %+v, want it to list the attempt", h)
		}
		close(reply)
		wantNil(t, <-done)
	})
}

// A lateFinish carries Finish out and keeps the reply back.
type lateFinish struct {
	*fakeEngine
	reply chan struct{}
}

func (e lateFinish) Finish(ctx context.Context, d core.Dispatch, worker string, b core.Begun, o core.Outcome, permanent bool) (core.Finished, error) {
	f, err := e.fakeEngine.Finish(ctx, d, worker, b, o, permanent)
	select {
	case <-e.reply:
	case <-ctx.Done():
		return core.Finished{}, ctx.Err()
	}
	return f, err
}

// asynq gives a task up, by its time-out, a lapsed lease or somebody's cancel: its
// context ends and its slot is free. The execution goes on, keeps our slot, and its
// outcome is recorded.
func TestQueueThatGivesUpEndsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, func(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
			select {
			case <-time.After(20 * time.Second):
			case <-ctx.Done():
				t.Errorf("the executor was told to stop: %v", context.Cause(ctx))
			}
			return executor.Result{}, nil
		})
		ctx, giveUp := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Handle(ctx, dispatch(0)) }()
		synctest.Wait()
		giveUp()
		pass(5 * time.Second)
		if b.free() != 0 {
			t.Error("the slot was given away with the queue's task")
		}
		wantNil(t, <-done)
		if f := b.eng.all("finish"); len(f) != 1 || f[0].outcome.State != core.AttemptSucceeded {
			t.Errorf("written: %v, want one success", f)
		}
	})
}

// A business failure is no error of the queue: the next attempt is the engine's to
// plan, and asynq's retries mean only that something could not be recorded.
func TestFailureIsNotTheQueuesError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			return executor.Result{ExitCode: 1}, context.DeadlineExceeded
		})
		wantNil(t, <-b.handle(0))
		if f := b.eng.all("finish"); len(f) != 1 || f[0].outcome.State != core.AttemptFailed {
			t.Errorf("written: %v, want one failure", f)
		}
	})
}
