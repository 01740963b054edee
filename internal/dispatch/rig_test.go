package dispatch

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

var admin = core.Caller{Account: "a", Name: "admin", Owner: "a", Role: core.Admin}

// A rig is the roles of one process on a Redis of their own. Its roles hold all
// partitions and run nothing by themselves: tests call what they test.
type rig struct {
	t     testing.TB
	ctx   context.Context
	redis *testenv.RedisServer
	rdb   *redis.Client
	store *bentStore
	queue *queue.Client
	eng   *engine.Engine
	roles *Roles
	log   *logbook

	mu      sync.Mutex
	repairs map[string]int
	timers  map[string]int
}

// A bentStore is the real store with a clock that tests may put forward.
type bentStore struct {
	*store.Store
	ahead time.Duration
}

func (s *bentStore) Now(ctx context.Context) (time.Time, error) {
	now, err := s.Store.Now(ctx)
	return now.Add(s.ahead), err
}

// A logbook keeps what is logged.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// silence takes hints and passes none on.
type silence struct{}

func (silence) Ring([]string)      {}
func (silence) RingTrigger(string) {}
func (silence) Stop(core.Stop)     {}

// noFires is a bus that brings nothing.
type noFires struct{}

func (noFires) ConsumeFires(ctx context.Context, _ func(context.Context, events.Batch) error) {
	<-ctx.Done()
}

func newRig(t testing.TB, o store.Options) *rig {
	t.Helper()
	o.Partitions = 2
	server := testenv.Redis(t)
	r := &rig{t: t, redis: server, rdb: server.Client(t, testenv.SameSlot(t)), log: &logbook{}, repairs: map[string]int{}, timers: map[string]int{}}
	r.ctx = core.WithCaller(t.Context(), admin)
	r.store = &bentStore{Store: store.New(r.rdb, o)}
	r.queue = queue.NewClient(server.Client(t))
	r.roles = r.newRoles()
	r.eng = r.roles.engine
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	kept := make(chan struct{})
	go func() { defer close(kept); r.roles.keeper.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-kept })
	testenv.Eventually(t, 5*time.Second, func() bool { return len(r.roles.keeper.Shards()) == 2 })
	return r
}

func (r *rig) newRoles() *Roles {
	log := slog.New(slog.NewTextHandler(r.log, nil))
	eng := engine.New(r.store.Store, r.queue, silence{}, engine.Options{Types: []executor.Spec{{Type: "noop"}}, Log: log, FleetAge: time.Nanosecond})
	return New(r.store, r.queue, noFires{}, eng, Options{Log: log, Metrics: Metrics{
		Repaired: func(what string, n int) { r.note(r.repairs, what, n) },
		Timer:    func(kind string) { r.note(r.timers, kind, 1) },
	}})
}

func (r *rig) note(in map[string]int, what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in[what] += n
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// worker announces a worker that executes noop and reads the queues.
func (r *rig) worker(id string, queues ...string) {
	r.t.Helper()
	w := core.Worker{ID: id, Host: id, Slots: 4, Queues: queues, Types: []executor.Spec{{Type: "noop"}}}
	_, err := r.store.Beat(r.ctx, core.Heartbeat{Worker: id}, &w)
	r.must(err)
}

// beat is a further heartbeat, a millisecond after the one before at least.
func (r *rig) beat(id string, h core.Heartbeat) {
	r.t.Helper()
	h.Worker = id
	before, err := r.store.Store.Now(r.ctx)
	r.must(err)
	testenv.Eventually(r.t, time.Second, func() bool {
		now, err := r.store.Store.Now(r.ctx)
		return err == nil && now.Sub(before) > 2*time.Millisecond
	})
	_, err = r.store.Beat(r.ctx, h, nil)
	r.must(err)
}

// vanish makes a worker's last heartbeat an old one.
func (r *rig) vanish(id string) {
	r.t.Helper()
	r.must(r.rdb.ZAdd(r.ctx, "takt:{w}:beat", redis.Z{Score: float64(time.Now().Add(-time.Minute).UnixMilli()), Member: id}).Err())
}

// job makes a job; change may be nil.
func (r *rig) job(change func(*core.Job)) core.Job {
	r.t.Helper()
	j := core.Job{Meta: core.Meta{Name: "j"}, Type: "noop", Enabled: true}
	if change != nil {
		change(&j)
	}
	j, err := r.eng.CreateJob(r.ctx, j)
	r.must(err)
	return j
}

// run starts a run of a job and gives its one dispatch.
func (r *rig) run(change func(*core.Job)) core.Dispatch {
	r.t.Helper()
	run, err := r.eng.RunJob(r.ctx, r.job(change).UUID, "", core.Overlap{})
	r.must(err)
	return r.dispatch(run.ID)
}

// dispatch gives the dispatch of a run's first step as it stands.
func (r *rig) dispatch(run string) core.Dispatch {
	r.t.Helper()
	st := r.step(run)
	return core.Dispatch{Run: run, Fence: st.Fence, Queue: st.Queue}
}

func (r *rig) step(run string) core.Step {
	r.t.Helper()
	steps, err := r.store.Steps(r.ctx, run)
	r.must(err)
	return steps[0]
}

func (r *rig) root(run string) string {
	n, _ := strconv.ParseInt(run[len(run)-2:], 16, 0)
	return "takt:{p:" + strconv.FormatInt(n, 10) + "}"
}

// age makes every dispatch that has not begun one of a minute ago.
func (r *rig) age() {
	r.t.Helper()
	for _, root := range []string{"takt:{p:0}", "takt:{p:1}"} {
		ids, err := r.rdb.ZRange(r.ctx, root+":sent", 0, -1).Result()
		r.must(err)
		for _, id := range ids {
			r.must(r.rdb.ZAdd(r.ctx, root+":sent", redis.Z{Score: float64(time.Now().Add(-time.Minute).UnixMilli()), Member: id}).Err())
		}
	}
}

// state writes the state asynq keeps with a dispatch's task.
func (r *rig) state(d core.Dispatch, state string) {
	r.t.Helper()
	r.must(r.rdb.HSet(r.ctx, "asynq:{"+d.Queue+"}:t:"+d.ID(), "state", state).Err())
}

func (r *rig) place(d core.Dispatch) queue.Place {
	r.t.Helper()
	places, err := r.queue.Where(r.ctx, []core.Dispatch{d})
	r.must(err)
	return places[0]
}

// trusted is a watch that has had contact for long.
func trusted() *watch {
	now := time.Now()
	return &watch{contact: now.Add(-time.Minute), last: now}
}

// pass lets the reconciler pass once.
func (r *rig) pass(w *watch) {
	r.t.Helper()
	r.must(r.roles.pass(r.ctx, w))
}
