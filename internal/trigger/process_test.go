package trigger

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// A house is a Redis and a NATS, with a dispatcher that decides the fires.
type house struct {
	t     testing.TB
	ctx   context.Context
	redis *testenv.RedisServer
	nats  *testenv.NATSServer
	rdb   *redis.Client
	store *store.Store
	eng   *engine.Engine
	log   *slog.Logger
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, redis: testenv.Redis(t), nats: testenv.NATS(t), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if os.Getenv("TAKT_TEST_LOG") != "" {
		h.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	h.ctx = core.WithCaller(t.Context(), core.Caller{Account: "a", Name: "admin", Owner: "a", Role: core.Admin})
	h.rdb = h.redis.Client(t, testenv.SameSlot(t))
	h.store = store.New(h.rdb, store.Options{Partitions: 4})
	h.eng = engine.New(h.store, queue.NewClient(h.redis.Client(t)), h.bus(), engine.Options{Log: h.log, Types: []executor.Spec{{Type: "noop"}}})
	return h
}

func (h *house) bus() *events.Bus {
	h.t.Helper()
	b, err := events.Connect(events.Options{URLs: []string{h.nats.URL}, Name: "test", Log: h.log})
	h.must(err)
	h.t.Cleanup(b.Close)
	testenv.Eventually(h.t, 5*time.Second, b.Connected)
	return b
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) start(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.ctx))
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	h.t.Cleanup(stop)
	return stop
}

// dispatcher decides fires as an api process does.
func (h *house) dispatcher() {
	bus := h.bus()
	h.start(func(ctx context.Context) {
		bus.ConsumeFires(ctx, func(ctx context.Context, b events.Batch) error {
			for _, f := range b.Fires {
				if _, err := h.eng.DecideFire(ctx, f); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// A mortalStore is a store whose process may die: it then gives no lease back.
type mortalStore struct {
	*store.Store
	dead *atomic.Bool
}

func (s mortalStore) Lease(ctx context.Context, role, member string, n int, ttl time.Duration) (map[int]int64, error) {
	if s.dead.Load() {
		return nil, context.Canceled
	}
	return s.Store.Lease(ctx, role, member, n, ttl)
}

// process starts a trigger process. kill ends it without a good-bye.
func (h *house) process() (p *Process, kill func()) {
	s := mortalStore{store.New(h.redis.Client(h.t), store.Options{Partitions: 4}), &atomic.Bool{}}
	p = New(s, h.bus(), Options{Log: h.log})
	stop := h.start(func(ctx context.Context) { _ = p.Run(ctx) })
	return p, func() { s.dead.Store(true); stop() }
}

// trigger makes a trigger of one job.
func (h *house) trigger(spec schedule.Spec, m schedule.Misfire) core.Trigger {
	h.t.Helper()
	j, err := h.eng.CreateJob(h.ctx, core.Job{Meta: core.Meta{Name: "j"}, Type: "noop", Enabled: true})
	h.must(err)
	t, err := h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: core.Meta{Name: "t"}, Enabled: true, Schedule: spec, Misfire: m})
	h.must(err)
	_, err = h.eng.Bind(h.ctx, t.UUID, core.Target{Kind: core.JobTarget, UUID: j.UUID}, false)
	h.must(err)
	return t
}

// missed makes the process miss all slots since the given instant.
func (h *house) missed(t core.Trigger, since time.Time) {
	h.t.Helper()
	key := "takt:{t:" + strconv.Itoa(id.Partition(t.UUID, 4)) + "}:next"
	next := core.FireID{Revision: t.Revision, Slot: since}
	h.must(h.rdb.HSet(h.ctx, key, t.UUID, next.Entry()).Err())
}

// ledger gives a trigger's entries, oldest first.
func (h *house) ledger(t core.Trigger) []core.LedgerEntry {
	h.t.Helper()
	e, err := h.store.Ledger(h.ctx, t.UUID, time.Time{}, time.Time{}, 0, 10_000)
	h.must(err)
	slices.Reverse(e)
	return e
}

// decided waits until the ledger reaches an instant and nothing in it is open.
func (h *house) decided(t core.Trigger, until time.Time, within time.Duration) []core.LedgerEntry {
	h.t.Helper()
	var out []core.LedgerEntry
	testenv.Eventually(h.t, within, func() error {
		out = h.ledger(t)
		if len(out) == 0 || out[len(out)-1].To.Before(until) {
			return fmt.Errorf("%d entries, none at %s yet", len(out), until)
		}
		for _, e := range out {
			if e.Decision == "" {
				return fmt.Errorf("the slot of %s is open", e.From)
			}
		}
		return nil
	})
	return out
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func every(interval time.Duration, start time.Time) schedule.Spec {
	return schedule.Spec{Kind: schedule.Simple, Interval: interval, Start: start}
}

// Slots missed in a downtime are each covered once, as the policy says.
func TestMissedSlots(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	for _, c := range []struct {
		name   string
		m      schedule.Misfire
		early  bool // the first slot was published and decided before the downtime
		others core.Decision
		fired  time.Duration // slots no older than this fire
		late   int           // of those older, this many fire
	}{
		{"fire once", schedule.Misfire{}, false, core.Merged, time.Minute, 1},
		{"skip", schedule.Misfire{Policy: schedule.Skip}, false, core.Missed, time.Minute, 0},
		{"fire all", schedule.Misfire{Policy: schedule.FireAll}, false, "", time.Hour, 0},
		{"fire all in a window", schedule.Misfire{Policy: schedule.FireAll, CatchupWindow: 5 * time.Minute}, false, core.Missed, 5 * time.Minute, 0},
		{"fire all, ten at most", schedule.Misfire{Policy: schedule.FireAll, CatchupMax: 10}, false, core.Missed, time.Minute, 10},
		{"a threshold of its own", schedule.Misfire{Policy: schedule.Skip, Threshold: 4 * time.Minute}, false, core.Missed, 4 * time.Minute, 0},
		{"skip, first slot decided", schedule.Misfire{Policy: schedule.Skip}, true, core.Missed, time.Minute, 1},
		{"fire once, first slot decided", schedule.Misfire{}, true, core.Merged, time.Minute, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.dispatcher()
			began := second(time.Now())
			first := began.Add(-10 * time.Minute)
			tr := h.trigger(every(interval, first), c.m)
			h.missed(tr, first)
			if c.early {
				_, err := h.eng.DecideFire(h.ctx, core.FireID{Trigger: tr.UUID, Revision: tr.Revision, Slot: first})
				h.must(err)
			}
			h.process()
			entries := h.decided(tr, began, 10*time.Second)
			got := covers(t, entries, first, began, interval)
			runs, late := map[string]bool{}, 0
			for _, e := range entries {
				fired := e.Decision == core.Fired || e.Decision == core.Late
				age := began.Sub(e.To)
				switch {
				case fired && age >= c.fired:
					late++
				case !fired && e.Decision != c.others:
					t.Errorf("slots %s to %s are %s, want %q", e.From, e.To, e.Decision, c.others)
				case !fired && age < c.fired-interval:
					t.Errorf("a slot %s late is %s, want it fired", age, e.Decision)
				}
				if fired && (len(e.Runs) != 1 || runs[e.Runs[0]]) {
					t.Errorf("slot %s became runs %q, want one of its own", e.From, e.Runs)
				}
				if len(e.Runs) == 1 {
					runs[e.Runs[0]] = true
				}
			}
			if late != c.late {
				t.Errorf("%d slots older than %s fired, want %d", late, c.fired, c.late)
			}
			if c.early && got.of(first) != core.Fired && got.of(first) != core.Late {
				t.Errorf("the slot decided before is %q, want fired", got.of(first))
			}
			if n := len(entries) - len(runs); n > 2 {
				t.Errorf("what did not fire takes %d entries, want it merged", n)
			}
		})
	}
}

// Every change is felt at once.
func TestChangesTakeEffectAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.dispatcher()
	p, _ := h.process()
	testenv.Eventually(t, 5*time.Second, func() bool { return p.Shards() == 4 })

	// A new trigger, due in 200 ms: only the doorbell can bring it in time.
	start := time.Now().Add(200 * time.Millisecond).UTC().Truncate(time.Millisecond)
	tr := h.trigger(every(time.Hour, start), schedule.Misfire{})
	e := h.decided(tr, start, 5*time.Second)[0]
	if late := e.Published.Sub(e.From); late > 100*time.Millisecond {
		t.Errorf("a new trigger fired %s late, want at most 100ms", late)
	}

	// An edit, again due soon.
	start = time.Now().Add(200 * time.Millisecond).UTC().Truncate(time.Millisecond)
	_, err := h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Schedule.Start = start; return nil })
	h.must(err)
	all := h.decided(tr, start, 5*time.Second)
	e = all[len(all)-1]
	if late := e.Published.Sub(e.From); late > 100*time.Millisecond || e.Revision != 2 {
		t.Errorf("the edited trigger fired %s late under revision %d, want at most 100ms under 2", late, e.Revision)
	}

	for name, change := range map[string]func(uuid string) error{
		"disabled": func(uuid string) error {
			_, err := h.eng.UpdateTrigger(h.ctx, uuid, 0, func(t *core.Trigger) error { t.Enabled = false; return nil })
			return err
		},
		"deleted": func(uuid string) error { _, err := h.eng.DeleteTrigger(h.ctx, uuid); return err },
	} {
		tr := h.trigger(every(time.Second, second(time.Now())), schedule.Misfire{})
		h.decided(tr, tr.Next, 5*time.Second)
		h.must(change(tr.UUID))
		now, err := h.store.Now(h.ctx)
		h.must(err)
		witness := h.trigger(every(time.Second, second(time.Now())), schedule.Misfire{})
		h.decided(witness, now.Add(1500*time.Millisecond), 5*time.Second)
		if all := h.ledger(tr); all[len(all)-1].To.After(now) {
			t.Errorf("the %s trigger fired at %s, %s later", name, all[len(all)-1].To, all[len(all)-1].To.Sub(now))
		}
	}
}

// Two processes share the triggers, one dies. Its slots fire within the time of a
// takeover, and none is lost or doubled.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.dispatcher()
	one, kill := h.process()
	two, _ := h.process()
	testenv.Eventually(t, 10*time.Second, func() bool { return one.Shards() == 2 && two.Shards() == 2 })
	var all []core.Trigger
	start := second(time.Now()).Add(4 * time.Second) // by when all of them are made
	for range 12 {
		all = append(all, h.trigger(every(time.Second, start), schedule.Misfire{Policy: schedule.Skip}))
	}
	h.decided(all[0], start.Add(time.Second), 10*time.Second)
	killed := time.Now()
	kill()
	end := second(killed).Add(6 * time.Second)
	for _, tr := range all {
		entries := h.decided(tr, end, 12*time.Second)
		covers(t, entries, start, end, time.Second)
		for _, e := range entries {
			if late := e.Published.Sub(e.From); late > 4500*time.Millisecond || len(e.Runs) != 1 {
				t.Errorf("slot %s is %s, %s late, with runs %q; want one run within the takeover", e.From, e.Decision, late, e.Runs)
			}
		}
	}
	if two.Shards() != 4 {
		t.Errorf("the survivor holds %d shards, want all 4", two.Shards())
	}
}

// NATS goes away and comes back: slots wait, and all fire.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.dispatcher()
	p, _ := h.process()
	testenv.Eventually(t, 5*time.Second, func() bool { return p.Shards() == 4 })
	start := second(time.Now()).Add(2 * time.Second) // by when it is made
	tr := h.trigger(every(time.Second, start), schedule.Misfire{Policy: schedule.Skip})
	h.decided(tr, start, 5*time.Second)
	h.nats.Stop()
	away := time.Now()
	testenv.Eventually(t, 10*time.Second, func() bool { return time.Since(away) > 4*time.Second })
	if all := h.ledger(tr); all[len(all)-1].To.After(second(away).Add(2 * time.Second)) {
		t.Errorf("with NATS away the trigger was advanced to %s, want its slots to wait", all[len(all)-1].To)
	}
	h.nats.Restart()
	back := second(time.Now())
	entries := h.decided(tr, back, 12*time.Second)
	covers(t, entries, start, back, time.Second)
	for _, e := range entries {
		if len(e.Runs) != 1 {
			t.Errorf("slot %s is %s with runs %q, want one", e.From, e.Decision, e.Runs)
		}
	}
}

// A fire whose message was lost is published again.
func TestLostFireIsRepaired(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.process()
	testenv.Eventually(t, 5*time.Second, func() bool { return p.Shards() == 4 })
	start := time.Now().Add(300 * time.Millisecond).UTC().Truncate(time.Millisecond)
	tr := h.trigger(every(time.Hour, start), schedule.Misfire{})
	testenv.Eventually(t, 5*time.Second, func() bool { return len(h.ledger(tr)) == 1 })
	// The stream's content is lost before anybody reads it.
	js := h.nats.Client(t)
	_, err := js.Request("$JS.API.STREAM.PURGE."+events.Stream, nil, 5*time.Second)
	h.must(err)
	h.dispatcher()
	e := h.decided(tr, start, 10*time.Second)[0]
	if wait := e.Decided.Sub(start); wait < undecidedAfter-100*time.Millisecond {
		t.Errorf("decided %s after the slot although its message was lost", wait)
	}
}
