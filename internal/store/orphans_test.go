package store_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// A fixture is one partition with a run in every state a run can lie in.
type fixture struct {
	*world
	target       core.Target
	run          string          // under way: steps running, dispatched, waiting for a retry and ended
	dispatches   []core.Dispatch // of run
	ended        string
	busy         core.Target // of a run under skip_steps
	busyRun      string
	busySteps    []core.Dispatch
	task, moving core.CBTTask // Running, and with a transition whose run is yet to be admitted
	parkedTarget core.Target
}

const R = "takt:{p:0}"

func newFixture(t *testing.T) *fixture {
	f := &fixture{world: newWorld(t, store.Options{Partitions: 1})}
	f.target, f.busy, f.parkedTarget = f.group("T"), f.group("B"), f.group("P")
	f.run, f.dispatches = f.start("run", f.target, 4, core.OverlapBufferOne)
	for k := range 3 {
		f.begin(f.dispatches[k], "w1")
	}
	f.finish(f.dispatches[1], "w1", failure(time.Hour))
	f.finish(f.dispatches[2], "w1", success)
	must(f.store.Admit(f.Context(), f.admission("buffered", f.target, 2, core.OverlapBufferOne, queued)))(f.world)
	f.busyRun, f.busySteps = f.start("busy", f.busy, 2, core.OverlapSkipSteps)
	must(f.store.Admit(f.Context(), f.admission("parked", f.parkedTarget, 3, core.OverlapAllow, parked)))(f.world)
	large := f.group("L")
	f.start("large", large, core.Chunk+1, core.OverlapAllow)
	f.ended, _ = f.start("ended", f.group("E"), 2, core.OverlapAllow)
	f.drive(f.ended)
	f.task, f.moving = f.newTask("C", 1), f.newTask("D", 1)
	f.ok(f.store.MoveCBT(t.Context(), f.task, core.CBTMove{Status: core.CBTRunning}))
	f.ok(f.store.RestCBT(t.Context(), f.task.UUID, 24*time.Hour))
	f.ok(f.store.MoveCBT(t.Context(), f.moving, core.CBTMove{Pending: f.pending(f.moving, core.CBTEnable, core.CBTRunning, core.CBTFailed, 0)}))
	return f
}

func (f *fixture) orphans() core.Orphans {
	f.Helper()
	return must(f.store.Orphans(f.Context(), 0))(f.world)
}

func TestNoOrphansWhereAllIsWell(t *testing.T) {
	f := newFixture(t)
	got := f.orphans()
	if len(got.Found) != 0 {
		t.Errorf("found %+v, want none", got.Found)
	}
	if got.Targets != 5 || got.Runs != 6 {
		t.Errorf("looked at %d targets and %d runs, want 5 and 6", got.Targets, got.Runs)
	}
}

func TestPlantedOrphansAreFound(t *testing.T) {
	gone := id.Run(time.Now(), 0)
	rows := []struct {
		name  string
		plant func(f *fixture, p redis.Pipeliner)
		want  core.OrphanKind
		of    func(f *fixture) string
	}{
		{"a run that has ended, under way", func(f *fixture, p redis.Pipeliner) {
			p.ZAdd(f.Context(), R+":act:"+f.target.UUID, zAt(1, f.ended))
		}, core.OrphanActive, func(f *fixture) string { return f.ended }},
		{"a run that is gone, under way", func(f *fixture, p redis.Pipeliner) {
			p.ZAdd(f.Context(), R+":act:"+f.target.UUID, zAt(1, gone))
		}, core.OrphanActive, func(*fixture) string { return gone }},
		{"busy with a step that has ended", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":busy:"+f.busy.UUID, "j", f.ended+":0")
		}, core.OrphanBusy, func(f *fixture) string { return f.ended + ":0" }},
		{"busy with a step that is gone", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":busy:"+f.busy.UUID, "j", gone+":0")
		}, core.OrphanBusy, func(*fixture) string { return gone + ":0" }},
		{"a plan that is gone", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":run:"+f.ended, "pl", "nothing")
		}, core.OrphanPlan, func(*fixture) string { return "nothing" }},
		{"a plan that counts no run", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":plan:"+f.planOf(f.run), "refs", 0)
		}, core.OrphanPlan, func(f *fixture) string { return f.planOf(f.run) }},
		{"a listed run that is gone", func(f *fixture, p redis.Pipeliner) {
			p.ZAdd(f.Context(), R+":runs", zAt(time.Now().UnixMilli(), gone))
		}, core.OrphanIndex, func(*fixture) string { return gone }},
		{"a dispatch of a run that is gone", func(f *fixture, p redis.Pipeliner) {
			p.ZAdd(f.Context(), R+":sent", zAt(1, gone+":0:1-ab"))
		}, core.OrphanSent, func(*fixture) string { return gone + ":0:1-ab" }},
		{"an attempt of a run that is gone", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":live", gone+":0:1-ab", "w1|1")
		}, core.OrphanSent, func(*fixture) string { return gone + ":0:1-ab" }},
		{"a run that its target does not know", func(f *fixture, p redis.Pipeliner) {
			p.ZRem(f.Context(), R+":act:"+f.target.UUID, f.run)
		}, core.OrphanRun, func(f *fixture) string { return f.run }},
		{"a running step without an attempt", func(f *fixture, p redis.Pipeliner) {
			p.HDel(f.Context(), R+":live", f.dispatches[0].ID())
		}, core.OrphanStep, func(f *fixture) string { return f.run + ":0" }},
		{"a waiting step without a timer", func(f *fixture, p redis.Pipeliner) {
			p.ZRem(f.Context(), R+":timers", "retry|"+f.run+":1:1")
		}, core.OrphanStep, func(f *fixture) string { return f.run + ":1" }},
		{"a dispatched step that was not sent", func(f *fixture, p redis.Pipeliner) {
			p.ZRem(f.Context(), R+":sent", f.busySteps[1].ID())
		}, core.OrphanStep, func(f *fixture) string { return f.busyRun + ":1" }},
		{"a stretch of dispatched steps that was not sent", func(f *fixture, p redis.Pipeliner) {
			p.ZRem(f.Context(), R+":sent", f.run+":0-4:"+f.dispatches[0].Fence.String())
		}, core.OrphanStep, func(f *fixture) string { return f.run + ":3" }},
		{"a task whose run is gone", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":cbt:"+f.task.UUID, "prun", gone)
		}, core.OrphanTask, func(f *fixture) string { return f.task.UUID }},
		{"a task whose run has ended", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":cbt:"+f.moving.UUID, "prun", f.ended)
			p.ZRem(f.Context(), R+":outbox", "cbt|"+f.moving.UUID)
		}, core.OrphanTask, func(f *fixture) string { return f.moving.UUID }},
		{"a task that nobody looks at", func(f *fixture, p redis.Pipeliner) {
			p.ZRem(f.Context(), R+":timers", "cbt|"+f.task.UUID)
		}, core.OrphanTask, func(f *fixture) string { return f.task.UUID }},
		{"a listed task that is gone", func(f *fixture, p redis.Pipeliner) {
			p.SAdd(f.Context(), R+":cbts", gone)
		}, core.OrphanTask, func(*fixture) string { return gone }},
		{"steps that nobody is to make", func(f *fixture, p redis.Pipeliner) {
			p.HSet(f.Context(), R+":run:"+f.busyRun, "n", 3)
		}, core.OrphanStep, func(f *fixture) string { return f.busyRun }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			pipe := f.rdb.Pipeline()
			row.plant(f, pipe)
			must(pipe.Exec(t.Context()))(f.world)
			got := f.orphans().Found
			if len(got) != 1 || got[0].Kind != row.want || got[0].Of != row.of(f) || !strings.HasPrefix(got[0].Key, R+":") || got[0].Text == "" {
				t.Errorf("found %+v, want one of kind %s of %s", got, row.want, row.of(f))
			}
		})
	}
}

func (f *fixture) planOf(run string) string {
	return f.rdb.HGet(f.Context(), R+":run:"+run, "pl").Val()
}

// What it looks at is a sample, and it says so.
func TestOrphansStopEarly(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	pipe := w.rdb.Pipeline()
	for n := range 150 {
		pipe.ZAdd(t.Context(), R+":runs", zAt(int64(n), id.Run(time.Now(), 0)))
	}
	must(pipe.Exec(t.Context()))(w)
	got := must(w.store.Orphans(t.Context(), 0))(w)
	if !got.Stopped || got.Runs != 100 || len(got.Found) != 100 {
		t.Errorf("looked at %d runs and found %d, stopped early %v; want 100, 100, true", got.Runs, len(got.Found), got.Stopped)
	}
}

func TestEveryScriptIsLoaded(t *testing.T) {
	w := newWorld(t, store.Options{})
	made := 0
	for _, file := range must(filepath.Glob("*.go"))(w) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text := must(os.ReadFile(file))(w)
		made += len(regexp.MustCompile(`= script\(`).FindAll(text, -1))
	}
	if n, err := w.store.LoadScripts(t.Context()); err != nil || n != made {
		t.Errorf("LoadScripts = %d, %v; the package has %d: list the new one in loadable.go", n, err, made)
	}
}

func TestCensus(t *testing.T) {
	f := newFixture(t)
	ctx, now := t.Context(), f.now()
	c := must(f.store.Census(ctx, 0, now))(f.world)
	if c.OutboxLate+c.SentLate+c.TimersLate != 0 || len(c.OutboxKinds)+len(c.TimerKinds) != 0 {
		t.Errorf("late at once: %+v", c)
	}
	want := core.Census{Runs: 6, Sent: 1 + 2 + core.Chunk, Live: 1, Parked: 3, Outbox: 2, Timers: 7, OldestRun: f.world.run(f.run).Created}
	c.OutboxKinds, c.TimerKinds = nil, nil
	want.ParkReasons = map[string]int{"waits for a worker": 3}
	wantEqual(t, "census", c, want)

	later := now.Add(time.Minute + time.Second)
	c = must(f.store.Census(ctx, 0, later))(f.world)
	if c.OutboxLate != 2 || c.SentLate != want.Sent || c.OutboxKinds["expand"] != 1 || c.TimersLate != 0 {
		t.Errorf("a minute later: %+v, want all dispatches and the effect expand late", c)
	}
	queues := must(f.store.LateQueues(ctx, 0, later))(f.world)
	wantEqual(t, "queues of late dispatches", queues, map[string]int{"default": int(want.Sent)})
	c = must(f.store.Census(ctx, 0, now.Add(2*time.Hour)))(f.world)
	if c.TimersLate != 5 || c.TimerKinds["retry"] != 1 || c.TimerKinds["plan"] != 4 {
		t.Errorf("two hours later: %+v, want the retry and the four plans overdue", c)
	}
}

func TestTriggerCensus(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	ctx, now := t.Context(), w.now()
	ms := func(ago time.Duration) int64 { return now.Add(-ago).UnixMilli() }
	const T = "takt:{t:0}"
	pipe := w.rdb.Pipeline()
	for _, uuid := range []string{"a", "b", "c"} {
		pipe.HSet(ctx, T+":trigger", uuid, "row")
	}
	for uuid, ago := range map[string]time.Duration{"a": time.Minute, "b": 2 * time.Second, "c": -time.Hour} {
		pipe.HSet(ctx, T+":next", uuid, fire("", 1, now.Add(-ago)).Entry())
	}
	pipe.ZAdd(ctx, T+":undecided", zAt(ms(2*time.Minute), "a/1.1"), zAt(ms(time.Second), "b/1.1"))
	pipe.ZAdd(ctx, T+":outbox", zAt(ms(time.Minute), "x|y"), zAt(ms(time.Second), "x|z"))
	pipe.ZAdd(ctx, T+":led:a", zAt(ms(time.Hour), "1.1"), zAt(ms(time.Minute), "1.2"))
	must(pipe.Exec(ctx))(w)
	got := must(w.store.TriggerCensus(ctx, 0, now))(w)
	wantEqual(t, "census", got, core.TriggerCensus{
		Triggers: 3, Scheduled: 3, Overdue: 1, Undecided: 2, UndecidedLate: 1, Outbox: 2, OutboxLate: 1, Entries: 2, Looked: 3,
		OldestEntry: time.UnixMilli(ms(time.Hour)).UTC(), OverdueAge: got.OverdueAge, UndecidedAge: got.UndecidedAge,
		OverdueOf: []string{"a"}, UndecidedOf: []string{"a/1.1"},
	})
	if got.OverdueAge.Round(time.Second) != time.Minute || got.UndecidedAge.Round(time.Second) != 2*time.Minute {
		t.Errorf("ages are %v and %v, want 1m and 2m", got.OverdueAge, got.UndecidedAge)
	}
}

func TestCards(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx, now := t.Context(), w.now().Truncate(time.Millisecond)
	old := core.Card{ID: "old", Role: "api", Seen: now.Add(-25 * time.Hour)}
	young := core.Card{ID: "young", Role: "trigger", Host: "h", Version: "1", Ahead: -time.Second, Zones: "2025c", ZonesHash: "ab", Cores: 2, Started: now, Seen: now}
	for _, c := range []core.Card{old, young} {
		w.ok(w.store.PutCard(ctx, c))
	}
	w.ok(w.rdb.HSet(ctx, "takt:{w}:procs", "newer", "\x01 a format of later").Err())
	cards := must(w.store.Cards(ctx))(w)
	slices.SortFunc(cards, func(a, b core.Card) int { return strings.Compare(a.ID, b.ID) })
	wantEqual(t, "cards", cards, []core.Card{old, young})
	w.ok(w.store.ForgetCards(ctx, now.Add(-24*time.Hour)))
	wantEqual(t, "cards of the last day", must(w.store.Cards(ctx))(w), []core.Card{young})
	w.ok(w.store.DropCard(ctx, "young"))
	wantEqual(t, "cards after leaving", must(w.store.Cards(ctx))(w), []core.Card{})
}

func TestLeasesAreReadAsTheyAre(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	for _, member := range []string{"h|1", "h|2"} {
		must(w.store.Lease(ctx, "partitions", member, 4, 3*time.Second))(w)
	}
	must(w.store.Lease(ctx, "partitions", "h|1", 4, 3*time.Second))(w) // gives half back
	before := w.lines()
	got := must(w.store.Leases(ctx, "partitions", 4))(w)
	wantEqual(t, "what reading changed", w.lines(), before)
	if len(got.Members) != 2 || len(got.Holders) != 2 || len(got.Free()) != 2 {
		t.Errorf("leases = %+v, want two members, two shards held and two free", got)
	}
	must(w.store.Lease(ctx, "partitions", "h|2", 4, 3*time.Second))(w)
	if got = must(w.store.Leases(ctx, "partitions", 4))(w); len(got.Free()) != 0 {
		t.Errorf("leases = %+v, want none free", got)
	}
	w.ok(w.rdb.HSet(ctx, "takt:{l:partitions}:shards", "3", "h|2|7|1000").Err())
	if got = must(w.store.Leases(ctx, "partitions", 4))(w); !slices.Equal(got.Free(), []int{3}) {
		t.Errorf("free = %v, want the shard whose lease has run out", got.Free())
	}
}
