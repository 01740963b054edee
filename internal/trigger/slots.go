package trigger

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

// An entry is a trigger with a slot to come.
type entry struct {
	trigger  core.Trigger
	schedule *schedule.Schedule
	next     time.Time
	due      time.Time // when it is looked at: next, or later while the storm guard holds it back
	shard    int
	at       int // place in the heap
}

type slotHeap []*entry

func (h slotHeap) Len() int { return len(h) }
func (h slotHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return h[i].next.Before(h[j].next)
}
func (h slotHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *slotHeap) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}
func (h *slotHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// takeShards loads the shards that were gained and drops those that were lost.
func (p *Process) takeShards(ctx context.Context) {
	held := p.keeper.Held()
	for n := range p.shards {
		if held[n] != p.shards[n] {
			p.dropShard(n)
		}
	}
	for n, generation := range held {
		if _, loaded := p.shards[n]; loaded {
			continue
		}
		if err := p.loadShard(ctx, n); err != nil {
			p.log.WarnContext(ctx, "shard not loaded yet", "shard", n, "err", err)
			continue
		}
		p.shards[n] = generation
	}
	if p.meter.Shards != nil {
		p.meter.Shards(len(p.shards))
	}
}

func (p *Process) loadShard(ctx context.Context, n int) error {
	mark, err := p.store.EditMark(ctx, n) // first, so that no edit falls in between
	if err != nil {
		return err
	}
	triggers, err := p.store.ListTriggers(ctx, n)
	if err != nil {
		return err
	}
	for _, t := range triggers {
		p.put(ctx, t)
	}
	p.marks.set(n, mark)
	return nil
}

func (p *Process) dropShard(n int) {
	delete(p.shards, n)
	p.marks.drop(n)
	for uuid, e := range p.known {
		if e.shard == n {
			p.remove(uuid)
		}
	}
}

// put takes a trigger's present state in.
func (p *Process) put(ctx context.Context, t core.Trigger) {
	if !t.Live() || t.Next.IsZero() {
		p.remove(t.UUID)
		return
	}
	if e, ok := p.known[t.UUID]; ok && e.trigger.Revision == t.Revision {
		e.trigger, e.next, e.due = t, t.Next, t.Next
		if e.at != outside {
			heap.Fix(&p.slots, e.at)
		}
		return
	}
	s, err := t.Schedule.Compile()
	if err != nil {
		// It was checked when it was stored, so this binary reads it differently.
		p.log.ErrorContext(ctx, "trigger cannot be scheduled", "trigger", t.UUID, "err", err)
		p.remove(t.UUID)
		return
	}
	p.remove(t.UUID)
	e := &entry{trigger: t, schedule: s, next: t.Next, due: t.Next, shard: id.Partition(t.UUID, p.store.Partitions())}
	p.known[t.UUID] = e
	heap.Push(&p.slots, e)
}

func (p *Process) remove(uuid string) {
	if e, ok := p.known[uuid]; ok {
		delete(p.known, uuid)
		if e.at != outside {
			heap.Remove(&p.slots, e.at)
		}
	}
}

// reload reads triggers that were edited or that have moved on without us.
func (p *Process) reload(ctx context.Context, uuids []string) {
	uuids = slices.DeleteFunc(uuids, func(uuid string) bool {
		_, mine := p.shards[id.Partition(uuid, p.store.Partitions())]
		return !mine
	})
	if len(uuids) == 0 {
		return
	}
	found, err := p.store.Triggers(ctx, uuids)
	if err != nil {
		p.log.WarnContext(ctx, "triggers not read, their shards are loaded anew", "count", len(uuids), "err", err)
		for _, uuid := range uuids {
			if n := id.Partition(uuid, p.store.Partitions()); p.shards[n] != 0 {
				p.dropShard(n)
			}
		}
		return
	}
	for _, uuid := range uuids {
		if t, ok := found[uuid]; ok {
			p.put(ctx, t)
		} else {
			p.remove(uuid)
		}
	}
}
