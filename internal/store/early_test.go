package store_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// TestEarlyNote follows the note that a slot was decided before its publisher advanced.
func TestEarlyNote(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	w.wantChanges("decide", func() { w.decide(fire(uuid, 1, slot(1)), core.Buffered, "", "run") },
		"+ early T 1.T", "+ led:T 1.T", "+ row:T 1.T 1|0|T|T|1|T|T|buffered|run||", "+ day:T 20574.buffered 1")
	w.wantChanges("advance", func() { w.advance(uuid, 1, slot(1), slot(2), published(1, slot(1))) }, "- early T 1.T")
	w.wantLedger("then", uuid, func() {}, "1 1 buffered run")

	w.decide(fire(uuid, 1, slot(2)), core.Skipped, "x")
	w.wantLedger("advance one that was merged", uuid, func() {
		w.decide(fire(uuid, 1, slot(2)), core.Skipped, "x")
		w.advance(uuid, 1, slot(2), slot(3), published(1, slot(2)))
		w.decide(fire(uuid, 1, slot(3)), core.Skipped, "x")
		w.advance(uuid, 1, slot(3), slot(4), published(1, slot(3)))
	}, "1 1 buffered run", "1 2-3 x2 skipped")
	w.decide(fire(uuid, 1, slot(4)), core.Buffered, "", "run")
	w.advance(uuid, 1, slot(4), time.Time{}, published(1, slot(4)))
	w.checkFires()
	if got := w.keysLike(":early"); len(got) != 0 {
		t.Errorf("after the last slot: %q are left", got)
	}
}

// TestEarlyNoteAndEdits edits a trigger whose next slot was decided early.
func TestEarlyNoteAndEdits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		edit func(w *world, tr core.Trigger)
		note bool
		want []string
	}{
		{"a name", func(w *world, tr core.Trigger) {
			tr.Name = "another"
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), false, nil, nil))
		}, true, []string{"1 1 buffered run"}},
		{"settled, as it was published", func(w *world, tr core.Trigger) {
			tr.Revision, tr.Next = 2, slot(9)
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), true, []core.LedgerEntry{published(1, slot(1)), published(1, slot(2))}, nil))
		}, false, []string{"1 1 buffered run", "1 2 undecided"}},
		{"settled, as it was missed", func(w *world, tr core.Trigger) {
			tr.Revision, tr.Next = 2, slot(9)
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), true, []core.LedgerEntry{gap(1, core.Missed, 1, 1), gap(1, core.Missed, 2, 4)}, nil))
		}, false, []string{"1 1 buffered run", "1 2-4 x3 missed"}},
		{"the same slot under the next revision", func(w *world, tr core.Trigger) {
			tr.Revision = 2
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), true, nil, nil))
			w.advance(tr.UUID, 2, slot(1), slot(2), published(2, slot(1)))
		}, false, []string{"1 1 buffered run", "2 1 undecided"}},
		{"another revision, without comparing the slot", func(w *world, tr core.Trigger) {
			tr.Revision = 2
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), false, nil, nil))
		}, false, []string{"1 1 buffered run"}},
		{"deleted and buried", func(w *world, tr core.Trigger) {
			tr.Revision, tr.Deleted, tr.Next = 2, slot(9), time.Time{}
			w.ok(w.store.PutTrigger(w.Context(), tr, slot(1), true, nil, nil))
			w.checkFires()
			w.ok(w.store.Bury(w.Context(), w.readTrigger(tr.UUID)))
			if left := w.keys(); len(left) != 0 {
				w.Errorf("left behind: %q", left)
			}
		}, false, []string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, store.Options{})
			uuid := w.trigger("T", slot(1))
			w.decide(fire(uuid, 1, slot(1)), core.Buffered, "", "run")
			w.wantLedger("edit", uuid, func() { row.edit(w, w.readTrigger(uuid)) }, row.want...)
			if got := len(w.keysLike(":early")) > 0; got != row.note {
				t.Errorf("noted as decided early: %v, want %v", got, row.note)
			}
		})
	}
}

// A slot that is yet to come cannot be decided, nor looked up: its publisher would make
// a second entry of it.
func TestDecideWhatIsToCome(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	w.wantChanges("decide", func() {
		e := published(1, slot(2))
		e.Decision = core.Skipped
		if must(w.store.Decide(t.Context(), fire(uuid, 1, slot(2)), e))(w) {
			t.Error("a slot to come was decided")
		}
	})
}

// TestManyOpenSlots publishes more slots than the list of those without a row takes, and
// then decides them all.
func TestManyOpenSlots(t *testing.T) {
	w := newWorld(t, store.Options{Partitions: 1})
	uuid := w.trigger("T", slot(1))
	const slots = 100
	for k := 1; k <= slots; k++ {
		w.advance(uuid, 1, slot(k), slot(k+1), published(1, slot(k)))
	}
	w.checkFires()
	rows := w.rdb.HLen(t.Context(), "takt:{t:0}:row:"+uuid).Val()
	if rows == 0 || rows == slots {
		t.Errorf("%d of %d open slots have rows, want some", rows, slots)
	}
	w.byHand(uuid, slot(30), "by hand", "")
	var pages []core.LedgerEntry
	for skip := 0; ; skip += 7 {
		page := must(w.store.Ledger(t.Context(), uuid, time.Time{}, time.Time{}, skip, 7))(w)
		pages = append(pages, page...)
		if len(page) < 7 {
			break
		}
	}
	if len(pages) != slots+1 {
		t.Fatalf("the pages have %d entries, want %d", len(pages), slots+1)
	}
	for k, e := range pages {
		if k > 0 && e.From.After(pages[k-1].From) || e.Decision != "" {
			t.Errorf("entry %d is %+v, behind %v", k, e, pages[k-1].From)
		}
	}
	for k := 1; k <= slots; k++ {
		if !w.decide(fire(uuid, 1, slot(k)), core.Skipped, "x") {
			t.Errorf("slot %d was not open", k)
		}
		w.checkFires()
	}
	w.wantLedger("decided", uuid, func() {}, "1 1-30 x30 skipped", "1 30 by hand undecided", "1 31-100 x70 skipped")
}

// LedgerEntry finds an entry with a row and one without.
func TestLedgerEntry(t *testing.T) {
	w := newWorld(t, store.Options{})
	uuid := w.trigger("T", slot(1))
	w.advance(uuid, 1, slot(1), slot(3), gap(1, core.Missed, 1, 2))
	w.advance(uuid, 1, slot(3), slot(4), published(1, slot(3)))
	for _, row := range []struct {
		name string
		fire core.FireID
		want core.Decision
		ok   bool
	}{
		{"missed", fire(uuid, 1, slot(1)), core.Missed, true},
		{"within another's", fire(uuid, 1, slot(2)), "", false},
		{"open", fire(uuid, 1, slot(3)), "", true},
		{"next", fire(uuid, 1, slot(4)), "", false},
	} {
		e, ok, err := w.store.LedgerEntry(t.Context(), row.fire)
		if err != nil || ok != row.ok || e.Decision != row.want || ok != (e.ID == row.fire.Entry()) || ok != !e.From.IsZero() {
			t.Errorf("%s: got %+v, %v, %v; want %q, %v", row.name, e, ok, err, row.want, row.ok)
		}
	}
}
