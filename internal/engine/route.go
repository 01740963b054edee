package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// A picture is the fleet as it was at an instant.
type picture struct {
	fleet core.Fleet
	asked time.Time // before it was read
	at    time.Time // when it had been read
}

func (p *picture) youngerThan(age time.Duration) bool { return p != nil && time.Since(p.at) < age }

// Fleet gives the workers as they were at most FleetAge ago. While somebody reads them
// anew, which takes milliseconds where they are many, a picture of twice that age will
// do for everybody else.
func (e *Engine) Fleet(ctx context.Context) (core.Fleet, error) {
	p := e.picture.Load()
	if p.youngerThan(e.maxAge) {
		return p.fleet, nil
	}
	if !e.fleetMu.TryLock() {
		if p.youngerThan(2 * e.maxAge) {
			return p.fleet, nil
		}
		e.fleetMu.Lock()
	}
	defer e.fleetMu.Unlock()
	if p = e.picture.Load(); p.youngerThan(e.maxAge) {
		return p.fleet, nil
	}
	return e.readFleet(ctx)
}

// fleetSince gives the workers as they were at an instant or later. One reading serves
// all who wait for it, so requests that ask for what is not there cannot multiply it.
func (e *Engine) fleetSince(ctx context.Context, instant time.Time) (core.Fleet, error) {
	e.fleetMu.Lock()
	defer e.fleetMu.Unlock()
	if p := e.picture.Load(); p != nil && !p.asked.Before(instant) {
		return p.fleet, nil
	}
	return e.readFleet(ctx)
}

// readFleet takes a new picture. The caller holds fleetMu.
func (e *Engine) readFleet(ctx context.Context) (core.Fleet, error) {
	asked := time.Now()
	f, err := e.store.Fleet(ctx)
	if err == nil {
		e.picture.Store(&picture{f, asked, time.Now()})
	}
	return f, err
}

// Route chooses where a step goes. A step that every worker of its priority's
// queue can execute goes to that shared queue; one that only some can execute,
// for its type or for the resource it acts on, goes to the queue of one of their
// hosts; one that no live worker can execute waits.
func Route(f core.Fleet, p core.PlannedStep) core.Route {
	shared := string(p.Priority)
	if shared == "" {
		shared = string(core.PriorityDefault)
	}
	_, isResource := f.Resources[p.Target]
	var able []core.Worker
	all, listening := true, 0
	for _, w := range f.Workers {
		if !w.Live || w.Draining {
			continue
		}
		can := w.Executes(p.Type) && (!isResource || w.Reaches(p.Target))
		if can {
			able = append(able, w)
		}
		if slices.Contains(w.Queues, shared) {
			listening++
			all = all && can
		}
	}
	switch {
	case len(able) == 0:
		return core.Route{Wait: waitReason(p, isResource)}
	case listening > 0 && all:
		return core.Route{Queue: shared}
	}
	return core.Route{Queue: core.HostQueue(able[rand.IntN(len(able))].Host)}
}

func waitReason(p core.PlannedStep, isResource bool) string {
	if isResource {
		return fmt.Sprintf("waits for a worker that executes %s and reaches resource %s; none is alive", p.Type, p.Target)
	}
	return fmt.Sprintf("waits for a worker that executes %s; none is alive", p.Type)
}

// routes gives the routes of neighboring steps. Most are alike, and the workers may be many.
func routes(f core.Fleet, plan []core.PlannedStep) []core.Route {
	out := make([]core.Route, len(plan))
	for i, p := range plan {
		if i > 0 && sameWay(plan[i-1], p) && !byChance(out[i-1]) {
			out[i] = out[i-1]
			continue
		}
		out[i] = Route(f, p)
	}
	return out
}

// sameWay reports whether what Route judges by is the same.
func sameWay(a, b core.PlannedStep) bool {
	return a.Type == b.Type && a.Target == b.Target && a.Priority == b.Priority
}

// byChance reports whether a route was one of several that would have done.
func byChance(r core.Route) bool { return strings.HasPrefix(r.Queue, core.HostQueue("")) }

// Spec gives the description of a job type: this binary's own or what a worker
// once announced. ok is false for a type that nobody had announced when it was asked
// for: a worker that says it is ready is believed at once.
func (e *Engine) Spec(ctx context.Context, jobType string) (executor.Spec, bool, error) {
	if s, ok := e.types[jobType]; ok {
		return s, true, nil
	}
	asked := time.Now()
	f, err := e.Fleet(ctx)
	if err != nil {
		return executor.Spec{}, false, err
	}
	if s, ok := f.Types[jobType]; ok {
		return s, true, nil
	}
	if f, err = e.fleetSince(ctx, asked); err != nil {
		return executor.Spec{}, false, err
	}
	s, ok := f.Types[jobType]
	return s, ok, nil
}

// Types gives all known job types, by name.
func (e *Engine) Types(ctx context.Context) (map[string]executor.Spec, error) {
	f, err := e.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]executor.Spec, len(f.Types)+len(e.types))
	for name, s := range f.Types {
		out[name] = s
	}
	for name, s := range e.types {
		out[name] = s
	}
	return out, nil
}
