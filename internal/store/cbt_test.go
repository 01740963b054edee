package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// task makes a CBT task of n machines.
func (w *world) newTask(name string, n int) core.CBTTask {
	w.Helper()
	t := core.CBTTask{Meta: core.Meta{UUID: w.call(id.New(), name), Account: "acc", Name: name, Created: time.Now().UTC()}, TaskType: "VM"}
	for i := range n {
		t.Machines = append(t.Machines, w.call(id.New(), fmt.Sprint(name, "m", i)))
	}
	w.ok(w.store.CreateCBT(w.Context(), t))
	return w.readTask(t.UUID)
}

func (w *world) readTask(uuid string) core.CBTTask {
	w.Helper()
	t, _, err := w.store.CBT(w.Context(), uuid)
	w.ok(err)
	return t
}

// gone reports whether a task does not exist.
func (w *world) gone(uuid string) bool {
	w.Helper()
	_, _, err := w.store.CBT(w.Context(), uuid)
	if !core.Is(err, core.NotFound) {
		w.ok(err)
	}
	return err != nil
}

// pending makes a transition with one order for each of some machines.
func (w *world) pending(t core.CBTTask, op core.CBTOp, then, otherwise core.CBTStatus, machines ...int) core.CBTPending {
	w.Helper()
	now := w.now().UTC()
	p := core.CBTPending{Op: op, At: now, Request: fmt.Sprint("cbt:", t.UUID, ":", t.Version+1, ":", id.New()), Then: then, Else: otherwise, By: "asker"}
	p.Run, p.Look = w.store.NewRunID(t.UUID, now, p.Request), op == core.CBTCheck
	for _, i := range machines {
		p.Orders = append(p.Orders, cbt.Order{Op: cbt.OpOpen, Task: t.UUID, Machine: t.Machines[i], Record: t.Records[i]})
	}
	return p
}

// settle admits the run of what a task is in, as the engine does.
func (w *world) settle(t core.CBTTask, route func(int) core.Route) []core.Dispatch {
	w.Helper()
	t, since, err := w.store.CBT(w.Context(), t.UUID)
	w.ok(err)
	sends := w.admitPending(t, route)
	w.ok(w.store.SettledCBT(w.Context(), t.UUID, since))
	return sends
}

func (w *world) admitPending(t core.CBTTask, route func(int) core.Route) []core.Dispatch {
	w.Helper()
	p := t.Pending
	a := core.Admission{
		Run:  core.Run{ID: p.Run, Request: p.Request, Target: core.Target{Kind: core.CBTTarget, UUID: t.UUID}, Name: t.Name, Type: core.CBTType},
		Plan: plan(len(p.Orders)), Remember: time.Hour, Keep: time.Millisecond,
	}
	for i := range a.Plan {
		a.Routes = append(a.Routes, route(i))
	}
	return must(w.store.Admit(w.Context(), a))(w).Sends
}

// answered is the outcome of an attempt that answered with a record of that block size.
func answered(block uint64, state core.AttemptState) core.Outcome {
	text, err := cbt.Answer{Record: cbt.Record{Driver: "qemu", Block: block}, Detail: "detail"}.Encode()
	if err != nil {
		panic(err)
	}
	o := core.Outcome{State: state, Output: text, Retry: -1}
	if state != core.AttemptSucceeded {
		o.Reason = "it broke"
	}
	return o
}

func blocks(t core.CBTTask) (out []uint64) {
	for _, r := range t.Records {
		out = append(out, r.Block)
	}
	return out
}

func TestCBTTaskIsKept(t *testing.T) {
	w := newWorld(t, store.Options{})
	a, b := w.newTask("a", 2), w.newTask("b", 1)
	if a.Version != 1 || a.Status != core.CBTCreated || len(a.Records) != 2 || a.Updated.IsZero() {
		t.Errorf("a new task: got %+v", a)
	}
	again := a
	again.Machines = a.Machines[:1]
	if err := w.store.CreateCBT(t.Context(), again); !core.Is(err, core.Exists) {
		t.Errorf("create with a uuid that is taken: got %v, want exists", err)
	}
	stale := b
	b.Name = "b renamed"
	w.ok(w.store.UpdateCBT(t.Context(), b))
	if got := w.readTask(b.UUID); got.Name != "b renamed" || got.Version != 2 {
		t.Errorf("after the change: got %q, version %d", got.Name, got.Version)
	}
	stale.Name = "b otherwise"
	if err := w.store.UpdateCBT(t.Context(), stale); !core.Is(err, core.Stale) {
		t.Errorf("a change to an old version: got %v, want stale", err)
	}
	all := must(w.store.ListCBT(t.Context()))(w)
	names := []string{all[0].Name, all[len(all)-1].Name}
	slices.Sort(names)
	wantEqual(t, "all tasks", append(names, itoa(len(all))), []string{"a", "b renamed", "2"})
	w.ok(w.store.DropCBT(t.Context(), w.readTask(a.UUID)))
	if !w.gone(a.UUID) {
		t.Error("the task was dropped and is there")
	}
	w.ok(w.store.DropCBT(t.Context(), a)) // again
	w.check()
}

// TestCBTRunEnds has the run of a transition end in each way.
func TestCBTRunEnds(t *testing.T) {
	end := func(w *world, ds []core.Dispatch, outcomes ...core.Outcome) {
		for i, o := range outcomes {
			w.begin(ds[i], "w1")
			w.finish(ds[i], "w1", o)
		}
	}
	good, bad := answered(7, core.AttemptSucceeded), answered(8, core.AttemptFailed)
	rows := []struct {
		name   string
		then   core.CBTStatus
		op     core.CBTOp
		do     func(w *world, run string, ds []core.Dispatch)
		status core.CBTStatus
		reason string
		state  core.RunState
		blocks []uint64
	}{
		{"all machines succeed", core.CBTRunning, core.CBTEnable, func(w *world, _ string, ds []core.Dispatch) { end(w, ds, good, good) },
			core.CBTRunning, "", core.RunSucceeded, []uint64{7, 7}},
		{"one fails, having changed something", core.CBTRunning, core.CBTEnable, func(w *world, _ string, ds []core.Dispatch) { end(w, ds, good, bad) },
			core.CBTFailed, "machine am1: it broke", core.RunFailed, []uint64{7, 8}},
		{"it fails without an answer", core.CBTRunning, core.CBTEnable, func(w *world, _ string, ds []core.Dispatch) { end(w, ds, failure(-1), good) },
			core.CBTFailed, "machine am0: it broke", core.RunFailed, []uint64{0, 7}},
		{"the answer was cut within the record", core.CBTRunning, core.CBTEnable, func(w *world, _ string, ds []core.Dispatch) {
			end(w, ds, core.Outcome{State: core.AttemptSucceeded, Output: `{"block":9}`, Retry: -1}, core.Outcome{State: core.AttemptSucceeded, Output: "no record\n{}\n", Retry: -1})
		}, core.CBTRunning, "", core.RunSucceeded, []uint64{0, 0}},
		{"canceled before it began", core.CBTRunning, core.CBTEnable, func(w *world, run string, _ []core.Dispatch) { w.cancel(run, core.RunCanceled) },
			core.CBTFailed, "machine am0: enough", core.RunCanceled, []uint64{0, 0}},
		{"canceled while it ran", core.CBTRunning, core.CBTEnable, func(w *world, run string, ds []core.Dispatch) {
			w.begin(ds[0], "w1")
			w.cancel(run, core.RunCanceled)
			w.finish(ds[0], "w1", answered(5, core.AttemptCanceled))
		}, core.CBTFailed, "machine am0: enough", core.RunCanceled, []uint64{5, 0}},
		{"timed out", core.CBTRunning, core.CBTEnable, func(w *world, run string, _ []core.Dispatch) { w.cancel(run, core.RunTimedOut) },
			core.CBTFailed, "machine am0: enough", core.RunTimedOut, []uint64{0, 0}},
		{"its worker was lost too often", core.CBTRunning, core.CBTEnable, func(w *world, run string, ds []core.Dispatch) {
			end(w, ds[1:], good)
			d := ds[0]
			for range core.MaxLost {
				w.begin(d, "w1")
				if again := w.move(core.MoveLost, d, "w1", queued(0)).Sends; len(again) > 0 {
					d = again[0]
				}
			}
		}, core.CBTFailed, "machine am0: its worker was lost 20 times; the job may be what kills it", core.RunFailed, []uint64{0, 7}},
		{"the record of the attempt before the last one counts, if that has none", core.CBTRunning, core.CBTEnable, func(w *world, _ string, ds []core.Dispatch) {
			first := bad
			first.Retry = time.Hour
			w.begin(ds[0], "w1")
			w.finish(ds[0], "w1", first)
			second := w.move(core.MoveWaiting, ds[0], "", queued(0)).Sends
			end(w, []core.Dispatch{second[0], ds[1]}, failure(-1), good)
		}, core.CBTFailed, "machine am0: it broke", core.RunFailed, []uint64{8, 7}},
		{"a look that a worker answers", core.CBTRunning, core.CBTCheck, func(w *world, _ string, ds []core.Dispatch) { end(w, ds, good, good) },
			core.CBTRunning, "", "", []uint64{7, 7}},
		{"a look that fails", core.CBTRunning, core.CBTCheck, func(w *world, _ string, ds []core.Dispatch) { end(w, ds, bad, good) },
			core.CBTRunning, "", "", []uint64{8, 7}},
		{"a look that times out", core.CBTRunning, core.CBTCheck, func(w *world, run string, _ []core.Dispatch) { w.cancel(run, core.RunTimedOut) },
			core.CBTRunning, "", "", []uint64{0, 0}},
		{"a look that finds the session gone", core.CBTRunning, core.CBTCheck, func(w *world, _ string, ds []core.Dispatch) {
			gone := bad
			gone.ExitCode, gone.Reason = core.CBTGone, "the session is gone"
			end(w, ds, failure(-1), gone)
		}, core.CBTFailed, "machine am1: the session is gone", "", []uint64{0, 8}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{Partitions: 1})
			task := w.newTask("a", 2)
			if row.op == core.CBTCheck {
				w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Status: core.CBTRunning}))
				w.ok(w.store.RestCBT(t.Context(), task.UUID, time.Hour))
				task = w.readTask(task.UUID)
			}
			p := w.pending(task, row.op, row.then, core.CBTFailed, 0, 1)
			w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Pending: p}))
			w.check()
			row.do(w, p.Run, w.settle(task, queued))
			w.check()
			got := w.readTask(task.UUID)
			reason := got.Reason
			for uuid, name := range w.names {
				reason = strings.ReplaceAll(reason, uuid, name)
			}
			if got.Status != row.status || reason != row.reason || !got.Pending.Zero() || got.Last.State != row.state {
				t.Errorf("got %s (%s), pending %q, last %q; want %s (%s), last %q", got.Status, reason, got.Pending.Op, got.Last.State, row.status, row.reason, row.state)
			}
			wantEqual(t, "records", blocks(got), row.blocks)
			if row.op != core.CBTCheck && (got.Last.Run != p.Run || got.Last.By != "asker" || got.Last.Op != p.Op || got.Last.Ended.IsZero() || got.Last.Failed() != (row.reason != "")) {
				t.Errorf("what ended last: got %+v", got.Last)
			}
		})
	}
}

// TestStaleAnswersLeaveATask has workers answer that have lost their step, after the task
// has moved on.
func TestStaleAnswersLeaveATask(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	task := w.newTask("a", 1)
	first := w.pending(task, core.CBTEnable, core.CBTRunning, core.CBTFailed, 0)
	w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Status: core.CBTStarting, Pending: first, Seq: 4, Since: "cbt-x"}))
	ds := w.settle(task, queued)
	w.begin(ds[0], "w1")
	again := w.move(core.MoveLost, ds[0], "w1", queued(0)).Sends
	w.begin(again[0], "w2")
	w.cancel(first.Run, core.RunCanceled)
	w.move(core.MoveLost, again[0], "w2", queued(0))
	task = w.readTask(task.UUID)
	if task.Status != core.CBTFailed || task.Seq != 4 || task.Since != "cbt-x" || task.Opened != first.Run {
		t.Fatalf("after the run was canceled: got %+v", task)
	}
	second := w.pending(task, core.CBTDisable, core.CBTStopped, core.CBTFailed, 0)
	w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Pending: second}))
	now := w.settle(task, queued)
	for _, late := range []core.Dispatch{ds[0], again[0]} {
		w.finish(late, "w1", answered(9, core.AttemptSucceeded))
		w.finish(late, "w2", answered(9, core.AttemptSucceeded))
	}
	if got := w.readTask(task.UUID); got.Pending.Run != second.Run || got.Records[0].Block != 0 {
		t.Errorf("after stale answers: got %+v", got)
	}
	w.begin(now[0], "w2")
	w.finish(now[0], "w2", answered(3, core.AttemptSucceeded))
	w.finish(now[0], "w2", answered(4, core.AttemptSucceeded)) // its reply was lost
	w.finish(ds[0], "w1", answered(9, core.AttemptSucceeded))
	got := w.readTask(task.UUID)
	if got.Status != core.CBTStopped || got.Records[0].Block != 3 || len(got.Past) != 2 {
		t.Errorf("at the end: got %+v", got)
	}
	w.check()
}

// TestABackupKeepsTheLastEnable: it raises the number of checkpoints and nothing else that
// an enable sets. A task that is made Stopped at once has no reason any more.
func TestABackupKeepsTheLastEnable(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	task := w.newTask("a", 1)
	through := func(m core.CBTMove, end core.AttemptState) core.CBTTask {
		t.Helper()
		task = w.readTask(task.UUID)
		w.ok(w.store.MoveCBT(t.Context(), task, m))
		for _, d := range w.settle(task, queued) {
			w.begin(d, "w1")
			w.finish(d, "w1", answered(1, end))
		}
		return w.readTask(task.UUID)
	}
	enable := w.pending(task, core.CBTEnable, core.CBTStopped, core.CBTFailed, 0)
	through(core.CBTMove{Status: core.CBTStarting, Pending: enable, Seq: 3, Since: "cbt-x"}, core.AttemptSucceeded)
	backup := w.pending(w.readTask(task.UUID), core.CBTBackup, core.CBTStopped, core.CBTFailed, 0)
	got := through(core.CBTMove{Status: core.CBTStarting, Pending: backup, Seq: 4}, core.AttemptFailed)
	if got.Seq != 4 || got.Since != "cbt-x" || got.Opened != enable.Run || got.Status != core.CBTFailed || got.Reason == "" {
		t.Errorf("after a backup that failed: got checkpoint %d, since %q, opened %q, %s (%s)", got.Seq, got.Since, got.Opened, got.Status, got.Reason)
	}
	w.ok(w.store.MoveCBT(t.Context(), got, core.CBTMove{Status: core.CBTStopped}))
	if got = w.readTask(task.UUID); got.Reason != "" {
		t.Errorf("made Stopped: got the reason %q", got.Reason)
	}
}

func TestMovesOfACBTTask(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	task := w.newTask("a", 1)
	move := func(t core.CBTTask, m core.CBTMove) error { return w.store.MoveCBT(w.Context(), t, m) }
	look := w.pending(task, core.CBTCheck, core.CBTRunning, core.CBTFailed, 0)
	if err := move(task, core.CBTMove{Pending: look}); !core.Is(err, core.Stale) {
		t.Errorf("a look at a task that is not Running: got %v, want stale", err)
	}
	w.ok(move(task, core.CBTMove{Status: core.CBTRunning}))
	if err := move(task, core.CBTMove{Status: core.CBTStopped}); !core.Is(err, core.Stale) {
		t.Errorf("a move of an old version: got %v, want stale", err)
	}
	w.ok(w.store.RestCBT(t.Context(), task.UUID, time.Hour))
	task = w.readTask(task.UUID)
	w.ok(move(task, core.CBTMove{Pending: look}))
	if got := w.readTask(task.UUID); got.Version != task.Version || !got.Updated.Equal(task.Updated) {
		t.Errorf("a look changes the version: %d became %d", task.Version, got.Version)
	}
	second := w.pending(task, core.CBTCheck, core.CBTRunning, core.CBTFailed, 0)
	if err := move(task, core.CBTMove{Pending: second}); !core.Is(err, core.Stale) {
		t.Errorf("a look beside a look: got %v, want stale", err)
	}
	ds := w.settle(task, queued)
	stop := w.pending(task, core.CBTDisable, core.CBTStopped, core.CBTRunning, 0)
	w.ok(move(task, core.CBTMove{Pending: stop}))
	w.ok(move(task, core.CBTMove{Pending: stop})) // the reply to the first was lost
	w.check()
	w.begin(ds[0], "w1")
	gone := answered(9, core.AttemptFailed)
	gone.ExitCode = core.CBTGone
	w.finish(ds[0], "w1", gone)
	got := w.readTask(task.UUID)
	if got.Status != core.CBTRunning || got.Pending.Run != stop.Run || got.Records[0].Block != 0 {
		t.Errorf("the end of a look that gave way counts: got %+v", got)
	}
	other := w.pending(got, core.CBTForget, core.CBTRunning, core.CBTRunning, 0)
	if err := move(got, core.CBTMove{Pending: other}); !core.Is(err, core.Stale) {
		t.Errorf("a transition beside a transition: got %v, want stale", err)
	}
	if err := w.store.DropCBT(t.Context(), got); !core.Is(err, core.Stale) {
		t.Errorf("dropped during a transition: got %v, want stale", err)
	}
	ds = w.settle(task, parked)
	w.cancel(stop.Run, core.RunTimedOut)
	got = w.readTask(task.UUID)
	w.ok(move(task, core.CBTMove{Pending: stop})) // that reply again, long after
	if now := w.readTask(task.UUID); !now.Pending.Zero() || got.Status != core.CBTRunning || got.Reason != "enough" || len(ds) != 0 {
		t.Errorf("a disable that failed: got %+v", now)
	}
	w.check()
	if err := move(core.CBTTask{Meta: core.Meta{UUID: id.New(), Version: 3}}, core.CBTMove{Status: core.CBTStopped}); !core.Is(err, core.NotFound) {
		t.Errorf("a move of no task: got %v, want not found", err)
	}
}

func TestADeletedTaskLeavesItsClaimsToTheOutbox(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	task := w.newTask("a", 2)
	for _, m := range task.Machines {
		if holder := must(w.store.ClaimMachine(t.Context(), task.UUID, m))(w); holder != task.UUID {
			t.Fatalf("claim: got holder %s", holder)
		}
		w.ok(w.store.SettleCBTClaim(t.Context(), task.UUID, m))
	}
	p := w.pending(task, core.CBTDelete, "", core.CBTFailed, 0, 1)
	w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Pending: p}))
	ds := w.settle(task, queued)
	w.begin(ds[0], "w1")
	w.finish(ds[0], "w1", answered(0, core.AttemptSucceeded))
	if w.gone(task.UUID) {
		t.Fatal("the task is gone with a machine to go")
	}
	w.begin(ds[1], "w1")
	w.wantChanges("the last machine is done", func() { w.finish(ds[1], "w1", answered(0, core.AttemptSucceeded)) }, w.deletion(task, p.Run)...)
	for _, m := range task.Machines {
		w.ok(w.store.SettleCBTClaim(t.Context(), task.UUID, m))
	}
	if keys := w.keysLike(":cbtvm"); len(keys) != 0 {
		t.Errorf("claims are left: %q", keys)
	}
	if keys := w.keysLike(":outbox"); len(keys) != 0 {
		t.Errorf("effects are left: %q", keys)
	}
}

// deletion gives the changes that the end of a task's last step makes, of two.
func (w *world) deletion(task core.CBTTask, run string) []string {
	w.Helper()
	w.call(run, "R")
	var out []string
	for _, line := range w.lines() {
		if strings.HasPrefix(line, "cbt:"+w.names[task.UUID]+" ") || strings.HasPrefix(line, "cbts ") {
			out = append(out, "- "+line)
		}
	}
	for _, name := range []string{"am0", "am1"} {
		out = append(out, "+ outbox cbtvm|a|"+name)
	}
	return append(out, "- act:a R", "- live R:1:1-F w1|T", "- run:R cur 2", "- run:R cs 1", "- run:R go 1", "- run:R s1 r|1|F|1|0|0|default|w1|T|0|0|",
		"- run:R st r", "+ count run.s 1", "+ count step.s 2", "- count step.s 1", "+ out:R 1.1 "+answered(0, core.AttemptSucceeded).Output, "+ run:R cs 2",
		"+ run:R s1 s|1|F|1|0|0|default|w1|T|T|0|", "+ run:R st s", "+ run:R t1 T", "+ timers forget|R")
}

func TestMachinesAreClaimedOnce(t *testing.T) {
	w := newWorld(t, store.Options{})
	a, machine := w.newTask("a", 1), ""
	machine = a.Machines[0]
	other, nobody := id.New(), id.New()
	claim := func(task string) string { return must(w.store.ClaimMachine(t.Context(), task, machine))(w) }
	age := func(task string, by time.Duration) {
		home := fmt.Sprintf("takt:{p:%d}:cbtvm", id.Partition(machine, 16))
		w.rdb.HSet(t.Context(), home, machine, fmt.Sprint(task, "|", w.now().Add(-by).UnixMilli()))
	}
	if got := claim(nobody); got != nobody {
		t.Fatalf("the first claim: got %s", got)
	}
	if got := claim(other); got != nobody {
		t.Errorf("a task may yet be made, and its claim is void: got %s", got)
	}
	w.ok(w.store.SettleCBTClaim(t.Context(), nobody, machine))
	if got := claim(other); got != nobody {
		t.Errorf("a young claim was released: got %s", got)
	}
	age(nobody, core.CBTClaimVoid+time.Second)
	if got := claim(a.UUID); got != a.UUID {
		t.Errorf("an old claim of no task stands: got %s", got)
	}
	age(a.UUID, time.Hour)
	if got := claim(other); got != a.UUID {
		t.Errorf("the claim of a task that exists is void: got %s", got)
	}
	w.ok(w.store.UnclaimMachine(t.Context(), other, machine))
	w.ok(w.store.SettleCBTClaim(t.Context(), a.UUID, machine))
	w.ok(w.store.UnclaimMachine(t.Context(), a.UUID, machine))
	if got := must(w.store.CBTOf(t.Context(), machine))(w); got != a.UUID {
		t.Errorf("a confirmed claim was given back: got %q", got)
	}
	w.ok(w.store.DropCBT(t.Context(), a))
	if got := claim(other); got != other {
		t.Errorf("the claim of a deleted task stands: got %s", got)
	}
	w.ok(w.store.UnclaimMachine(t.Context(), other, machine))
	if got := must(w.store.CBTOf(t.Context(), machine))(w); got != "" {
		t.Errorf("what was given back is claimed by %s", got)
	}
	claim(nobody)
	age(nobody, core.CBTClaimVoid+time.Second)
	w.ok(w.store.SettleCBTClaim(t.Context(), nobody, machine))
	if got := must(w.store.CBTOf(t.Context(), machine))(w); got != "" {
		t.Errorf("the claim of a task that was never made stands: %s", got)
	}
	b := w.newTask("b", 1) // exists, and does not have the machine
	claim(b.UUID)
	age(b.UUID, core.CBTClaimVoid+time.Second)
	if got := claim(other); got != other {
		t.Errorf("the claim of a task without the machine stands: got %s", got)
	}
}

func TestThePastOfATaskIsBounded(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	task := w.newTask("a", 1)
	var want []string
	for range core.MaxPast + 3 {
		task = w.readTask(task.UUID)
		p := w.pending(task, core.CBTForget, core.CBTCreated, core.CBTCreated, 0)
		w.ok(w.store.MoveCBT(t.Context(), task, core.CBTMove{Pending: p}))
		w.settle(task, queued)
		w.drive(p.Run)
		want = append([]string{p.Run}, want...)
	}
	var got []string
	for _, p := range w.readTask(task.UUID).Past {
		got = append(got, p.Run)
	}
	wantEqual(t, "the latest transitions, the last first", got, want[:core.MaxPast])
}
