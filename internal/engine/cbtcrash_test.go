package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// TestACrashBetweenTheWritesOfATransition has the process die before each write that
// follows the first. The reconciler then does what is left, once.
func TestACrashBetweenTheWritesOfATransition(t *testing.T) {
	for _, dead := range []string{"Admit", "SettledCBT", "the queue"} {
		t.Run("before "+dead, func(t *testing.T) {
			h := newHouse(t)
			task := h.task(2)
			h.faults.die(dead)
			h.queue.breakDown(dead == "the queue")
			task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
			if task.Status != core.CBTStarting || task.Pending.Zero() {
				t.Fatalf("got %s, %q", task.Status, task.Pending.Op)
			}
			h.faults.die()
			h.queue.breakDown(false)
			h.reconcile()
			for range 2 {
				if runs := h.cbtRuns(task); len(runs) != 1 || runs[0].ID != task.Pending.Run {
					t.Fatalf("got %d runs, want that of the transition", len(runs))
				}
				h.ok(h.eng.SettleCBT(h.ctx, task.UUID)) // again, to no effect
			}
			if dead == "the queue" {
				h.resend(task.Pending.Run)
			}
			h.work(obliging)
			if got := h.readTask(task); got.Status != core.CBTRunning {
				t.Errorf("got %s (%s)", got.Status, got.Reason)
			}
			h.reconcile()
		})
	}
}

// resend sends the dispatches of a run, as the reconciler does with those that were lost.
func (h *house) resend(run string) {
	h.Helper()
	var lost []core.Under
	for _, st := range must(h.store.Steps(h.Context(), run))(h) {
		lost = append(lost, core.Under{Dispatch: core.Dispatch{Run: run, Step: st.Index, Fence: st.Fence}})
	}
	h.ok(h.eng.Redispatch(h.Context(), core.MoveSent, lost))
}

// TestACrashBeforeTheTransition changes nothing, so that the request may be repeated.
func TestACrashBeforeTheTransition(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	h.faults.die("MoveCBT")
	if _, err := h.eng.EnableCBTTask(h.asking("r", false), task.UUID, ""); err == nil {
		t.Fatal("got no error")
	}
	h.faults.die()
	h.reconcile()
	if got := h.readTask(task); got.Status != core.CBTCreated || len(h.cbtRuns(task)) != 0 {
		t.Errorf("got %s and %d runs", got.Status, len(h.cbtRuns(task)))
	}
	h.enabled(task, "")
}

func TestACrashWhileATaskIsMade(t *testing.T) {
	for _, dead := range []string{"ClaimMachine", "CreateCBT", "SettleCBTClaim"} {
		t.Run("before "+dead, func(t *testing.T) {
			h := newHouse(t)
			machines := h.machines(2)
			wanted := core.CBTTask{Meta: named("t"), Machines: machines}
			h.faults.die(dead, "UnclaimMachine")
			first, err := h.eng.CreateCBTTask(h.asking("r", false), wanted)
			if (err == nil) != (dead == "SettleCBTClaim") {
				t.Fatalf("got %v", err)
			}
			h.faults.die()
			h.settleClaims() // it may run in between
			made := must(h.eng.CreateCBTTask(h.asking("r", true), wanted))(h)
			if first.UUID != made.UUID || made.Status != core.CBTCreated {
				t.Errorf("got %s, and %s carried out again", first.UUID, made.UUID)
			}
			if all := must(h.eng.CBTTasks(h.ctx))(h); len(all) != 1 {
				t.Errorf("got %d tasks, want 1", len(all))
			}
			h.settleClaims()
			h.enabled(made, "")
			_, err = h.eng.CreateCBTTask(h.ctx, wanted)
			wantKind(t, "a second task", err, core.Conflict)
		})
	}
}

// settleClaims does once what stands in the outboxes about claims.
func (h *house) settleClaims() {
	h.Helper()
	for n := range h.store.Partitions() {
		for _, e := range must(h.store.Outbox(h.Context(), n, time.Now().Add(time.Minute)))(h) {
			if e[0] == "cbtvm" {
				h.ok(h.eng.SettleCBTClaim(h.Context(), e[1], e[2]))
			}
		}
	}
}

// TestRequestsThatAreCarriedOutAgain has a second process repeat what a first one did
// before it died, at several points of what follows.
func TestRequestsThatAreCarriedOutAgain(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	first := must(h.eng.EnableCBTTask(h.asking("on", false), task.UUID, ""))(h)
	other := h.engine()
	again := must(other.EnableCBTTask(h.asking("on", true), task.UUID, ""))(h)
	if again.Pending.Run != first.Pending.Run {
		t.Errorf("while it is under way: got run %s, want %s", again.Pending.Run, first.Pending.Run)
	}
	h.work(failing(task.Machines...))
	again = must(other.EnableCBTTask(h.asking("on", true), task.UUID, ""))(h)
	if again.Pending.Run != first.Pending.Run || again.Status != core.CBTFailed {
		t.Errorf("when it has failed: got %s, run %s", again.Status, again.Pending.Run)
	}
	if _, how := h.ended(again); how.Reason != "open does not work" {
		t.Errorf("its outcome: got %+v", how)
	}
	h.enabled(task, "")
	off := must(h.eng.DisableCBTTask(h.asking("off", false), task.UUID, false))(h)
	h.work(obliging)
	for name, verb := range map[string]func() (core.CBTTask, error){
		"on":  func() (core.CBTTask, error) { return other.EnableCBTTask(h.asking("on", true), task.UUID, "") },
		"off": func() (core.CBTTask, error) { return other.DisableCBTTask(h.asking("off", true), task.UUID, false) },
	} {
		got := must(verb())(h)
		want := map[string]string{"on": first.Pending.Run, "off": off.Pending.Run}[name]
		if got.Pending.Run != want || got.Status != core.CBTStopped {
			t.Errorf("%s, after others: got %s, run %s, want %s", name, got.Status, got.Pending.Run, want)
		}
	}
	if runs := h.cbtRuns(task); len(runs) != 3 {
		t.Errorf("got %d runs, want 3", len(runs))
	}
	// Another request is another transition.
	if got := must(h.eng.EnableCBTTask(h.asking("on2", false), task.UUID, ""))(h); got.Pending.Run == first.Pending.Run || got.Status != core.CBTStarting {
		t.Errorf("another request: got %s", got.Status)
	}
	h.work(obliging)
	must(h.eng.DeleteCBTTask(h.asking("del", false), task.UUID, true))(h)
	h.work(obliging)
	if got := must(other.DeleteCBTTask(h.asking("del", true), task.UUID, true))(h); got.UUID != "" {
		t.Errorf("delete, carried out again: got %+v", got)
	}
}

// TestADisableThatDiedBetweenCancelAndClose is taken up where it was left.
func TestADisableThatDiedBetweenCancelAndClose(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStarting, 1)
	h.faults.die("MoveCBT")
	if _, err := h.eng.DisableCBTTask(h.asking("off", false), task.UUID, false); err == nil {
		t.Fatal("got no error")
	}
	h.faults.die()
	if got := h.readTask(task); got.Status != core.CBTFailed || got.Reason != "the CBT task was disabled" {
		t.Errorf("left behind: got %s (%s)", got.Status, got.Reason)
	}
	must(h.engine().DisableCBTTask(h.asking("off", true), task.UUID, false))(h)
	h.work(obliging)
	if got := h.readTask(task); got.Status != core.CBTStopped {
		t.Errorf("got %s", got.Status)
	}
}

// TestDisableBeforeTheRunIsAdmitted cancels a transition whose process died at once.
func TestDisableBeforeTheRunIsAdmitted(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	h.faults.die("Admit")
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	h.faults.die()
	task = must(h.engine().DisableCBTTask(h.ctx, task.UUID, false))(h)
	orders := h.work(obliging)
	if len(orders) != 1 || orders[0].Op != cbt.OpClose {
		t.Errorf("got %+v, want one order to close", orders)
	}
	if got, _ := h.ended(task); got.Status != core.CBTStopped {
		t.Errorf("got %s", got.Status)
	}
}

// TestAWorkerIsLostWhileItOpens has the step carried out elsewhere; what the first worker
// says later is of no interest.
func TestAWorkerIsLostWhileItOpens(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStarting, 1)
	lost := h.orders()[0]
	h.ok(h.eng.Redispatch(t.Context(), core.MoveLost, []core.Under{{Dispatch: lost.Dispatch, Worker: "host"}}))
	second := h.orders()[0]
	if !slices.Equal(sessions([]cbt.Order{second.order}), sessions([]cbt.Order{lost.order})) || second.order.Session.Token != lost.order.Session.Token {
		t.Errorf("the second attempt has the session %+v, the first had %+v", second.order.Session, lost.order.Session)
	}
	h.answer(second, obliging)
	if f := h.answer(lost, failing(task.Machines...)); f.Step != "" && !f.Late {
		t.Errorf("the lost worker's result was taken: %+v", f)
	}
	if got := h.readTask(task); got.Status != core.CBTRunning || got.Records[0].Open == nil {
		t.Errorf("got %s (%s)", got.Status, got.Reason)
	}
}

func TestATaskMadeAnewKnowsNothingOfTheOld(t *testing.T) {
	h := newHouse(t)
	uuid, machines := id.New(), h.machines(1)
	var runs []string
	for range 3 {
		task := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: core.Meta{UUID: uuid, Name: "t"}, Machines: machines}))(h)
		task = h.enabled(task, "")
		runs = append(runs, task.Opened)
		must(h.eng.DeleteCBTTask(h.ctx, uuid, true))(h)
		h.work(obliging)
		h.wantGone("deleted", task)
	}
	if slices.Sort(runs); len(slices.Compact(runs)) != 3 {
		t.Errorf("got the runs %q, want three", runs)
	}
}
