package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

func fire(trigger string, rev int64, at time.Time) core.FireID {
	return core.FireID{Trigger: trigger, Revision: rev, Slot: at}
}

// published is the entry of a slot that fired and is not decided.
func published(rev int64, at time.Time) core.LedgerEntry {
	return core.LedgerEntry{ID: fire("", rev, at).Entry(), Revision: rev, From: at, To: at, Count: 1, Published: at.Add(time.Millisecond)}
}

// gap is the entry of the slots from..to that did not fire.
func gap(rev int64, d core.Decision, from, to int) core.LedgerEntry {
	e := published(rev, slot(from))
	e.To, e.Count, e.Published, e.Decided, e.Decision, e.Reason = slot(to), to-from+1, time.Time{}, slot(to+1), d, "late|so\nlate"
	return e
}

func (w *world) advance(trigger string, rev int64, from, next time.Time, entries ...core.LedgerEntry) {
	w.Helper()
	moved := must(w.store.Advance(w.Context(), []core.Advance{{Trigger: trigger, Revision: rev, From: from, Next: next, Entries: entries}}))(w)
	if !moved[0] {
		w.Fatalf("trigger not advanced from %v", from)
	}
}

// decide decides a fire as the dispatcher does: from what Lookup tells.
func (w *world) decide(f core.FireID, d core.Decision, reason string, runs ...string) bool {
	w.Helper()
	_, e, open, _, err := w.store.Lookup(w.Context(), f)
	w.ok(err)
	if !open {
		return false
	}
	if e.ID == "" {
		e = published(f.Revision, f.Slot)
	}
	e.Decision, e.Reason, e.Runs = d, reason, runs
	return must(w.store.Decide(w.Context(), f, e))(w)
}

// ledger writes a trigger's entries down, oldest first.
func (w *world) ledger(trigger string) []string {
	w.Helper()
	entries := must(w.store.Ledger(w.Context(), trigger, time.Time{}, time.Time{}, 0, 1000))(w)
	out := make([]string, len(entries))
	for i, e := range entries {
		text := fmt.Sprint(e.Revision, " ", e.From.Sub(slot(0)).Milliseconds()/1000)
		if e.To != e.From {
			text += fmt.Sprint("-", e.To.Sub(slot(0)).Milliseconds()/1000)
		}
		if e.Count != 1 {
			text += fmt.Sprint(" x", e.Count)
		}
		if e.Manual {
			text += " by hand"
		}
		decision := e.Decision
		if decision == "" {
			decision = "undecided"
		}
		out[len(entries)-1-i] = strings.TrimSpace(fmt.Sprint(text, " ", decision, " ", strings.Join(e.Runs, ",")))
	}
	return out
}

// wantLedger runs do and checks what the ledger then holds, and that all that stands of
// fires agrees.
func (w *world) wantLedger(what, trigger string, do func(), want ...string) {
	w.Helper()
	do()
	wantEqual(w.T, what+": ledger", w.ledger(trigger), want)
	w.checkFires()
}

func (w *world) wantDays(trigger string, want map[string]map[core.Decision]int64) {
	w.Helper()
	wantEqual(w.T, "counters per day", must(w.store.LedgerDays(w.Context(), trigger))(w), want)
}

func TestAdvance(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	w.wantChanges("advance", func() { w.advance(uuid, 1, slot(1), slot(2), published(1, slot(1))) },
		"+ open T ,1.T|T", "+ undecided T/1.T")
	for name, a := range map[string]core.Advance{
		"the same again":   {Trigger: uuid, Revision: 1, From: slot(1), Next: slot(2), Entries: []core.LedgerEntry{published(1, slot(1))}},
		"another revision": {Trigger: uuid, Revision: 2, From: slot(2), Next: slot(3)},
		"another slot":     {Trigger: uuid, Revision: 1, From: slot(3), Next: slot(4)},
		"another trigger":  {Trigger: id.New(), Revision: 1, From: slot(2), Next: slot(3)},
	} {
		w.wantChanges(name, func() {
			if moved := must(w.store.Advance(t.Context(), []core.Advance{a}))(w); moved[0] {
				t.Errorf("%s: took effect", name)
			}
		})
	}
	if moved := must(w.store.Advance(t.Context(), nil))(w); len(moved) != 0 {
		t.Errorf("nothing: got %v", moved)
	}
	two := w.trigger("U", slot(5))
	moved := must(w.store.Advance(t.Context(), []core.Advance{
		{Trigger: uuid, Revision: 1, From: slot(1), Next: slot(9)}, {Trigger: two, Revision: 1, From: slot(5)},
	}))(w)
	wantEqual(t, "one that moved on and one that ends", moved, []bool{false, true})
	if got := w.readTrigger(two).Next; !got.IsZero() {
		t.Errorf("after the last slot: got the next one %v", got)
	}
}

func TestDecide(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(2), published(1, slot(1)))
	f := fire(uuid, 1, slot(1))
	w.wantChanges("decide", func() {
		if !w.decide(f, core.Buffered, "why|not\nnow", "runA", "runB") {
			t.Error("the first decision was refused")
		}
	}, "- undecided T/1.T", "- open T ,1.T|T", "+ led:T 1.T", "+ row:T 1.T 1|0|T|T|1|T|T|buffered|runA,runB||why|not\nnow", "+ day:T 20574.buffered 1")
	e, ok, err := w.store.LedgerEntry(t.Context(), f)
	if err != nil || !ok || e.Reason != "why|not\nnow" || len(e.Runs) != 2 || e.Decided.IsZero() {
		t.Errorf("got %+v, %v, %v", e, ok, err)
	}
	w.wantChanges("decide again", func() {
		again := e
		again.Decision = core.Failed
		if must(w.store.Decide(t.Context(), f, again))(w) {
			t.Error("decided twice")
		}
	})
	w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {core.Buffered: 1}})
}

// TestDecideBeforeAdvance decides a fire that came faster than its publisher
// advanced, for each decision: the slot is covered once, counted once, and not
// open again.
func TestDecideBeforeAdvance(t *testing.T) {
	t.Parallel()
	for _, d := range []core.Decision{core.Buffered, core.Skipped, core.Failed} {
		t.Run(string(d), func(t *testing.T) {
			w := newWorld(t, store.Options{})
			uuid := w.trigger("T", slot(1))
			for k := 1; k <= 4; k++ {
				f := fire(uuid, 1, slot(k))
				if !w.decide(f, d, "as it is") {
					t.Fatalf("slot %d: the decision was refused", k)
				}
				if w.decide(f, d, "as it is") {
					t.Errorf("slot %d: decided twice before the advance", k)
				}
				late := published(1, slot(k))
				late.Decision = core.Failed
				if must(w.store.Decide(t.Context(), f, late))(w) {
					t.Errorf("slot %d: decided by a dispatcher that had looked it up before", k)
				}
				w.advance(uuid, 1, slot(k), slot(k+1), published(1, slot(k)))
				if w.decide(f, d, "as it is") {
					t.Errorf("slot %d: decided twice after the advance", k)
				}
			}
			want := []string{"1 1 " + string(d), "1 2 " + string(d), "1 3 " + string(d), "1 4 " + string(d)}
			if d == core.Skipped {
				want = []string{"1 1-4 x4 skipped"}
			}
			w.wantLedger("after all", uuid, func() {}, want...)
			w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {d: 4}})
		})
	}
}

// TestGapBehindADecidedSlot settles a gap whose first slot was fired and decided
// by a process that died before it advanced.
func TestGapBehindADecidedSlot(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	w.decide(fire(uuid, 1, slot(1)), core.Buffered, "", "runA")
	w.wantLedger("settle", uuid, func() {
		w.advance(uuid, 1, slot(1), slot(10), gap(1, core.Missed, 1, 1), gap(1, core.Missed, 2, 9))
	}, "1 1 buffered runA", "1 2-9 x8 missed")
	w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {core.Buffered: 1, core.Missed: 8}})
}

func TestMerging(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		do   func(w *world, uuid string)
		want []string
	}{
		{"missed slots in a row are one", func(w *world, uuid string) {
			w.advance(uuid, 1, slot(1), slot(3), gap(1, core.Missed, 1, 2))
			w.advance(uuid, 1, slot(3), slot(9), gap(1, core.Missed, 3, 8))
		}, []string{"1 1-8 x8 missed"}},
		{"different decisions stay apart", func(w *world, uuid string) {
			w.advance(uuid, 1, slot(1), slot(9), gap(1, core.Missed, 1, 2), gap(1, core.Merged, 3, 7), published(1, slot(8)))
		}, []string{"1 1-2 x2 missed", "1 3-7 x5 merged", "1 8 undecided"}},
		{"different reasons stay apart", func(w *world, uuid string) {
			w.decide(fire(uuid, 1, slot(1)), core.Skipped, "one")
			w.advance(uuid, 1, slot(1), slot(2), published(1, slot(1)))
			w.decide(fire(uuid, 1, slot(2)), core.Skipped, "two")
		}, []string{"1 1 skipped", "1 2 skipped"}},
		{"fired slots stay apart", func(w *world, uuid string) {
			w.advance(uuid, 1, slot(1), slot(4), published(1, slot(1)), published(1, slot(2)), published(1, slot(3)))
			for k := 1; k <= 3; k++ {
				w.decide(fire(uuid, 1, slot(k)), core.Late, "", "run")
			}
		}, []string{"1 1 late run", "1 2 late run", "1 3 late run"}},
		{"a slot in between that is open keeps them apart", func(w *world, uuid string) {
			w.advance(uuid, 1, slot(1), slot(4), published(1, slot(1)), published(1, slot(2)), published(1, slot(3)))
			w.decide(fire(uuid, 1, slot(1)), core.Skipped, "x")
			w.decide(fire(uuid, 1, slot(3)), core.Skipped, "x")
			w.decide(fire(uuid, 1, slot(2)), core.Skipped, "x")
		}, []string{"1 1-2 x2 skipped", "1 3 skipped"}},
		{"also where none of them had a row before", func(w *world, uuid string) {
			for k := 1; k <= 3; k++ {
				w.advance(uuid, 1, slot(k), slot(k+1), published(1, slot(k)))
			}
			w.decide(fire(uuid, 1, slot(1)), core.Skipped, "x")
			w.decide(fire(uuid, 1, slot(3)), core.Skipped, "x")
			w.decide(fire(uuid, 1, slot(4)), core.Skipped, "x")
			w.decide(fire(uuid, 1, slot(2)), core.Skipped, "x")
		}, []string{"1 1-2 x2 skipped", "1 3-4 x2 skipped"}},
		{"another revision stays apart", func(w *world, uuid string) {
			w.advance(uuid, 1, slot(1), slot(3), gap(1, core.Missed, 1, 2))
			tr := w.readTrigger(uuid)
			tr.Revision, tr.Next = 2, slot(3)
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(3), true, nil, nil))
			w.advance(uuid, 2, slot(3), slot(5), gap(2, core.Missed, 3, 4))
		}, []string{"1 1-2 x2 missed", "2 3-4 x2 missed"}},
		{"fires by hand are never merged", func(w *world, uuid string) {
			w.byHand(uuid, slot(0), "a", core.Skipped)
			w.advance(uuid, 1, slot(1), slot(2), gap(1, core.Skipped, 1, 1))
			w.byHand(uuid, slot(2), "b", core.Skipped)
			w.byHand(uuid, slot(3), "c", core.Skipped)
		}, []string{"1 0 by hand skipped", "1 1 skipped", "1 2 by hand skipped", "1 3 by hand skipped"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			uuid := w.trigger("T", slot(1))
			w.wantLedger(row.name, uuid, func() { row.do(w, uuid) }, row.want...)
		})
	}
}

// byHand opens and decides a fire by hand.
func (w *world) byHand(trigger string, at time.Time, key string, d core.Decision) core.FireID {
	w.Helper()
	f := fire(trigger, 1, at)
	f.Manual = key
	e := published(1, at)
	e.ID, e.Manual, e.Only = f.Entry(), true, []string{"t1", "t2"}
	w.ok(w.store.OpenFire(w.Context(), f, e))
	if d != "" {
		w.decide(f, d, "late|so\nlate")
	}
	return f
}

func TestFireByHand(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	var f core.FireID
	w.wantChanges("open", func() { f = w.byHand(uuid, slot(0), "key", "") },
		"+ led:T 1.T.key", "+ row:T 1.T.key 1|1|T|T|1|T|0|||t1,t2|", "+ undecided T/1.T.key")
	_, e, open, known, err := w.store.Lookup(t.Context(), f)
	if err != nil || !open || !known || !e.Manual || len(e.Only) != 2 {
		t.Errorf("look up: got %+v, open %v, known %v, %v", e, open, known, err)
	}
	w.wantChanges("open again", func() { w.byHand(uuid, slot(0), "key", "") })
	w.decide(f, core.Buffered, "", "run")
	w.wantChanges("open once decided", func() { w.byHand(uuid, slot(0), "key", "") })
	w.wantLedger("same instant, another key", uuid, func() { w.byHand(uuid, slot(0), "yek", core.Buffered) },
		"1 0 by hand buffered run", "1 0 by hand buffered")
	e = published(1, slot(0))
	wantErrorKind(t, "a missing trigger", w.store.OpenFire(t.Context(), core.FireID{Trigger: id.New(), Revision: 1}, e), core.NotFound)
}

func TestManualFireKeepsItsFirstName(t *testing.T) {
	w := newWorld(t, store.Options{})
	first := core.FireID{Trigger: w.trigger("T", slot(1)), Revision: 1, Slot: slot(0), Manual: "key"}
	again := first
	again.Revision, again.Slot = 2, slot(5)
	for _, f := range []core.FireID{first, again} {
		if got := must(w.store.ManualFire(t.Context(), f, time.Hour))(w); got != first {
			t.Errorf("got %+v, want the first name", got)
		}
	}
	other := again
	other.Manual = "another key"
	if got := must(w.store.ManualFire(t.Context(), other, time.Hour))(w); got != other {
		t.Errorf("got %+v, want a fire of its own", got)
	}
	for _, key := range w.keysLike(":manual:") {
		if ttl := w.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s is kept for ever", key)
		}
	}
}

func TestLookup(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(20), gap(1, core.Missed, 1, 9), published(1, slot(10)), published(1, slot(11)), gap(1, core.Missed, 12, 12), gap(1, core.Missed, 13, 18))
	w.decide(fire(uuid, 1, slot(10)), core.Buffered, "", "run")
	w.byHand(uuid, slot(5), "in between", core.Buffered)
	for _, row := range []struct {
		name string
		fire core.FireID
		want string
	}{
		{"decided", fire(uuid, 1, slot(10)), "decided"},
		{"published", fire(uuid, 1, slot(11)), "open"},
		{"the next one", fire(uuid, 1, slot(20)), "open"},
		{"first of an entry", fire(uuid, 1, slot(1)), "decided"},
		{"within an entry", fire(uuid, 1, slot(3)), "decided"},
		{"within an entry, behind a fire by hand", fire(uuid, 1, slot(7)), "decided"},
		{"last of an entry", fire(uuid, 1, slot(9)), "decided"},
		{"within a merged entry", fire(uuid, 1, slot(15)), "decided"},
		{"behind the last entry", fire(uuid, 1, slot(19)), "unknown"},
		{"before the first entry", fire(uuid, 1, slot(0)), "unknown"},
		{"to come", fire(uuid, 1, slot(21)), "unknown"},
		{"another revision", fire(uuid, 2, slot(20)), "unknown"},
		{"another revision, within an entry", fire(uuid, 2, slot(3)), "unknown"},
		{"by hand, not opened", core.FireID{Trigger: uuid, Revision: 1, Slot: slot(20), Manual: "k"}, "unknown"},
		{"another trigger", fire(id.New(), 1, slot(20)), "unknown"},
	} {
		_, _, open, known, err := w.store.Lookup(t.Context(), row.fire)
		got := map[[2]bool]string{{true, true}: "open", {false, true}: "decided", {false, false}: "unknown"}[[2]bool{open, known}]
		if err != nil || got != row.want {
			t.Errorf("%s: got %s, %v; want %s", row.name, got, err, row.want)
		}
	}
}

func TestUndecided(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(4), published(1, slot(1)), published(1, slot(2)), published(1, slot(3)))
	hand := w.byHand(uuid, slot(0), "key", "")
	w.decide(fire(uuid, 1, slot(2)), core.Failed, "")
	// They are judged by the store's clock, however wrong the publisher's is.
	now := must(w.store.Now(t.Context()))(w)
	if got := must(w.store.Undecided(t.Context(), 0, now.Add(-time.Minute)))(w); len(got) != 0 {
		t.Errorf("published a minute ago: got %v, want none", got)
	}
	undecided := func(within time.Duration) []core.FireID {
		got := must(w.store.Undecided(t.Context(), 0, now.Add(within)))(w)
		slices.SortFunc(got, func(a, b core.FireID) int { return a.Slot.Compare(b.Slot) })
		return got
	}
	wantEqual(t, "published by now", undecided(time.Second), []core.FireID{hand, fire(uuid, 1, slot(1)), fire(uuid, 1, slot(3))})
	w.ok(w.store.PutOffUndecided(t.Context(), 0, []core.FireID{hand, fire(uuid, 1, slot(1))}, now.Add(time.Minute)))
	wantEqual(t, "after those were put off", undecided(59*time.Second), []core.FireID{fire(uuid, 1, slot(3))})
	w.decide(fire(uuid, 1, slot(1)), core.Failed, "")
	w.ok(w.store.PutOffUndecided(t.Context(), 0, []core.FireID{fire(uuid, 1, slot(1))}, now.Add(time.Minute)))
	wantEqual(t, "a decided one that is put off stays decided", undecided(99*time.Second), []core.FireID{hand, fire(uuid, 1, slot(3))})
	w.ok(w.rdb.ZAdd(t.Context(), "takt:{t:0}:undecided", zAt(1, "no fire")).Err())
	if got := undecided(99 * time.Second); len(got) != 2 {
		t.Errorf("with a member that cannot be read: got %v", got)
	}
}

func TestLedgerPages(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	begun := w.now()
	for k := 1; k <= 9; k++ {
		w.advance(uuid, 1, slot(k), slot(k+1), published(1, slot(k)))
	}
	for _, row := range []struct {
		name        string
		from, to    time.Time
		skip, limit int
		want        []int
	}{
		{"newest first", time.Time{}, time.Time{}, 0, 3, []int{9, 8, 7}},
		{"the next page", time.Time{}, time.Time{}, 3, 3, []int{6, 5, 4}},
		{"the last page", time.Time{}, time.Time{}, 6, 5, []int{3, 2, 1}},
		{"behind it", time.Time{}, time.Time{}, 9, 5, nil},
		{"from, inclusive, to, exclusive", slot(3), slot(6), 0, 9, []int{5, 4, 3}},
		{"from and to, to the nanosecond", slot(3).Add(1), slot(6).Add(1), 0, 9, []int{6, 5, 4}},
		{"an empty span", slot(20), slot(30), 0, 9, nil},
	} {
		var got []int
		for _, e := range must(w.store.Ledger(t.Context(), uuid, row.from, row.to, row.skip, row.limit))(w) {
			got = append(got, e.From.Second())
			if e.Lateness != e.Published.Sub(e.From) || e.Published.Before(begun) {
				t.Errorf("slot %d: lateness %v, published %v; want that until it was published by the store's clock", e.From.Second(), e.Lateness, e.Published)
			}
		}
		wantEqual(t, row.name, got, row.want)
	}
}

func TestTrimByNumber(t *testing.T) {
	w := newWorld(t, store.Options{LedgerEntries: 5})
	uuid := w.trigger("T", slot(1))
	for k := 1; k <= 12; k++ {
		if k%2 == 0 && k != 2 { // faster than the publisher advances
			w.decide(fire(uuid, 1, slot(k)), core.Buffered, "", "run")
		}
		w.advance(uuid, 1, slot(k), slot(k+1), published(1, slot(k)))
		if k != 2 {
			w.decide(fire(uuid, 1, slot(k)), core.Buffered, "", "run")
		}
	}
	w.trim(uuid, slot(20))
	w.wantLedger("trim", uuid, func() {},
		"1 2 undecided", "1 8 buffered run", "1 9 buffered run", "1 10 buffered run", "1 11 buffered run", "1 12 buffered run")
	w.decide(fire(uuid, 1, slot(2)), core.Buffered, "", "run")
	w.trim(uuid, slot(20))
	if got := w.ledger(uuid); len(got) != 5 {
		t.Errorf("once the open one is decided: got %q, want 5 entries", got)
	}
}

// trim trims until nothing is left to trim, as the keeper does.
func (w *world) trim(trigger string, now time.Time) {
	w.Helper()
	for must(w.store.TrimLedger(w.Context(), trigger, now))(w) > 0 {
	}
}

func TestTrimByAge(t *testing.T) {
	w := newWorld(t, store.Options{LedgerAge: 10 * time.Second})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(21), published(1, slot(1)), published(1, slot(2)), gap(1, core.Missed, 3, 15), published(1, slot(16)))
	w.decide(fire(uuid, 1, slot(1)), core.Buffered, "", "run")
	w.decide(fire(uuid, 1, slot(16)), core.Buffered, "", "run")
	w.trim(uuid, slot(20))
	w.wantLedger("an entry goes when its last slot is past its age", uuid, func() {},
		"1 2 undecided", "1 3-15 x13 missed", "1 16 buffered run")
	w.trim(uuid, slot(26))
	w.wantLedger("later", uuid, func() {}, "1 2 undecided", "1 16 buffered run")
	w.trim(uuid, slot(40))
	w.wantLedger("an open entry stays", uuid, func() {}, "1 2 undecided")
	w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {core.Buffered: 2, core.Missed: 13}})
	w.trim(uuid, slot(0).Add(store.DayCountersKept-24*time.Hour))
	w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {core.Buffered: 2, core.Missed: 13}})
	w.trim(uuid, slot(0).Add(store.DayCountersKept+24*time.Hour))
	w.wantDays(uuid, map[string]map[core.Decision]int64{})
}

func TestTrimOfALargeLedger(t *testing.T) {
	w := newWorld(t, store.Options{LedgerEntries: 10, LedgerAge: time.Hour})
	uuid := w.trigger("T", slot(1))
	entries := make([]core.LedgerEntry, 0, 1234)
	for k := 1; k <= cap(entries); k++ {
		e := gap(1, core.Missed, k, k)
		e.Decision = core.Failed // which is not merged
		entries = append(entries, e)
	}
	w.advance(uuid, 1, slot(1), time.Time{}, entries...)
	if got := must(w.store.Ledger(t.Context(), uuid, time.Time{}, time.Time{}, 0, 5000))(w); len(got) != 1234 {
		t.Fatalf("got %d entries", len(got))
	}
	w.trim(uuid, slot(1300))
	if got := w.ledger(uuid); len(got) != 10 || got[9] != "1 1234 failed" {
		t.Errorf("got %q, want the last 10", got)
	}
}

// TestDecideOnceAmongMany lets many dispatchers decide the same fires.
func TestDecideOnceAmongMany(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	const slots, dispatchers = 30, 6
	first := make(chan int, slots*dispatchers)
	done := make(chan struct{})
	for n := range dispatchers {
		go func() {
			defer func() { done <- struct{}{} }()
			for k := 1; k <= slots; k++ {
				e := published(1, slot(k))
				e.Decision, e.Reason = core.Skipped, "same"
				for known, tries := false, 0; !known && tries < 10_000; tries++ { // once those before it are published
					_, _, _, known, _ = w.store.Lookup(t.Context(), fire(uuid, 1, slot(k)))
				}
				if (k+n)%3 == 0 {
					_, _ = w.store.Advance(t.Context(), []core.Advance{{Trigger: uuid, Revision: 1, From: slot(k), Next: slot(k + 1), Entries: []core.LedgerEntry{published(1, slot(k))}}})
				}
				if ok, err := w.store.Decide(t.Context(), fire(uuid, 1, slot(k)), e); err == nil && ok {
					first <- k
				}
			}
		}()
	}
	for range dispatchers {
		<-done
	}
	close(first)
	times := map[int]int{}
	for k := range first {
		times[k]++
	}
	for k := 1; k <= slots; k++ {
		if times[k] != 1 {
			t.Errorf("slot %d was decided %d times", k, times[k])
		}
	}
	covered := 0
	for _, e := range must(w.store.Ledger(t.Context(), uuid, time.Time{}, time.Time{}, 0, 100))(w) {
		covered += e.Count
	}
	if covered != slots {
		t.Errorf("the ledger covers %d slots, want %d", covered, slots)
	}
	w.wantDays(uuid, map[string]map[core.Decision]int64{"2026-05-01": {core.Skipped: slots}})
	w.checkFires()
	testenv.Eventually(t, time.Second, func() bool { return len(must(w.store.Undecided(t.Context(), id.Partition(uuid, 16), w.now()))(w)) == 0 })
}
