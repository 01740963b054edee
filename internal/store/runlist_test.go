package store_test

import (
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A history is many runs, newest first, as the pages must give them.
type history struct {
	*world
	runs []core.Run
}

// newHistory makes runs over all partitions. Stamps are given, so that runs of
// several partitions have the same one.
func newHistory(t *testing.T, n int) *history {
	t.Helper()
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	h := &history{world: &world{T: t, store: store.New(rdb, store.Options{}), rdb: rdb, names: map[string]string{}}}
	targets := make([]core.Target, 40)
	for i := range targets {
		kind := core.GroupTarget
		if i%4 == 0 {
			kind = core.JobTarget
		}
		targets[i] = core.Target{Kind: kind, UUID: id.New()}
	}
	for i := range n {
		h.add(targets[i%len(targets)], i)
	}
	return h
}

func (h *history) add(target core.Target, i int) {
	h.Helper()
	a := h.admission("run "+itoa(i), target, 1, core.OverlapAllow, queued)
	a.Run.Account = []string{"acc1", "acc2"}[i%2]
	a.Run.Trigger = []string{"", "tr1", "tr2"}[i%3]
	a.Run.Dialect = []core.Dialect{core.Native, core.ZStack}[i%2]
	run := must(h.store.Admit(h.Context(), a))(h.world).Run
	if i%5 == 0 {
		h.cancel(run, core.RunCanceled)
	}
	h.stamp(run, target.UUID, a.Run.Trigger, slot(0).UnixMilli()+int64(i/10))
	r := h.run(run)
	at, _ := slices.BinarySearchFunc(h.runs, r, newerFirst)
	h.runs = slices.Insert(h.runs, at, r)
}

func newerFirst(a, b core.Run) int {
	if c := b.Created.Compare(a.Created); c != 0 {
		return c
	}
	pa, _ := id.RunPartition(a.ID)
	pb, _ := id.RunPartition(b.ID)
	return pb - pa
}

// stamp gives a run another creation stamp, in its row and in all indexes. Two
// runs of one partition never have the same one: the store sees to that.
func (h *history) stamp(run, target, trigger string, ms int64) {
	h.Helper()
	ctx := h.Context()
	n, _ := id.RunPartition(run)
	root := "takt:{p:" + itoa(n) + "}"
	for h.rdb.ZCount(ctx, root+":runs", itoa(int(ms)), itoa(int(ms))).Val() > 0 {
		ms++
	}
	_, err := h.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, root+":run:"+run, "cr", ms)
		p.ZAdd(ctx, root+":runs", zAt(ms, run))
		p.ZAdd(ctx, root+":runs:"+target, zAt(ms, run))
		if trigger != "" {
			p.ZAdd(ctx, root+":runs:by:"+trigger, zAt(ms, run))
		}
		return nil
	})
	h.ok(err)
}

// walk reads all pages and calls between in between.
func (h *history) walk(f core.RunFilter, between func()) (runs []string) {
	h.Helper()
	for {
		page := must(h.store.ListRuns(h.Context(), f))(h.world)
		if len(page.Runs) > f.Limit {
			h.Fatalf("got %d runs on a page of %d", len(page.Runs), f.Limit)
		}
		for _, r := range page.Runs {
			runs = append(runs, r.ID)
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return runs
		}
		between()
	}
}

func (h *history) ids(keep func(core.Run) bool) (out []string) {
	for _, r := range h.runs {
		if keep(r) {
			out = append(out, r.ID)
		}
	}
	return out
}

func TestListRuns(t *testing.T) {
	h := newHistory(t, 500)
	some := h.runs[100]
	for _, row := range []struct {
		name   string
		filter core.RunFilter
		keep   func(core.Run) bool
	}{
		{"all", core.RunFilter{}, func(core.Run) bool { return true }},
		{"of an account", core.RunFilter{Account: "acc2"}, func(r core.Run) bool { return r.Account == "acc2" }},
		{"of a target", core.RunFilter{Target: some.Target.UUID}, func(r core.Run) bool { return r.Target == some.Target }},
		{"of a kind", core.RunFilter{Kind: core.JobTarget}, func(r core.Run) bool { return r.Target.Kind == core.JobTarget }},
		{"of a trigger", core.RunFilter{Trigger: "tr1"}, func(r core.Run) bool { return r.Trigger == "tr1" }},
		{"of a target and a trigger", core.RunFilter{Target: some.Target.UUID, Trigger: "tr2"}, func(r core.Run) bool { return r.Target == some.Target && r.Trigger == "tr2" }},
		{"of a dialect", core.RunFilter{Dialect: core.ZStack}, func(r core.Run) bool { return r.Dialect == core.ZStack }},
		{"in a state", core.RunFilter{States: []core.RunState{core.RunCanceled}}, func(r core.Run) bool { return r.State == core.RunCanceled }},
		{"in two states", core.RunFilter{States: []core.RunState{core.RunCanceled, core.RunPending}}, func(core.Run) bool { return true }},
		{"in a state that none is in", core.RunFilter{States: []core.RunState{core.RunFailed}}, func(core.Run) bool { return false }},
		{"created from then on", core.RunFilter{After: some.Created}, func(r core.Run) bool { return !r.Created.Before(some.Created) }},
		{"created before", core.RunFilter{Before: some.Created}, func(r core.Run) bool { return r.Created.Before(some.Created) }},
		{"created in between", core.RunFilter{After: h.runs[300].Created, Before: some.Created}, func(r core.Run) bool {
			return r.Created.Before(some.Created) && !r.Created.Before(h.runs[300].Created)
		}},
		{"created before, to the nanosecond", core.RunFilter{Before: some.Created.Add(1)}, func(r core.Run) bool { return !r.Created.After(some.Created) }},
		{"created from then on, to the nanosecond", core.RunFilter{After: some.Created.Add(1)}, func(r core.Run) bool { return r.Created.After(some.Created) }},
		{"of a target that has none", core.RunFilter{Target: id.New()}, func(core.Run) bool { return false }},
	} {
		for _, limit := range []int{7, 499, 1000} {
			row.filter.Limit = limit
			wantEqual(t, row.name+", pages of "+itoa(limit), h.walk(row.filter, func() {}), h.ids(row.keep))
		}
	}
}

func TestListRunsIsStableWhileRunsCome(t *testing.T) {
	h := newHistory(t, 100)
	want := h.ids(func(core.Run) bool { return true })
	n := 1000
	got := h.walk(core.RunFilter{Limit: 7}, func() {
		for range 5 {
			n++
			a := h.admission("new "+itoa(n), h.group("G"+itoa(n)), 1, core.OverlapAllow, queued)
			must(h.store.Admit(t.Context(), a))(h.world)
		}
	})
	wantEqual(t, "runs that were there at the first page", got, want)
}

func TestListRunsWhileRunsGo(t *testing.T) {
	h := newHistory(t, 60)
	gone := map[string]bool{}
	i := 0
	got := h.walk(core.RunFilter{Limit: 7}, func() {
		// The run at the cursor and one further on are removed.
		for _, k := range []int{7*i + 6, 7*i + 20} {
			if k < len(h.runs) && !gone[h.runs[k].ID] {
				h.drive(h.runs[k].ID)
				h.ok(h.store.Forget(t.Context(), h.runs[k].ID))
				gone[h.runs[k].ID] = k > 7*i+6
			}
		}
		i++
	})
	wantEqual(t, "runs that were not removed before their page", got, h.ids(func(r core.Run) bool { return !gone[r.ID] }))
}

func TestPageOfAFilterThatMatchesLittle(t *testing.T) {
	h := newHistory(t, 300)
	only := h.runs[len(h.runs)-1]
	page := must(h.store.ListRuns(t.Context(), core.RunFilter{Target: only.Target.UUID, Account: only.Account, Limit: 1000}))(h.world)
	if len(page.Runs) == 0 || page.Next != "" || page.Runs[len(page.Runs)-1].ID != only.ID {
		t.Errorf("got %d runs and the cursor %q", len(page.Runs), page.Next)
	}
	if page := must(h.store.ListRuns(t.Context(), core.RunFilter{Limit: -1}))(h.world); len(page.Runs) != 50 {
		t.Errorf("no limit: got %d runs, want 50", len(page.Runs))
	}
}

func TestCursorGarbage(t *testing.T) {
	w := newWorld(t, store.Options{})
	encode := base64.RawURLEncoding.EncodeToString
	for _, cursor := range []string{"x", "!!", "\x00", encode([]byte("no dot")), encode([]byte("x.run")), encode([]byte(".run")), encode([]byte("99999999999999999999.run")), "MQ=="} {
		_, err := w.store.ListRuns(t.Context(), core.RunFilter{Cursor: cursor})
		wantErrorKind(t, "cursor "+cursor, err, core.Invalid)
	}
	for _, cursor := range []string{encode([]byte("0.run")), encode([]byte("-5.run")), encode([]byte("5."))} {
		if page, err := w.store.ListRuns(t.Context(), core.RunFilter{Cursor: cursor}); err != nil || len(page.Runs) != 0 {
			t.Errorf("cursor %q: got %+v, %v; want an empty page", cursor, page, err)
		}
	}
}

func TestRunsOfOnePartitionHaveDistinctStamps(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	// A clock that was set back must not let a run be older than the one before.
	ahead := w.now().Add(time.Hour).UnixMilli()
	w.ok(w.rdb.ZAdd(t.Context(), "takt:{p:0}:runs", zAt(ahead, "one before")).Err())
	for i := range 20 {
		run, _ := w.start("run "+itoa(i), w.group("G"), 1, core.OverlapAllow)
		if got := w.run(run).Created.UnixMilli(); got != ahead+1+int64(i) {
			t.Errorf("run %d: got the stamp %d, want %d", i, got, ahead+1+int64(i))
		}
	}
}

// TestAPageGivesUpLooking filters for what lies behind very many rows that do not
// match: the page comes back short, with a cursor that leads on.
func TestAPageGivesUpLooking(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	run, _ := w.start("A", w.group("G"), 1, core.OverlapAllow)
	after := w.run(run).Created.UnixMilli()
	rows := make([]redis.Z, 6000)
	for i := range rows {
		rows[i] = zAt(after+1+int64(i), w.store.NewRunID(w.idOf("G"), time.UnixMilli(after), itoa(i)))
	}
	w.ok(w.rdb.ZAdd(t.Context(), "takt:{p:0}:runs", rows...).Err())
	first := must(w.store.ListRuns(t.Context(), core.RunFilter{Limit: 10}))(w)
	if len(first.Runs) != 0 || first.Next == "" {
		t.Fatalf("first page: got %d runs and the cursor %q, want a short page that leads on", len(first.Runs), first.Next)
	}
	second := must(w.store.ListRuns(t.Context(), core.RunFilter{Limit: 10, Cursor: first.Next}))(w)
	if len(second.Runs) != 1 || second.Runs[0].ID != run || second.Next != "" {
		t.Errorf("second page: got %+v", second)
	}
}
