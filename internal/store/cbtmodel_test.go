package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// A cbtModel does to CBT tasks and their runs whatever processes may do to them, in any
// order: each write of a transition may be the last of its process, be repeated, or come
// long after; workers answer for steps that are not theirs any more.
type cbtModel struct {
	*world
	rnd        *rand.Rand
	tasks      []core.CBTTask // as they were read last, mostly out of date
	moves      []core.CBTMove // that were asked for, and of which task
	of         []core.CBTTask
	dispatches []core.Dispatch
	block      uint64
}

// TestAnyOrderOfCBT is that model. Its invariants are those of world.check, and what
// judge says: the end of the run of a transition is applied once and as a whole, and no
// other run's is.
func TestAnyOrderOfCBT(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, store.Options{Partitions: 1, RunRetention: time.Hour})
			m := &cbtModel{world: w, rnd: rand.New(rand.NewPCG(seed, 11))}
			for i := range 3 {
				m.tasks = append(m.tasks, w.newTask(fmt.Sprint("T", i), 1+i))
			}
			for n := range 400 {
				before := m.read()
				name := m.step()
				m.judge(before)
				if w.check(); t.Failed() {
					t.Fatalf("after operation %d, %s", n, name)
				}
			}
		})
	}
}

func (m *cbtModel) step() string {
	m.Helper()
	operations := []struct {
		weight int
		name   string
		do     func()
	}{
		{10, "read", m.refresh}, {20, "move", m.move}, {5, "move again", m.moveAgain}, {25, "settle", m.settleAny}, {25, "begin", m.beginAny},
		{35, "finish", m.finishAny}, {8, "lost", m.loseAny}, {6, "cancel", m.cancelAny}, {4, "rest", m.rest}, {2, "drop", m.drop}, {3, "make anew", m.makeAnew},
	}
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	pick := m.rnd.IntN(total)
	for _, o := range operations {
		if pick -= o.weight; pick < 0 {
			o.do()
			return o.name
		}
	}
	return ""
}

// read gives all tasks as they are.
func (m *cbtModel) read() map[string]core.CBTTask {
	m.Helper()
	out := map[string]core.CBTTask{}
	for _, t := range must(m.store.ListCBT(m.Context()))(m.world) {
		out[t.UUID] = t
	}
	return out
}

func (m *cbtModel) any() *core.CBTTask { return &m.tasks[m.rnd.IntN(len(m.tasks))] }

func (m *cbtModel) refresh() {
	m.Helper()
	t := m.any()
	if !m.gone(t.UUID) {
		*t = m.readTask(t.UUID)
	}
}

func (m *cbtModel) move() {
	m.Helper()
	if m.rnd.IntN(3) > 0 {
		m.refresh()
	}
	t := *m.any()
	statuses := []core.CBTStatus{core.CBTRunning, core.CBTStopped, core.CBTFailed}
	ops := []core.CBTOp{core.CBTEnable, core.CBTEnable, core.CBTBackup, core.CBTDisable, core.CBTForget, core.CBTCheck, core.CBTCheck, core.CBTDelete}
	op := ops[m.rnd.IntN(len(ops))]
	then := statuses[m.rnd.IntN(3)]
	switch op {
	case core.CBTDelete:
		then = ""
	case core.CBTEnable, core.CBTCheck:
		then = core.CBTRunning
	}
	machines := []int{}
	for i := range t.Machines {
		if i == 0 || m.rnd.IntN(2) == 0 {
			machines = append(machines, i)
		}
	}
	slices.Reverse(machines)
	v := core.CBTMove{Pending: m.pending(t, op, then, core.CBTFailed, machines...)}
	switch {
	case op == core.CBTEnable, op == core.CBTBackup:
		v.Status, v.Seq = core.CBTStarting, t.Seq+1
	case op == core.CBTDisable && m.rnd.IntN(2) == 0: // by force
		v.Status, v.Pending.Behind, v.Pending.Then, v.Pending.Else = core.CBTStopped, true, core.CBTStopped, core.CBTStopped
	}
	m.moves, m.of = append(m.moves, v), append(m.of, t)
	m.ask(len(m.moves) - 1)
}

func (m *cbtModel) ask(k int) {
	m.Helper()
	if err := m.store.MoveCBT(m.Context(), m.of[k], m.moves[k]); !core.Is(err, core.Stale) && !core.Is(err, core.NotFound) {
		m.ok(err)
	}
}

func (m *cbtModel) moveAgain() {
	m.Helper()
	if len(m.moves) > 0 {
		m.ask(max(0, len(m.moves)-1-m.rnd.IntN(4)))
	}
}

func (m *cbtModel) settleAny() {
	m.Helper()
	t := m.any()
	if m.gone(t.UUID) || m.readTask(t.UUID).Pending.Zero() {
		return
	}
	route := queued
	if m.rnd.IntN(5) == 0 {
		route = parked
	}
	settle := m.settle
	if m.rnd.IntN(3) == 0 { // its process dies before it confirms
		settle = func(t core.CBTTask, route func(int) core.Route) []core.Dispatch {
			return m.admitPending(m.readTask(t.UUID), route)
		}
	}
	m.dispatches = append(m.dispatches, settle(*t, route)...)
}

func (m *cbtModel) anyDispatch() core.Dispatch {
	n := len(m.dispatches)
	if n == 0 {
		return core.Dispatch{Run: m.store.NewRunID(m.tasks[0].UUID, m.now(), "none"), Fence: core.Fence{Counter: 1, Random: "0"}}
	}
	if m.rnd.IntN(4) > 0 {
		return m.dispatches[max(0, n-1-m.rnd.IntN(5))]
	}
	return m.dispatches[m.rnd.IntN(n)]
}

func (m *cbtModel) worker() string { return fmt.Sprint("w", m.rnd.IntN(2)) }

func (m *cbtModel) beginAny() {
	m.Helper()
	if _, err := m.store.Begin(m.Context(), m.anyDispatch(), m.worker()); !core.Is(err, core.Stale) {
		m.ok(err)
	}
}

// finishAny has each answer differ, so that a record tells which one it is of.
func (m *cbtModel) finishAny() {
	m.Helper()
	states := []core.AttemptState{core.AttemptSucceeded, core.AttemptSucceeded, core.AttemptSucceeded, core.AttemptFailed, core.AttemptTimedOut, core.AttemptCanceled}
	m.block++
	o := answered(m.block, states[m.rnd.IntN(len(states))])
	switch m.rnd.IntN(6) {
	case 0:
		o.Output = ""
	case 1:
		o.Output = "no record\n" + o.Output
	case 2:
		o.ExitCode = core.CBTGone
	}
	m.finish(m.anyDispatch(), m.worker(), o)
}

func (m *cbtModel) loseAny() {
	m.Helper()
	m.dispatches = append(m.dispatches, m.world.move(core.MoveLost, m.anyDispatch(), m.worker(), queued(0)).Sends...)
}

func (m *cbtModel) cancelAny() {
	m.Helper()
	end := []core.RunState{core.RunCanceled, core.RunTimedOut}[m.rnd.IntN(2)]
	if _, _, err := m.store.Cancel(m.Context(), m.anyDispatch().Run, "enough \"|\" \\", end); !core.Is(err, core.NotFound) {
		m.ok(err)
	}
}

func (m *cbtModel) rest() { m.ok(m.store.RestCBT(m.Context(), m.any().UUID, time.Hour)) }

func (m *cbtModel) drop() {
	m.Helper()
	if err := m.store.DropCBT(m.Context(), *m.any()); !core.Is(err, core.Stale) {
		m.ok(err)
	}
}

func (m *cbtModel) makeAnew() {
	m.Helper()
	t := m.any()
	if !m.gone(t.UUID) {
		return
	}
	made := *t
	made.Created = m.now()
	m.ok(m.store.CreateCBT(m.Context(), made))
}

// judge compares the tasks with what they were one operation ago.
func (m *cbtModel) judge(before map[string]core.CBTTask) {
	m.Helper()
	now := m.read()
	for uuid, was := range before {
		is, exists := now[uuid]
		p := was.Pending
		ended := !p.Zero() && !m.gone(uuid) && is.Pending.Run != p.Run
		if exists && is.Version < was.Version {
			m.Errorf("%s: version %d became %d", was.Name, was.Version, is.Version)
		}
		if !exists && !p.Zero() && !p.Look {
			m.wantEnd(p, core.RunSucceeded)
			if p.Then != "" {
				m.Errorf("%s: it was deleted by the end of %s", was.Name, p.Op)
			}
		}
		switch {
		case !exists:
		case ended && is.Pending.Zero() && m.runEnded(p.Run):
			m.judgeEnd(was, is, p)
		case ended && !p.Look:
			m.Errorf("%s: %s did not end and is not pending", was.Name, p.Op)
		default:
			wantEqual(m.T, was.Name+": records that no end has changed", is.Records, was.Records)
			wantEqual(m.T, was.Name+": past that no end has changed", is.Past, was.Past)
		}
	}
}

func (m *cbtModel) runEnded(run string) bool {
	r, err := m.store.Run(m.Context(), run)
	return err == nil && r.State.Ended()
}

func (m *cbtModel) wantEnd(p core.CBTPending, want core.RunState) {
	m.Helper()
	if r := m.run(p.Run); r.State != want {
		m.Errorf("%s ended, its run is %s, want %s", p.Op, r.State, want)
	}
}

// judgeEnd works out from the run's steps what its end must have made of the task.
func (m *cbtModel) judgeEnd(was, is core.CBTTask, p core.CBTPending) {
	m.Helper()
	run := m.run(p.Run)
	want, status := slices.Clone(was.Records), p.Then
	if run.State != core.RunSucceeded {
		status = p.Else
	}
	gone := false
	for k, st := range m.steps(p.Run) {
		gone = gone || st.State == core.StepFailed && st.Attempts[len(st.Attempts)-1].ExitCode == core.CBTGone
		for _, a := range st.Attempts {
			if record, _, err := cbt.ReadAnswer(a.Output); err == nil {
				want[was.Machine(p.Orders[k].Machine)] = record
			}
		}
	}
	if p.Look && !gone {
		status = was.Status
	}
	if is.Status != status {
		m.Errorf("%s: after %s, whose run is %s, it is %s, want %s", was.Name, p.Op, run.State, is.Status, status)
	}
	if is.Status == core.CBTFailed && is.Reason == "" && run.State != core.RunSucceeded {
		m.Errorf("%s: it is Failed without a reason", was.Name)
	}
	wantEqual(m.T, was.Name+": records after "+string(p.Op), is.Records, want)
	if p.Look {
		wantEqual(m.T, was.Name+": past after a look", is.Past, was.Past)
		return
	}
	if len(is.Past) != min(len(was.Past)+1, core.MaxPast) || is.Last.Run != p.Run || is.Last.State != run.State {
		m.Errorf("%s: past after %s: got %d entries and the last %+v", was.Name, p.Op, len(is.Past), is.Last)
	}
	if run.State != core.RunSucceeded && !strings.Contains(is.Last.Reason, is.Reason) {
		m.Errorf("%s: got the reason %q, and %q of what ended last", was.Name, is.Reason, is.Last.Reason)
	}
}
