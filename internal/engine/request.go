package engine

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// A request that is carried out a second time, by a process that took over from
// one that died, must find what the first has made. The verbs see to it by the
// context's core.Request: ids of new things are derived from its key, so that to
// create them again is to meet them.

// newID gives the id of a new thing: a random one, or the request's own.
func newID(ctx context.Context, what string) string {
	if r := core.RequestFrom(ctx); r.Key != "" {
		return id.Derived(r.Key + ":" + what)
	}
	return id.New()
}

// A definition knows which request has made it.
type definition interface {
	core.Job | core.Group | core.Trigger | core.CBTTask
	Identity() core.Meta
}

// once creates a definition at most once per request. What the request has made
// before is given as it is by now.
func once[T definition](ctx context.Context, noun string, create, find func() (T, error)) (T, error) {
	r := core.RequestFrom(ctx)
	made := func() (T, bool, error) {
		found, err := find()
		m := found.Identity()
		return found, err == nil && (m.Request == r.Key || m.UUID == newID(ctx, noun)), err
	}
	// Looked for first, since what was possible then may be refused by now.
	if r.Again {
		if found, ok, err := made(); ok || core.Is(err, core.Unavailable) {
			return found, err
		}
	}
	t, err := create()
	if r.Key != "" && core.Is(err, core.Exists) {
		if found, ok, _ := made(); ok {
			return found, nil
		}
	}
	return t, err
}
