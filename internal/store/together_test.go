package store_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// A gate holds up what goes to Redis about one run, so that what others want of the
// same script gathers meanwhile.
type gate struct {
	run              string
	entered, release chan struct{}

	mu    sync.Mutex
	armed int // so many are yet to be held
	calls int // scripts that passed
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if g.holds(cmds) {
			g.entered <- struct{}{}
			<-g.release
		}
		return next(ctx, cmds)
	}
}

func (g *gate) holds(cmds []redis.Cmder) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls += len(cmds)
	if g.armed == 0 || !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return slices.Contains(cmd.Args(), any(g.run)) }) {
		return false
	}
	g.armed--
	return true
}

// A queueing context tells when it is first waited for: whoever has it stands in
// the queue by then.
type queueing struct {
	context.Context
	once sync.Once
	told chan struct{}
}

func (q *queueing) Done() <-chan struct{} {
	q.once.Do(func() { close(q.told) })
	return q.Context.Done()
}

// A company does Begins and Finishes together: each kind in one call.
type company struct {
	w    *world
	gate *gate
}

func (w *world) company() *company {
	w.Helper()
	run := w.store.NewRunID(id.New(), time.Now(), "held")
	c := &company{w: w, gate: &gate{run: run, entered: make(chan struct{}), release: make(chan struct{})}}
	w.rdb.AddHook(c.gate)
	for _, do := range c.held() {
		do() // Redis knows the scripts from here on
	}
	return c
}

// held puts on either wire something that changes nothing.
func (c *company) held() []func() {
	d := core.Dispatch{Run: c.gate.run, Fence: core.Fence{Counter: 1, Random: "0"}}
	return []func(){
		func() { _, _ = c.w.store.Begin(context.Background(), d, "nobody") },
		func() { _, _ = c.w.store.Finish(context.Background(), d, "nobody", success) },
	}
}

// together does all of it at a time, and returns when all have their answers. What
// stands first goes last, the others in turn.
func (c *company) together(all ...func(context.Context)) {
	c.w.Helper()
	c.gate.armed = 2
	var wg sync.WaitGroup
	for _, do := range c.held() {
		wg.Go(do)
		<-c.gate.entered
	}
	for _, do := range all {
		q := &queueing{Context: c.w.Context(), told: make(chan struct{})}
		wg.Go(func() { do(q) })
		<-q.told
	}
	c.gate.calls = 0
	c.gate.release <- struct{}{}
	c.gate.release <- struct{}{}
	wg.Wait()
}

// wantCalls checks how many calls the last company needed.
func (c *company) wantCalls(want int) {
	c.w.Helper()
	if c.gate.calls != want {
		c.w.Errorf("%d calls were made, want %d", c.gate.calls, want)
	}
}

// A beginning is a Begin to be done, and its answer.
type beginning struct {
	d      core.Dispatch
	worker string
	got    core.Begun
	err    error
}

func (c *company) begin(all ...*beginning) {
	c.w.Helper()
	c.together(beginAll(c.w, all)...)
}

func beginAll(w *world, all []*beginning) []func(context.Context) {
	var do []func(context.Context)
	for _, b := range all {
		do = append(do, func(ctx context.Context) { b.got, b.err = w.store.Begin(ctx, b.d, b.worker) })
	}
	return do
}

// An ending is a Finish to be done, and its answer.
type ending struct {
	d      core.Dispatch
	worker string
	o      core.Outcome
	got    core.Finished
	err    error
}

func (c *company) finish(all ...*ending) {
	c.w.Helper()
	c.together(finishAll(c.w, all)...)
	for _, e := range all {
		c.w.ok(e.err)
	}
}

func finishAll(w *world, all []*ending) []func(context.Context) {
	var do []func(context.Context)
	for _, e := range all {
		do = append(do, func(ctx context.Context) { e.got, e.err = w.store.Finish(ctx, e.d, e.worker, e.o) })
	}
	return do
}

// outcomes are what the steps of TestTogetherIsAsOneByOne come to, by their number.
var outcomes = []core.Outcome{
	success, failure(-1), failure(time.Hour), {State: core.AttemptTimedOut, Reason: "slow", Retry: -1},
	{State: core.AttemptSucceeded, Output: "out|put\n", Reason: "fine", Retry: -1}, {State: core.AttemptCanceled, Retry: -1},
	{State: core.AttemptTimedOut, Reason: "a|b\nc", Retry: 0},
}

// Many steps of several runs of one partition, one of which is being canceled and
// one of which keeps jobs busy, leave the same rows in one call as one by one.
func TestTogetherIsAsOneByOne(t *testing.T) {
	left := map[string][]string{}
	answers := map[string][]string{}
	var mu sync.Mutex
	t.Run("both", func(t *testing.T) {
		for _, way := range []string{"one by one", "together"} {
			t.Run(way, func(t *testing.T) {
				w := newWorld(t, store.Options{Partitions: 1})
				told := manyAttempts(w, way == "together")
				mu.Lock()
				defer mu.Unlock()
				left[way], answers[way] = w.lines(), told
			})
		}
	})
	wantEqual(t, "rows", left["together"], left["one by one"])
	wantEqual(t, "answers", answers["together"], answers["one by one"])
	if len(left["together"]) < 50 {
		t.Errorf("only %d lines are compared", len(left["together"]))
	}
}

func manyAttempts(w *world, folded bool) (told []string) {
	w.Helper()
	var ds []core.Dispatch
	for i, policy := range []core.OverlapPolicy{core.OverlapAllow, core.OverlapAllow, core.OverlapSkipSteps, core.OverlapBufferAll} {
		_, sends := w.start(fmt.Sprint("run", i, "."), w.group(fmt.Sprint("group", i, ".")), 7, policy)
		ds = append(ds, sends...)
	}
	waits := must(w.store.Admit(w.Context(), w.admission("waits", core.Target{Kind: core.GroupTarget, UUID: w.idOf("group3.")}, 1, core.OverlapBufferAll, queued)))(w)
	var begins []*beginning
	var ends []*ending
	for i, d := range ds {
		o := outcomes[i%len(outcomes)]
		if i >= 21 {
			o = success
		}
		worker := fmt.Sprint("w", i%3)
		begins = append(begins, &beginning{d: d, worker: worker})
		ends = append(ends, &ending{d: d, worker: worker, o: o})
		if i%5 == 0 { // again, by the same and by another worker
			begins = append(begins, &beginning{d: d, worker: worker}, &beginning{d: d, worker: "other"})
			ends = append(ends, &ending{d: d, worker: worker, o: o}, &ending{d: d, worker: "other", o: success})
		}
	}
	var c *company
	if folded {
		c = w.company()
		c.begin(lastFirst(begins)...)
		c.wantCalls(1)
	} else {
		for _, do := range beginAll(w, begins) {
			do(w.Context())
		}
	}
	w.check()
	_, _, err := w.store.Cancel(w.Context(), ds[7].Run, "enough", core.RunCanceled)
	w.ok(err)
	if folded {
		c.finish(lastFirst(ends)...)
		c.wantCalls(1)
	} else {
		for _, do := range finishAll(w, ends) {
			do(w.Context())
		}
	}
	w.check()
	for _, b := range begins {
		told = append(told, fmt.Sprint(b.got.Attempt, b.got.Failures, b.got.Step.Job, core.Is(b.err, core.Stale)))
	}
	for _, e := range ends {
		var expand []string
		for _, run := range e.got.Expand {
			expand = append(expand, w.names[run])
		}
		// A run's end is told by whoever was last, in either way.
		told = append(told, fmt.Sprint(e.got.Step, e.got.Run, e.got.Late, expand))
	}
	if r := w.run(waits.Run); r.State != core.RunPending || r.Reason != "" {
		w.Errorf("the run that waited is %s (%s), want it to have its turn", r.State, r.Reason)
	}
	return told
}

// lastFirst puts what is to be done last in front, where a company has it.
func lastFirst[T any](all []T) []T {
	n := len(all)
	return append([]T{all[n-1]}, all[:n-1]...)
}

func TestBeginsOfOneDispatchTogether(t *testing.T) {
	w := newWorld(t, store.Options{})
	_, ds := w.start("A", w.group("G"), 3, core.OverlapAllow)
	c := w.company()
	c.begin(&beginning{d: ds[1], worker: "w1"}) // the plan is known from here on
	mine, again, other := &beginning{d: ds[0], worker: "w1"}, &beginning{d: ds[0], worker: "w1"}, &beginning{d: ds[0], worker: "w2"}
	w.wantChanges("three begins of one dispatch", func() { c.begin(other, mine, again) },
		"+ run:A s0 r|1|F|1|0|0|default|w1|T|0|0|", "- run:A left 2", "+ run:A left 1", "- waiting 1", "+ waiting 0", "+ live A:0:1-F w1|T")
	wantErrorKind(t, "another worker", other.err, core.Stale)
	for _, b := range []*beginning{mine, again} {
		if b.err != nil || b.got.Attempt != 1 || b.got.Step.Job != "job0" {
			t.Errorf("its worker got %+v, %v", b.got, b.err)
		}
	}
	again.got.Step.Parameters = map[string]string{"mine": "alone"}
	if mine.got.Step.Parameters != nil {
		t.Error("two attempts share their parameters")
	}
}

// The live entry of an attempt may have been removed by a reconciler that looked at
// the wrong moment; its worker's second Begin puts it there again.
func TestBeginAgainRestoresTheLiveEntry(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	_, d := anAttempt(w)
	before := must(w.store.Live(t.Context(), 0))(w)
	w.wantChanges("the entry is lost and comes back", func() {
		w.ok(w.rdb.Del(t.Context(), "takt:{p:0}:live").Err())
		w.begin(d, "w1")
	})
	wantEqual(t, "live", must(w.store.Live(t.Context(), 0))(w), before)
}

// Finishes of every kind in the call of one run's end: each is told what became of
// its own attempt, and the run's end and the run that it lets start are told once,
// to one that ended a step.
func TestARunEndedByTwoFinishesTogether(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		last func(d core.Dispatch) *ending
	}{
		{"nothing after them", nil},
		{"a repeat after them", func(d core.Dispatch) *ending { return &ending{d: d, worker: "w1", o: success} }},
		{"a late result after them", func(d core.Dispatch) *ending { return &ending{d: d, worker: "w1", o: failure(-1)} }},
		{"another worker's after them", func(d core.Dispatch) *ending { return &ending{d: d, worker: "w2", o: success} }},
		{"another fence after them", func(d core.Dispatch) *ending {
			d.Fence.Random = "0"
			return &ending{d: d, worker: "w1", o: success}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			target := w.group("G")
			run, ds := w.start("A", target, 2, core.OverlapBufferAll)
			var next []string
			for _, name := range []string{"B", "C"} {
				next = append(next, must(w.store.Admit(t.Context(), w.admission(name, target, 1, core.OverlapBufferAll, queued)))(w).Run)
			}
			for _, d := range ds {
				w.begin(d, "w1")
			}
			all := []*ending{{d: ds[0], worker: "w1", o: success}, {d: ds[1], worker: "w1", o: success}}
			if row.last != nil {
				all = append(all, row.last(ds[1]))
			}
			w.company().finish(lastFirst(all)...)
			for i, e := range all {
				wantRun, wantExpand := core.RunState(""), []string(nil)
				if i == 1 {
					wantRun, wantExpand = core.RunSucceeded, next[:1]
				}
				if e.got.Run != wantRun || !slices.Equal(e.got.Expand, wantExpand) {
					t.Errorf("finish %d: got %+v, want run %q and %d to start", i, e.got, wantRun, len(wantExpand))
				}
			}
			if r := w.run(run); r.State != core.RunSucceeded || r.Counts.Succeeded != 2 {
				t.Errorf("the run is %s with %+v", r.State, r.Counts)
			}
			w.check()
		})
	}
}

// Two runs end in one call, and each lets another start.
func TestTwoRunsEndedTogether(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	var all []*ending
	want := map[string]string{}
	for _, name := range []string{"1", "2"} {
		target := w.group("G" + name)
		run, ds := w.start("A"+name, target, 1, core.OverlapBufferAll)
		next := must(w.store.Admit(t.Context(), w.admission("B"+name, target, 1, core.OverlapBufferAll, queued)))(w)
		want[run] = next.Run
		w.begin(ds[0], "w1")
		all = append(all, &ending{d: ds[0], worker: "w1", o: success})
	}
	c := w.company()
	c.finish(all...)
	c.wantCalls(1)
	for _, e := range all {
		if e.got.Run != core.RunSucceeded || !slices.Equal(e.got.Expand, []string{want[e.d.Run]}) {
			t.Errorf("run %s: got %+v, want its own next run to start", w.names[e.d.Run], e.got)
		}
	}
	w.check()
}

// A canceling step, a retry, a late and a stale result in the call of a success.
func TestFinishesOfEveryKindTogether(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	stopped, cs := w.start("C", w.group("G1"), 2, core.OverlapAllow)
	_, ds := w.start("A", w.group("G2"), 3, core.OverlapAllow)
	for _, d := range append(slices.Clone(cs), ds...) {
		w.begin(d, "w1")
	}
	w.finish(cs[1], "w1", success)
	_, _, err := w.store.Cancel(t.Context(), stopped, "no|more\n", core.RunTimedOut)
	w.ok(err)
	all := []*ending{
		{d: ds[0], worker: "w1", o: success}, {d: cs[0], worker: "w1", o: core.Outcome{State: core.AttemptSucceeded, Output: "o", Retry: -1}},
		{d: ds[1], worker: "w1", o: failure(time.Hour)}, {d: cs[1], worker: "w1", o: failure(-1)},
		{d: ds[2], worker: "w2", o: success}, {d: cs[0], worker: "w1", o: success}, {d: ds[1], worker: "w1", o: failure(time.Hour)},
	}
	c := w.company()
	c.finish(lastFirst(all)...)
	c.wantCalls(1)
	var told []string
	for _, e := range all {
		told = append(told, fmt.Sprint(e.got.Step, "|", e.got.Run, "|", e.got.Late))
	}
	wantEqual(t, "told", told, []string{
		"succeeded||false", "timed_out|timed_out|false", "waiting||false", "succeeded||true", "||false", "timed_out||true", "waiting||false",
	})
	w.check()
	steps := w.steps(stopped)
	if a := steps[0].Attempts; len(a) != 1 || a[0].State != core.AttemptSucceeded || steps[0].Reason != "no|more\n" {
		t.Errorf("the canceled step: %+v, want its success kept with the attempt", steps[0])
	}
}

// Reasons are free text.
func TestReasonsOfAnyText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é|", 2<<10)
	for name, reason := range map[string]string{
		"bars": "|a||b|", "newlines": "\na\r\n\nb\n", "NUL": "a\x00b\x00", "NUL in long text": strings.Repeat("x\x00", 1000),
		"percent": "%d%s%", "4 KiB": strings.Repeat("x", 4<<10), "more": long, "row": "s|1|ab|1|0|0|default|w1|1|1|0|done",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			run, ds := w.start("A", w.group("G"), 3, core.OverlapAllow)
			for _, d := range ds {
				w.begin(d, "w1")
			}
			o := core.Outcome{State: core.AttemptFailed, ExitCode: -1, Reason: reason, Output: reason, Retry: -1}
			ok, again := o, o
			ok.State, again.Retry = core.AttemptSucceeded, time.Hour
			all := []*ending{{d: ds[0], worker: "w1", o: o}, {d: ds[1], worker: "w1", o: ok}, {d: ds[2], worker: "w1", o: again}}
			w.company().finish(all...)
			w.check()
			want := reason
			if reason == long {
				want = reason[:4<<10-1] + "\uFFFD …" // the cut falls into a letter
			}
			steps := w.steps(run)
			for i, got := range []string{steps[0].Reason, steps[1].Reason, strings.TrimPrefix(steps[2].Reason, "attempt 1 failed: ")} {
				if got != want {
					t.Errorf("step %d: got the reason %.60q of %d bytes, want %.60q of %d", i, got, len(got), want, len(want))
				}
			}
			if a := steps[2].Attempts; len(a) == 0 || a[0].Error != want || a[0].ExitCode != -1 {
				t.Errorf("the attempt to be retried: got %.200q", fmt.Sprintf("%+v", a))
			}
			// What follows reads the rows again.
			for _, e := range all {
				if e.got = w.finish(e.d, "w1", e.o); e.got.Late {
					t.Errorf("finish again: got %+v", e.got)
				}
			}
			w.check()
		})
	}
}

// A Store remembers plans longer than Redis keeps them: it must never give a step
// of another plan, nor miss that a plan is gone.
func TestPlansOutliveTheirRunsInMemory(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	target := w.group("G")
	withTimeout := func(a core.Admission, timeout time.Duration) core.Admission {
		a.Plan = slices.Clone(a.Plan)
		for i := range a.Plan {
			a.Plan[i].Timeout, a.Plan[i].Parameters = timeout, map[string]string{"timeout": timeout.String()}
		}
		return a
	}
	run := func(a core.Admission) {
		t.Helper()
		got := must(w.store.Admit(t.Context(), a))(w)
		if got.Word != core.AdmitStarted || got.Again {
			t.Fatalf("got %+v, want a new run", got)
		}
		for i, d := range got.Sends {
			b := w.begin(d, "w1")
			wantEqual(t, "planned step", b.Step, a.Plan[i])
			maps.Copy(b.Step.Parameters, map[string]string{"changed": "by an executor"})
			live := must(w.store.Live(t.Context(), 0))(w)
			if len(live) != 1 || live[0].Overdue.Sub(b.Now) != a.Plan[i].Timeout+store.Grace {
				t.Errorf("under way: got %+v, want it overdue %v after %v", live, a.Plan[i].Timeout+store.Grace, b.Now)
			}
			w.finish(d, "w1", success)
		}
		w.ok(w.store.Forget(t.Context(), got.Run))
		if keys := w.keysLike(":plan:"); len(keys) != 0 {
			t.Errorf("plans %q are left", keys)
		}
		w.rdb.Del(t.Context(), w.keysLike(":req:")...)
	}
	first := w.admission("A", target, 2, core.OverlapAllow, queued)
	run(withTimeout(first, time.Minute))
	run(withTimeout(w.admission("B", target, 2, core.OverlapAllow, queued), time.Minute)) // the same plan, stored anew
	run(withTimeout(first, time.Hour))                                                    // the same run's id, another plan
	run(withTimeout(first, time.Minute))
}
