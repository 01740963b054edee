package dispatch

import (
	"context"
	"sync"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
)

// fireWorkers is how many fires of one message are decided at a time.
const fireWorkers = 8

// dispatchFires consumes fires until ctx ends.
func (r *Roles) dispatchFires(ctx context.Context) {
	r.bus.ConsumeFires(ctx, r.decide)
}

// decide turns the fires of a message into runs. Fires of one trigger are decided
// in order. It returns the first error; the message then comes again, and what
// was decided is turned away.
func (r *Roles) decide(ctx context.Context, b events.Batch) error {
	byTrigger := map[string][]core.FireID{}
	var order []string
	for _, f := range b.Fires {
		if byTrigger[f.Trigger] == nil {
			order = append(order, f.Trigger)
		}
		byTrigger[f.Trigger] = append(byTrigger[f.Trigger], f)
	}
	if len(order) == 1 {
		return r.decideAll(ctx, b.Fires, b.Tries)
	}
	work := make(chan []core.FireID)
	errs := make(chan error, len(order))
	var wg sync.WaitGroup
	for range min(fireWorkers, len(order)) {
		wg.Go(func() {
			for fires := range work {
				if err := r.decideAll(ctx, fires, b.Tries); err != nil {
					errs <- err
				}
			}
		})
	}
	for _, trigger := range order {
		work <- byTrigger[trigger]
	}
	close(work)
	wg.Wait()
	close(errs)
	return <-errs
}

// decideAll decides fires in turn, up to the first that fails.
func (r *Roles) decideAll(ctx context.Context, fires []core.FireID, tries int) error {
	for _, f := range fires {
		if err := r.decideOne(ctx, f, tries); err != nil {
			return err
		}
	}
	return nil
}

// decideOne decides a fire. After MaxTries a fire that fails for a reason of its
// own is decided as failed; that Redis is away, or that too much waits, is none.
func (r *Roles) decideOne(ctx context.Context, f core.FireID, tries int) error {
	decision, err := r.engine.DecideFire(ctx, f)
	if err == nil {
		if r.meter.Decided != nil && decision != "" {
			r.meter.Decided(decision)
		}
		return nil
	}
	if tries < events.MaxTries || core.Is(err, core.Unavailable) || core.Is(err, core.Exhausted) {
		return err
	}
	r.log.ErrorContext(ctx, "fire given up", "trigger", f.Trigger, "slot", f.Slot, "tries", tries, "err", err)
	return r.engine.GiveUp(ctx, f, "failed "+core.Text(err))
}
