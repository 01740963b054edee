package trigger

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/schedule"
)

const (
	// wave is about how many fires are handled at a time.
	wave = 4096
	// message is how many fires travel together.
	message = 256
	// messages is how many messages are under way at a time.
	messages = 16
	// patience with NATS and Redis for one wave.
	patience = 3 * time.Second
	// again is the wait after a wave that could not be published or advanced.
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
	if wait := time.Until(p.rest); wait > 0 {
		return wait
	}
	if len(p.published) >= wave {
		return wall // an outcome comes first
	}
	now := p.clock()
	plans := p.collect(now)
	if len(plans) == 0 {
		return p.untilNext(now)
	}
	if !p.carryOut(ctx, plans, now) {
		p.rest = time.Now().Add(again)
		return again
	}
	return p.untilNext(p.clock())
}

// putBack returns entries to the heap unless they were removed or reloaded
// meanwhile.
func (p *Process) putBack(plans []plan) {
	for _, pl := range plans {
		if e := pl.entry; e.at == outside && p.known[e.trigger.UUID] == e {
			heap.Push(&p.slots, e)
		}
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

// collect takes about a wave of due entries out of the heap. Entries whose late
// slots the storm guard holds back are due again later, behind those on time.
func (p *Process) collect(now time.Time) (plans []plan) {
	for fires := 0; fires < wave && len(p.slots) > 0 && !p.slots[0].due.After(now); {
		e := p.slots[0]
		m := p.outage.judge(e.trigger.Misfire, e.next)
		if late := now.Sub(e.next) > schedule.DefaultThreshold; late && !p.burst.allow(now) {
			e.due = p.burst.renewed()
			heap.Fix(&p.slots, 0)
			continue
		}
		heap.Pop(&p.slots)
		e.at = outside
		pl := settle(e, m, now)
		fires += max(1, len(pl.done.Fires))
		plans = append(plans, pl)
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

func (pl plan) appendFires(to []core.FireID) []core.FireID {
	for _, slot := range pl.done.Fires {
		to = append(to, core.FireID{Trigger: pl.entry.trigger.UUID, Revision: pl.entry.trigger.Revision, Slot: slot})
	}
	return to
}

// carryOut publishes a wave and has it advanced. It returns false when NATS or Redis
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
	if len(plain) > 0 && !p.publish(ctx, plain, now) {
		p.putBack(plans)
		return false
	}
	p.published = append(p.published, plain...)
	p.startAdvance(ctx)
	return len(rest) == 0 || p.catchUp(ctx, rest, now)
}

// catchUp advances plans that are not plain, and then publishes them.
func (p *Process) catchUp(ctx context.Context, plans []plan, now time.Time) bool {
	// Slots that were advanced now would escape the misfire policy, and without
	// end: whether NATS is back has to be known first.
	if p.outage.lasts() && !p.probe(ctx, plans, now) {
		p.putBack(plans)
		return false
	}
	o := p.advance(ctx, plans)
	p.apply(ctx, o)
	if o.err != nil {
		return false
	}
	// A failure here costs seconds only: the entries are undecided.
	p.publish(ctx, plans, now)
	return true
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
	fires := make([]core.FireID, 0, len(plans))
	for _, pl := range plans {
		fires = pl.appendFires(fires)
	}
	if err := p.send(ctx, fires); err != nil {
		if !p.outage.lasts() {
			p.log.WarnContext(ctx, "fires wait for NATS", "count", len(fires), "err", err)
		}
		p.outage.begin(now)
		return false
	}
	if p.outage.lasts() {
		p.log.InfoContext(ctx, "fires are published again", "after", now.Sub(p.outage.since).Round(time.Millisecond))
	}
	p.outage.end(now)
	return true
}

// send publishes fires, some messages at a time, until all are acknowledged or one
// message failed.
func (p *Process) send(ctx context.Context, fires []core.FireID) error {
	if len(fires) <= message {
		return p.sendMessage(ctx, fires)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan struct{}, messages)
	var wg sync.WaitGroup
	for part := range slices.Chunk(fires, message) {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := p.sendMessage(ctx, part); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (p *Process) sendMessage(ctx context.Context, fires []core.FireID) error {
	if len(fires) == 0 {
		return nil
	}
	if err := p.bus.PublishFires(ctx, fires); err != nil {
		return err
	}
	if p.meter.Published != nil {
		p.meter.Published(len(fires), p.clock().Sub(fires[0].Slot))
	}
	return nil
}
