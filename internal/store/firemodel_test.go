package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// A fireModel does to the triggers of a store whatever their processes, dispatchers and
// users may do, in any order: advances that come twice, dispatchers that decide long
// after they looked, edits and deletions in between.
type fireModel struct {
	*world
	rnd      *rand.Rand
	triggers []*modelTrigger
	held     []heldFire // looked up, found open, and still to be decided
	past     []core.Advance
	stones   []core.Trigger // tombstones as they were read
}

// A modelTrigger is what a trigger's ledger has to be.
type modelTrigger struct {
	uuid    string
	rev     int64
	next    int // slot
	deleted bool
	slots   map[modelSlot]core.Decision // "" while open
	days    map[core.Decision]int64
	hands   int
}

type modelSlot struct {
	rev  int64
	k    int
	hand string
}

type heldFire struct {
	t     *modelTrigger
	slot  modelSlot
	entry core.LedgerEntry
}

// TestFiresInAnyOrder is that model. After each operation the ledger covers each slot
// exactly once with its first decision, whatever is open is found again as undecided,
// and a decided fire is never open again.
func TestFiresInAnyOrder(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &fireModel{world: newWorld(t, store.Options{Partitions: 1}), rnd: rand.New(rand.NewPCG(seed, 11))}
			for range 2 {
				m.create()
			}
			for n := range 200 {
				name := m.step()
				m.checkFires()
				for _, tr := range m.triggers {
					m.checkLedger(tr)
				}
				if m.checkUndecided(); t.Failed() {
					t.Fatalf("after operation %d, %s", n, name)
				}
			}
		})
	}
}

func (m *fireModel) step() string {
	m.Helper()
	tr := m.triggers[m.rnd.IntN(len(m.triggers))]
	operations := []struct {
		weight int
		name   string
		do     func(*modelTrigger)
	}{
		{25, "advance", m.publish}, {8, "advance again", m.advanceAgain}, {10, "catch up", m.catchUp},
		{30, "look up", m.lookUp}, {30, "decide", m.decideHeld}, {4, "edit", m.edit}, {3, "rename", m.rename},
		{5, "fire by hand", m.fireByHand}, {3, "put off", m.putOff}, {2, "delete", m.remove}, {1, "bury", m.bury},
		{3, "make anew", m.makeAnew}, {2, "bury late", m.buryLate},
	}
	pick := m.rnd.IntN(126)
	for _, o := range operations {
		if pick -= o.weight; pick < 0 {
			o.do(tr)
			return o.name + " " + m.names[tr.uuid]
		}
	}
	return ""
}

func (m *fireModel) create() {
	m.Helper()
	uuid := m.trigger(fmt.Sprint("T", len(m.names)), slot(1))
	m.triggers = append(m.triggers, &modelTrigger{uuid: uuid, rev: 1, next: 1, slots: map[modelSlot]core.Decision{}, days: map[core.Decision]int64{}})
}

// cover notes what the schedule's own process wrote of a slot, unless that was decided.
func (tr *modelTrigger) cover(k int, d core.Decision) {
	s := modelSlot{tr.rev, k, ""}
	if _, ok := tr.slots[s]; ok {
		return
	}
	tr.slots[s] = d
	if d != "" {
		tr.days[d]++
	}
}

func (m *fireModel) advanceTo(tr *modelTrigger, next int, entries []core.LedgerEntry) {
	m.Helper()
	a := core.Advance{Trigger: tr.uuid, Revision: tr.rev, From: slot(tr.next), Next: slot(next), Entries: entries}
	moved := must(m.store.Advance(m.Context(), []core.Advance{a}))(m.world)
	if moved[0] == tr.deleted {
		m.Errorf("advance from %d: got %v of a trigger with deleted %v", tr.next, moved[0], tr.deleted)
	}
	m.past = append(m.past, a)
}

func (m *fireModel) publish(tr *modelTrigger) {
	m.Helper()
	m.advanceTo(tr, tr.next+1, []core.LedgerEntry{published(tr.rev, slot(tr.next))})
	if !tr.deleted {
		tr.cover(tr.next, "")
		tr.next++
	}
}

// advanceAgain does what was done: the reply was lost, or another process was as far.
func (m *fireModel) advanceAgain(*modelTrigger) {
	m.Helper()
	if len(m.past) == 0 {
		return
	}
	items := []core.Advance{m.past[max(0, len(m.past)-1-m.rnd.IntN(5))]}
	if moved := must(m.store.Advance(m.Context(), items))(m.world); moved[0] {
		m.Errorf("advanced again: %+v", items[0])
	}
}

// settle gives entries for the slots from the next one on: missed ones, then some to fire.
func (m *fireModel) settle(tr *modelTrigger) (entries []core.LedgerEntry, missed, fires int) {
	missed, fires = m.rnd.IntN(4), m.rnd.IntN(3)
	if missed > 0 {
		entries = append(entries, gap(tr.rev, core.Missed, tr.next, tr.next))
	}
	if missed > 1 {
		entries = append(entries, gap(tr.rev, core.Missed, tr.next+1, tr.next+missed-1))
	}
	for k := range fires {
		entries = append(entries, published(tr.rev, slot(tr.next+missed+k)))
	}
	return entries, missed, fires
}

func (tr *modelTrigger) settled(missed, fires int) {
	for k := range missed + fires {
		d := core.Missed
		if k >= missed {
			d = ""
		}
		tr.cover(tr.next+k, d)
	}
	tr.next += missed + fires
}

func (m *fireModel) catchUp(tr *modelTrigger) {
	m.Helper()
	entries, missed, fires := m.settle(tr)
	if missed+fires == 0 {
		return
	}
	if m.advanceTo(tr, tr.next+missed+fires, entries); !tr.deleted {
		tr.settled(missed, fires)
	}
}

// lookUp asks for one of the slots around the next one.
func (m *fireModel) lookUp(tr *modelTrigger) {
	m.Helper()
	back := []int{-1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6}[m.rnd.IntN(11)]
	s := modelSlot{tr.rev, max(1, tr.next-back), ""}
	if m.rnd.IntN(4) == 0 && s.rev > 1 {
		s.rev--
	}
	decision, covered := tr.slots[s]
	want := "unknown"
	next := !tr.deleted && s == (modelSlot{tr.rev, tr.next, ""})
	switch {
	case decision != "":
		want = "decided"
	case covered || next:
		want = "open"
	}
	_, e, open, known, err := m.store.Lookup(m.Context(), fire(tr.uuid, s.rev, slot(s.k)))
	m.ok(err)
	got := map[[2]bool]string{{true, true}: "open", {false, true}: "decided", {false, false}: "unknown"}[[2]bool{open, known}]
	if got != want {
		m.Errorf("look up %d of revision %d: got %s, want %s", s.k, s.rev, got, want)
	}
	if open {
		if e.ID == "" {
			e = published(s.rev, slot(s.k))
		}
		m.held = append(m.held, heldFire{tr, s, e})
	}
}

// decideHeld decides what was looked up some time ago, perhaps by two dispatchers.
func (m *fireModel) decideHeld(*modelTrigger) {
	m.Helper()
	if len(m.held) == 0 {
		return
	}
	i := len(m.held) - 1
	if m.rnd.IntN(3) == 0 {
		i = m.rnd.IntN(len(m.held))
	}
	h := m.held[i]
	if m.rnd.IntN(3) > 0 {
		m.held = slices.Delete(m.held, i, i+1)
	}
	if !slices.Contains(m.triggers, h.t) {
		return
	}
	e := h.entry
	e.Decision = []core.Decision{core.Skipped, core.Skipped, core.Skipped, core.Buffered, core.Failed}[m.rnd.IntN(5)]
	f := fire(h.t.uuid, h.slot.rev, slot(h.slot.k))
	f.Manual = h.slot.hand
	was := h.t.slots[h.slot]
	first := must(m.store.Decide(m.Context(), f, e))(m.world)
	if first != (was == "") {
		m.Errorf("decide %v: got %v, but its decision was %q", h.slot, first, was)
	}
	if first {
		h.t.slots[h.slot] = e.Decision
		h.t.days[e.Decision]++
	}
}

func (m *fireModel) fireByHand(tr *modelTrigger) {
	m.Helper()
	s := modelSlot{1, tr.next, fmt.Sprint("key", tr.hands)}
	tr.hands++
	m.byHand(tr.uuid, slot(s.k), s.hand, "")
	tr.slots[s] = ""
	e := published(1, slot(s.k))
	e.Manual = true
	m.held = append(m.held, heldFire{tr, s, e})
}

// edit raises the revision, at times twice with the same values as the reply was lost.
// The next revision begins behind the slots of this one, or, where the next slot lies
// ahead of the store's clock and was neither published nor decided, with that one.
func (m *fireModel) edit(tr *modelTrigger) {
	m.Helper()
	if tr.deleted {
		return
	}
	row := m.readTrigger(tr.uuid)
	entries, missed, fires := m.settle(tr)
	settled := slot(tr.next)
	tr.settled(missed, fires)
	if _, decided := tr.slots[modelSlot{tr.rev, tr.next, ""}]; decided {
		tr.next++ // lastSlot found it in the ledger
	}
	tr.rev++
	row.Revision, row.Next = tr.rev, slot(tr.next)
	for range 1 + m.rnd.IntN(2) {
		m.ok(m.store.PutTrigger(m.Context(), row, settled, true, entries, nil))
	}
}

func (m *fireModel) rename(tr *modelTrigger) {
	m.Helper()
	row := m.readTrigger(tr.uuid)
	row.Description += "."
	m.ok(m.store.PutTrigger(m.Context(), row, time.Time{}, false, nil, nil))
}

func (m *fireModel) putOff(*modelTrigger) {
	m.Helper()
	now := m.now()
	m.ok(m.store.PutOffUndecided(m.Context(), 0, must(m.store.Undecided(m.Context(), 0, now.Add(time.Hour)))(m.world), now.Add(time.Minute)))
}

func (m *fireModel) remove(tr *modelTrigger) {
	m.Helper()
	if tr.deleted {
		return
	}
	row := m.readTrigger(tr.uuid)
	entries, missed, fires := m.settle(tr)
	settled := slot(tr.next)
	tr.settled(missed, fires)
	tr.rev++
	tr.deleted, row.Deleted, row.Revision, row.Next = true, slot(0), tr.rev, time.Time{}
	m.ok(m.store.PutTrigger(m.Context(), row, settled, true, entries, nil))
	m.stones = append(m.stones, m.readTrigger(tr.uuid))
	m.create()
}

// makeAnew puts a new trigger in the place of a tombstone, at times twice as the reply
// was lost. What is open of the dead one stays open, under its revision.
func (m *fireModel) makeAnew(tr *modelTrigger) {
	m.Helper()
	if !tr.deleted {
		return
	}
	row := m.readTrigger(tr.uuid)
	tr.rev++
	tr.deleted, row.Deleted, row.Revision, row.Born, row.Next = false, time.Time{}, tr.rev, tr.rev, slot(tr.next)
	for range 1 + m.rnd.IntN(2) {
		m.ok(m.store.PutTrigger(m.Context(), row, time.Time{}, true, nil, nil))
	}
}

// buryLate buries a tombstone that was read some time ago.
func (m *fireModel) buryLate(*modelTrigger) {
	m.Helper()
	if len(m.stones) == 0 {
		return
	}
	stone := m.stones[m.rnd.IntN(len(m.stones))]
	now, err := m.store.Trigger(m.Context(), stone.UUID, true)
	if core.Is(err, core.NotFound) {
		return
	}
	m.ok(err)
	if stone.Version == now.Version {
		m.triggers = slices.DeleteFunc(m.triggers, func(tr *modelTrigger) bool { return tr.uuid == stone.UUID })
	}
	m.ok(m.store.Bury(m.Context(), stone))
}

func (m *fireModel) bury(tr *modelTrigger) {
	m.Helper()
	if tr.deleted {
		m.ok(m.store.Bury(m.Context(), m.readTrigger(tr.uuid)))
		m.triggers = slices.DeleteFunc(m.triggers, func(other *modelTrigger) bool { return other == tr })
	}
}

// checkLedger compares a trigger's ledger, read by pages, with the model.
func (m *fireModel) checkLedger(tr *modelTrigger) {
	m.Helper()
	var all []core.LedgerEntry
	for size := 1 + m.rnd.IntN(50); ; {
		page := must(m.store.Ledger(m.Context(), tr.uuid, time.Time{}, time.Time{}, len(all), size))(m.world)
		if all = append(all, page...); len(page) < size {
			break
		}
	}
	got := map[modelSlot]core.Decision{}
	for _, e := range all {
		f, err := core.ParseEntry(tr.uuid, e.ID)
		m.ok(err)
		from, to := int(e.From.Sub(slot(0))/time.Second), int(e.To.Sub(slot(0))/time.Second)
		if e.Count != to-from+1 {
			m.Errorf("entry %s counts %d slots of %d", e.ID, e.Count, to-from+1)
		}
		for k := from; k <= to; k++ {
			s := modelSlot{e.Revision, k, f.Manual}
			if _, twice := got[s]; twice {
				m.Errorf("slot %v is covered twice", s)
			}
			got[s] = e.Decision
		}
	}
	wantEqual(m.T, m.names[tr.uuid]+": ledger", got, tr.slots)
	days := must(m.store.LedgerDays(m.Context(), tr.uuid))(m.world)
	sum := map[core.Decision]int64{}
	for _, day := range days {
		for d, n := range day {
			sum[d] += n
		}
	}
	wantEqual(m.T, m.names[tr.uuid]+": counters", sum, tr.days)
}

// checkUndecided checks that whatever is open would be published again.
func (m *fireModel) checkUndecided() {
	m.Helper()
	var got, want []string
	for _, f := range must(m.store.Undecided(m.Context(), 0, m.now().Add(time.Hour)))(m.world) {
		got = append(got, f.String())
	}
	for _, tr := range m.triggers {
		for s, d := range tr.slots {
			if d == "" {
				f := fire(tr.uuid, s.rev, slot(s.k))
				f.Manual = s.hand
				want = append(want, f.String())
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	wantEqual(m.T, "undecided", got, want)
	if len(want) > core.Chunk {
		m.Fatalf("%d are open: the model has to decide more", len(want))
	}
}
