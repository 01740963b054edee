package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// A holder is a job type whose attempts last until the test ends them.
type holder struct {
	executor.Type
	began chan *held
}

// A held is an attempt under way.
type held struct {
	executor.Attempt
	told chan error  // why its context ended
	end  chan string // ends the attempt well, with an output
}

// newHolder makes a type whose attempts stop when they are told to, or, deaf ones,
// do not.
func newHolder(deaf bool) *holder {
	h := &holder{began: make(chan *held, 100)}
	h.Type = executor.Type{Spec: executor.Spec{Type: "held"}, Executor: executor.Func(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
		run := &held{Attempt: a, told: make(chan error, 1), end: make(chan string, 1)}
		h.began <- run
		select {
		case out := <-run.end:
			return executor.Result{Output: out}, nil
		case <-ctx.Done():
		}
		run.told <- context.Cause(ctx)
		if deaf {
			return executor.Result{Output: <-run.end}, nil
		}
		return executor.Result{}, context.Cause(ctx)
	})}
	return h
}

// next waits for the next attempt to begin.
func (h *holder) next(t testing.TB, within time.Duration) *held {
	t.Helper()
	select {
	case run := <-h.began:
		return run
	case <-time.After(within):
		t.Fatalf("no attempt began within %s", within)
		return nil
	}
}

// none fails the test if one attempt more than those the test has seen has begun.
func (h *holder) none(t testing.TB) {
	t.Helper()
	select {
	case run := <-h.began:
		t.Errorf("attempt %d of step %s began though it must not", run.Number, run.Key)
	default:
	}
}

// runJob makes a job of a type and starts a run of it.
func (h *house) runJob(jobType string, change func(*core.Job)) core.Run {
	h.t.Helper()
	j := core.Job{Meta: core.Meta{Name: "j"}, Type: jobType, Enabled: true}
	if change != nil {
		change(&j)
	}
	j, err := h.eng.CreateJob(h.ctx, j)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// step gives the one step of a run.
func (h *house) step(run string) core.Step {
	h.t.Helper()
	steps, err := h.eng.Steps(h.ctx, run)
	if err != nil {
		h.t.Fatal(err)
	}
	return steps[0]
}

// dispatch gives the latest dispatch of a run's one step.
func (h *house) dispatch(run string) core.Dispatch {
	h.t.Helper()
	s := h.step(run)
	return core.Dispatch{Run: run, Step: s.Index, Fence: s.Fence, Queue: s.Queue}
}
