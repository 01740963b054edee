package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

func someWorker(name string) core.Worker {
	return core.Worker{
		ID: name, Host: "h", Tags: []string{"a|b"}, Slots: 4, Version: "1", Resources: []string{"r-" + name}, Queues: []string{"default"}, Started: accountBirth,
		Types: []executor.Spec{{Type: "type-" + name, Parameters: []executor.Parameter{{Name: "p", Kind: executor.Integer}}}},
	}
}

func TestHeartbeats(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	beat := core.Heartbeat{
		Worker: "w1", Taken: []string{"d1"}, Running: []string{"d2", "d3"}, Draining: true,
		Progress: map[string]core.Progress{"d3": {Done: 3 << 40, Total: 5 << 40}},
	}
	w.wantChanges("a worker nobody knows", func() {
		_, err := w.store.Beat(ctx, beat, nil)
		wantErrorKind(t, "beat", err, core.NotFound)
	})
	self := someWorker("w1")
	if stops, err := w.store.Beat(ctx, beat, &self); err != nil || len(stops) != 0 {
		t.Fatalf("announce: got %q, %v", stops, err)
	}
	for _, again := range []core.Heartbeat{{Worker: "w1"}, beat} {
		must(w.store.Beat(ctx, again, nil))(w)
	}
	f := must(w.store.Fleet(ctx))(w)
	got := f.Workers["w1"]
	if !got.Live || got.Seen.IsZero() || !got.Draining || got.Busy != 2 {
		t.Errorf("got %+v", got)
	}
	got.Live, got.Seen, got.Draining, got.Busy = false, time.Time{}, false, 0
	wantEqual(t, "worker", got, self)
	wantEqual(t, "held", f.Held["w1"], beat)
	if f.Types["type-w1"].Parameters[0].Kind != executor.Integer || f.Resources["r-w1"].IsZero() || f.Now.IsZero() {
		t.Errorf("got the types %v and the resources %v", f.Types, f.Resources)
	}
}

func TestStopsAreDeliveredOnce(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	self := someWorker("w1")
	must(w.store.Beat(ctx, core.Heartbeat{Worker: "w1"}, &self))(w)
	for _, d := range []string{"d1", "d2", "d1"} {
		w.ok(w.store.TellStop(ctx, core.Stop{Worker: "w1", Dispatch: d}))
	}
	w.ok(w.store.TellStop(ctx, core.Stop{Worker: "w2", Dispatch: "d3"}))
	stops := must(w.store.Beat(ctx, core.Heartbeat{Worker: "w1"}, nil))(w)
	slices.Sort(stops)
	wantEqual(t, "stops", stops, []string{"d1", "d2"})
	if again := must(w.store.Beat(ctx, core.Heartbeat{Worker: "w1"}, nil))(w); len(again) != 0 {
		t.Errorf("again: got %q, want nothing", again)
	}
	if ttl := w.rdb.PTTL(ctx, w.keysLike(":stop:w2")[0]).Val(); ttl <= 0 {
		t.Error("word for a worker that never comes is kept for ever")
	}
}

func TestWorkersLeaveAndAreForgotten(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	for _, name := range []string{"w1", "w2", "w3"} {
		self := someWorker(name)
		must(w.store.Beat(ctx, core.Heartbeat{Worker: name}, &self))(w)
	}
	w.ok(w.store.Leave(ctx, "w1"))
	_, err := w.store.Beat(ctx, core.Heartbeat{Worker: "w1"}, nil)
	wantErrorKind(t, "a beat after the leave", err, core.NotFound)
	old := w.now().Add(-store.LiveFor)
	w.ok(w.rdb.ZAdd(ctx, "takt:{w}:beat", zAt(old.UnixMilli(), "w2")).Err())
	f := must(w.store.Fleet(ctx))(w)
	if _, ok := f.Workers["w1"]; ok || f.Workers["w2"].Live || !f.Workers["w3"].Live {
		t.Errorf("got %+v", f.Workers)
	}
	w.ok(w.store.ForgetWorkers(ctx, old))
	f = must(w.store.Fleet(ctx))(w)
	if len(f.Workers) != 1 || len(f.Held) != 1 || len(f.Types) != 3 || len(f.Resources) != 3 {
		t.Errorf("got %d workers, %d types, %d resources; want 1, and all that was ever announced", len(f.Workers), len(f.Types), len(f.Resources))
	}
}

// A worker that leaves between two readings spoils no look at the others.
func TestFleetWithHalfAWorker(t *testing.T) {
	for _, row := range []string{"load", "workers"} {
		t.Run("no "+row, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			ctx := t.Context()
			for _, name := range []string{"w1", "w2"} {
				self := someWorker(name)
				must(w.store.Beat(ctx, core.Heartbeat{Worker: name, Running: []string{"d-" + name}}, &self))(w)
			}
			w.ok(w.rdb.HDel(ctx, "takt:{w}:"+row, "w1").Err())
			f := must(w.store.Fleet(ctx))(w)
			if !f.Workers["w2"].Live || !slices.Equal(f.Held["w2"].Running, []string{"d-w2"}) {
				t.Errorf("got %+v and %+v of the other worker", f.Workers["w2"], f.Held["w2"])
			}
			if len(f.Held["w1"].Running) != 0 {
				t.Errorf("got %+v of the one that leaves, want nothing held", f.Held["w1"])
			}
		})
	}
}

// Nobody sees a worker that has left by half.
func TestLeaveIsOneStep(t *testing.T) {
	w := newWorld(t, store.Options{})
	self := someWorker("w1")
	must(w.store.Beat(t.Context(), core.Heartbeat{Worker: "w1"}, &self))(w)
	w.ok(w.rdb.ConfigResetStat(t.Context()).Err())
	w.ok(w.store.Leave(t.Context(), "w1"))
	stats := must(w.rdb.Info(t.Context(), "commandstats").Result())(w)
	if !strings.Contains(stats, "cmdstat_exec:calls=1,") {
		t.Errorf("the commands are %s, want them in one transaction", stats)
	}
}

// lease renews for a member and gives its shards.
func (w *world) lease(member string, shards int, ttl time.Duration) map[int]int64 {
	w.Helper()
	return must(w.store.Lease(w.Context(), "role", member, shards, ttl))(w)
}

func TestLeasesAreShared(t *testing.T) {
	w := newWorld(t, store.Options{})
	const shards = 16
	if got := w.lease("a", shards, time.Hour); len(got) != shards {
		t.Fatalf("alone: got %d shards, want all", len(got))
	}
	for _, row := range []struct{ members, most int }{{2, 8}, {3, 6}, {5, 4}, {16, 1}, {20, 1}} {
		var held []map[int]int64
		for range 2 { // the first round gives back, the second takes
			held = nil
			for m := range row.members {
				held = append(held, w.lease(string(rune('a'+m)), shards, time.Hour))
			}
		}
		owner := map[int]int{}
		for m, mine := range held {
			if len(mine) > row.most {
				t.Errorf("%d members: member %d holds %d shards, at most %d are fair", row.members, m, len(mine), row.most)
			}
			for n := range mine {
				if before, twice := owner[n]; twice {
					t.Errorf("%d members: shard %d is held by %d and %d", row.members, n, before, m)
				}
				owner[n] = m
			}
		}
		if len(owner) != shards {
			t.Errorf("%d members: %d shards are held, want all %d", row.members, len(owner), shards)
		}
	}
}

func TestGenerationGrowsWithEachOwner(t *testing.T) {
	w := newWorld(t, store.Options{})
	first := w.lease("a", 1, time.Hour)[0]
	if again := w.lease("a", 1, time.Hour)[0]; again != first {
		t.Errorf("renewed: got the generation %d, want %d", again, first)
	}
	if left := w.lease("a", 1, 0); len(left) != 0 {
		t.Errorf("left: got %v", left)
	}
	second := w.lease("b", 1, time.Hour)[0]
	if second <= first {
		t.Errorf("after a leave: got the generation %d, want more than %d", second, first)
	}
	w.lease("b", 1, 0)
	if third := w.lease("a", 1, time.Hour)[0]; third <= second {
		t.Errorf("the first owner again: got the generation %d, want more than %d", third, second)
	}
	if got := w.lease("a|b", 1, time.Hour); len(got) != 0 {
		t.Errorf("a second member of one shard: got %v, want nothing", got)
	}
}

func TestExpiredLeasesAreTakenOver(t *testing.T) {
	w := newWorld(t, store.Options{})
	first := w.lease("a", 4, 50*time.Millisecond)
	if early := w.lease("b", 4, time.Hour); len(early) != 0 {
		t.Errorf("before they expire: got %v, want nothing", early)
	}
	var second map[int]int64
	testenv.Eventually(t, 5*time.Second, func() bool {
		second = w.lease("b", 4, 50*time.Millisecond)
		return len(second) == 4
	})
	w.lease("b", 4, time.Hour)
	for n, generation := range second {
		if generation <= first[n] {
			t.Errorf("shard %d: got the generation %d, want more than %d", n, generation, first[n])
		}
	}
	if got := w.lease("a", 4, time.Hour); len(got) != 0 {
		t.Errorf("the first owner comes back: got %v, want nothing before the others give back", got)
	}
	w.lease("b", 4, time.Hour)
	if got := w.lease("a", 4, time.Hour); len(got) != 2 {
		t.Errorf("after they gave back: got %v, want 2 shards", got)
	}
}

func TestRolesDoNotShareLeases(t *testing.T) {
	w := newWorld(t, store.Options{})
	w.lease("a", 3, time.Hour)
	if other := must(w.store.Lease(t.Context(), "another", "b", 3, time.Hour))(w); len(other) != 3 {
		t.Errorf("got %v, want all shards of the other role", other)
	}
}

func TestOpenChecksThePartitions(t *testing.T) {
	w := newWorld(t, store.Options{})
	_, err := store.Open(t.Context(), w.rdb, store.Options{})
	wantErrorKind(t, "whatever is there, and nothing is", err, core.NotFound)
	for _, n := range []int{4, 4, 0} {
		if s := must(store.Open(t.Context(), w.rdb, store.Options{Partitions: n}))(w); s.Partitions() != 4 {
			t.Errorf("asked for %d: got %d, want 4", n, s.Partitions())
		}
	}
	_, err = store.Open(t.Context(), w.rdb, store.Options{Partitions: 8})
	wantErrorKind(t, "another number", err, core.Invalid)
}

func TestAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	s := store.New(server.Client(t), store.Options{})
	server.Kill()
	wantErrorKind(t, "ping", s.Ping(t.Context()), core.Unavailable)
	_, err := s.Fleet(t.Context())
	wantErrorKind(t, "fleet", err, core.Unavailable)
	_, err = s.ListRuns(t.Context(), core.RunFilter{})
	wantErrorKind(t, "list", err, core.Unavailable)
}
