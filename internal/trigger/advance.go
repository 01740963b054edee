package trigger

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// advances is how many advances are under way at a time: while Redis works on one,
// the next is written and the last is read.
const advances = 3

// An outcome is what became of an advance.
type outcome struct {
	plans []plan
	moved []bool
	err   error
}

// startAdvance advances what is published, unless enough is under way: take then
// starts it.
func (p *Process) startAdvance(ctx context.Context) {
	if len(p.published) == 0 || p.advancing == advances {
		return
	}
	plans := p.published
	p.published = nil
	p.advancing++
	// What is published is advanced, also when the process is asked to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	go func() {
		defer cancel()
		p.advanced <- p.advance(ctx, plans)
	}()
}

func (p *Process) advance(ctx context.Context, plans []plan) outcome {
	items := make([]core.Advance, len(plans))
	for i, pl := range plans {
		items[i] = pl.advance
	}
	moved, err := p.store.Advance(ctx, items)
	return outcome{plans, moved, err}
}

// take takes the outcome of an advance that startAdvance began.
func (p *Process) take(ctx context.Context, o outcome) {
	p.advancing--
	p.apply(ctx, o)
	if o.err != nil {
		p.rest = time.Now().Add(again)
	}
	p.startAdvance(ctx)
}

// apply moves entries on and returns them to the heap.
func (p *Process) apply(ctx context.Context, o outcome) {
	if o.err != nil {
		p.log.WarnContext(ctx, "triggers not advanced, they are published again", "count", len(o.plans), "err", o.err)
		p.putBack(o.plans)
		return
	}
	var strayed []string
	for i, pl := range o.plans {
		switch e := pl.entry; {
		case !o.moved[i]:
			p.forget(e)
			strayed = append(strayed, e.trigger.UUID)
		case pl.advance.Next.IsZero():
			p.forget(e)
		default:
			e.next, e.due = pl.advance.Next, pl.advance.Next
		}
	}
	p.putBack(o.plans)
	p.reload(ctx, strayed)
}

// forget drops an entry that is outside the heap.
func (p *Process) forget(e *entry) {
	if p.known[e.trigger.UUID] == e && e.at == outside {
		delete(p.known, e.trigger.UUID)
	}
}

// finish waits for the advances under way.
func (p *Process) finish(ctx context.Context) {
	for p.startAdvance(ctx); p.advancing > 0; {
		p.take(ctx, <-p.advanced)
	}
}
