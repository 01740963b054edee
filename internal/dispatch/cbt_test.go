package dispatch

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/pkg/executor"
)

// task makes a CBT task of a machine that a worker reaches.
func (r *rig) task() core.CBTTask {
	r.t.Helper()
	machine := id.New()
	w := core.Worker{ID: "host", Host: "host", Slots: 4, Queues: []string{"host-host"}, Types: []executor.Spec{{Type: core.CBTType}}, Resources: []string{machine}}
	_, err := r.store.Beat(r.ctx, core.Heartbeat{Worker: w.ID}, &w)
	r.must(err)
	task, err := r.eng.CreateCBTTask(r.ctx, core.CBTTask{Meta: core.Meta{Name: "t"}, Machines: []string{machine}})
	r.must(err)
	return task
}

// answer carries out the one order of what a task is in.
func (r *rig) answer(task core.CBTTask) core.CBTTask {
	r.t.Helper()
	task, _, err := r.store.CBT(r.ctx, task.UUID)
	r.must(err)
	d := r.dispatch(task.Pending.Run)
	b, err := r.eng.Begin(r.ctx, d, "host")
	r.must(err)
	open := &cbt.OpenSession{Session: cbt.Session{Seq: 1}}
	text, err := cbt.Answer{Record: cbt.Record{Chain: cbt.Chain{{Seq: 1}}, Open: open}, Detail: cbt.Estimate{Session: false}}.Encode()
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "host", b, core.Outcome{State: core.AttemptSucceeded, Output: text}, false)
	r.must(err)
	task, _, err = r.store.CBT(r.ctx, task.UUID)
	r.must(err)
	return task
}

func (r *rig) home(uuid string) string {
	return "takt:{p:" + strconv.Itoa(id.Partition(uuid, r.store.Partitions())) + "}"
}

// outgrow makes every effect in the outboxes one of a minute ago.
func (r *rig) outgrow() {
	r.t.Helper()
	for n := range r.store.Partitions() {
		key := "takt:{p:" + strconv.Itoa(n) + "}:outbox"
		effects, err := r.rdb.ZRange(r.ctx, key, 0, -1).Result()
		r.must(err)
		for _, e := range effects {
			r.must(r.rdb.ZAdd(r.ctx, key, redis.Z{Score: float64(time.Now().Add(-time.Minute).UnixMilli()), Member: e}).Err())
		}
	}
}

func (r *rig) effects() int64 {
	r.t.Helper()
	var n int64
	for p := range r.store.Partitions() {
		n += r.rdb.ZCard(r.ctx, "takt:{p:"+strconv.Itoa(p)+"}:outbox").Val()
	}
	return n
}

// TestTheReconcilerAdmitsATransition finds a transition whose process died before its run
// was admitted.
func TestTheReconcilerAdmitsATransition(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	task := r.task()
	now, err := r.store.Store.Now(r.ctx)
	r.must(err)
	p := core.CBTPending{
		Op: core.CBTEnable, At: now.UTC(), Request: "cbt:" + task.UUID + ":2", Then: core.CBTRunning, Else: core.CBTFailed,
		Orders: []cbt.Order{{Op: cbt.OpOpen, Task: task.UUID, Machine: task.Machines[0], Session: cbt.Session{Seq: 1}}},
	}
	p.Run = r.store.NewRunID(task.UUID, p.At, p.Request)
	r.must(r.store.MoveCBT(r.ctx, task, core.CBTMove{Status: core.CBTStarting, Pending: p, Seq: 1}))
	r.pass(trusted())
	if _, err := r.store.Run(r.ctx, p.Run); !core.Is(err, core.NotFound) {
		t.Errorf("its process may be about to do it: got %v, want no run yet", err)
	}
	r.outgrow()
	r.pass(trusted())
	if run, err := r.store.Run(r.ctx, p.Run); err != nil || run.State != core.RunPending {
		t.Errorf("got %s, %v; want a pending run", run.State, err)
	}
	if n := r.effects(); n != 0 {
		t.Errorf("%d effects are left", n)
	}
	if got := r.answer(task); got.Status != core.CBTRunning {
		t.Errorf("got %s (%s)", got.Status, got.Reason)
	}
}

// TestTheReconcilerSettlesClaims finds a claim whose task was never made, and those of a
// task that was deleted by a run.
func TestTheReconcilerSettlesClaims(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	machine, nobody := id.New(), id.New()
	_, err := r.store.ClaimMachine(r.ctx, nobody, machine)
	r.must(err)
	r.outgrow()
	r.pass(trusted())
	if task, err := r.store.CBTOf(r.ctx, machine); err != nil || task != nobody {
		t.Errorf("a claim whose task may yet be made: got %q, %v", task, err)
	}
	old := nobody + "|" + strconv.FormatInt(time.Now().Add(-time.Minute).UnixMilli(), 10)
	r.must(r.rdb.HSet(r.ctx, r.home(machine)+":cbtvm", machine, old).Err())
	task := r.task()
	_, err = r.eng.EnableCBTTask(r.ctx, task.UUID, "")
	r.must(err)
	r.answer(task)
	_, err = r.eng.DeleteCBTTask(r.ctx, task.UUID, true)
	r.must(err)
	now, _, err := r.store.CBT(r.ctx, task.UUID)
	r.must(err)
	d := r.dispatch(now.Pending.Run)
	b, err := r.eng.Begin(r.ctx, d, "host")
	r.must(err)
	_, err = r.eng.Finish(r.ctx, d, "host", b, core.Outcome{State: core.AttemptSucceeded, Output: "{}\nnull"}, false)
	r.must(err)
	r.outgrow()
	r.pass(trusted())
	for what, m := range map[string]string{"of a task that was never made": machine, "of a deleted task": task.Machines[0]} {
		if holder, err := r.store.CBTOf(r.ctx, m); err != nil || holder != "" {
			t.Errorf("the claim %s: got %q, %v", what, holder, err)
		}
	}
	if n := r.effects(); n != 0 {
		t.Errorf("%d effects are left", n)
	}
}

// TestARunningTaskIsLookedAt has the timer of a task come due, whose session is gone.
func TestARunningTaskIsLookedAt(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	task := r.task()
	_, err := r.eng.EnableCBTTask(r.ctx, task.UUID, "")
	r.must(err)
	task = r.answer(task)
	look := func() core.CBTTask {
		t.Helper()
		r.must(r.roles.fireTimers(r.ctx, faults{}))
		now, _, err := r.store.CBT(r.ctx, task.UUID)
		r.must(err)
		return now
	}
	if now := look(); !now.Pending.Zero() {
		t.Errorf("at once: got %q under way", now.Pending.Op)
	}
	r.store.ahead = core.CBTWatch + time.Second
	now := look()
	if now.Pending.Op != core.CBTCheck {
		t.Fatalf("after %v: got %q under way", core.CBTWatch, now.Pending.Op)
	}
	if again := look(); again.Pending.Run != now.Pending.Run {
		t.Error("it is looked at twice at once")
	}
	r.store.ahead = 0
	if got := r.answer(task); got.Status != core.CBTFailed || got.Reason != "the session is gone" {
		t.Errorf("got %s (%s)", got.Status, got.Reason)
	}
	r.store.ahead = core.CBTWatch + time.Hour/2
	if now := look(); !now.Pending.Zero() || r.log.count("ERROR") != 0 {
		t.Errorf("when it has failed: got %q under way, %d errors", now.Pending.Op, r.log.count("ERROR"))
	}
}
