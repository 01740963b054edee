package trigger

import (
	"container/heap"
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/schedule"
)

const (
	// wave is how many triggers are handled at a time.
	wave = 256
	// message is how many fires travel together.
	message = 256
	// patience with NATS and Redis for one wave.
	patience = 3 * time.Second
	// again is the wait after a wave that could not be published.
	again = 250 * time.Millisecond
)

// A plan is what is due of one trigger.
type plan struct {
	entry   *entry
	done    schedule.Settlement
	advance core.Advance
}

// fireDue handles a wave of what is due and returns how long to wait for more.
func (p *Process) fireDue(ctx context.Context) time.Duration {
	now := p.clock()
	plans := p.collect(now)
	if len(plans) == 0 {
		return p.untilNext(now)
	}
	ok := p.carryOut(ctx, plans, now)
	for _, pl := range plans {
		p.putBack(pl.entry)
	}
	if !ok {
		return again
	}
	return p.untilNext(p.clock())
}

// putBack returns an entry to the heap unless it was removed or reloaded
// meanwhile.
func (p *Process) putBack(e *entry) {
	if e.at == outside && p.known[e.trigger.UUID] == e {
		heap.Push(&p.slots, e)
	}
}

// outside marks an entry that is taken out of the heap.
const outside = -1

func (p *Process) untilNext(now time.Time) time.Duration {
	if len(p.slots) == 0 {
		return wall
	}
	return max(0, min(wall, p.slots[0].due.Sub(now)))
}

// collect takes up to a wave of due entries out of the heap. Entries whose late
// slots the storm guard holds back are due again later, behind those on time.
func (p *Process) collect(now time.Time) (plans []plan) {
	for len(plans) < wave && len(p.slots) > 0 && !p.slots[0].due.After(now) {
		e := p.slots[0]
		m := p.outage.judge(e.trigger.Misfire, e.next)
		if late := now.Sub(e.next) > schedule.DefaultThreshold; late && !p.burst.allow(now) {
			e.due = p.burst.renewed()
			heap.Fix(&p.slots, 0)
			continue
		}
		heap.Pop(&p.slots)
		e.at = outside
		plans = append(plans, settle(e, m, now))
	}
	return plans
}

func settle(e *entry, m schedule.Misfire, now time.Time) plan {
	done := schedule.Settle(e.schedule, m, e.next, now, message)
	return plan{entry: e, done: done, advance: core.Advance{
		Trigger: e.trigger.UUID, Revision: e.trigger.Revision, From: e.next, Next: done.Next,
		Entries: engine.Entries(e.trigger, e.schedule, done, now),
	}}
}

// plain reports whether exactly the expected slot fires: only then is it
// published before the ledger is written.
func (pl plan) plain() bool { return len(pl.done.Fires) == 1 && len(pl.done.Gaps) == 0 }

func (pl plan) fires() []core.FireID {
	out := make([]core.FireID, len(pl.done.Fires))
	for i, slot := range pl.done.Fires {
		out[i] = core.FireID{Trigger: pl.entry.trigger.UUID, Revision: pl.entry.trigger.Revision, Slot: slot}
	}
	return out
}

// carryOut publishes and advances a wave. It returns false when NATS or Redis
// did not take it; the entries then keep their slots and are due again.
func (p *Process) carryOut(ctx context.Context, plans []plan, now time.Time) bool {
	var plain, rest []plan
	for _, pl := range plans {
		if pl.plain() {
			plain = append(plain, pl)
		} else {
			rest = append(rest, pl)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ok := true
	if len(plain) > 0 {
		ok = p.publish(ctx, plain, now) && p.advance(ctx, plain)
	}
	if ok && len(rest) > 0 && p.outage.lasts() {
		// Slots that were advanced now would escape the misfire policy, and without
		// end: whether NATS is back has to be known first.
		ok = p.probe(ctx, rest, now)
	}
	if ok && len(rest) > 0 {
		// A failed publish here costs seconds only: the entries are undecided.
		if ok = p.advance(ctx, rest); ok {
			p.publish(ctx, rest, now)
		}
	}
	return ok
}

// probe publishes one fire of the plans, if they have any, ahead of its turn. At
// worst a dispatcher turns it away; it is published again when its turn comes.
func (p *Process) probe(ctx context.Context, plans []plan, now time.Time) bool {
	for _, pl := range plans {
		if len(pl.done.Fires) > 0 {
			pl.done.Fires = pl.done.Fires[:1]
			return p.publish(ctx, []plan{pl}, now)
		}
	}
	return true
}

func (p *Process) publish(ctx context.Context, plans []plan, now time.Time) bool {
	var fires []core.FireID
	for _, pl := range plans {
		fires = append(fires, pl.fires()...)
	}
	for from := 0; from < len(fires); from += message {
		part := fires[from:min(from+message, len(fires))]
		if err := p.bus.PublishFires(ctx, part); err != nil {
			if !p.outage.lasts() {
				p.log.WarnContext(ctx, "fires wait for NATS", "count", len(fires)-from, "err", err)
			}
			p.outage.begin(now)
			return false
		}
		if p.meter.Published != nil {
			p.meter.Published(len(part), p.clock().Sub(part[0].Slot))
		}
	}
	if p.outage.lasts() {
		p.log.InfoContext(ctx, "fires are published again", "after", now.Sub(p.outage.since).Round(time.Millisecond))
	}
	p.outage.end(now)
	return true
}

func (p *Process) advance(ctx context.Context, plans []plan) bool {
	items := make([]core.Advance, len(plans))
	for i, pl := range plans {
		items[i] = pl.advance
	}
	moved, err := p.store.Advance(ctx, items)
	if err != nil {
		p.log.WarnContext(ctx, "triggers not advanced, they are published again", "count", len(items), "err", err)
		return false
	}
	for i, pl := range plans {
		switch e := pl.entry; {
		case !moved[i]:
			p.forget(e)
			p.reload(ctx, e.trigger.UUID)
		case pl.advance.Next.IsZero():
			p.forget(e)
		default:
			e.next, e.due = pl.advance.Next, pl.advance.Next
		}
	}
	return true
}

// forget drops an entry that is outside the heap.
func (p *Process) forget(e *entry) {
	if p.known[e.trigger.UUID] == e && e.at == outside {
		delete(p.known, e.trigger.UUID)
	}
}
