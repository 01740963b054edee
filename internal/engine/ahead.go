package engine

import (
	"context"
	"sync"

	"github.com/takt-dev/takt/internal/core"
)

// Aims remember what triggers aimed at when they last fired. Most fires aim at the
// same again, so their targets are read while the fire itself is looked up; one that
// does not, or is the first, has them read after. It is a guess at what will be asked
// for and never an answer: whatever is read is read anew for each fire.
type aims struct{ memory[string, []core.Target] }

func (a *aims) noteTrigger(t core.Trigger) {
	targets := make([]core.Target, len(t.Targets))
	for i, b := range t.Targets {
		targets[i] = b.Target
	}
	a.note(t.UUID, targets)
}

// An ahead is what a fire is likely to need, on its way from the store.
type ahead struct {
	reading sync.WaitGroup
	plans   map[core.Target]plan // not to be touched while reading
}

// readAhead begins to plan the runs of a fire, and to look at the fleet if the
// engine's picture of it is old. The caller waits for it.
func (e *Engine) readAhead(ctx context.Context, f core.FireID) *ahead {
	a := &ahead{plans: map[core.Target]plan{}}
	targets, _ := e.aims.of(f.Trigger)
	if len(targets) == 0 {
		return a
	}
	if !e.picture.Load().youngerThan(e.maxAge) {
		a.reading.Go(func() { _, _ = e.Fleet(ctx) }) // whoever needs it meets the error
	}
	a.reading.Go(func() {
		for _, target := range targets {
			if p, err := e.plan(ctx, fireRun(f, target)); err == nil {
				a.plans[target] = p
			}
		}
	})
	return a
}

// startAhead does what Start does, with the plan that was made ahead if there is one.
func (e *Engine) startAhead(ctx context.Context, r RunRequest, a *ahead) (core.Admitted, error) {
	a.reading.Wait()
	if p, ok := a.plans[r.Target]; ok && r.Only == nil {
		return e.carryOut(ctx, r, p)
	}
	return e.Start(ctx, r)
}
