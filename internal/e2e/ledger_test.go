package e2e

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/schedule"
)

// A dispatcher may decide a slot before its publisher has advanced the trigger.
// Where the slot was skipped, and so merged into the one before, the advance and
// a fire that comes again must not count it a second time.
func TestSlotDecidedBeforeAdvance(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noop.Spec)
	tr := h.secondly(nil)
	next := tr.Next
	const slots = 4
	for range slots {
		f := core.FireID{Trigger: tr.UUID, Revision: 1, Slot: next}
		h.decide(f) // no targets: skipped
		next = h.advance(tr, next, next)
		h.decide(f)
	}
	entries := h.ledger(tr)
	if len(entries) != 1 || entries[0].Count != slots || entries[0].Decision != core.Skipped {
		t.Errorf("ledger is %+v, want one entry of %d skipped slots", entries, slots)
	}
	days, err := h.eng.LedgerDays(h.ctx, tr.UUID)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, day := range days {
		n += day[core.Skipped]
	}
	if n != slots {
		t.Errorf("the days count %d skipped slots, want %d", n, slots)
	}
}

// The first slot was decided, then its publisher died before it advanced. The
// successor passes over all slots since then: they must all be in the ledger,
// however the trigger is settled.
func TestGapAfterDecidedSlot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		settle func(h *house, tr core.Trigger, now time.Time)
	}{
		{"by its process", func(h *house, tr core.Trigger, now time.Time) { h.advance(tr, tr.Next, now) }},
		{"by an edit", func(h *house, tr core.Trigger, _ time.Time) { h.setEnabled(tr, false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, noop.Spec)
			const past = 100
			tr := h.secondly(func(tr *core.Trigger) {
				tr.Next = tr.Next.Add(-past * time.Second)
				tr.Schedule.Start = tr.Next
			})
			h.decide(core.FireID{Trigger: tr.UUID, Revision: tr.Revision, Slot: tr.Next})
			now, err := h.eng.Now(h.ctx)
			if err != nil {
				t.Fatal(err)
			}
			c.settle(h, tr, now)
			want := map[time.Time]bool{}
			for s := tr.Next; !s.After(now); s = s.Add(time.Second) {
				want[s] = true
			}
			for _, e := range h.ledger(tr) {
				for s := e.From; !s.After(e.To); s = s.Add(time.Second) {
					if !want[s] && !s.After(now) {
						t.Errorf("slot %s is covered twice", s)
					}
					delete(want, s)
				}
			}
			if len(want) > 0 {
				t.Errorf("%d slots are in no entry", len(want))
			}
		})
	}
}

// secondly makes a simple trigger without targets, as edit leaves it in the store.
func (h *house) secondly(edit func(*core.Trigger)) core.Trigger {
	h.t.Helper()
	now, err := h.eng.Now(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	tr, err := h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: core.Meta{Name: "secondly"}, Enabled: true,
		Schedule: schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Start: now.Truncate(time.Second)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if edit == nil {
		return tr
	}
	was := tr.Next
	edit(&tr)
	if err := h.store.PutTrigger(h.ctx, tr, was, true, nil, nil); err != nil {
		h.t.Fatal(err)
	}
	tr.Version++
	return tr
}

// advance settles a trigger's slots from next up to now, as its process does.
func (h *house) advance(tr core.Trigger, next, now time.Time) time.Time {
	h.t.Helper()
	s, err := tr.Schedule.Compile()
	if err != nil {
		h.t.Fatal(err)
	}
	done := schedule.Settle(s, tr.Misfire, next, now, 256)
	moved, err := h.store.Advance(h.ctx, []core.Advance{{
		Trigger: tr.UUID, Revision: tr.Revision, From: next, Next: done.Next, Entries: engine.Entries(tr, s, done, now),
	}})
	if err != nil || !moved[0] {
		h.t.Fatalf("advance: %v, %v", moved, err)
	}
	return done.Next
}

func (h *house) decide(f core.FireID) {
	h.t.Helper()
	if _, err := h.eng.DecideFire(h.ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) ledger(tr core.Trigger) []core.LedgerEntry {
	h.t.Helper()
	entries, err := h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	return entries
}
