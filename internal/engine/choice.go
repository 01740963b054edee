package engine

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// A choice is what a fire by hand is limited to: targets of its trigger, and jobs
// that are in a group the trigger is bound to. A job that is bound itself is
// fired as such, and not once more with its group.
type choice struct {
	limited bool
	whole   map[string]bool     // targets as they are
	within  map[string][]string // of a group: the jobs to run
	strange []string            // named, and not the trigger's
}

// choose sorts out what only names of a trigger. Nothing named is everything.
func (e *Engine) choose(ctx context.Context, t core.Trigger, only []string) (choice, error) {
	c := choice{limited: len(only) > 0, whole: map[string]bool{}, within: map[string][]string{}}
	var loose []string
	for _, uuid := range only {
		if _, bound := t.Binding(uuid); bound {
			c.whole[uuid] = true
		} else {
			loose = append(loose, uuid)
		}
	}
	if len(loose) == 0 {
		return c, nil
	}
	jobs, err := e.store.Jobs(ctx, loose)
	if err != nil {
		return c, err
	}
	groups := make(map[string]string, len(jobs))
	for _, j := range jobs {
		groups[j.UUID] = j.Group
	}
	for _, uuid := range loose {
		group := groups[uuid]
		if _, bound := t.Binding(group); !bound {
			c.strange = append(c.strange, uuid)
			continue
		}
		c.within[group] = append(c.within[group], uuid)
	}
	return c, nil
}

// of says whether a target is to be fired and, of a group, to which of its jobs
// the run is limited; nil is all of them.
func (c choice) of(target string) (only []string, wanted bool) {
	if !c.limited || c.whole[target] {
		return nil, true
	}
	only = c.within[target]
	return only, only != nil
}

// nothing says why a fire has no targets.
func (c choice) nothing() string {
	if c.limited {
		return "nothing that was asked for is bound to the trigger any more"
	}
	return "the trigger has no targets"
}
