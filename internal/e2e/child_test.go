package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/dispatch"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/trigger"
	"github.com/takt-dev/takt/internal/worker"
	"github.com/takt-dev/takt/pkg/executor"
)

// The kill tests need processes that die by SIGKILL at an exact point. The test
// binary starts itself again as such a process: orders, in the environment, say
// which role to play and where to die. The roles are the product's own; only the
// port at which death comes is wrapped.
const ordersVar = "TAKT_E2E_ORDERS"

type orders struct {
	Role  string // starter, roles, worker, trigger; or a whole process: api-process, worker-process, trigger-process
	Die   string // point of death, "" = live
	Redis string
	NATS  string
	Group string // starter: the group to run
	Host  string // worker

	Listen  string        // api-process: where; "" = anywhere
	Witness string        // worker-process: the file of a witness
	Work    time.Duration // worker-process: how long a job of type mark works
	CBT     config.CBT    // worker-process: the machines that it reaches
}

func TestMain(m *testing.M) {
	text := os.Getenv(ordersVar)
	redisconn.LogTo(slog.New(slog.DiscardHandler))
	if text == "" {
		flag.Parse()
		// The tests wait most of their time.
		if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := play(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, o.Role, err)
		os.Exit(1)
	}
}

// die ends this process as a power cut would.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// child starts a process with orders and returns a channel that gives when it died.
func (h *house) child(o orders) <-chan time.Time {
	h.t.Helper()
	return h.childAt(h.url, o)
}

// childAt is child with another Redis.
func (h *house) childAt(redisURL string, o orders) <-chan time.Time {
	h.t.Helper()
	o.Redis, o.NATS = redisURL, h.nats.URL
	text, err := json.Marshal(o)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ordersVar+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	died := make(chan time.Time, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
		died <- time.Now()
	}()
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	return died
}

// killed waits until a child has died of its orders.
func (h *house) killed(died <-chan time.Time) time.Time {
	h.t.Helper()
	select {
	case at := <-died:
		return at
	case <-time.After(20 * time.Second):
		h.t.Fatal("the process that was to die at the kill point is still alive")
	}
	return time.Time{}
}

func play(ctx context.Context, o orders) error {
	if strings.HasSuffix(o.Role, "-process") {
		return playProcess(ctx, o)
	}
	opts, err := redis.ParseURL(o.Redis)
	if err != nil {
		return err
	}
	open := func() redis.UniversalClient { return redis.NewClient(opts) }
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	bus, err := events.Connect(events.Options{URLs: []string{o.NATS}, Name: o.Role, Log: log})
	if err != nil {
		return err
	}
	st := deadlyStore{Store: store.New(open(), store.Options{}), point: o.Die}
	q := deadlyQueue{Client: queue.NewClient(open()), point: o.Die}
	eng := engine.New(st, q, bus, engine.Options{Log: log, Types: []executor.Spec{noop.Spec}, FleetAge: 50 * time.Millisecond})
	switch o.Role {
	case "starter":
		_, err := eng.RunGroup(core.WithCaller(ctx, admin), o.Group, "", core.Overlap{})
		return err
	case "roles":
		return dispatch.New(st, q, bus, eng, dispatch.Options{Log: log}).Run(ctx)
	case "trigger":
		return trigger.New(st, bus, trigger.Options{Log: log}).Run(ctx)
	case "worker":
		return playWorker(ctx, o, deadlyEngine{Engine: eng, point: o.Die}, st.Store, bus, open, log)
	}
	return fmt.Errorf("unknown role %q", o.Role)
}

func playWorker(ctx context.Context, o orders, eng worker.Engine, st *store.Store, bus *events.Bus, open func() redis.UniversalClient, log *slog.Logger) error {
	deadly := executor.Type{Spec: noop.Spec, Executor: executor.Func(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
		if o.Die == "execute" {
			die()
		}
		return noop.Executor.Execute(ctx, a)
	})}
	names := []string{"default", core.HostQueue(o.Host)}
	w := worker.New(eng, st, worker.Options{Host: o.Host, Slots: 4, Queues: names, Types: []executor.Type{deadly}, Log: log})
	if err := w.Announce(ctx); err != nil {
		return err
	}
	bell := redisconn.NewBell()
	if err := bus.OnRing(names, bell.Ring); err != nil {
		return err
	}
	srv, err := queue.Listen(queue.ServerOptions{
		Open:   func() (redis.UniversalClient, error) { return open(), nil },
		Queues: map[string]int{names[0]: 1, names[1]: 1}, Slots: 4, Dequeuers: 1, Bell: bell, Took: w.Took, GaveBack: w.GaveBack, Log: log,
	}, w.Handle)
	if err != nil {
		return err
	}
	defer srv.Close()
	return w.Run(ctx)
}

// The wrappers below die at their point, before or after the real thing.

type deadlyQueue struct {
	*queue.Client
	point string
}

func (q deadlyQueue) Send(ctx context.Context, ds []core.Dispatch) error {
	if q.point == "send" {
		die()
	}
	return q.Client.Send(ctx, ds)
}

type deadlyEngine struct {
	*engine.Engine
	point string
}

func (e deadlyEngine) Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) {
	if e.point == "begin" {
		die()
	}
	b, err := e.Engine.Begin(ctx, d, worker)
	if e.point == "begun" {
		die()
	}
	return b, err
}

func (e deadlyEngine) Finish(ctx context.Context, d core.Dispatch, worker string, b core.Begun, o core.Outcome, permanent bool) (core.Finished, error) {
	f, err := e.Engine.Finish(ctx, d, worker, b, o, permanent)
	if e.point == "done" {
		die()
	}
	return f, err
}

type deadlyStore struct {
	*store.Store
	point string
}

func (s deadlyStore) Advance(ctx context.Context, items []core.Advance) ([]bool, error) {
	if s.point == "advance" {
		die()
	}
	return s.Store.Advance(ctx, items)
}

func (s deadlyStore) Decide(ctx context.Context, f core.FireID, e core.LedgerEntry) (bool, error) {
	if s.point == "decide" {
		die()
	}
	return s.Store.Decide(ctx, f, e)
}
