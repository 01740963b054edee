package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

var (
	admin    = core.Caller{Account: "root", Name: "root", Owner: "root", Role: core.Admin}
	operator = core.Caller{Account: "ann", Name: "ann", Owner: "acc", Role: core.Operator}
	viewer   = core.Caller{Account: "vic", Name: "vic", Owner: "acc", Role: core.Viewer}
	stranger = core.Caller{Account: "eve", Name: "eve", Owner: "other", Role: core.Operator}
)

// Job types of these tests: noop takes anything, strict does not.
var (
	noop   = executor.Spec{Type: "noop", Open: true}
	strict = executor.Spec{Type: "strict", Parameters: []executor.Parameter{
		{Name: "text", Kind: executor.String, Required: true}, {Name: "count", Kind: executor.Integer},
	}}
)

// A house is an engine on a real store, with a queue and events that write down
// what they are asked for.
type house struct {
	*testing.T
	eng    *engine.Engine
	store  *store.Store
	rdb    *redis.Client
	faults *faults
	queue  *queue
	events *events
	ctx    context.Context // the operator's
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	rdb := testenv.Redis(t).Client(t, testenv.SameSlot(t))
	h := &house{
		T: t, rdb: rdb, store: store.New(rdb, store.Options{}),
		queue: &queue{sent: map[string]int{}}, events: &events{}, ctx: core.WithCaller(t.Context(), operator),
	}
	h.faults = &faults{Store: h.store}
	h.eng = h.engine()
	h.worker(core.Worker{ID: "w1", Host: "h1", Queues: []string{"critical", "default", "low", "host-h1"}, Types: []executor.Spec{noop, strict}})
	return h
}

// engine gives another engine of the house, as another process has.
func (h *house) engine() *engine.Engine {
	return engine.New(h.faults, h.queue, h.events, engine.Options{
		Types: []executor.Spec{noop, strict}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), FleetAge: time.Nanosecond,
	})
}

func (h *house) worker(w core.Worker) {
	h.Helper()
	if _, err := h.store.Beat(h.Context(), core.Heartbeat{Worker: w.ID}, &w); err != nil {
		h.Fatal(err)
	}
}

// A queue counts what is sent. While it is down, sending fails.
type queue struct {
	mu    sync.Mutex
	down  bool
	sent  map[string]int // dispatch id to times
	order []core.Dispatch
}

var errDown = errors.New("the queue is down")

func (q *queue) Send(_ context.Context, ds []core.Dispatch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down {
		return errDown
	}
	for _, d := range ds {
		q.sent[d.ID()]++
		q.order = append(q.order, d)
	}
	return nil
}

// take gives what was sent since the last call.
func (q *queue) take() []core.Dispatch {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.order
	q.order = nil
	return out
}

func (q *queue) breakDown(down bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = down
}

type events struct {
	mu       sync.Mutex
	rung     []string
	triggers []string
	stops    []core.Stop
}

func (e *events) Ring(queues []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rung = append(e.rung, queues...)
}

func (e *events) RingTrigger(trigger string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.triggers = append(e.triggers, trigger)
}

func (e *events) Stop(s core.Stop) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stops = append(e.stops, s)
}

// faults is a store whose follow-ups can be made to fail, as if the process had
// died before them.
type faults struct {
	engine.Store
	mu    sync.Mutex
	dead  map[string]bool
	after map[string]func() // called once, after a call has taken effect
}

// die makes the named calls fail from now on; without names all work again.
func (f *faults) die(calls ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = map[string]bool{}
	for _, c := range calls {
		f.dead[c] = true
	}
}

func (f *faults) then(call string, do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = map[string]func(){call: do}
}

func (f *faults) do(call string, do func() error) error {
	f.mu.Lock()
	dead, after := f.dead[call], f.after[call]
	delete(f.after, call)
	f.mu.Unlock()
	if dead {
		return errors.New("died before " + call)
	}
	err := do()
	if after != nil {
		after()
	}
	return err
}

func (f *faults) SettleMember(ctx context.Context, group, job string) error {
	return f.do("SettleMember", func() error { return f.Store.SettleMember(ctx, group, job) })
}

func (f *faults) SetLink(ctx context.Context, t core.Target, trigger string, bound bool, note string) error {
	return f.do("SetLink", func() error { return f.Store.SetLink(ctx, t, trigger, bound, note) })
}

func (f *faults) Trigger(ctx context.Context, uuid string, dead bool) (t core.Trigger, err error) {
	err = f.do("Trigger", func() (err error) { t, err = f.Store.Trigger(ctx, uuid, dead); return err })
	return t, err
}

func (f *faults) Link(ctx context.Context, t core.Target, trigger string, most int) error {
	return f.do("Link", func() error { return f.Store.Link(ctx, t, trigger, most) })
}

func (f *faults) Enroll(ctx context.Context, group string, jobs []string, most int) error {
	return f.do("Enroll", func() error { return f.Store.Enroll(ctx, group, jobs, most) })
}

func (f *faults) Admit(ctx context.Context, a core.Admission) (got core.Admitted, err error) {
	err = f.do("Admit", func() (err error) { got, err = f.Store.Admit(ctx, a); return err })
	return got, err
}

func (f *faults) Decide(ctx context.Context, id core.FireID, e core.LedgerEntry) (ok bool, err error) {
	err = f.do("Decide", func() (err error) { ok, err = f.Store.Decide(ctx, id, e); return err })
	return ok, err
}

func (f *faults) PutTrigger(ctx context.Context, t core.Trigger, settled time.Time, check bool, entries []core.LedgerEntry, touched []core.Target) error {
	return f.do("PutTrigger", func() error { return f.Store.PutTrigger(ctx, t, settled, check, entries, touched) })
}

// must gives a value, or ends the test.
func must[V any](v V, err error) func(*house) V {
	return func(h *house) V {
		h.Helper()
		if err != nil {
			h.Fatal(err)
		}
		return v
	}
}

func (h *house) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func wantKind(t *testing.T, what string, err error, want core.Kind) {
	t.Helper()
	if !core.Is(err, want) {
		t.Errorf("%s: got error %v, want one of kind %q", what, err, want)
	}
}

// wantInvalid checks that err is Invalid and names a field.
func wantInvalid(t *testing.T, what string, err error, field string) {
	t.Helper()
	var known *core.Error
	if !errors.As(err, &known) || known.Kind != core.Invalid || known.Field != field {
		t.Errorf("%s: got error %v, want an invalid %s", what, err, field)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func named(name string) core.Meta { return core.Meta{Name: name} }

func (h *house) job(name string) core.Job {
	h.Helper()
	return must(h.eng.CreateJob(h.ctx, core.Job{Meta: named(name), Type: "noop", Enabled: true}))(h)
}

// group makes a group of n jobs.
func (h *house) group(name string, n int) (core.Group, []core.Job) {
	h.Helper()
	g := must(h.eng.CreateGroup(h.ctx, core.Group{Meta: named(name), Type: "noop", Enabled: true}))(h)
	if n == 0 {
		return g, nil
	}
	var jobs []core.Job
	var uuids []string
	for i := range n {
		jobs = append(jobs, h.job(fmt.Sprint(name, " job ", i)))
		uuids = append(uuids, jobs[i].UUID)
	}
	return must(h.eng.AddJobs(h.ctx, g.UUID, uuids))(h), jobs
}

func ofGroup(g core.Group) core.Target { return core.Target{Kind: core.GroupTarget, UUID: g.UUID} }
func ofJob(j core.Job) core.Target     { return core.Target{Kind: core.JobTarget, UUID: j.UUID} }

// everySecond fires each second, since an hour ago.
func everySecond() schedule.Spec {
	return schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Start: time.Now().Add(-time.Hour).Truncate(time.Second)}
}

// yearly has its next slot far ahead.
func yearly() schedule.Spec {
	return schedule.Spec{Kind: schedule.Simple, Interval: 365 * 24 * time.Hour, Start: time.Now().Add(-time.Hour).Truncate(time.Second)}
}

func (h *house) trigger(name string, s schedule.Spec, overlap core.OverlapPolicy) core.Trigger {
	h.Helper()
	return must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named(name), Schedule: s, Enabled: true, Overlap: core.Overlap{Policy: overlap}}))(h)
}

func (h *house) read(trigger string) core.Trigger {
	h.Helper()
	return must(h.store.Trigger(h.Context(), trigger, true))(h)
}

func (h *house) bind(t core.Trigger, target core.Target) core.Binding {
	h.Helper()
	return must(h.eng.Bind(h.ctx, t.UUID, target, false))(h)
}

// reconcile does what stands in the outboxes about definitions, as the reconciler
// does, until nothing is left.
func (h *house) reconcile() {
	h.Helper()
	for range 5 {
		left := 0
		for n := range h.store.Partitions() {
			later := time.Now().Add(time.Minute)
			effects := append(must(h.store.Outbox(h.Context(), n, later))(h), must(h.store.TriggerOutbox(h.Context(), n, later))(h)...)
			for _, e := range effects {
				left++
				switch e[0] {
				case "member":
					h.ok(h.eng.SettleMember(h.Context(), e[1], e[2]))
				case "link":
					h.ok(h.eng.SettleLink(h.Context(), core.Target{Kind: core.TargetKind(e[1]), UUID: e[2]}, e[3]))
				case "cbt":
					h.ok(h.eng.SettleCBT(h.Context(), e[1]))
				case "cbtvm":
					h.ok(h.eng.SettleCBTClaim(h.Context(), e[1], e[2]))
				case "expand":
					eff := must(h.eng.Expand(h.Context(), e[1]))(h)
					h.eng.Deliver(h.Context(), eff)
				default:
					h.Fatalf("outbox: %q", e)
				}
			}
		}
		if left == 0 {
			return
		}
	}
	h.Fatal("the outboxes do not become empty")
}

// drain carries out what was sent, and what follows from it, until nothing comes.
func (h *house) drain() {
	h.Helper()
	for ds := h.queue.take(); len(ds) > 0; ds = h.queue.take() {
		for _, d := range ds {
			b, err := h.eng.Begin(h.Context(), d, "w1")
			if core.Is(err, core.Stale) {
				continue
			}
			h.ok(err)
			must(h.eng.Finish(h.Context(), d, "w1", b, core.Outcome{State: core.AttemptSucceeded}, false))(h)
		}
	}
}

// runs gives the runs of a trigger or a target, newest first.
func (h *house) runs(f core.RunFilter) []core.Run {
	h.Helper()
	f.Limit = 1000
	return must(h.store.ListRuns(h.Context(), f))(h).Runs
}

func (h *house) ledger(trigger string) []core.LedgerEntry {
	h.Helper()
	entries := must(h.store.Ledger(h.Context(), trigger, time.Time{}, time.Time{}, 0, 10_000))(h)
	slices.Reverse(entries)
	return entries
}

func hasText(err error, part string) bool {
	return err != nil && strings.Contains(core.Text(err), part)
}

// A decider is what the concurrent tests ask of an engine.
type decider interface {
	DecideFire(ctx context.Context, f core.FireID) (core.Decision, error)
	FireNow(ctx context.Context, trigger, key string, only []string) (core.LedgerEntry, error)
}
