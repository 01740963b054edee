package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// A model does to a store whatever processes may do to it, in any order, with
// repeats of what was done long ago: messages that come twice, timers that fire
// again, workers that come back from the dead.
type model struct {
	*world
	rnd        *rand.Rand
	targets    []core.Target
	admissions []core.Admission
	runs       []string
	dispatches []core.Dispatch
	finished   map[string]core.StepState // by step: the end that was recorded
	attempts   map[string]int            // by step: attempts begun
	company    *company
}

// TestAnyOrder is that model. Its invariants are those of world.check, and:
// a request is one run, a step that has ended is never begun again and never
// ends otherwise, two workers never hold one dispatch.
func TestAnyOrder(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, store.Options{Partitions: 1, RunRetention: time.Millisecond})
			m := &model{
				world: w, rnd: rand.New(rand.NewPCG(seed, 7)),
				finished: map[string]core.StepState{}, attempts: map[string]int{},
			}
			m.company = w.company()
			for i := range 3 {
				m.targets = append(m.targets, w.group(fmt.Sprint("G", i)))
			}
			for n := range 400 {
				name := m.step()
				if w.check(); t.Failed() {
					t.Fatalf("after operation %d, %s", n, name)
				}
			}
			m.end()
		})
	}
}

func (m *model) step() string {
	m.Helper()
	operations := []struct {
		weight int
		name   string
		do     func()
	}{
		{10, "admit", m.admit}, {3, "admit again", m.admitAgain}, {5, "expand", m.expandAny}, {25, "begin", m.beginAny}, {30, "finish", m.finishAny}, {12, "begin and finish together", m.together},
		{10, "wait", func() { m.moveAny(core.MoveWaiting) }}, {6, "sent", func() { m.moveAny(core.MoveSent) }},
		{6, "lost", func() { m.moveAny(core.MoveLost) }}, {4, "released", func() { m.moveAny(core.MoveReleased) }},
		{4, "cancel", m.cancelAny}, {3, "forget", m.forgetAny}, {2, "unpark", m.unpark},
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

func (m *model) route(int) core.Route {
	if m.rnd.IntN(4) == 0 {
		return core.Route{Wait: "no|worker"}
	}
	return core.Route{Queue: "default"}
}

func (m *model) keep(e core.Effects) {
	m.dispatches = append(m.dispatches, e.Sends...)
	for _, run := range e.Expand {
		if m.rnd.IntN(2) == 0 { // or its process died, and the reconciler does it
			m.dispatches = append(m.dispatches, m.expand(run)...)
		}
	}
}

func (m *model) admit() {
	m.Helper()
	policies := []core.OverlapPolicy{
		core.OverlapAllow, core.OverlapSkip, core.OverlapBufferOne, core.OverlapBufferAll, core.OverlapCancel, core.OverlapSkipSteps,
	}
	a := m.admission(fmt.Sprint("run ", len(m.admissions)), m.targets[m.rnd.IntN(3)], 1+m.rnd.IntN(4), policies[m.rnd.IntN(len(policies))], m.route)
	if m.rnd.IntN(3) == 0 {
		a.Routes = a.Routes[:1] // the rest is expanded later
	}
	if m.rnd.IntN(3) == 0 {
		a.Timeout = time.Hour
	}
	a.Run.Trigger = []string{"", "tr"}[m.rnd.IntN(2)]
	m.admissions = append(m.admissions, a)
	got := must(m.store.Admit(m.Context(), a))(m.world)
	if got.Run != "" {
		m.runs = append(m.runs, got.Run)
	}
	m.keep(got.Effects)
}

func (m *model) admitAgain() {
	m.Helper()
	if len(m.admissions) == 0 {
		return
	}
	a := m.admissions[m.rnd.IntN(len(m.admissions))]
	before := m.rdb.DBSize(m.Context()).Val()
	if got := must(m.store.Admit(m.Context(), a))(m.world); !got.Again || len(got.Sends)+len(got.Stops)+len(got.Expand) != 0 {
		m.Errorf("%s, admitted again: got %+v", a.Run.Name, got)
	}
	if after := m.rdb.DBSize(m.Context()).Val(); after != before {
		m.Errorf("%s, admitted again: %d keys became %d", a.Run.Name, before, after)
	}
}

func (m *model) anyRun() string {
	if len(m.runs) == 0 {
		return m.store.NewRunID(m.targets[0].UUID, time.Now(), "none")
	}
	return m.runs[m.rnd.IntN(len(m.runs))]
}

// anyDispatch prefers late ones, so that most operations bite.
func (m *model) anyDispatch() core.Dispatch {
	n := len(m.dispatches)
	if n == 0 {
		return core.Dispatch{Run: m.anyRun(), Fence: core.Fence{Counter: 1, Random: "0"}}
	}
	if m.rnd.IntN(3) > 0 {
		return m.dispatches[max(0, n-1-m.rnd.IntN(8))]
	}
	return m.dispatches[m.rnd.IntN(n)]
}

func (m *model) worker() string { return fmt.Sprint("w", m.rnd.IntN(2)) }

func (m *model) expandAny() {
	m.Helper()
	run := m.anyRun()
	p, made, started, err := m.store.Plan(m.Context(), run)
	if core.Is(err, core.NotFound) || !started || made >= len(p) {
		return
	}
	m.ok(err)
	routes := []core.Route{m.route(0)}
	for range 2 { // the second comes too late
		m.keep(must(m.store.Expand(m.Context(), run, p, made, routes))(m.world))
	}
}

func (m *model) beginAny() {
	m.Helper()
	b := &beginning{d: m.anyDispatch(), worker: m.worker()}
	b.got, b.err = m.store.Begin(m.Context(), b.d, b.worker)
	m.begun(b)
}

func (m *model) begun(b *beginning) {
	m.Helper()
	if core.Is(b.err, core.Stale) {
		return
	}
	m.ok(b.err)
	key, attempt := b.d.Key(), b.got.Attempt
	if end, over := m.finished[key]; over {
		m.Errorf("step %s was begun after it had ended as %s", key, end)
	}
	if was := m.attempts[key]; attempt < was || attempt > was+1 {
		m.Errorf("step %s: attempt %d follows attempt %d", key, attempt, was)
	}
	m.attempts[key] = attempt
}

func (m *model) anyEnding() *ending {
	o := core.Outcome{
		State:  []core.AttemptState{core.AttemptSucceeded, core.AttemptFailed, core.AttemptTimedOut, core.AttemptCanceled}[m.rnd.IntN(4)],
		Reason: "a|b\n", Output: "out", Retry: -1,
	}
	if m.rnd.IntN(2) == 0 {
		o.Retry = time.Hour
	}
	return &ending{d: m.anyDispatch(), worker: m.worker(), o: o}
}

func (m *model) finishAny() {
	m.Helper()
	e := m.anyEnding()
	e.got = m.finish(e.d, e.worker, e.o)
	m.ended(e)
}

func (m *model) ended(e *ending) {
	m.Helper()
	m.keep(e.got.Effects)
	m.recorded(e.d.Key(), e.got.Step)
}

// together has several attempts begun in one call and several ended in another, at
// the same time, repeats among them. A run that ends, and one that it lets start,
// is told once.
func (m *model) together() {
	m.Helper()
	var begins []*beginning
	var ends []*ending
	for range 2 + m.rnd.IntN(4) {
		b := &beginning{d: m.anyDispatch(), worker: m.worker()}
		e := m.anyEnding()
		begins, ends = append(begins, b), append(ends, e)
		if m.rnd.IntN(3) == 0 {
			again, same := *b, *e
			begins, ends = append(begins, &again), append(ends, &same)
		}
	}
	m.company.together(append(beginAll(m.world, begins), finishAll(m.world, ends)...)...)
	m.company.wantCalls(2)
	begunBy := map[string]string{}
	for _, b := range begins {
		if b.err == nil && begunBy[b.d.ID()] != "" && begunBy[b.d.ID()] != b.worker {
			m.Errorf("dispatch %s was begun by %s and %s", b.d.ID(), begunBy[b.d.ID()], b.worker)
		}
		if b.err == nil {
			begunBy[b.d.ID()] = b.worker
		}
		m.begun(b)
	}
	told := map[string]bool{}
	for _, e := range ends {
		m.ok(e.err)
		for _, what := range append(slices.Clone(e.got.Expand), string(e.got.Run)+" "+e.d.Run) {
			if told[what] && what != " "+e.d.Run {
				m.Errorf("told twice: %s", what)
			}
			told[what] = true
		}
		m.ended(e)
	}
}

// recorded notes what was said of a step, and that an end stands.
func (m *model) recorded(key string, state core.StepState) {
	m.Helper()
	end, over := m.finished[key]
	if over && state != "" && state != end {
		m.Errorf("step %s ended as %s and then as %s", key, end, state)
	}
	if state.Ended() && state != "" {
		m.finished[key] = state
	}
}

func (m *model) moveAny(why core.MoveReason) {
	m.Helper()
	d := m.anyDispatch()
	if why == core.MoveWaiting {
		d.Fence.Random = "0" // a timer knows the counter only
	}
	m.keep(m.move(why, d, m.worker(), m.route(0)))
}

func (m *model) unpark() {
	m.Helper()
	for _, d := range must(m.store.Parked(m.Context(), 0))(m.world) {
		m.keep(m.move(core.MoveWaiting, d, "", m.route(0)))
	}
}

func (m *model) cancelAny() {
	m.Helper()
	end := []core.RunState{core.RunCanceled, core.RunTimedOut}[m.rnd.IntN(2)]
	_, eff, err := m.store.Cancel(m.Context(), m.anyRun(), "enough|\n", end)
	if !core.Is(err, core.NotFound) {
		m.ok(err)
	}
	m.keep(eff)
}

// forgetAny forgets a run; one that is under way stays.
func (m *model) forgetAny() {
	m.Helper()
	m.ok(m.store.Forget(m.Context(), m.anyRun()))
}

// end drives every run to its end and checks that nothing is left under way.
func (m *model) end() {
	m.Helper()
	// A buffered run starts when the one before it ends, so one round may not do.
	for range len(m.runs) + 1 {
		for _, run := range m.runs {
			if _, _, started, err := m.store.Plan(m.Context(), run); err == nil && started {
				m.drive(run)
			}
		}
	}
	m.check()
	for _, run := range m.runs {
		if r, err := m.store.Run(m.Context(), run); err == nil && (!r.State.Ended() || r.Counts.Open() != 0) {
			m.Errorf("run %s: got %s, %+v", r.Name, r.State, r.Counts)
		}
		m.ok(m.store.Forget(m.Context(), run))
	}
	m.check()
	for _, part := range []string{":run:", ":out:", ":act:", ":buf:", ":busy:", ":plan:", ":sent", ":parked", ":live", ":timers", ":outbox", ":runs"} {
		if keys := m.keysLike(part); len(keys) != 0 {
			m.Errorf("when every run is forgotten: got the keys %q", keys)
		}
	}
	if home := id.Partition(m.targets[0].UUID, 1); len(must(m.store.Live(m.Context(), home))(m.world)) != 0 {
		m.Error("attempts are under way when every run is forgotten")
	}
}
