package engine_test

import (
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// anew deletes a trigger and makes another one with its uuid.
func (h *house) anew(dead core.Trigger) core.Trigger {
	h.Helper()
	if ok := must(h.eng.DeleteTrigger(h.ctx, dead.UUID))(h); !ok {
		h.Fatal("there was no trigger to delete")
	}
	t := core.Trigger{Meta: core.Meta{UUID: dead.UUID, Name: "anew"}, Enabled: true, Schedule: everySecond()}
	return must(h.eng.CreateTrigger(h.ctx, t))(h)
}

// The uuid of a deleted trigger may be used again at once; nothing of the dead one is
// the new one's.
func TestTriggerMadeAnew(t *testing.T) {
	h := newHouse(t)
	dead := h.trigger("t", everySecond(), "")
	h.bind(dead, ofJob(h.job("old")))
	before := h.read(dead.UUID)
	for n := range 3 {
		got := h.anew(dead)
		stored := h.read(dead.UUID)
		if stored.Name != "anew" || !stored.Deleted.IsZero() || len(stored.Targets) != 0 || stored.Next.IsZero() || stored.Version != got.Version {
			t.Fatalf("time %d: stored %+v, made %+v", n, stored, got)
		}
		if stored.Revision <= before.Revision || stored.Born != stored.Revision || stored.Version <= before.Version {
			t.Errorf("time %d: revision %d, born %d, version %d after revision %d, version %d", n, stored.Revision, stored.Born, stored.Version, before.Revision, before.Version)
		}
		before = stored
	}
	rename := func(tr *core.Trigger) error { tr.Name = "of the dead one"; return nil }
	_, err := h.eng.UpdateTrigger(h.ctx, dead.UUID, dead.Version, rename)
	wantKind(t, "an edit of a version of the dead one", err, core.Stale)
	h.ok(h.store.Bury(t.Context(), core.Trigger{Meta: core.Meta{UUID: dead.UUID, Version: before.Version - 1}}))
	if got := h.read(dead.UUID); got.Version != before.Version {
		t.Errorf("after a late burial: %+v", got)
	}
}

// A fire of the dead trigger that nobody has decided, by its schedule or by hand, starts
// none of the new one's targets, and the ledger says why.
func TestFiresOfADeadTrigger(t *testing.T) {
	h := newHouse(t)
	dead := h.trigger("t", everySecond(), "")
	h.bind(dead, ofJob(h.job("old")))
	fires := []core.FireID{h.due(dead)}
	h.pass(fires[0])
	byHand := fires[0]
	byHand.Manual = id.New()
	fires = append(fires, byHand)
	h.ok(h.store.OpenFire(t.Context(), byHand, core.LedgerEntry{ID: byHand.Entry(), Revision: byHand.Revision, Manual: true, From: byHand.Slot, To: byHand.Slot, Count: 1, Published: byHand.Slot}))

	made := h.anew(dead)
	h.bind(made, ofJob(h.job("new")))
	h.queue.take()
	for _, f := range fires {
		if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Skipped {
			t.Errorf("fire %s: got %s, want it skipped", f, d)
		}
		e, ok, err := h.store.LedgerEntry(t.Context(), f)
		if err != nil || !ok || !strings.Contains(e.Reason, "was deleted") || len(e.Runs) != 0 {
			t.Errorf("fire %s: entry %+v, %v, %v", f, e, ok, err)
		}
	}
	if sent := h.queue.take(); len(sent) != 0 {
		t.Errorf("fires of the dead one sent %v", sent)
	}
	f := h.due(made)
	if d := must(h.eng.DecideFire(t.Context(), f))(h); d != core.Fired {
		t.Errorf("its own fire %s: got %s, want fired", f, d)
	}
}

// The key of a fire by hand means another fire once the trigger is another.
func TestFireByHandOfATriggerMadeAnew(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	for n := range 2 {
		h.bind(tr, ofJob(h.job("j")))
		first := must(h.eng.FireNow(h.ctx, tr.UUID, "key", nil))(h)
		again := must(h.eng.FireNow(h.ctx, tr.UUID, "key", nil))(h)
		if first.Decision != core.Fired || again.ID != first.ID {
			t.Errorf("trigger %d: fired %+v, then %+v", n, first, again)
		}
		if got := len(h.queue.take()); got != 1 {
			t.Errorf("trigger %d: %d dispatches, want 1", n, got)
		}
		tr = h.anew(tr)
	}
}

// A tombstone of another account stays: the ledger under it is that one's.
func TestTombstoneOfAnotherAccount(t *testing.T) {
	h := newHouse(t)
	dead := h.trigger("t", everySecond(), "")
	must(h.eng.DeleteTrigger(h.ctx, dead.UUID))(h)
	other := core.WithCaller(t.Context(), core.Caller{Account: "other", Owner: "other", Role: core.Operator})
	_, err := h.eng.CreateTrigger(other, core.Trigger{Meta: core.Meta{UUID: dead.UUID, Name: "x"}, Enabled: true, Schedule: everySecond()})
	wantKind(t, "made by another account", err, core.Exists)
}
