package store_test

import (
	"encoding/json"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
)

// slot is the k-th second of the ledgers in these tests.
func slot(k int) time.Time { return time.Date(2026, 5, 1, 12, 0, k, 0, time.UTC) }

// trigger stores a trigger with revision 1 and gives its uuid.
func (w *world) trigger(name string, next time.Time) string {
	w.Helper()
	t := core.Trigger{Meta: meta(w, name), Enabled: true, Revision: 1, Next: next, Schedule: schedule.Spec{
		Kind: schedule.Simple, Interval: time.Second, Start: slot(0), Zone: "UTC",
	}}
	w.ok(w.store.PutTrigger(w.Context(), t, time.Time{}, false, nil, nil))
	return t.UUID
}

func (w *world) readTrigger(uuid string) core.Trigger {
	w.Helper()
	return must(w.store.Trigger(w.Context(), uuid, true))(w)
}

func TestTriggerRows(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	got := w.readTrigger(uuid)
	if got.Version != 1 || got.Revision != 1 || !got.Next.Equal(slot(1)) || got.Name != "T" {
		t.Errorf("created: got %+v", got)
	}
	second := got
	second.Version, second.Name = 0, "another"
	wantErrorKind(t, "another of that uuid", w.store.PutTrigger(t.Context(), second, time.Time{}, false, nil, nil), core.Exists)
	changed := got
	changed.Name, changed.Revision, changed.Next = "a|b\nc", 2, slot(9)
	w.ok(w.store.PutTrigger(t.Context(), changed, slot(1), true, nil, nil))
	w.wantChanges("the same again, as the reply was lost", func() {
		w.ok(w.store.PutTrigger(t.Context(), changed, slot(1), true, nil, nil))
	})
	old := got
	old.Name = "from an old version"
	wantErrorKind(t, "an old version", w.store.PutTrigger(t.Context(), old, slot(9), true, nil, nil), core.Stale)
	got = w.readTrigger(uuid)
	if got.Version != 2 || got.Revision != 2 || !got.Next.Equal(slot(9)) || got.Name != "a|b\nc" {
		t.Errorf("changed: got %+v", got)
	}
	missing := got
	missing.UUID = id.New()
	wantErrorKind(t, "a missing trigger", w.store.PutTrigger(t.Context(), missing, slot(9), true, nil, nil), core.NotFound)
}

func TestPutTriggerComparesTheNextSlot(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	read := w.readTrigger(uuid)
	w.advance(uuid, 1, slot(1), slot(2))
	read.Name = "settled up to a slot that was passed"
	w.wantChanges("put", func() {
		wantErrorKind(t, "put", w.store.PutTrigger(t.Context(), read, slot(1), true, []core.LedgerEntry{published(1, slot(1))}, nil), core.Stale)
	})
	wantErrorKind(t, "put, settled up to nothing", w.store.PutTrigger(t.Context(), read, time.Time{}, true, nil, nil), core.Stale)
	read.Next = time.Time{}
	w.ok(w.store.PutTrigger(t.Context(), read, slot(2), true, nil, nil))
	read = w.readTrigger(uuid)
	if !read.Next.IsZero() {
		t.Errorf("next: got %v, want none", read.Next)
	}
	read.Name, read.Next = "on again", slot(7)
	wantErrorKind(t, "put, settled up to a slot", w.store.PutTrigger(t.Context(), read, slot(2), true, nil, nil), core.Stale)
	w.ok(w.store.PutTrigger(t.Context(), read, time.Time{}, true, nil, nil))
	if got := w.readTrigger(uuid).Next; !got.Equal(slot(7)) {
		t.Errorf("next: got %v, want %v", got, slot(7))
	}
}

// TestPutTriggerLeavesTheNextSlotAlone changes what has nothing to do with the
// schedule, such as a binding, while the trigger's process moves on.
func TestPutTriggerLeavesTheNextSlotAlone(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	read := w.readTrigger(uuid)
	w.advance(uuid, 1, slot(1), slot(2))
	read.Targets = []core.Binding{{Target: core.Target{Kind: core.JobTarget, UUID: id.New()}, Ref: id.New()}}
	w.ok(w.store.PutTrigger(t.Context(), read, read.Next, false, nil, nil))
	if got := w.readTrigger(uuid); !got.Next.Equal(slot(2)) || len(got.Targets) != 1 {
		t.Errorf("got the next slot %v and %d targets, want %v and 1", got.Next, len(got.Targets), slot(2))
	}
	w.advance(uuid, 1, slot(2), time.Time{})
	read = w.readTrigger(uuid)
	read.Name, read.Next = "the last slot is passed", slot(2)
	w.ok(w.store.PutTrigger(t.Context(), read, read.Next, false, nil, nil))
	if got := w.readTrigger(uuid).Next; !got.IsZero() {
		t.Errorf("next: got %v, want none", got)
	}
}

func TestPutTriggerWritesEntriesAndOutbox(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	read := w.readTrigger(uuid)
	target := core.Target{Kind: core.GroupTarget, UUID: w.call(id.New(), "G")}
	before := w.rdb.HGet(t.Context(), "takt:{t:0}:trigger", uuid).Val()
	read.Next = slot(4)
	w.wantLedger("put", uuid, func() {
		w.ok(w.store.PutTrigger(t.Context(), read, slot(1), true, []core.LedgerEntry{gap(1, core.Missed, 1, 2), published(1, slot(3))}, []core.Target{target}))
	}, "1 1-2 x2 missed", "1 3 undecided")
	if w.rdb.HGet(t.Context(), "takt:{t:0}:trigger", uuid).Val() == before {
		t.Error("the row was not written")
	}
	effects := must(w.store.TriggerOutbox(t.Context(), 0, w.now().Add(time.Second)))(w)
	wantEqual(t, "outbox", effects, [][]string{{"link", "group", target.UUID, uuid}})
	w.settleLink(target, uuid, true)
	if left := must(w.store.TriggerOutbox(t.Context(), 0, w.now().Add(time.Second)))(w); len(left) != 0 {
		t.Errorf("outbox: got %q, want nothing", left)
	}
}

func TestListTriggersAndTombstones(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 4})
	names := map[string]bool{}
	for i := range 9 {
		names[w.trigger("T"+itoa(i), slot(i+1))] = true
	}
	var dead core.Trigger
	for uuid := range names {
		dead = w.readTrigger(uuid)
		dead.Deleted, dead.Next = slot(99), time.Time{}
		w.ok(w.store.PutTrigger(t.Context(), dead, time.Time{}, false, nil, nil))
		delete(names, uuid)
		break
	}
	found := 0
	for n := range 4 {
		for _, tr := range must(w.store.ListTriggers(t.Context(), n))(w) {
			if !names[tr.UUID] || tr.Next.IsZero() || id.Partition(tr.UUID, 4) != n {
				t.Errorf("partition %d: got %s with the next slot %v", n, tr.Name, tr.Next)
			}
			found++
		}
	}
	if all := must(w.store.ListTriggers(t.Context(), -1))(w); found != 8 || len(all) != 8 {
		t.Errorf("got %d in partitions and %d in all, want 8", found, len(all))
	}
	_, err := w.store.Trigger(t.Context(), dead.UUID, false)
	wantErrorKind(t, "a tombstone", err, core.NotFound)
	stones := must(w.store.Tombstones(t.Context(), id.Partition(dead.UUID, 4)))(w)
	if len(stones) != 1 || stones[0].UUID != dead.UUID {
		t.Errorf("tombstones: got %+v", stones)
	}
	w.ok(w.store.Bury(t.Context(), stones[0]))
	_, err = w.store.Trigger(t.Context(), dead.UUID, true)
	wantErrorKind(t, "a buried trigger", err, core.NotFound)
}

func TestBuryLeavesNothing(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(3), published(1, slot(1)), gap(1, core.Missed, 2, 2))
	stone := w.readTrigger(uuid)
	stone.Deleted, stone.Next = slot(9), time.Time{}
	w.ok(w.store.PutTrigger(t.Context(), stone, slot(3), true, nil, nil))
	w.wantChanges("bury one that was read before", func() { w.ok(w.store.Bury(t.Context(), stone)) })
	w.ok(w.store.Bury(t.Context(), w.readTrigger(uuid)))
	if left := w.keys(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestTombstoneIsReplaced puts a new trigger in the place of a deleted one, whose ledger
// stays; who knows the dead one only can do it no harm.
func TestTombstoneIsReplaced(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	alive := w.readTrigger(uuid)
	w.advance(uuid, 1, slot(1), slot(3), published(1, slot(1)), gap(1, core.Missed, 2, 2))
	stone := alive
	stone.Deleted, stone.Revision, stone.Next = slot(9), 2, time.Time{}
	w.ok(w.store.PutTrigger(t.Context(), stone, slot(3), true, nil, nil))
	stone = w.readTrigger(uuid)

	made := core.Trigger{Meta: core.Meta{UUID: uuid, Name: "made anew", Created: slot(10), Updated: slot(10)}, Enabled: true, Revision: 3, Born: 3, Next: slot(11)}
	wantErrorKind(t, "created past its tombstone", w.store.PutTrigger(t.Context(), made, time.Time{}, false, nil, nil), core.Exists)
	made.Version = stone.Version
	for range 2 { // the reply was lost
		w.ok(w.store.PutTrigger(t.Context(), made, time.Time{}, true, nil, nil))
	}
	another := made
	another.Name = "another that is as quick"
	wantErrorKind(t, "replaced twice", w.store.PutTrigger(t.Context(), another, time.Time{}, true, nil, nil), core.Stale)
	w.wantChanges("by who knows the dead one", func() {
		w.ok(w.store.Bury(t.Context(), stone))
		alive.Name = "edited"
		wantErrorKind(t, "an edit", w.store.PutTrigger(t.Context(), alive, slot(3), true, nil, nil), core.Stale)
		wantErrorKind(t, "a rename", w.store.PutTrigger(t.Context(), alive, slot(3), false, nil, nil), core.Stale)
		moved := must(w.store.Advance(t.Context(), []core.Advance{{Trigger: uuid, Revision: 1, From: slot(3), Next: slot(4), Entries: []core.LedgerEntry{published(1, slot(3))}}}))(w)
		if moved[0] {
			t.Error("the dead one was advanced")
		}
	})
	got := w.readTrigger(uuid)
	if made.Version++; got.Name != made.Name || got.Version != made.Version || got.Born != 3 || !got.Next.Equal(slot(11)) || !got.Deleted.IsZero() {
		t.Errorf("got %+v, want %+v", got, made)
	}
	if stones := must(w.store.Tombstones(t.Context(), 0))(w); len(stones) != 0 {
		t.Errorf("tombstones: got %+v", stones)
	}
	w.wantLedger("its first slot", uuid, func() { w.advance(uuid, 3, slot(11), slot(12), published(3, slot(11))) }, "1 1 undecided", "1 2 missed", "3 11 undecided")
}

// TestEdits follows the edits of a partition from mark to mark.
func TestEdits(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	mark := must(w.store.EditMark(t.Context(), 0))(w)
	read := func() (names []string, lost bool) {
		uuids, upTo, gone, err := w.store.Edits(t.Context(), map[int]int64{0: mark})
		w.ok(err)
		for _, uuid := range uuids {
			names = append(names, w.names[uuid])
		}
		mark = upTo[0]
		return names, len(gone) > 0
	}
	want := func(when string, names ...string) {
		t.Helper()
		got, lost := read()
		wantEqual(t, when, got, names)
		if lost {
			t.Errorf("%s: the mark %d is lost", when, mark)
		}
	}
	want("of nothing")
	a, b := w.trigger("A", slot(1)), w.trigger("B", slot(1))
	want("of two that were made", "A", "B")
	want("again")
	edit := func(uuid string) {
		t.Helper()
		w.ok(w.store.PutTrigger(t.Context(), w.readTrigger(uuid), time.Time{}, false, nil, nil))
	}
	edit(a)
	want("of the earlier one", "A")
	edit(b)
	edit(a)
	edit(a)
	want("of both, one twice", "B", "A")
	if got := must(w.store.EditMark(t.Context(), 0))(w); got != mark {
		t.Errorf("the mark is %d, want that of the last edit, %d", got, mark)
	}
	w.advance(a, 1, slot(1), slot(2), published(1, slot(1)))
	want("of a trigger that only fired")
	for range 1001 {
		w.trigger("another", slot(1))
	}
	if names, lost := read(); !lost {
		t.Errorf("after more edits than are kept, %d are told and no mark is lost", len(names))
	}
	want("after that")
	w.ok(w.rdb.Del(t.Context(), "takt:{t:0}:edited").Err())
	if _, lost := read(); !lost {
		t.Error("the edits were deleted and the mark is not lost")
	}
}

// TestTriggerRow reads back what was written, and what was written under long names.
func TestTriggerRow(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	full := core.Trigger{
		Meta: core.Meta{
			UUID: w.call(id.New(), "full"), Account: "acc", Dialect: core.Native, Name: "a|b \"c\"", Description: "d\n", Version: 1,
			Created: at, Updated: at.Add(time.Microsecond),
		},
		Schedule: schedule.Spec{
			Kind: schedule.Simple, Dialect: "unix", Expression: "* * * * *", Zone: "Asia/Shanghai", Gap: "skip", Overlap: "both",
			Interval: time.Second, Start: at, End: at.Add(time.Hour), Repeat: 3,
		},
		Misfire: schedule.Misfire{Policy: schedule.FireAll, Threshold: time.Minute, CatchupWindow: time.Hour, CatchupMax: 7},
		Overlap: core.Overlap{Policy: core.OverlapBufferAll, Limit: 3}, Enabled: true, Floating: true, Revision: 4, Born: 3, Next: slot(1), Deleted: at,
		Targets: []core.Binding{{Target: core.Target{Kind: core.JobTarget, UUID: "j"}, Ref: "r", Added: at}},
	}
	for field := range reflect.ValueOf(full).NumField() {
		if reflect.ValueOf(full).Field(field).IsZero() {
			t.Fatalf("field %s is not tested", reflect.TypeFor[core.Trigger]().Field(field).Name)
		}
	}
	plain := core.Trigger{Meta: core.Meta{UUID: w.call(id.New(), "plain"), Version: 1, Created: at, Updated: at}, Revision: 1}
	for _, tr := range []core.Trigger{full, plain} {
		put := tr
		put.Version = 0
		w.ok(w.store.PutTrigger(t.Context(), put, time.Time{}, false, nil, nil))
		wantEqual(t, w.names[tr.UUID], must(w.store.Trigger(t.Context(), tr.UUID, true))(w), tr)
		long := must(json.Marshal(tr))(w)
		w.ok(w.rdb.HSet(t.Context(), "takt:{t:0}:trigger", tr.UUID, "1|"+strconv.FormatInt(tr.Revision, 10)+"|"+string(long)).Err())
		wantEqual(t, w.names[tr.UUID]+" under long names", must(w.store.Trigger(t.Context(), tr.UUID, true))(w), tr)
	}
}
