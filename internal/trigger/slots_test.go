package trigger

import (
	"container/heap"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

func idle(s *fakeStore) *Process {
	p := New(s, newBus(), Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	for n := range shards {
		p.shards[n] = 1
	}
	return p
}

// check fails the test when the heap is not one or entries do not know their place.
func check(t *testing.T, p *Process) {
	t.Helper()
	for k, e := range p.slots {
		if e.at != k || p.known[e.trigger.UUID] != e {
			t.Fatalf("the entry at %d thinks it is at %d", k, e.at)
		}
		if k > 0 && p.slots.Less(k, (k-1)/2) {
			t.Fatalf("the entry at %d is due before its parent", k)
		}
	}
	if len(p.slots) != len(p.known) {
		t.Fatalf("%d entries in the heap, %d known", len(p.slots), len(p.known))
	}
}

func TestHeapUnderRandomChanges(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	s, ctx := newStore(), context.Background()
	p := idle(s)
	begun := time.Unix(2_000_000_000, 0).UTC()
	var uuids []string
	for range 200 {
		uuids = append(uuids, s.add(time.Second, begun, schedule.Misfire{}))
	}
	for range 5000 {
		uuid := uuids[rnd.IntN(len(uuids))]
		tr := s.triggers[uuid]
		tr.Next = begun.Add(time.Duration(rnd.IntN(100)) * time.Second)
		switch rnd.IntN(8) {
		case 0:
			tr.Enabled = false
		case 1:
			tr.Next = time.Time{}
		case 2:
			tr.Revision++
			tr.Enabled = true
		case 3:
			p.dropShard(id.Partition(uuid, shards))
			p.shards[id.Partition(uuid, shards)] = 1
		default:
			tr.Enabled = true
		}
		s.triggers[uuid] = tr
		p.put(ctx, tr)
		check(t, p)
	}
}

// An entry may be reloaded, changed or removed while it is out of the heap.
func TestEntryOutsideOfTheHeap(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *Process, tr core.Trigger){
		"changed":       func(p *Process, tr core.Trigger) { tr.Next = tr.Next.Add(time.Minute); p.put(t.Context(), tr) },
		"edited":        func(p *Process, tr core.Trigger) { tr.Revision++; p.put(t.Context(), tr) },
		"removed":       func(p *Process, tr core.Trigger) { p.remove(tr.UUID) },
		"reloaded":      func(p *Process, tr core.Trigger) { p.reload(t.Context(), []string{tr.UUID}) },
		"shard dropped": func(p *Process, tr core.Trigger) { p.dropShard(id.Partition(tr.UUID, shards)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			p := idle(s)
			now := time.Now()
			for range 3 {
				s.add(time.Second, now.Add(-time.Second), schedule.Misfire{})
			}
			for _, tr := range s.triggers {
				p.put(t.Context(), tr)
			}
			plans := p.collect(now)
			if len(plans) != 3 {
				t.Fatalf("%d plans, want 3", len(plans))
			}
			change(p, plans[1].entry.trigger)
			p.putBack(plans)
			check(t, p)
			for len(p.slots) > 0 {
				heap.Pop(&p.slots)
			}
		})
	}
}

// The clock went back: what has fired does not fire again, since only slots from
// the next one on are looked at.
func TestClockThatGoesBack(t *testing.T) {
	t.Parallel()
	s := newStore()
	p := idle(s)
	now := time.Now()
	uuid := s.add(time.Second, now, schedule.Misfire{})
	p.put(t.Context(), s.triggers[uuid])
	if wait := p.fireDue(t.Context()); wait > wall {
		t.Errorf("waits %s, want at most %s", wait, wall)
	}
	p.finish(t.Context())
	fired := len(s.entries(uuid))
	if fired == 0 {
		t.Fatal("nothing fired")
	}
	if plans := p.collect(now.Add(-time.Hour)); len(plans) != 0 {
		t.Errorf("an hour earlier %d triggers are due, want none", len(plans))
	}
	e := p.known[uuid]
	if pl := settle(e, schedule.Misfire{}, now.Add(-time.Hour)); len(pl.done.Fires)+len(pl.done.Gaps) != 0 || !pl.done.Next.Equal(e.next) {
		t.Errorf("settled an hour earlier: %+v, want nothing and the same next slot", pl.done)
	}
}

func TestOutageJudges(t *testing.T) {
	t.Parallel()
	begun := time.Unix(2_000_000_000, 0)
	at := func(s int) time.Time { return begun.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		name   string
		outage func(o *outage)
		slot   int
		wide   bool
	}{
		{"no outage", func(*outage) {}, 0, false},
		{"slot within", func(o *outage) { o.begin(at(0)); o.end(at(600)) }, 300, true},
		{"slot just before it was noticed", func(o *outage) { o.begin(at(0)) }, -59, true},
		{"slot long before", func(o *outage) { o.begin(at(0)) }, -61, false},
		{"slot after", func(o *outage) { o.begin(at(0)); o.end(at(600)) }, 601, false},
		{"slot while it lasts", func(o *outage) { o.begin(at(0)); o.begin(at(500)) }, 100, true},
		{"slot in the second outage", func(o *outage) { o.begin(at(0)); o.end(at(10)); o.begin(at(1000)) }, 1001, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var o outage
			c.outage(&o)
			m := o.judge(schedule.Misfire{Policy: schedule.Skip}, at(c.slot))
			if wide := m.Threshold == schedule.DefaultCatchupWindow; wide != c.wide {
				t.Errorf("threshold is %s, want it widened: %v", m.Threshold, c.wide)
			}
		})
	}
}
