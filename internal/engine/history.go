package engine

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Histories read what many runs did, for lists of steps and for reports.
type Histories interface {
	// StepsOf gives some steps of runs in the order asked for, each with its first
	// and its last attempt, and the last one's output if asked. Steps of runs that
	// are gone are zero.
	StepsOf(ctx context.Context, of []core.StepsOf, outputs bool) ([][]core.Step, error)
	// Outlines gives the outlines of runs by their plans. One whose run is gone is left out.
	Outlines(ctx context.Context, runs []core.Run) (map[string]core.Outline, error)
	// Tally counts the runs of every account from each cut to the next.
	Tally(ctx context.Context, f core.RunFilter, cuts []time.Time) ([][]core.Tally, error)
}

// StepsOf gives some steps of runs, which Runs or Run gave to this caller, in the
// order asked for. Steps of runs that are gone by now are zero.
func (e *Engine) StepsOf(ctx context.Context, of []core.StepsOf, outputs bool) ([][]core.Step, error) {
	for _, o := range of {
		if err := maySee(ctx, "run", o.Run.ID, o.Run.Account); err != nil {
			return nil, err
		}
	}
	steps, err := e.store.StepsOf(ctx, of, outputs)
	for i := range steps {
		veil(ctx, *of[i].Run, steps[i])
	}
	return steps, err
}

// Outlines gives the outlines of runs that the caller may see, by their plans. Of a
// run it needs Account, Target and Plan, as Tally gives them too.
func (e *Engine) Outlines(ctx context.Context, runs []core.Run) (map[string]core.Outline, error) {
	for _, r := range runs {
		if err := maySee(ctx, "run", r.ID, r.Account); err != nil {
			return nil, err
		}
	}
	return e.store.Outlines(ctx, runs)
}

// Tally counts the runs that the caller may see and that were created from each
// cut until before the next. Of the filter it heeds Dialect and what names targets,
// triggers and jobs; with jobs a run of their groups is counted also if it has no
// step of them.
func (e *Engine) Tally(ctx context.Context, f core.RunFilter, cuts []time.Time) ([][]core.Tally, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := e.store.Tally(ctx, f, cuts)
	for i := range parts {
		if c.Role != core.Admin && c.Owner == "" {
			parts[i] = nil // "" is no account's name
		}
		parts[i] = seen(c, parts[i], func(t core.Tally) string { return t.Account })
		if f.Dialect != "" {
			parts[i] = ofDialect(parts[i], f.Dialect)
		}
	}
	return parts, err
}

func ofDialect(all []core.Tally, d core.Dialect) []core.Tally {
	out := all[:0]
	for _, t := range all {
		if t.Dialect == d {
			out = append(out, t)
		}
	}
	return out
}
