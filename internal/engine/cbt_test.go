package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

func zAt(at time.Time, member string) redis.Z {
	return redis.Z{Score: float64(at.UnixMilli()), Member: member}
}

func TestCBTTaskFromCreateToDelete(t *testing.T) {
	h := newHouse(t)
	task := h.task(2)
	if task.Status != core.CBTCreated || task.TaskType != "VM" || task.Driver != cbt.DriverAuto || task.OnBroken != cbt.OnBrokenFull || task.Account != "acc" {
		t.Errorf("a new task: got %+v", task)
	}
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	if task.Status != core.CBTStarting || task.Pending.Op != core.CBTEnable || h.readTask(task).Status != core.CBTStarting {
		t.Errorf("while it is enabled: got %s, %q", task.Status, task.Pending.Op)
	}
	first := h.work(obliging)
	wantEqual(t, "sessions of the first enable", sessions(first), []string{"0..1", "0..1"})
	if first[0].Session.Check() != nil || first[0].Session.Token == first[1].Session.Token {
		t.Errorf("sessions: got %+v and %+v", first[0].Session, first[1].Session)
	}
	task, how := h.ended(task)
	if task.Status != core.CBTRunning || how.State != core.RunSucceeded || task.Records[1].Open == nil {
		t.Errorf("enabled: got %s, %s, %+v", task.Status, how.State, task.Records)
	}
	details := must(h.eng.CBTDetails(h.ctx, task))(h)
	if len(details) != 2 || details[1][0].Volume != volumeOf(task.Machines[1]) || details[1][0].Bitmap != "bits" {
		t.Errorf("details: got %+v", details)
	}
	task = h.stopped(task)
	if task.Status != core.CBTStopped || task.Records[0].Open != nil || must(h.eng.CBTDetails(h.ctx, task))(h) != nil {
		t.Errorf("disabled: got %s", task.Status)
	}
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, bitmap(task, 1)))(h)
	wantEqual(t, "sessions of the second enable", sessions(h.work(obliging)), []string{"1..2", "1..2"})
	task = h.stopped(task)
	task = must(h.eng.DeleteCBTTask(h.ctx, task.UUID, false))(h)
	if orders := h.work(obliging); len(orders) != 2 || orders[0].Op != cbt.OpDrop || !orders[0].Record.Chain.Has(2) {
		t.Errorf("orders of the delete: got %+v", orders)
	}
	gone, how := h.ended(task)
	if gone.UUID != "" || how.State != core.RunSucceeded {
		t.Errorf("deleted: got %+v, %+v", gone, how)
	}
	h.wantGone("deleted", task)
	h.reconcile()
	again := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: core.Meta{UUID: task.UUID, Name: "again"}, Machines: task.Machines}))(h)
	again = h.enabled(again, "")
	if again.Seq != 1 {
		t.Errorf("a task made anew: its first checkpoint is %d", again.Seq)
	}
	if absent, err := h.eng.DeleteCBTTask(h.ctx, id.New(), false); err != nil || absent.UUID != "" {
		t.Errorf("delete of an absent task: got %+v, %v", absent, err)
	}
}

// TestCBTStates has each verb meet each status. want is the kind of the refusal, or the
// status after the call, and what is under way then.
func TestCBTStates(t *testing.T) {
	enable := func(h *house, task core.CBTTask) (core.CBTTask, error) {
		return h.eng.EnableCBTTask(h.ctx, task.UUID, "")
	}
	since := func(h *house, task core.CBTTask) (core.CBTTask, error) {
		return h.eng.EnableCBTTask(h.ctx, task.UUID, bitmap(task, 1))
	}
	disable := func(force bool) func(h *house, task core.CBTTask) (core.CBTTask, error) {
		return func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DisableCBTTask(h.ctx, task.UUID, force)
		}
	}
	del := func(force bool) func(h *house, task core.CBTTask) (core.CBTTask, error) {
		return func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DeleteCBTTask(h.ctx, task.UUID, force)
		}
	}
	rows := []struct {
		verb   string
		do     func(h *house, task core.CBTTask) (core.CBTTask, error)
		status core.CBTStatus
		kind   core.Kind
		want   string // "<status> <op>", "gone"
		ends   core.CBTStatus
	}{
		{"enable", enable, core.CBTCreated, "", "Starting enable", core.CBTRunning},
		{"enable", enable, core.CBTStarting, "", "Starting enable", core.CBTRunning},
		{"enable", enable, core.CBTRunning, "", "Running ", core.CBTRunning},
		{"enable", enable, core.CBTStopped, "", "Starting enable", core.CBTRunning},
		{"enable", enable, core.CBTFailed, "", "Starting enable", core.CBTRunning},
		{"enable since another bitmap", since, core.CBTRunning, core.Conflict, "", ""},
		{"enable since another bitmap", since, core.CBTStarting, core.Conflict, "", ""},
		{"enable since an unknown bitmap", since, core.CBTCreated, core.NotFound, "", ""},
		{"enable since a bitmap", since, core.CBTStopped, "", "Starting enable", core.CBTRunning},
		{"disable", disable(false), core.CBTCreated, core.Conflict, "", ""},
		{"disable", disable(false), core.CBTStarting, "", "Failed disable", core.CBTStopped},
		{"disable", disable(false), core.CBTRunning, "", "Running disable", core.CBTStopped},
		{"disable", disable(false), core.CBTStopped, "", "Stopped ", core.CBTStopped},
		{"disable", disable(false), core.CBTFailed, "", "Failed disable", core.CBTStopped},
		{"disable by force", disable(true), core.CBTCreated, "", "Stopped ", core.CBTStopped},
		{"disable by force", disable(true), core.CBTStarting, "", "Stopped disable", core.CBTStopped},
		{"disable by force", disable(true), core.CBTRunning, "", "Stopped disable", core.CBTStopped},
		{"disable by force", disable(true), core.CBTStopped, "", "Stopped ", core.CBTStopped},
		{"disable by force", disable(true), core.CBTFailed, "", "Stopped disable", core.CBTStopped},
		{"delete", del(false), core.CBTCreated, "", "gone", ""},
		{"delete", del(false), core.CBTStarting, core.Conflict, "", ""},
		{"delete", del(false), core.CBTRunning, core.Conflict, "", ""},
		{"delete", del(false), core.CBTStopped, "", "Stopped delete", ""},
		{"delete", del(false), core.CBTFailed, "", "Failed delete", ""},
		{"delete by force", del(true), core.CBTCreated, "", "gone", ""},
		{"delete by force", del(true), core.CBTStarting, "", "Failed delete", ""},
		{"delete by force", del(true), core.CBTRunning, "", "Running delete", ""},
		{"delete by force", del(true), core.CBTStopped, "", "Stopped delete", ""},
		{"delete by force", del(true), core.CBTFailed, "", "Failed delete", ""},
	}
	for _, row := range rows {
		t.Run(row.verb+" when "+string(row.status), func(t *testing.T) {
			h := newHouse(t)
			task := h.in(row.status, 1)
			got, err := row.do(h, task)
			if row.kind != "" {
				wantKind(t, row.verb, err, row.kind)
				if now := h.readTask(task); now.Status != row.status || now.Pending.Run != task.Pending.Run {
					t.Errorf("a refused call left the task %s, %q", now.Status, now.Pending.Op)
				}
				return
			}
			h.ok(err)
			if row.want == "gone" {
				h.wantGone(row.verb, task)
				return
			}
			if is := fmt.Sprint(got.Status, " ", got.Pending.Op); is != row.want {
				t.Errorf("got %q, want %q", is, row.want)
			}
			h.work(obliging)
			if row.ends == "" {
				h.wantGone(row.verb, task)
			} else if now := h.readTask(task); now.Status != row.ends || !now.Pending.Zero() {
				t.Errorf("in the end: got %s, %q, want %s", now.Status, now.Pending.Op, row.ends)
			}
		})
	}
}

func TestAbsentCBTTasks(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	for name, ctx := range map[string]context.Context{"an unknown uuid": h.ctx, "a stranger": core.WithCaller(t.Context(), stranger)} {
		uuid := task.UUID
		if name == "an unknown uuid" {
			uuid = id.New()
		}
		_, err := h.eng.EnableCBTTask(ctx, uuid, "")
		wantKind(t, name+" enables", err, core.NotFound)
		_, err = h.eng.DisableCBTTask(ctx, uuid, true)
		wantKind(t, name+" disables", err, core.NotFound)
		_, err = h.eng.EstimateCBT(ctx, uuid)
		wantKind(t, name+" estimates", err, core.NotFound)
		_, err = h.eng.DeleteCBTTask(ctx, uuid, true)
		h.ok(err)
	}
	h.readTask(task)
	v := core.WithCaller(t.Context(), viewer)
	_, err := h.eng.EnableCBTTask(v, task.UUID, "")
	wantKind(t, "a viewer enables", err, core.Denied)
	_, err = h.eng.DeleteCBTTask(v, task.UUID, true)
	wantKind(t, "a viewer deletes", err, core.Denied)
	_, err = h.eng.CreateCBTTask(v, core.CBTTask{Meta: named("x"), Machines: h.machines(1)})
	wantKind(t, "a viewer creates", err, core.Denied)
	if all := must(h.eng.CBTTasks(v))(h); len(all) != 1 {
		t.Errorf("a viewer sees %d tasks, want 1", len(all))
	}
	if all := must(h.eng.CBTTasks(core.WithCaller(t.Context(), stranger)))(h); len(all) != 0 {
		t.Errorf("a stranger sees %d tasks", len(all))
	}
}

func TestWrongCBTTasks(t *testing.T) {
	h := newHouse(t)
	many := h.machines(core.MaxMachines + 1)
	for _, row := range []struct {
		field string
		task  core.CBTTask
	}{
		{"name", core.CBTTask{Machines: many[:1]}},
		{"machines", core.CBTTask{Meta: named("t")}},
		{"machines", core.CBTTask{Meta: named("t"), Machines: many}},
		{"machines", core.CBTTask{Meta: named("t"), Machines: []string{"vm-1"}}},
		{"driver", core.CBTTask{Meta: named("t"), Machines: many[:1], Driver: "vmware"}},
		{"onBroken", core.CBTTask{Meta: named("t"), Machines: many[:1], OnBroken: "ignore"}},
		{"taskType", core.CBTTask{Meta: named("t"), Machines: many[:1], TaskType: strings.Repeat("x", 65)}},
	} {
		_, err := h.eng.CreateCBTTask(h.ctx, row.task)
		wantInvalid(t, "a task with a wrong "+row.field, err, row.field)
	}
	twice := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("t"), Machines: []string{many[0], many[1], many[0]}}))(h)
	wantEqual(t, "machines named twice", twice.Machines, many[:2])
}

func TestCBTTaskIsRenamed(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	got := must(h.eng.UpdateCBTTask(h.ctx, task.UUID, 1, func(c *core.CBTTask) error {
		c.Name, c.Description, c.Machines, c.Account = "new", "text", nil, "other"
		return nil
	}))(h)
	now := h.readTask(task)
	if got.Version != 2 || now.Version != 2 || now.Name != "new" || now.Description != "text" || len(now.Machines) != 1 || now.Account != "acc" {
		t.Errorf("got version %d, %+v", got.Version, now)
	}
	_, err := h.eng.UpdateCBTTask(h.ctx, task.UUID, 1, func(*core.CBTTask) error { return nil })
	wantKind(t, "a change to an old version", err, core.Stale)
}

func TestAMachineIsInOneTask(t *testing.T) {
	h := newHouse(t)
	first := h.task(1)
	free := id.New()
	both := []string{free, first.Machines[0]}
	_, err := h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("second"), Machines: both})
	wantKind(t, "a second task of a machine", err, core.Conflict)
	if want := fmt.Sprintf("VM [uuid: %s] have been protected by task: %s", first.Machines[0], first.UUID); !hasText(err, want) {
		t.Errorf("got %v, want %q", err, want)
	}
	must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("of the free one"), Machines: []string{free}}))(h)
	must(h.eng.DeleteCBTTask(h.ctx, first.UUID, false))(h)
	second := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("second"), Machines: first.Machines}))(h)
	h.enabled(second, "")
}

// TestTasksRaceForAMachine has many tasks made of the same machines at once, in different
// orders. No two may get the same one, and none of those that failed may keep one.
func TestTasksRaceForAMachine(t *testing.T) {
	h := newHouse(t)
	machines := h.machines(4)
	other := h.engine()
	var wg sync.WaitGroup
	var mu sync.Mutex
	owner := map[string]string{}
	for i := range 12 {
		eng := []interface {
			CreateCBTTask(context.Context, core.CBTTask) (core.CBTTask, error)
		}{h.eng, other}[i%2]
		wg.Go(func() {
			mine := []string{machines[i%4], machines[(i+1)%4]}
			task, err := eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named(fmt.Sprint(i)), Machines: mine})
			mu.Lock()
			defer mu.Unlock()
			for _, m := range mine {
				if err == nil && owner[m] != "" {
					t.Errorf("machine %s is in tasks %s and %s", m, owner[m], task.UUID)
				}
				if err == nil {
					owner[m] = task.UUID
				}
			}
			if err != nil && !core.Is(err, core.Conflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, m := range machines {
		if owner[m] == "" {
			must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("late"), Machines: []string{m}}))(h)
		}
	}
}

// TestEnabledOnceByManyAtOnce has two replicas enable a task many times at once.
func TestEnabledOnceByManyAtOnce(t *testing.T) {
	h := newHouse(t)
	task, other := h.task(2), h.engine()
	runs := make([]string, 10)
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			enable := h.eng.EnableCBTTask
			if i%2 == 1 {
				enable = other.EnableCBTTask
			}
			got, err := enable(h.ctx, task.UUID, "")
			if err != nil {
				t.Error(err)
			}
			runs[i] = got.Pending.Run
		})
	}
	wg.Wait()
	if distinct := slices.Compact(slices.Sorted(slices.Values(runs))); len(distinct) != 1 || len(h.cbtRuns(task)) != 1 {
		t.Errorf("got the runs %q, and %d of the task; want one", distinct, len(h.cbtRuns(task)))
	}
	h.work(obliging)
	if got := h.readTask(task); got.Status != core.CBTRunning || got.Seq != 1 {
		t.Errorf("got %s, checkpoint %d", got.Status, got.Seq)
	}
}

func TestOneOfSixteenMachinesFails(t *testing.T) {
	h := newHouse(t)
	task := h.task(core.MaxMachines)
	bad := task.Machines[11]
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	h.work(failing(bad))
	task, how := h.ended(task)
	if want := "machine " + bad + ": open does not work"; task.Status != core.CBTFailed || task.Reason != want || !how.Failed() || how.Reason != want {
		t.Errorf("got %s (%s), %+v", task.Status, task.Reason, how)
	}
	for i, r := range task.Records {
		if (r.Open != nil) == (i == 11) {
			t.Errorf("record %d: open is %v", i, r.Open != nil)
		}
	}
	// What the others opened is in the orders of the next enable, which counts on.
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, bitmap(task, 1)))(h)
	orders := h.work(obliging)
	got := sessions(orders)
	if got[0] != "1..2" || got[11] != "0..2" || orders[0].Record.Open == nil {
		t.Errorf("sessions: got %q", got)
	}
	task, _ = h.ended(task)
	if task.Status != core.CBTRunning || task.Reason != "" {
		t.Errorf("got %s (%s), want Running and no reason", task.Status, task.Reason)
	}
}

func TestABrokenChainUnderFail(t *testing.T) {
	h := newHouse(t)
	task := must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("t"), Machines: h.machines(2), OnBroken: cbt.OnBrokenFail}))(h)
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	h.work(failing(task.Machines[0]))
	_, err := h.eng.EnableCBTTask(h.ctx, task.UUID, bitmap(task, 1))
	wantKind(t, "enable since a checkpoint that one machine lacks", err, core.Conflict)
	for _, wrong := range []string{"cbt-" + task.UUID[:12] + "-01", "cbt-" + task.UUID[:12] + "-7", "cbt-0123456789ab-1", "bitmap"} {
		_, err := h.eng.EnableCBTTask(h.ctx, task.UUID, wrong)
		wantKind(t, "enable since "+wrong, err, core.NotFound)
	}
}

func TestAnswersWithoutARecord(t *testing.T) {
	for name, output := range map[string]string{
		"nothing": "", "text": "done\n{}", "one line": `{"block":1}`, "no record": "{\"chain\":7}\n{}", "half a detail": "{}\n{",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			task := h.in(core.CBTStarting, 1)
			x := h.orders()[0]
			must(h.eng.Finish(t.Context(), x.Dispatch, "host", x.Begun, core.Outcome{State: core.AttemptSucceeded, Output: output}, false))(h)
			got := h.readTask(task)
			if got.Status != core.CBTFailed || !strings.Contains(got.Reason, "holds no record") || got.Records[0].Block != 0 {
				t.Errorf("got %s (%s), %+v", got.Status, got.Reason, got.Records[0])
			}
		})
	}
	h := newHouse(t)
	task := h.in(core.CBTStarting, 1)
	x := h.orders()[0]
	broken := core.Outcome{State: core.AttemptFailed, Reason: "no", Output: "{\"chain\":7}\n{}"}
	must(h.eng.Finish(t.Context(), x.Dispatch, "host", x.Begun, broken, true))(h)
	if got := h.readTask(task); got.Status != core.CBTFailed || got.Reason != "no" {
		t.Errorf("a failure with an output that is no answer: got %s (%s)", got.Status, got.Reason)
	}
}

func TestDisableWhileAWorkerOpens(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStarting, 2)
	opening := h.orders()
	cancels := &canceler{Store: h.store}
	h.faults.Store = cancels
	done := make(chan core.CBTTask)
	go func() {
		got, err := h.eng.DisableCBTTask(h.ctx, task.UUID, false)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	soon(t, func() bool {
		h.events.mu.Lock()
		defer h.events.mu.Unlock()
		return len(h.events.stops) == 2
	})
	// One worker undoes what it did and says so, the other has just been done.
	undone := must(cbt.Answer{Record: cbt.Record{Driver: "scan"}}.Encode())(h)
	must(h.eng.Finish(t.Context(), opening[0].Dispatch, "host", opening[0].Begun, core.Outcome{State: core.AttemptCanceled, Output: undone}, false))(h)
	h.answer(opening[1], obliging)
	got := <-done
	if n := cancels.calls.Load(); n != 1 {
		t.Errorf("the run was canceled %d times, want once and then waited for", n)
	}
	if got.Pending.Op != core.CBTDisable || got.Records[0].Driver != "scan" || got.Records[1].Open == nil {
		t.Fatalf("got %q, %+v", got.Pending.Op, got.Records)
	}
	for _, o := range h.work(obliging) {
		if o.Op != cbt.OpClose || (o.Session.Seq == 1) != (o.Machine == task.Machines[1]) {
			t.Errorf("got the order %+v", o)
		}
	}
	h.answer(opening[0], obliging) // a worker that was deaf
	got, how := h.ended(got)
	if got.Status != core.CBTStopped || how.Failed() || got.Records[1].Open != nil || got.Records[0].Open != nil {
		t.Errorf("got %s, %+v", got.Status, how)
	}
	_, how = h.ended(task)
	if how.State != core.RunCanceled || how.Op != core.CBTEnable {
		t.Errorf("how the enable ended: got %+v", how)
	}
}

func TestAFailedDisableLeavesTheStatus(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	task = must(h.eng.DisableCBTTask(h.ctx, task.UUID, false))(h)
	h.work(failing(task.Machines...))
	got, how := h.ended(task)
	if got.Status != core.CBTRunning || got.Reason != "close does not work" || !how.Failed() || got.Records[0].Open == nil {
		t.Errorf("got %s (%s), %+v", got.Status, got.Reason, how)
	}
	forced := must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h)
	if orders := h.work(obliging); !orders[0].Force || orders[0].Session.Seq != 1 {
		t.Errorf("got the order %+v", orders[0])
	}
	if got, _ = h.ended(forced); got.Status != core.CBTStopped || got.Reason != "" {
		t.Errorf("got %s (%s)", got.Status, got.Reason)
	}
}

func TestForceTakesThePlaceOfWhatWaits(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	h.vanish()
	waits := must(h.eng.DisableCBTTask(h.ctx, task.UUID, false))(h)
	joined := must(h.eng.DisableCBTTask(h.ctx, task.UUID, false))(h)
	if joined.Pending.Run != waits.Pending.Run {
		t.Errorf("the same again: got run %s, want %s", joined.Pending.Run, waits.Pending.Run)
	}
	_, err := h.eng.EnableCBTTask(h.ctx, task.UUID, "")
	wantKind(t, "enable during disable", err, core.Conflict)
	_, err = h.eng.DeleteCBTTask(h.ctx, task.UUID, false)
	wantKind(t, "delete during disable", err, core.Conflict)
	forced := must(h.eng.DisableCBTTask(h.ctx, task.UUID, true))(h)
	if forced.Pending.Run == waits.Pending.Run {
		t.Error("disable by force joined what waits without")
	}
	if _, how := h.ended(waits); how.State != core.RunCanceled {
		t.Errorf("what waited: got %s", how.State)
	}
	// Nobody reaches the machine: by force the task goes at once.
	got := must(h.eng.DeleteCBTTask(h.ctx, task.UUID, true))(h)
	if !got.Pending.Zero() {
		t.Errorf("got %q under way", got.Pending.Op)
	}
	h.wantGone("deleted by force", task)
	if _, how := h.ended(forced); !how.Failed() {
		t.Errorf("the disable that was under way: got %+v", how)
	}
	h.reconcile()
	must(h.eng.CreateCBTTask(h.ctx, core.CBTTask{Meta: named("next"), Machines: task.Machines}))(h)
}

func TestForcedDeleteAsksWhomItReaches(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStopped, 3)
	h.reach(task.Machines[1])
	h.worker(core.Worker{ID: "w9", Host: "h9", Types: nil, Resources: task.Machines})
	waits := must(h.eng.DeleteCBTTask(h.ctx, task.UUID, false))(h)
	forced := must(h.eng.DeleteCBTTask(h.ctx, task.UUID, true))(h)
	if forced.Pending.Run == waits.Pending.Run || len(forced.Pending.Orders) != 1 || forced.Pending.Orders[0].Machine != task.Machines[1] {
		t.Fatalf("got the orders %+v", forced.Pending.Orders)
	}
	if again := must(h.eng.DeleteCBTTask(h.ctx, task.UUID, true))(h); again.Pending.Run != forced.Pending.Run {
		t.Error("the same again does not join")
	}
	h.work(obliging)
	h.wantGone("deleted by force", task)
}

func TestRunsOfCBTTasks(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTFailed, 1)
	_, err := h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: core.CBTType, Enabled: true})
	wantInvalid(t, "a job of the reserved type", err, "type")
	_, err = h.eng.CreateGroup(h.ctx, core.Group{Meta: named("g"), Type: core.CBTType})
	wantInvalid(t, "a group of the reserved type", err, "type")
	page := must(h.eng.Runs(h.ctx, core.RunFilter{Kind: core.CBTTarget}))(h)
	if len(page.Runs) != 1 || page.Runs[0].Name != "t" || page.Runs[0].Type != core.CBTType || page.Runs[0].Account != "acc" {
		t.Fatalf("runs: got %+v", page.Runs)
	}
	if others := must(h.eng.Runs(h.ctx, core.RunFilter{Kinds: []core.TargetKind{core.GroupTarget, core.JobTarget}}))(h); len(others.Runs) != 0 {
		t.Errorf("runs of other kinds: got %d", len(others.Runs))
	}
	steps := must(h.eng.Steps(h.ctx, page.Runs[0].ID))(h)
	if steps[0].Name != "enable "+task.Machines[0] || steps[0].Target != task.Machines[0] || steps[0].Job != task.UUID {
		t.Errorf("step: got %+v", steps[0].PlannedStep)
	}
	opened := h.enabled(h.task(1), "").Opened
	for _, row := range []struct {
		caller core.Caller
		shown  bool
	}{{operator, true}, {admin, true}, {viewer, false}} {
		st := must(h.eng.Steps(core.WithCaller(t.Context(), row.caller), opened))(h)[0]
		run := must(h.eng.Run(core.WithCaller(t.Context(), row.caller), opened))(h)
		same := must(h.eng.StepsOf(core.WithCaller(t.Context(), row.caller), []core.StepsOf{{Run: &run, Steps: []int{0}}}, true))(h)[0][0]
		for _, s := range []core.Step{st, same} {
			if (s.Parameters["order"] != "") != row.shown || (s.Attempts[0].Output != "") != row.shown {
				t.Errorf("%s sees the order %q and the answer %q", row.caller.Role, s.Parameters, s.Attempts[0].Output)
			}
		}
	}
	_, err = h.eng.RetryRun(h.ctx, page.Runs[0].ID, "")
	wantKind(t, "retry of a transition", err, core.Conflict)
	_, err = h.eng.RunGroup(h.ctx, task.UUID, "", core.Overlap{})
	wantKind(t, "run of a task as if it were a group", err, core.NotFound)
	h.ok(h.store.Forget(t.Context(), page.Runs[0].ID))
	if got := h.readTask(task); got.Status != core.CBTFailed || got.Last.Run != page.Runs[0].ID {
		t.Errorf("when its run is forgotten: got %+v", got)
	}
}

func TestDetailsOfAForgottenRun(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTRunning, 1)
	h.ok(h.store.Forget(t.Context(), task.Opened))
	if got, err := h.eng.CBTDetails(h.ctx, task); got != nil || err != nil {
		t.Errorf("got %v, %v; want none", got, err)
	}
	_, err := h.eng.CBTDetails(core.WithCaller(t.Context(), stranger), task)
	wantKind(t, "a stranger", err, core.NotFound)
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStarting, 1)
	ctx, cancel := context.WithTimeout(h.ctx, 300*time.Millisecond)
	defer cancel()
	got, how, err := h.eng.AwaitCBT(ctx, task.UUID, task.Pending.Run)
	if !errors.Is(err, context.DeadlineExceeded) || got.Status != core.CBTStarting || !how.Zero() {
		t.Errorf("got %s, %+v, %v", got.Status, how, err)
	}
	if got, how, err := h.eng.AwaitCBT(h.ctx, task.UUID, ""); err != nil || got.UUID != task.UUID || !how.Zero() {
		t.Errorf("without a transition: got %+v, %v", how, err)
	}
	_, _, err = h.eng.AwaitCBT(core.WithCaller(t.Context(), stranger), task.UUID, task.Pending.Run)
	wantKind(t, "a stranger", err, core.NotFound)
}
