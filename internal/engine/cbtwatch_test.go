package engine_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// lost answers that the session of a machine does not live.
func lost(machine string) act {
	return func(o cbt.Order) (cbt.Answer, string) {
		a, _ := obliging(o)
		if o.Machine == machine {
			a.Detail = cbt.Estimate{Broken: "absent"}
		}
		return a, ""
	}
}

// ended answers that the session of a machine was ended, and why.
func ended(machine string) act {
	return func(o cbt.Order) (cbt.Answer, string) {
		a, _ := obliging(o)
		if o.Machine == machine {
			a.Detail = cbt.Estimate{Running: true, Gone: "its disk was full"}
		}
		return a, ""
	}
}

// watched reports when a task is looked at next; false: it is not.
func (h *house) watched(t core.CBTTask) (time.Duration, bool) {
	h.Helper()
	home := "takt:{p:" + itoa(id.Partition(t.UUID, h.store.Partitions())) + "}:timers"
	ms, err := h.rdb.ZScore(h.Context(), home, "cbt|"+t.UUID).Result()
	return time.UnixMilli(int64(ms)).Sub(must(h.store.Now(h.Context()))(h)), err == nil
}

func (h *house) wantWatched(what string, t core.CBTTask, want bool) {
	h.Helper()
	wait, ok := h.watched(t)
	if ok != want || ok && (wait < core.CBTWatch-5*time.Second || wait > core.CBTWatch) {
		h.Errorf("%s: looked at next in %v, %v; want %v", what, wait, ok, want)
	}
}

// TestLooks has looks at a task that is Running end in each way.
func TestLooks(t *testing.T) {
	for _, row := range []struct {
		name   string
		do     func(h *house, task core.CBTTask)
		status core.CBTStatus
		reason func(task core.CBTTask) string
	}{
		{"all sessions live", func(h *house, task core.CBTTask) { h.work(obliging) }, core.CBTRunning, nil},
		{"one session is gone", func(h *house, task core.CBTTask) { h.work(lost(task.Machines[1])) }, core.CBTFailed, func(task core.CBTTask) string {
			return "machine " + task.Machines[1] + ": the session is gone, and its chain is broken: absent"
		}},
		{"one session was ended on its host", func(h *house, task core.CBTTask) { h.work(ended(task.Machines[1])) }, core.CBTFailed, func(task core.CBTTask) string {
			return "machine " + task.Machines[1] + ": the session is gone: its disk was full"
		}},
		{"a machine cannot be asked", func(h *house, task core.CBTTask) { h.work(failing(task.Machines[0])) }, core.CBTRunning, nil},
		{"the run times out", func(h *house, task core.CBTTask) {
			must(h.eng.EndRun(h.Context(), h.readTask(task).Pending.Run, "too late", core.RunTimedOut))(h)
		}, core.CBTRunning, nil},
		{"one does not answer, the other is gone", func(h *house, task core.CBTTask) {
			orders := h.orders()
			h.answer(orders[1], lost(task.Machines[1]))
			must(h.eng.EndRun(h.Context(), orders[0].Run, "too late", core.RunTimedOut))(h)
			h.answer(orders[0], obliging)
		}, core.CBTFailed, func(task core.CBTTask) string {
			return "machine " + task.Machines[1] + ": the session is gone, and its chain is broken: absent"
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			task := h.in(core.CBTRunning, 2)
			h.wantWatched("Running", task, true)
			h.ok(h.eng.CheckCBT(t.Context(), task.UUID))
			h.wantWatched("during a look", task, false)
			if now := h.readTask(task); now.Pending.Op != core.CBTCheck || now.Busy() || now.Version != task.Version {
				t.Fatalf("got %+v", now.Pending)
			}
			run := h.cbtRuns(task)[0]
			row.do(h, task)
			got := h.readTask(task)
			want := ""
			if row.reason != nil {
				want = row.reason(task)
			}
			if got.Status != row.status || got.Reason != want || !got.Pending.Zero() || got.Last.Op != core.CBTEnable {
				t.Errorf("got %s (%s), last %s; want %s (%s)", got.Status, got.Reason, got.Last.Op, row.status, want)
			}
			if (got.Version == task.Version) != (row.status == core.CBTRunning) {
				t.Errorf("version %d became %d", task.Version, got.Version)
			}
			h.wantWatched("after the look", task, row.status == core.CBTRunning)
			if kept := must(h.store.Run(t.Context(), run.ID))(h); kept.Deadline.IsZero() || kept.Deadline.Sub(kept.Created) > 2*time.Minute {
				t.Errorf("the run of a look has the deadline %v", kept.Deadline)
			}
			h.wantForgotten(run.ID, time.Hour)
		})
	}
}

// wantForgotten checks how long an ended run is kept.
func (h *house) wantForgotten(run string, want time.Duration) {
	h.Helper()
	home := "takt:{p:" + itoa(must(runPartition(run))(h)) + "}:timers"
	ms, err := h.rdb.ZScore(h.Context(), home, "forget|"+run).Result()
	h.ok(err)
	if keep := time.UnixMilli(int64(ms)).Sub(must(h.store.Now(h.Context()))(h)); keep > want || keep < want-10*time.Second {
		h.Errorf("run %s is kept for %v, want %v", run, keep, want)
	}
}

// TestLooksGiveWay has each verb come during a look, whose end then means nothing.
func TestLooksGiveWay(t *testing.T) {
	for name, verb := range map[string]func(h *house, task core.CBTTask) (core.CBTTask, error){
		"disable": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DisableCBTTask(h.ctx, task.UUID, false)
		},
		"delete": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DeleteCBTTask(h.ctx, task.UUID, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			task := h.in(core.CBTRunning, 1)
			h.ok(h.eng.CheckCBT(t.Context(), task.UUID))
			looking := h.orders()[0]
			task = must(verb(h, task))(h)
			if task.Pending.Op != core.CBTOp(name) {
				t.Fatalf("got %q under way", task.Pending.Op)
			}
			h.wantWatched("during "+name, task, false)
			h.answer(looking, lost(looking.order.Machine))
			if now := h.readTask(task); now.Pending.Run != task.Pending.Run || now.Status != core.CBTRunning {
				t.Errorf("after the look: got %s, %q", now.Status, now.Pending.Op)
			}
			if run := must(h.store.Run(t.Context(), looking.Run))(h); run.State != core.RunCanceled {
				t.Errorf("the run of the look is %s, want canceled", run.State)
			}
			h.work(obliging)
			_, how := h.ended(task)
			if how.Failed() {
				t.Errorf("got %+v", how)
			}
			h.wantWatched("in the end", task, false)
		})
	}
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	h.ok(h.eng.CheckCBT(t.Context(), task.UUID))
	same := must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	if !same.Pending.Zero() {
		t.Errorf("enable again, during a look: got %q under way", same.Pending.Op)
	}
}

// TestNothingToLookAt has the timer of a task fire that is not to be looked at.
func TestNothingToLookAt(t *testing.T) {
	h := newHouse(t)
	for _, status := range []core.CBTStatus{core.CBTCreated, core.CBTStarting, core.CBTStopped, core.CBTFailed} {
		task := h.in(status, 1)
		runs := len(h.cbtRuns(task))
		home := "takt:{p:" + itoa(id.Partition(task.UUID, h.store.Partitions())) + "}:timers"
		h.rdb.ZAdd(t.Context(), home, zAt(time.Now(), "cbt|"+task.UUID))
		h.ok(h.eng.CheckCBT(t.Context(), task.UUID))
		h.wantWatched(string(status), task, false)
		if got := h.readTask(task); got.Status != status || len(h.cbtRuns(task)) != runs {
			t.Errorf("%s became %s, with %d runs", status, got.Status, len(h.cbtRuns(task)))
		}
	}
	gone := core.CBTTask{Meta: core.Meta{UUID: id.New()}}
	h.rdb.ZAdd(t.Context(), "takt:{p:"+itoa(id.Partition(gone.UUID, h.store.Partitions()))+"}:timers", zAt(time.Now(), "cbt|"+gone.UUID))
	h.ok(h.eng.CheckCBT(t.Context(), gone.UUID))
	h.wantWatched("a task that is gone", gone, false)

	task := h.in(core.CBTRunning, 1)
	h.vanish()
	runs := len(h.cbtRuns(task))
	h.ok(h.eng.CheckCBT(t.Context(), task.UUID))
	h.wantWatched("nobody reaches its machine", task, true)
	if got := h.readTask(task); got.Status != core.CBTRunning || len(h.cbtRuns(task)) != runs {
		t.Errorf("nobody reaches its machine: got %s, %d runs", got.Status, len(h.cbtRuns(task)))
	}
}
