package e2e

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/dispatch"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/internal/trigger"
	"github.com/takt-dev/takt/internal/worker"
	"github.com/takt-dev/takt/pkg/executor"
)

// A house is a Redis, a NATS and any number of roles in this process. Each role
// has connections of its own, as processes would.
type house struct {
	t     testing.TB
	redis *testenv.RedisServer // nil in a house on a cluster or on Sentinel
	url   string               // where Redis is
	nats  *testenv.NATSServer
	log   *slog.Logger
	eng   *engine.Engine
	store *store.Store
	ctx   context.Context
	box   *seal.Box

	released bool         // workers may hand attempts back, since they lose contact
	hooks    []redis.Hook // of every client made from now on
}

var admin = core.Caller{Account: "a", Name: "admin", Owner: "a", Role: core.Admin}

func newHouse(t testing.TB, types ...executor.Spec) *house {
	t.Helper()
	server := testenv.DurableRedis(t)
	t.Cleanup(server.WantNoScan)
	h := newHouseAt(t, server.URL, types...)
	h.redis = server
	return h
}

// newHouseAt makes a house on a Redis of whatever topology.
func newHouseAt(t testing.TB, url string, types ...executor.Spec) *house {
	t.Helper()
	h := &house{t: t, url: url, nats: testenv.NATS(t), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if os.Getenv("TAKT_TEST_LOG") != "" {
		h.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	box, err := seal.New(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	h.box = box
	h.ctx = core.WithCaller(t.Context(), admin)
	if h.store, err = store.Open(t.Context(), h.client(testenv.SameSlot(t)), store.Options{Partitions: 16}); err != nil {
		t.Fatal(err)
	}
	h.eng = h.engine(types...)
	return h
}

// client opens a connection to Redis that lasts as long as the test.
func (h *house) client(hooks ...redis.Hook) redis.UniversalClient {
	h.t.Helper()
	rdb, err := redisconn.Open(h.ctx, redisconn.Config{URL: h.url})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, hook := range append(hooks, h.hooks...) {
		rdb.AddHook(hook)
	}
	h.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (h *house) bus() *events.Bus {
	h.t.Helper()
	b, err := events.Connect(events.Options{URLs: []string{h.nats.URL}, Name: "test", Log: h.log})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(b.Close)
	return b
}

func (h *house) engine(types ...executor.Spec) *engine.Engine {
	rdb := h.client(testenv.SameSlot(h.t))
	return engine.New(store.New(rdb, store.Options{}), queue.NewClient(h.client()), h.bus(), engine.Options{Types: types, Log: h.log, FleetAge: 50 * time.Millisecond, Secrets: h.box})
}

// roles starts the background roles of an api process and returns what stops them.
func (h *house) roles(types ...executor.Spec) (stop func()) {
	eng := h.engine(types...)
	st := store.New(h.client(), store.Options{})
	r := dispatch.New(st, queue.NewClient(h.client()), h.bus(), eng, dispatch.Options{Log: h.log})
	return h.start(r.Run)
}

func (h *house) trigger() (stop func()) {
	p := trigger.New(store.New(h.client(), store.Options{}), h.bus(), trigger.Options{Log: h.log})
	return h.start(p.Run)
}

func (h *house) start(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.ctx))
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	h.t.Cleanup(stop)
	return stop
}

func (h *house) worker(host string, slots int, types ...executor.Type) (w *worker.Worker, stop func()) {
	h.t.Helper()
	bus := h.bus()
	queues := map[string]int{"critical": 6, "default": 3, "low": 1, core.HostQueue(host): 3}
	names := []string{"critical", "default", "low", core.HostQueue(host)}
	w = worker.New(h.engine(), store.New(h.client(), store.Options{}), worker.Options{
		Host: host, Slots: slots, Version: "test", Queues: names, Types: types, Log: h.log, Drain: 5 * time.Second,
	})
	if err := w.Announce(h.ctx); err != nil {
		h.t.Fatal(err)
	}
	bell := redisconn.NewBell()
	bell.SetFallback(time.Second)
	if err := bus.OnRing(names, bell.Ring); err != nil {
		h.t.Fatal(err)
	}
	if err := bus.OnStop(w.ID(), w.Stop); err != nil {
		h.t.Fatal(err)
	}
	srv, err := queue.Listen(queue.ServerOptions{
		Open:   func() (redis.UniversalClient, error) { return h.client(), nil },
		Queues: queues, Slots: slots, Dequeuers: 2, Drain: time.Second, Bell: bell, Took: w.Took, GaveBack: w.GaveBack, Log: h.log,
	}, w.Handle)
	if err != nil {
		h.t.Fatal(err)
	}
	poll := h.client()
	keys := make([]string, len(names))
	for i, q := range names {
		keys[i] = redisconn.PendingKey(q)
	}
	pollCtx, stopPoll := context.WithCancel(context.Background())
	go bell.Poll(pollCtx, poll, keys)
	stopRun := h.start(w.Run)
	var once sync.Once
	stop = func() { once.Do(func() { srv.Stop(); stopRun(); srv.Close(); stopPoll() }) }
	h.t.Cleanup(stop)
	return w, stop
}

func (h *house) group(jobType string, n int) string {
	h.t.Helper()
	g, err := h.eng.CreateGroup(h.ctx, core.Group{Meta: core.Meta{Name: "g"}, Type: jobType, Enabled: true})
	if err != nil {
		h.t.Fatal(err)
	}
	var jobs []string
	for i := range n {
		j, err := h.eng.CreateJob(h.ctx, core.Job{Meta: core.Meta{Name: fmt.Sprint("j", i)}, Type: jobType, Enabled: true})
		if err != nil {
			h.t.Fatal(err)
		}
		jobs = append(jobs, j.UUID)
	}
	if _, err := h.eng.AddJobs(h.ctx, g.UUID, jobs); err != nil {
		h.t.Fatal(err)
	}
	return g.UUID
}

func (h *house) await(run string, within time.Duration) core.Run {
	h.t.Helper()
	var r core.Run
	testenv.Eventually(h.t, within, func() error {
		var err error
		if r, err = h.eng.Run(h.ctx, run); err != nil {
			return err
		}
		if !r.State.Ended() {
			return fmt.Errorf("run is %s: %+v", r.State, r.Counts)
		}
		return nil
	})
	return r
}

var noop = executor.Type{
	Spec: executor.Spec{Type: "noop"},
	Executor: executor.Func(func(context.Context, executor.Attempt) (executor.Result, error) {
		return executor.Result{Output: "ok"}, nil
	}),
}

func TestRunOfGroup(t *testing.T) {
	h := newHouse(t, noop.Spec)
	h.roles()
	h.worker("one", 4, noop)
	h.worker("two", 4, noop)
	g := h.group("noop", 20)
	began := time.Now()
	r, err := h.eng.RunGroup(h.ctx, g, "", core.Overlap{})
	if err != nil {
		t.Fatal(err)
	}
	r = h.await(r.ID, 10*time.Second)
	t.Log("took", time.Since(began))
	if r.State != core.RunSucceeded || r.Counts.Succeeded != 20 {
		t.Fatalf("run ended as %s, %+v", r.State, r.Counts)
	}
	steps, err := h.eng.Steps(h.ctx, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.State != core.StepSucceeded || len(s.Attempts) != 1 || s.Attempts[0].Output != "ok" {
			t.Errorf("step %d: %+v", s.Index, s)
		}
	}
}

func TestCronTriggerFires(t *testing.T) {
	h := newHouse(t, noop.Spec)
	h.roles()
	h.roles()
	h.trigger()
	h.trigger()
	h.worker("one", 8, noop)
	g := h.group("noop", 3)
	tr, err := h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: core.Meta{Name: "t"}, Enabled: true,
		Schedule: schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: "* * * * * ?"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.GroupTarget, UUID: g}, false); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 15*time.Second, func() error {
		page, err := h.eng.Runs(h.ctx, core.RunFilter{Trigger: tr.UUID})
		if err != nil {
			return err
		}
		n := 0
		for _, r := range page.Runs {
			if r.State == core.RunSucceeded {
				n++
			}
		}
		if n < 4 {
			return fmt.Errorf("%d of %d runs succeeded", n, len(page.Runs))
		}
		return nil
	})
	entries, err := h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Logf("%s %s %s %v %s", e.From, e.Lateness, e.Decision, e.Runs, e.Reason)
	}
}
