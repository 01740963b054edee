package engine

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// A deleted trigger leaves a tombstone for as long as its ledger is kept. A new
// trigger with its uuid takes its place: versions, revisions and slots go on where
// those of the dead one ended. So nothing that is the dead one's, a fire that comes
// late, an edit that was begun before, a sweep of tombstones, is taken for the new
// one's. The ledger and its counters per day go on too; what in them is of a revision
// before Born is the dead one's.

// predates reports whether a fire is one of the trigger that had t's uuid before.
func predates(f core.FireID, t core.Trigger) bool { return f.Revision < t.Born }

// predatesText is why such a fire starts nothing.
const predatesText = "its trigger was deleted, and another one has the uuid"

// replaceTombstone puts a new trigger, whose uuid is taken, in the place of a dead one
// of the same account: another account would see its ledger. taken is given back where
// the uuid is not to be had. (A request that made the dead one and is carried out again
// does not come here: see once.)
func (e *Engine) replaceTombstone(ctx context.Context, t core.Trigger, s *schedule.Schedule, taken error) (core.Trigger, error) {
	dead, err := e.store.Trigger(ctx, t.UUID, true)
	if err != nil {
		return t, err
	}
	if dead.Deleted.IsZero() || dead.Account != t.Account {
		return t, taken
	}
	last, err := e.lastSlot(ctx, t.UUID, nil)
	if err != nil {
		return t, err
	}
	t.Version, t.Revision, t.Born = dead.Version, dead.Revision+1, dead.Revision+1
	if !t.Next.IsZero() && !t.Next.After(last) { // published by a clock ahead of the store's
		t.Next, _ = s.Next(last)
	}
	err = e.store.PutTrigger(ctx, t, time.Time{}, true, nil, nil)
	if core.Is(err, core.Stale) { // somebody else was quicker
		return t, taken
	}
	return t, err
}
