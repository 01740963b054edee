package engine_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
)

// TestForcedDisableWaitsForNobody has no worker at all. What is open is closed when one is
// back, days later.
func TestForcedDisableWaitsForNobody(t *testing.T) {
	for _, status := range []core.CBTStatus{core.CBTStarting, core.CBTRunning, core.CBTFailed} {
		t.Run(string(status), func(t *testing.T) {
			h := newHouse(t)
			task := h.in(status, 2)
			h.vanish()
			h.queue.take()
			forced := must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h)
			now := h.readTask(task)
			if forced.Status != core.CBTStopped || !forced.Pending.Behind || now.Status != core.CBTStopped || now.Reason != "" || now.Busy() {
				t.Fatalf("got %s, and then %s (%s), %+v", forced.Status, now.Status, now.Reason, now.Pending)
			}
			if open := status == core.CBTRunning; (now.Records[0].Open != nil) != open {
				t.Errorf("before anything was closed: open is %v, want %v", !open, open)
			}
			for _, force := range []bool{false, true} {
				if again := must(h.eng.DisableCBTTask(h.ctx, task.UUID, force))(h); again.Status != core.CBTStopped || again.Pending.Run != forced.Pending.Run {
					t.Errorf("again, force %v: got %s, run %s, want %s", force, again.Status, again.Pending.Run, forced.Pending.Run)
				}
			}
			run := must(h.eng.Run(h.ctx, forced.Pending.Run))(h)
			if run.State.Ended() || run.Deadline.Sub(run.Created) < 6*24*time.Hour {
				t.Errorf("the run is %s and ends %v after its begin, want a week", run.State, run.Deadline.Sub(run.Created))
			}
			h.reach(task.Machines...)
			h.unpark()
			orders := h.work(obliging)
			if len(orders) != 2 || orders[0].Op != cbt.OpClose || !orders[0].Force {
				t.Fatalf("when a worker is back: got the orders %+v", orders)
			}
			if now := h.readTask(task); now.Status != core.CBTStopped || !now.Pending.Zero() || now.Records[0].Open != nil || now.Records[1].Open != nil {
				t.Errorf("closed: got %s, %+v", now.Status, now.Records)
			}
		})
	}
}

// unpark sends the steps that wait for a worker.
func (h *house) unpark() {
	h.Helper()
	for n := range h.store.Partitions() {
		must(h.eng.Unpark(h.Context(), must(h.store.Parked(h.Context(), n))(h)))(h)
	}
}

// TestWhatIsLeftOpenBlocksNothing has each verb come before the worker that closes.
func TestWhatIsLeftOpenBlocksNothing(t *testing.T) {
	left := func(h *house) core.CBTTask {
		task := h.in(core.CBTRunning, 1)
		return must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h)
	}
	t.Run("enable", func(t *testing.T) {
		h := newHouse(t)
		forced := left(h)
		task := must(h.eng.EnableCBTTask(h.ctx, forced.UUID, bitmap(forced, 1)))(h)
		orders := h.work(obliging)
		if len(orders) != 1 || orders[0].Op != cbt.OpOpen || orders[0].Record.Open == nil || orders[0].Session.Seq != 2 {
			t.Errorf("orders: got %+v", orders)
		}
		if now, _ := h.ended(task); now.Status != core.CBTRunning || now.Records[0].Open.Seq != 2 {
			t.Errorf("got %s, %+v", now.Status, now.Records)
		}
		if _, how := h.ended(forced); how.State != core.RunCanceled {
			t.Errorf("what was to be closed: got %+v", how)
		}
	})
	t.Run("enable while it is being closed", func(t *testing.T) {
		h := newHouse(t)
		forced := left(h)
		closing := h.orders()
		enabled := h.asked(func() (core.CBTTask, error) { return h.eng.EnableCBTTask(h.ctx, forced.UUID, "") })
		soon(t, func() bool { return h.toldToStop() == 1 })
		h.answer(closing[0], obliging)
		task := <-enabled
		opened := h.work(obliging)
		if len(opened) != 1 || opened[0].Record.Open != nil {
			t.Errorf("orders: got %+v, want one, and that nothing is open", opened)
		}
		if now, _ := h.ended(task); now.Status != core.CBTRunning {
			t.Errorf("got %s (%s)", now.Status, now.Reason)
		}
	})
	t.Run("enable since what is not there", func(t *testing.T) {
		h := newHouse(t)
		forced := left(h)
		_, err := h.eng.EnableCBTTask(h.ctx, forced.UUID, bitmap(forced, 9))
		wantKind(t, "enable", err, core.NotFound)
		if orders := h.work(obliging); len(orders) != 1 || orders[0].Op != cbt.OpClose {
			t.Errorf("orders: got %+v, want that to close", orders)
		}
	})
	t.Run("backup", func(t *testing.T) {
		h := newHouse(t)
		task := must(h.eng.BackupCBTTask(h.ctx, left(h).UUID, engine.BackupRequest{}))(h)
		h.work(obliging)
		if now, how := h.ended(task); now.Status != core.CBTStopped || how.Failed() || len(now.Records[0].Backups) != 1 {
			t.Errorf("got %s, %+v", now.Status, how)
		}
	})
	t.Run("delete", func(t *testing.T) {
		h := newHouse(t)
		task := must(h.eng.DeleteCBTTask(h.ctx, left(h).UUID, false))(h)
		if orders := h.work(obliging); len(orders) != 1 || orders[0].Op != cbt.OpDrop {
			t.Errorf("orders: got %+v", orders)
		}
		h.wantGone("deleted", task)
	})
	t.Run("delete by force without a worker", func(t *testing.T) {
		h := newHouse(t)
		forced := left(h)
		h.vanish()
		if got := must(h.eng.DeleteCBTTask(h.ctx, forced.UUID, true))(h); !got.Pending.Zero() {
			t.Errorf("got %q under way", got.Pending.Op)
		}
		h.wantGone("deleted", forced)
	})
	t.Run("forget and restore wait for it", func(t *testing.T) {
		h := newHouse(t)
		forced := left(h)
		_, err := h.eng.ForgetCheckpoint(h.ctx, forced.UUID, 1)
		wantKind(t, "forget", err, core.Conflict)
		_, err = h.eng.ExportVolumes(h.ctx, forced.Machines[0], []string{volumeOf(forced.Machines[0])}, false)
		wantKind(t, "export", err, core.Conflict)
		h.work(obliging)
		must(h.eng.ForgetCheckpoint(h.ctx, forced.UUID, 1))(h)
	})
}

// asked does what has to wait for the worker of the test.
func (h *house) asked(do func() (core.CBTTask, error)) <-chan core.CBTTask {
	done := make(chan core.CBTTask, 1)
	go func() {
		task, err := do()
		if err != nil {
			h.Error(err)
		}
		done <- task
	}()
	return done
}

// toldToStop is how many attempts were told to.
func (h *house) toldToStop() int {
	h.events.mu.Lock()
	defer h.events.mu.Unlock()
	return len(h.events.stops)
}

// TestAForcedCloseThatFails leaves the task Stopped and says why; another disable tries
// again, and does not wait either.
func TestAForcedCloseThatFails(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	forced := must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h)
	h.work(failing(task.Machines...))
	now, how := h.ended(forced)
	if now.Status != core.CBTStopped || now.Reason != "close does not work" || now.Records[0].Open == nil || !how.Failed() {
		t.Fatalf("got %s (%s), %+v", now.Status, now.Reason, how)
	}
	again := must(h.eng.DisableCBTTask(h.ctx, task.UUID, false))(h)
	if again.Status != core.CBTStopped || !again.Pending.Behind || again.Pending.Run == forced.Pending.Run {
		t.Errorf("again: got %s, %+v", again.Status, again.Pending)
	}
	if orders := h.work(obliging); len(orders) != 1 || !orders[0].Force || orders[0].Session.Seq != 1 {
		t.Errorf("orders: got %+v", orders)
	}
	if now, _ := h.ended(again); now.Reason != "" || now.Records[0].Open != nil {
		t.Errorf("got %s, %+v", now.Reason, now.Records)
	}
	if idle := must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h); !idle.Pending.Zero() {
		t.Errorf("with nothing open: got %q", idle.Pending.Op)
	}
}

// TestForcedDisableCarriedOutAgain finds its own transition, under way and ended.
func TestForcedDisableCarriedOutAgain(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	first := must(h.eng.DisableCBTTask(h.asking("off", false), task.UUID, true))(h)
	for _, ended := range []bool{false, true} {
		if ended {
			h.work(obliging)
		}
		again := must(h.engine().DisableCBTTask(h.asking("off", true), task.UUID, true))(h)
		if again.Status != core.CBTStopped || again.Pending.Run != first.Pending.Run || !again.Pending.Behind {
			t.Errorf("ended %v: got %s, %+v", ended, again.Status, again.Pending)
		}
	}
}

// TestAForcedDisableOfWhatALostWorkerOpens has to wait until that worker is known to be
// lost, and no longer.
func TestAForcedDisableOfWhatALostWorkerOpens(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStarting, 1)
	opening := h.orders()[0]
	h.vanish()
	disabled := h.asked(func() (core.CBTTask, error) { return h.eng.DisableCBTTask(h.ctx, task.UUID, true) })
	soon(t, func() bool { return h.toldToStop() == 1 })
	h.ok(h.eng.Redispatch(t.Context(), core.MoveLost, []core.Under{{Dispatch: opening.Dispatch, Worker: "host"}}))
	if forced := <-disabled; forced.Status != core.CBTStopped || !forced.Pending.Behind {
		t.Errorf("got %s, %+v", forced.Status, forced.Pending)
	}
}
