package e2e

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// A run that is canceled while its step is executed ends as canceled, and its step
// is never executed again, whatever its worker does.
func TestCanceledStaysCanceled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		slow  time.Duration // of each command and reply of the worker
		deaf  bool
		after func(run *held) // done right after the cancel
	}{
		{name: "its executor stops"},
		{name: "its executor succeeds at that moment", after: func(run *held) { run.end <- "done" }},
		{name: "its executor succeeds later", deaf: true, after: func(run *held) { <-run.told; run.end <- "done" }},
		{name: "its worker's link is slow", slow: 250 * time.Millisecond},
		{name: "its worker's link is slow and its executor succeeds", slow: 250 * time.Millisecond, after: func(run *held) { run.end <- "done" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			work := newHolder(c.deaf)
			h := newHouse(t, work.Spec)
			h.roles()
			if c.slow > 0 {
				h.hooks = []redis.Hook{slowLink{c.slow}}
			}
			h.worker("one", 2, work.Type)
			h.hooks = nil
			r := h.runJob("held", nil)
			run := work.next(t, 20*time.Second)
			h.cancel(r)
			if c.after != nil {
				c.after(run)
			}
			h.wantCanceled(r)
			work.none(t)
		})
	}
}

// The same where the worker is a process that dies, or stands still and comes
// back, and another one is there to take its steps over.
func TestCanceledStaysCanceledThoughItsWorker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(p *victim) // right before the cancel
		after  func(p *victim) // right after it
	}{
		{"dies when it hears", nil, func(p *victim) { p.kill() }},
		{"dies before it hears", (*victim).freeze, func(p *victim) { p.kill() }},
		{"stands still", (*victim).freeze, func(p *victim) {
			p.h.pause(8 * time.Second)
			p.thaw()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, mark.Spec)
			h.roles()
			w := newWitness(t)
			victim := h.process(orders{Role: "worker-process", Host: "victim", Witness: w.path, Work: time.Hour})
			h.awaitWorkers(1)
			r := h.runJob("mark", nil)
			testenv.Eventually(t, 20*time.Second, func() bool { return len(w.read(t)) == 1 })
			h.process(orders{Role: "worker-process", Host: "other", Witness: w.path})
			h.awaitWorkers(2)
			if c.before != nil {
				c.before(victim)
			}
			h.cancel(r)
			c.after(victim)
			h.wantCanceled(r)
			if got := w.read(t); len(got) != 1 {
				t.Errorf("executions %+v, want the one that was canceled", got)
			}
		})
	}
}

// What is canceled before it has begun is not executed, though its message is still
// brought.
func TestCanceledBeforeItBegins(t *testing.T) {
	t.Parallel()
	work := newHolder(false)
	h := newHouse(t, work.Spec)
	h.roles()
	h.worker("one", 2, work.Type)
	i := asynq.NewInspectorFromRedisClient(h.client())
	h.pauseQueue(i)
	r := h.runJob("held", nil)
	h.cancel(r)
	h.unpauseQueue(i)
	h.wantCanceled(r)
	work.none(t)
}

func (h *house) cancel(r core.Run) {
	h.t.Helper()
	if _, err := h.eng.CancelRun(h.ctx, r.ID, "test"); err != nil {
		h.t.Fatal(err)
	}
}

// wantCanceled waits until a run has ended as canceled, has its message brought
// once more and checks that it stays so.
func (h *house) wantCanceled(r core.Run) {
	h.t.Helper()
	if r = h.await(r.ID, 20*time.Second); r.State != core.RunCanceled {
		h.t.Fatalf("run ended as %s (%s), want canceled", r.State, r.Reason)
	}
	h.quiet(r)
	h.bringAgain(h.dispatch(r.ID))
	if r = h.await(r.ID, time.Second); r.State != core.RunCanceled {
		h.t.Errorf("later the run is %s", r.State)
	}
	if s := h.step(r.ID); s.State != core.StepCanceled || len(s.Attempts) > 1 {
		h.t.Errorf("the step is %s with attempts %+v, want canceled with one at most", s.State, s.Attempts)
	}
}

// A slowLink delays each command and each pipeline.
type slowLink struct{ by time.Duration }

func (s slowLink) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s slowLink) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { s.wait(ctx); return next(ctx, cmd) }
}

func (s slowLink) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { s.wait(ctx); return next(ctx, cmds) }
}

func (s slowLink) wait(ctx context.Context) {
	select {
	case <-time.After(s.by):
	case <-ctx.Done():
	}
}
