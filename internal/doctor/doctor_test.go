package doctor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/doctor"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// A ward is a deployment in which everything is well: real servers, and what
// living processes would have written a moment ago.
type ward struct {
	*testing.T
	redis *testenv.RedisServer
	nats  *testenv.NATSServer
	rdb   *redis.Client
	store *store.Store
	bus   *events.Bus
	run   string
	sends []core.Dispatch
}

const partitions = 2

func newWard(t *testing.T) *ward {
	t.Helper()
	t.Parallel()
	w := &ward{T: t, redis: testenv.DurableRedis(t), nats: testenv.NATS(t)}
	w.rdb = w.redis.Client(t)
	var err error
	w.store, err = store.Open(t.Context(), w.rdb, store.Options{Partitions: partitions})
	w.must(err)
	w.bus, err = events.Connect(events.Options{URLs: []string{w.nats.URL}, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	t.Cleanup(w.bus.Close)
	testenv.Eventually(t, 10*time.Second, w.bus.Connected)
	w.must(w.bus.EnsureStream(t.Context()))
	w.live()
	w.admit()
	return w
}

func (w *ward) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// live says that one process of each kind is alive. Leases are made longer than a
// test lasts.
func (w *ward) live() {
	for _, role := range []string{"partitions", "triggers"} {
		_, err := w.store.Lease(w.Context(), role, "one", partitions, time.Hour)
		w.must(err)
		w.must(w.rdb.ZAdd(w.Context(), "takt:{l:"+role+"}:members", redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "one"}).Err())
	}
	for _, role := range []string{"api", "worker", "trigger"} {
		w.card(core.Card{ID: role, Role: role, Host: "one"})
	}
	w.beat()
}

func (w *ward) card(c core.Card) {
	w.Helper()
	now, err := w.store.Now(w.Context())
	w.must(err)
	if c.Seen.IsZero() {
		c.Seen = now
	}
	if c.Version == "" {
		c.Version = "1.0"
	}
	if c.ZonesHash == "" {
		c.Zones, c.ZonesHash = "2025c", "abc"
	}
	w.must(w.store.PutCard(w.Context(), c))
}

func (w *ward) beat() {
	self := core.Worker{ID: "w1", Host: "one", Slots: 4, Queues: []string{"default"}, Types: []executor.Spec{{Type: "noop"}}}
	_, err := w.store.Beat(w.Context(), core.Heartbeat{Worker: "w1"}, &self)
	w.must(err)
}

// killed leaves the record of a worker on another host that was last heard so long ago.
func (w *ward) killed(ago time.Duration) error {
	self := core.Worker{ID: "w2", Host: "two", Slots: 4, Started: time.Now().Add(-2 * ago)}
	_, err := w.store.Beat(w.Context(), core.Heartbeat{Worker: "w2"}, &self)
	w.must(err)
	return w.rdb.ZAdd(w.Context(), "takt:{w}:beat", redis.Z{Score: float64(time.Now().Add(-ago).UnixMilli()), Member: "w2"}).Err()
}

// admit makes a run of two steps, of which the first is under way.
func (w *ward) admit() {
	target := id.New()
	a, err := w.store.Admit(w.Context(), core.Admission{
		Run:     core.Run{ID: w.store.NewRunID(target, time.Now(), "r"), Target: core.Target{Kind: core.GroupTarget, UUID: target}, Request: "r", Type: "noop"},
		Plan:    []core.PlannedStep{{Job: "a", Type: "noop", Timeout: time.Minute}, {Job: "b", Type: "noop", Timeout: time.Minute}},
		Overlap: core.Overlap{Policy: core.OverlapSkipSteps}, Routes: []core.Route{{Queue: "default"}, {Queue: "default"}}, Remember: time.Hour,
	})
	w.must(err)
	w.run, w.sends = a.Run, a.Sends
	w.must(queue.NewClient(w.rdb).Send(w.Context(), a.Sends[1:]))
	_, err = w.store.Begin(w.Context(), a.Sends[0], "w1")
	w.must(err)
}

func (w *ward) root() string {
	n, _ := id.RunPartition(w.run)
	return fmt.Sprintf("takt:{p:%d}", n)
}

func (w *ward) examine() doctor.Report {
	w.Helper()
	w.beat()
	return doctor.Examine(w.Context(), doctor.Sources{
		Redis:   func(ctx context.Context) []redisconn.Finding { return redisconn.Doctor(ctx, w.rdb) },
		Records: w.store, Queues: queue.NewClient(w.rdb), Stream: w.bus,
	})
}

// told writes down what is not ok, as "place/check severity".
func told(r doctor.Report) []string {
	out := []string{}
	for _, f := range r.Quiet().Findings {
		out = append(out, fmt.Sprintf("%s/%s %s", f.Place, f.Check, f.Severity))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestAHealthyDeploymentHasNoFindings(t *testing.T) {
	w := newWard(t)
	r := w.examine()
	if got := told(r); len(got) != 0 || r.Worst != redisconn.OK || r.OK < 30 {
		t.Errorf("told %q of %d checks, want nothing of 30 or more\n%+v", got, r.OK, r.Quiet().Findings)
	}
	w.must(w.rdb.ConfigSet(t.Context(), "appendfsync", "everysec").Err())
	if got := told(w.examine()); !slices.Equal(got, []string{"redis/persistence warning"}) {
		t.Errorf("with fsync each second: %q, want one warning about it", got)
	}
}

// Each row plants one thing that is not as it should be, and the doctor finds
// exactly that and says what to do.
func TestEachTroubleIsFound(t *testing.T) {
	ms := func(ago time.Duration) float64 { return float64(time.Now().Add(-ago).UnixMilli()) }
	add := func(key func(w *ward) string, member func(w *ward) string, ago time.Duration) func(w *ward) error {
		return func(w *ward) error {
			return w.rdb.ZAdd(w.Context(), key(w), redis.Z{Score: ms(ago), Member: member(w)}).Err()
		}
	}
	at := func(suffix string) func(*ward) string { return func(w *ward) string { return w.root() + suffix } }
	text := func(s string) func(*ward) string { return func(*ward) string { return s } }
	rows := []struct {
		name  string
		plant func(w *ward) error
		want  string
		says  string // in the text or the advice
	}{
		{"eviction", func(w *ward) error { return w.rdb.ConfigSet(w.Context(), "maxmemory-policy", "allkeys-lru").Err() }, "redis/memory problem", "noeviction"},
		{"NATS away", func(w *ward) error {
			w.nats.Stop()
			testenv.Eventually(w, 10*time.Second, func() bool { return !w.bus.Connected() })
			return nil
		}, "nats/connection problem", "start NATS"},
		{"NATS refuses", func(w *ward) error {
			w.nats.Stop()
			w.nats.RestartWithToken("another")
			testenv.Eventually(w, 10*time.Second, w.bus.Refused)
			return nil
		}, "nats/connection problem", "refuses this user"},
		{"no stream", func(w *ward) error {
			js, err := jetstream.New(w.nats.Client(w))
			w.must(err)
			return js.DeleteStream(w.Context(), events.Stream)
		}, "nats/stream warning", "start an api"},
		{"stream with other settings", func(w *ward) error {
			js, err := jetstream.New(w.nats.Client(w))
			w.must(err)
			s, err := js.Stream(w.Context(), events.Stream)
			w.must(err)
			c := s.CachedInfo().Config
			c.Discard = jetstream.DiscardOld
			_, err = js.UpdateStream(w.Context(), c)
			return err
		}, "nats/stream problem", "discard is DiscardOld"},
		{"no consumer", func(w *ward) error {
			js, err := jetstream.New(w.nats.Client(w))
			w.must(err)
			return js.DeleteConsumer(w.Context(), events.Stream, "takt-dispatch")
		}, "nats/consumer problem", "no consumer"},
		{"fires that nobody asks for", func(w *ward) error {
			return w.bus.PublishFires(w.Context(), []core.FireID{{Trigger: "t", Revision: 1, Slot: time.Now()}})
		}, "nats/backlog problem", "1 message to be decided"},
		{"no api process", func(w *ward) error { return w.rdb.Del(w.Context(), "takt:{l:partitions}:members").Err() }, "processes/api shards problem", "no api process is alive"},
		{"no trigger process", func(w *ward) error { return w.rdb.Del(w.Context(), "takt:{l:triggers}:members").Err() }, "processes/trigger shards problem", "no trigger fires"},
		{"a shard that nobody holds", func(w *ward) error {
			return w.rdb.HSet(w.Context(), "takt:{l:triggers}:shards", "1", "gone|4|1000").Err()
		},
			"processes/trigger shards problem", "[1]"},
		{"clocks apart", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "trigger", Host: "two", Ahead: 700 * time.Millisecond, RoundTrip: 2 * time.Millisecond})
			return nil
		}, "processes/clocks warning", "trigger on two is 700ms ahead"},
		{"clocks far apart", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "trigger", Host: "two", Ahead: -3 * time.Second})
			return nil
		}, "processes/clocks problem", "time server"},
		{"two versions", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "worker", Host: "two", Version: "0.9"})
			return nil
		},
			"processes/versions warning", "1 worker 0.9"},
		{"other time zone rules", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "trigger", Host: "two", Zones: "2025c", ZonesHash: "def"})
			return nil
		}, "processes/tzdata problem", "def"},
		{"an overdue slot", func(w *ward) error {
			next := core.FireID{Revision: 1, Slot: time.Now().Add(-time.Minute)}
			return w.rdb.HSet(w.Context(), "takt:{t:1}:next", "trigger-1", next.Entry()).Err()
		}, "work/slots problem", "trigger-1"},
		{"an undecided fire", add(text("takt:{t:0}:undecided"), text("trigger-1/1.5"), 2*time.Minute), "work/fires problem", "trigger-1/1.5"},
		{"an old effect", add(at(":outbox"), text("link|job|a|t"), time.Minute), "work/outbox problem", "1 link"},
		{"an old effect of a trigger", add(text("takt:{t:0}:outbox"), text("link|job|a|t"), time.Minute), "work/outbox problem", "1 effect"},
		{"an overdue timer", add(at(":timers"), text("deadline|x"), time.Minute), "work/timers problem", "1 deadline"},
		{"an attempt of a vanished worker", func(w *ward) error {
			return w.rdb.HSet(w.Context(), w.root()+":live", w.sends[0].ID(), "w9|"+fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())).Err()
		}, "work/attempts problem", "w9"},
		{"an attempt past its deadline", func(w *ward) error {
			return w.rdb.HSet(w.Context(), w.root()+":live", w.sends[0].ID(), "w1|"+fmt.Sprint(time.Now().Add(-time.Minute).UnixMilli())).Err()
		}, "work/attempts problem", "deadline"},
		{"workers behind", add(at(":sent"), func(w *ward) string { return w.sends[1].ID() }, 2*time.Minute), "work/dispatches warning", "start more workers"},
		{"a parked step", func(w *ward) error {
			_, err := w.store.Move(w.Context(), core.MoveSent, []core.Move{{Dispatch: w.sends[1], Route: core.Route{Wait: "waits for a worker that executes x"}}})
			return err
		}, "work/parked steps warning", "1 step is parked: 1 × waits for a worker that executes x"},
		{"an archived task", func(w *ward) error {
			return asynq.NewInspectorFromRedisClient(w.rdb).ArchiveTask("default", w.sends[1].ID())
		}, "work/queues warning", "1 in default"},
		{"a queue nobody reads", func(w *ward) error {
			_, err := asynq.NewClientFromRedisClient(w.rdb).Enqueue(asynq.NewTask("t", nil), asynq.Queue("host-gone"))
			return err
		}, "work/queues warning", "1 in host-gone"},
		{"a paused queue", func(w *ward) error { return asynq.NewInspectorFromRedisClient(w.rdb).PauseQueue("default") }, "work/queues warning", "resume"},
		{"a trigger process killed a while ago", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "trigger", Host: "two", Ahead: time.Hour, ZonesHash: "def", Seen: time.Now().Add(-core.CardLife - 5*time.Second)})
			return nil
		}, "processes/vanished warning", "trigger on two, last heard 35s ago"},
		{"one of its kind was there before", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "api", Host: "one", Started: time.Now().Add(-time.Hour), Seen: time.Now().Add(-time.Minute)})
			return nil
		}, "processes/vanished warning", "api on one, last heard 1m0s ago"},
		{"one of its kind came later", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "api", Host: "one", Seen: time.Now().Add(-time.Minute)})
			w.card(core.Card{ID: "y", Role: "api", Host: "one", Started: time.Now().Add(-30 * time.Second)})
			return nil
		}, "", ""},
		{"one of another kind came later", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "api", Host: "two", Seen: time.Now().Add(-time.Minute)})
			w.card(core.Card{ID: "y", Role: "trigger", Host: "two", Started: time.Now().Add(-30 * time.Second)})
			return nil
		}, "processes/vanished warning", "api on two"},
		{"a killed worker", func(w *ward) error { return w.killed(8 * time.Second) }, "processes/vanished warning", "worker on two, last heard 8s ago"},
		{"a killed worker's record has lapsed", func(w *ward) error {
			w.must(w.killed(25 * time.Hour))
			return w.store.ForgetWorkers(w.Context(), time.Now().Add(-24*time.Hour))
		}, "", ""},
		{"apis in two zones", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "api", Host: "two", Zone: "Asia/Shanghai"})
			w.card(core.Card{ID: "y", Role: "api", Host: "three", Zone: "Etc/UTC"})
			return nil
		}, "processes/client zone warning", "Asia/Shanghai by api on two; Etc/UTC by api on three"},
		{"apis in one zone", func(w *ward) error {
			w.card(core.Card{ID: "x", Role: "api", Host: "two", Zone: "Asia/Shanghai"})
			w.card(core.Card{ID: "y", Role: "api", Host: "three", Zone: "Asia/Shanghai"})
			return nil
		}, "", ""},
		{"a newer Takt's Redis", func(w *ward) error { return w.rdb.Set(w.Context(), "takt:{w}:format", 99, 0).Err() }, "records/format problem", "format 99"},
		{"a run that has ended, under way", func(w *ward) error {
			target := w.rdb.HGet(w.Context(), w.root()+":run:"+w.run, "tg").Val()
			return w.rdb.ZAdd(w.Context(), w.root()+":act:"+target, redis.Z{Score: 1, Member: strings.Replace(w.run, w.run[:4], "0000", 1)}).Err()
		}, "records/orphans problem", "count as under way"},
		{"a plan that is gone", func(w *ward) error {
			return w.rdb.HSet(w.Context(), w.root()+":run:"+w.run, "pl", "nothing").Err()
		}, "records/orphans problem", ":plan:nothing"},
		{"an attempt of a run that is gone", func(w *ward) error {
			d := strings.Replace(w.sends[0].ID(), w.run[:4], "0000", 1)
			return w.rdb.HSet(w.Context(), w.root()+":live", d, "w1|"+fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())).Err()
		}, "records/orphans problem", "belong to runs that are gone"},
		{"a run that its target does not know", func(w *ward) error {
			target := w.rdb.HGet(w.Context(), w.root()+":run:"+w.run, "tg").Val()
			return w.rdb.ZRem(w.Context(), w.root()+":act:"+target, w.run).Err()
		}, "records/orphans problem", "their target does not know"},
		{"a listed run that is gone", add(at(":runs"), func(w *ward) string { return strings.Replace(w.run, w.run[:4], "0000", 1) }, 0), "records/orphans problem", "listed runs are gone"},
		{"a step that nothing will move", func(w *ward) error { return w.rdb.ZRem(w.Context(), w.root()+":sent", w.sends[1].ID()).Err() },
			"records/orphans problem", "nothing will move"},
		{"a busy mark", func(w *ward) error {
			target := w.rdb.HGet(w.Context(), w.root()+":run:"+w.run, "tg").Val()
			return w.rdb.HSet(w.Context(), w.root()+":busy:"+target, "j", w.run+":7").Err()
		}, "records/orphans problem", "jobs count as running"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWard(t)
			w.must(row.plant(w))
			r := w.examine()
			want := []string{row.want}
			if row.want == "" {
				want = []string{}
			}
			if got := told(r); !slices.Equal(got, want) {
				t.Fatalf("told %q, want %q\n%+v", got, want, r.Quiet().Findings)
			}
			for _, f := range r.Quiet().Findings {
				if f.Do == "" || !strings.Contains(f.Text+f.Do, row.says) || strings.Contains(f.Do, "%!") {
					t.Errorf("%+v: want %q in it, and what to do", f, row.says)
				}
			}
		})
	}
}

// Steps that wait with nobody to execute them stand still, which is a problem; with
// nothing to do, that nobody is there is to be known.
func TestNoWorker(t *testing.T) {
	w := newWard(t)
	w.must(w.store.Leave(t.Context(), "w1"))
	r := w.examineDead()
	if got := told(r); !slices.Contains(got, "processes/workers problem") || !slices.Contains(got, "work/attempts problem") || !slices.Contains(got, "work/queues warning") {
		t.Errorf("told %q, want no worker, its attempt and the queue nobody reads", got)
	}
	for _, says := range []string{"1 step waits", "start worker processes", "password that Redis refuses"} {
		if f := found(r, "workers"); !strings.Contains(f.Text+f.Do, says) {
			t.Errorf("%+v: want %q in it", f, says)
		}
	}
	w.must(w.rdb.ZAdd(t.Context(), w.root()+":sent", redis.Z{Score: 1, Member: w.sends[1].ID()}).Err())
	if got := told(w.examineDead()); !slices.Contains(got, "work/dispatches problem") {
		t.Errorf("told %q, want old dispatches in a queue nobody reads", got)
	}
	_, err := w.store.Move(t.Context(), core.MoveSent, []core.Move{{Dispatch: w.sends[1], Route: core.Route{Wait: "waits for a worker that executes noop"}}})
	w.must(err)
	if got := told(w.examineDead()); !slices.Contains(got, "processes/workers problem") {
		t.Errorf("with a parked step: told %q, want a problem with the workers", got)
	}
	w.must(w.rdb.FlushAll(t.Context()).Err())
	if got := told(w.examineDead()); !slices.Contains(got, "processes/workers warning") {
		t.Errorf("with nothing to do: told %q, want a warning about the workers", got)
	}
}

func TestAllWorkersDrain(t *testing.T) {
	w := newWard(t)
	drain := func() (doctor.Report, string) {
		_, err := w.store.Beat(t.Context(), core.Heartbeat{Worker: "w1", Draining: true}, nil)
		w.must(err)
		r := w.examineDead()
		return r, string(found(r, "workers").Severity)
	}
	if r, got := drain(); got != "problem" {
		t.Errorf("with a step that waits: %s, want a problem\n%+v", got, r.Quiet().Findings)
	}
	w.must(w.rdb.Del(t.Context(), w.root()+":sent", w.root()+":waiting").Err())
	if r, got := drain(); got != "warning" {
		t.Errorf("with nothing that waits: %s, want a warning\n%+v", got, r.Quiet().Findings)
	}
}

func found(r doctor.Report, check string) doctor.Finding {
	for _, f := range r.Findings {
		if f.Check == check {
			return f
		}
	}
	return doctor.Finding{}
}

// In a full Redis nobody can say that he lives: the findings that may follow from it
// say so, and what to do first.
func TestFullRedisIsMendedFirst(t *testing.T) {
	w := newWard(t)
	w.must(w.rdb.Del(t.Context(), "takt:{l:partitions}:members").Err())
	w.must(w.rdb.HSet(t.Context(), "takt:{l:triggers}:shards", "1", "gone|4|1000").Err())
	w.must(w.store.Leave(t.Context(), "w1"))
	w.must(w.rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	r := doctor.Examine(t.Context(), doctor.Sources{
		Redis:   func(ctx context.Context) []redisconn.Finding { return redisconn.Doctor(ctx, w.rdb) },
		Records: w.store, Queues: queue.NewClient(w.rdb), Stream: w.bus,
	})
	marked := map[string]bool{}
	for _, f := range r.Quiet().Findings {
		if strings.Contains(f.Text, "may follow from Redis being full") {
			marked[f.Check] = strings.HasPrefix(f.Do, "make room in Redis first")
		}
	}
	if want := map[string]bool{"api shards": true, "trigger shards": true, "workers": true}; !maps.Equal(marked, want) {
		t.Errorf("marked %v, want %v\n%+v", marked, want, r.Quiet().Findings)
	}
}

// What Redis cannot answer is a finding, not an error, and NATS is looked at all
// the same.
func TestRedisAway(t *testing.T) {
	w := newWard(t)
	r := doctor.Examine(t.Context(), doctor.Sources{
		Redis: func(context.Context) []redisconn.Finding {
			return []redisconn.Finding{redisconn.Unreachable(fmt.Errorf("refused"))}
		},
		Stream: w.bus,
	})
	if got := told(r); !slices.Equal(got, []string{"redis/connection problem"}) || r.OK < 5 {
		t.Errorf("told %q and %d ok, want Redis' connection and NATS' checks", got, r.OK)
	}
	w.redis.Kill()
	r = w.examineDead()
	if got := told(r); !slices.Contains(got, "records/records problem") {
		t.Errorf("told %q, want that the records cannot be read", got)
	}
}

func (w *ward) examineDead() doctor.Report {
	return doctor.Examine(w.Context(), doctor.Sources{
		Redis: func(context.Context) []redisconn.Finding { return nil }, Records: w.store, Queues: queue.NewClient(w.rdb), Stream: w.bus,
	})
}

func TestReportAsTextAndJSON(t *testing.T) {
	t.Parallel()
	r := doctor.Report{Worst: redisconn.Problem, OK: 1, Warnings: 1, Problems: 1, Findings: []doctor.Finding{
		{Place: doctor.Redis, Check: "version", Severity: redisconn.OK, Text: "redis 7"},
		{Place: doctor.Redis, Check: "persistence", Severity: redisconn.Warning, Text: "everysec", Do: "set always"},
		{Place: doctor.Work, Check: "timers", Severity: redisconn.Problem, Text: "2 timers\n are overdue", Do: "start api"},
	}}
	var text, document bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `Redis
  ok       version      redis 7
  warning  persistence  everysec
                        do: set always
Work
  problem  timers       2 timers are overdue
                        do: start api
3 checks: 1 ok, 1 warning, 1 problem
`
	if text.String() != want {
		t.Errorf("text:\n%s\nwant:\n%s", &text, want)
	}
	if err := json.NewEncoder(&document).Encode(r.Quiet()); err != nil {
		t.Fatal(err)
	}
	const shape = `{"worst":"problem","ok":1,"warnings":1,"problems":1,"findings":[` +
		`{"place":"redis","check":"persistence","severity":"warning","text":"everysec","do":"set always"},` +
		`{"place":"work","check":"timers","severity":"problem","text":"2 timers\n are overdue","do":"start api"}]}` + "\n"
	if document.String() != shape {
		t.Errorf("JSON:\n%s\nwant:\n%s", &document, shape)
	}
}

// A mending store is the real one, where what a look through it found is gone a
// moment later.
type mending struct {
	*store.Store
	mend func()
}

func (m mending) Orphans(ctx context.Context, partition int) (core.Orphans, error) {
	found, err := m.Store.Orphans(ctx, partition)
	if len(found.Found) > 0 {
		m.mend()
	}
	return found, err
}

func TestWhatIsGoneAtASecondLookIsNotTold(t *testing.T) {
	w := newWard(t)
	target := w.rdb.HGet(t.Context(), w.root()+":run:"+w.run, "tg").Val()
	w.must(w.rdb.HSet(t.Context(), w.root()+":busy:"+target, "j", w.run+":7").Err())
	r := doctor.Examine(t.Context(), doctor.Sources{
		Redis:   func(context.Context) []redisconn.Finding { return nil },
		Records: mending{w.store, func() { w.must(w.rdb.HDel(w.Context(), w.root()+":busy:"+target, "j").Err()) }},
		Queues:  queue.NewClient(w.rdb), Stream: w.bus,
	})
	if got := told(r); len(got) != 0 {
		t.Errorf("told %q, want nothing: the mark was a moment's", got)
	}
}

// A healing store is the real one, where a worker comes once the parked steps were counted.
type healing struct {
	*store.Store
	heal func()
}

func (h healing) Census(ctx context.Context, partition int, now time.Time) (core.Census, error) {
	c, err := h.Store.Census(ctx, partition, now)
	if c.Parked > 0 {
		h.heal()
	}
	return c, err
}

func TestStepsThatWaitedForAMomentAreNotTold(t *testing.T) {
	w := newWard(t)
	park := []core.Move{{Dispatch: w.sends[1], Route: core.Route{Wait: "waits for a worker that executes noop"}}}
	_, err := w.store.Move(t.Context(), core.MoveSent, park)
	w.must(err)
	w.beat()
	r := doctor.Examine(t.Context(), doctor.Sources{
		Redis:   func(context.Context) []redisconn.Finding { return nil },
		Records: healing{w.store, func() { w.must(w.rdb.Del(w.Context(), w.root()+":parked").Err()) }},
		Queues:  queue.NewClient(w.rdb), Stream: w.bus,
	})
	if got := told(r); slices.Contains(got, "work/parked steps warning") {
		t.Errorf("told %q, want no parked steps: a worker has come", got)
	}
}
