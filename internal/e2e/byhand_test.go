package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/testenv"
)

// A task is only the carrier of a dispatch. Whatever becomes of it, by somebody's
// hand in the dashboard or because Redis lost it, its step is executed once.
func TestTaskUnderSomebodysHand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(i *asynq.Inspector, h *house, d core.Dispatch) error
		runs bool // done while the step is executed, else while its task waits
	}{
		{name: "deleted", do: func(i *asynq.Inspector, _ *house, d core.Dispatch) error { return i.DeleteTask(d.Queue, d.ID()) }},
		{name: "archived", do: func(i *asynq.Inspector, _ *house, d core.Dispatch) error { return i.ArchiveTask(d.Queue, d.ID()) }},
		{name: "archived and run", do: func(i *asynq.Inspector, _ *house, d core.Dispatch) error {
			if err := i.ArchiveTask(d.Queue, d.ID()); err != nil {
				return err
			}
			return i.RunTask(d.Queue, d.ID())
		}},
		{name: "queue deleted", do: func(i *asynq.Inspector, _ *house, d core.Dispatch) error { return i.DeleteQueue(d.Queue, true) }},
		{name: "hash lost", do: loseHash},
		{name: "hash lost while it runs", runs: true, do: loseHash},
		{name: "canceled while it runs", runs: true, do: func(i *asynq.Inspector, _ *house, d core.Dispatch) error { return i.CancelProcessing(d.ID()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			work := newHolder(false)
			h := newHouse(t, work.Spec)
			h.roles()
			h.worker("one", 2, work.Type)
			i := asynq.NewInspectorFromRedisClient(h.client())
			if !c.runs {
				h.pauseQueue(i)
			}
			r := h.runJob("held", nil)
			d := h.dispatch(r.ID)
			var run *held
			if c.runs {
				run = work.next(t, 10*time.Second)
			}
			if err := c.do(i, h, d); err != nil {
				t.Fatal(err)
			}
			if !c.runs {
				h.unpauseQueue(i)
				run = work.next(t, elsewhere)
			}
			if c.runs {
				h.pause(3 * time.Second) // asynq has given the task up and brings it again
			}
			run.end <- "done"
			if r = h.await(r.ID, elsewhere); r.State != core.RunSucceeded {
				t.Errorf("run ended as %s (%s)", r.State, r.Reason)
			}
			h.quiet(r)
			if n := len(h.step(r.ID).Attempts); n != 1 {
				t.Errorf("%d attempts, want one", n)
			}
			h.gone(d)
			work.none(t)
		})
	}
}

func loseHash(_ *asynq.Inspector, h *house, d core.Dispatch) error {
	n, err := h.client().Del(h.ctx, "asynq:{"+d.Queue+"}:t:"+d.ID()).Result()
	if err == nil && n != 1 {
		err = fmt.Errorf("the task has no hash")
	}
	return err
}

// pauseQueue pauses the queue default, as the dashboard does.
func (h *house) pauseQueue(i *asynq.Inspector) {
	h.t.Helper()
	if err := i.PauseQueue("default"); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) unpauseQueue(i *asynq.Inspector) {
	h.t.Helper()
	if err := i.UnpauseQueue("default"); err != nil && !h.unpaused() {
		h.t.Fatal(err)
	}
}

// unpaused reports whether nothing of a pause is left, as after the queue was
// deleted.
func (h *house) unpaused() bool {
	return h.client().Exists(h.ctx, "asynq:{default}:paused").Val() == 0
}

// gone waits until no task of a dispatch waits to be brought again.
func (h *house) gone(d core.Dispatch) {
	h.t.Helper()
	testenv.Eventually(h.t, elsewhere, func() error {
		places, err := queue.NewClient(h.client()).Where(h.ctx, []core.Dispatch{d})
		if err == nil && places[0] != queue.Missing && places[0] != queue.Active {
			err = fmt.Errorf("task %s is %s", d.ID(), places[0])
		}
		return err
	})
}

// Steps whose queue is paused by hand wait, and nothing is sent anew meanwhile.
// They go on when the queue does.
func TestQueuePausedByHand(t *testing.T) {
	t.Parallel()
	work := newHolder(false)
	h := newHouse(t, work.Spec)
	h.roles()
	h.worker("one", 4, work.Type)
	i := asynq.NewInspectorFromRedisClient(h.client())
	h.pauseQueue(i)
	var runs []core.Run
	var sent []core.Dispatch
	for range 3 {
		r := h.runJob("held", nil)
		runs, sent = append(runs, r), append(sent, h.dispatch(r.ID))
	}
	h.pause(7 * time.Second) // beyond the age from which dispatches are looked for, and the grace
	work.none(t)
	for n, r := range runs {
		if d := h.dispatch(r.ID); d.Fence != sent[n].Fence {
			t.Errorf("fence of run %d went from %s to %s while its queue was paused", n, sent[n].Fence, d.Fence)
		}
	}
	h.unpauseQueue(i)
	for range runs {
		work.next(t, 5*time.Second).end <- "done"
	}
	for _, r := range runs {
		if r = h.await(r.ID, 5*time.Second); r.State != core.RunSucceeded {
			t.Errorf("run ended as %s (%s)", r.State, r.Reason)
		}
		h.quiet(r)
	}
	work.none(t)
}

// A worker dies whose task may not be tried again, as somebody who edits it, or
// another program that sends it, could have it. asynq gives it up; Takt does not.
func TestKilledWorkerWithoutRetries(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noop.Spec)
	h.roles()
	i := asynq.NewInspectorFromRedisClient(h.client())
	h.pauseQueue(i)
	died := h.child(orders{Role: "worker", Die: "execute", Host: "victim"})
	h.awaitWorkers(1)
	r := h.runJob("noop", nil)
	d := h.dispatch(r.ID)
	if err := i.DeleteTask(d.Queue, d.ID()); err != nil {
		t.Fatal(err)
	}
	task := asynq.NewTask(queue.TaskType, []byte(d.ID()))
	if _, err := asynq.NewClientFromRedisClient(h.client()).Enqueue(task, asynq.TaskID(d.ID()), asynq.Queue(d.Queue), asynq.MaxRetry(0), asynq.Timeout(time.Hour)); err != nil {
		t.Fatal(err)
	}
	h.unpauseQueue(i)
	at := h.killed(died)
	h.worker("survivor", 4, noop)
	r = h.await(r.ID, elsewhere)
	wantOnce(t, h, r, 1, at)
	if got := h.step(r.ID).Attempts; len(got) != 2 || got[0].State != core.AttemptLost {
		t.Errorf("attempts are %+v, want the first lost and one more", got)
	}
	h.quiet(r)
}
