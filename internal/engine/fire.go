package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// DecideFire turns a published fire into at most one run per target and writes
// the decision into the ledger. It believes only the fire's id: trigger and
// targets are read from the store. Doing it again is harmless. An Exhausted
// error means: later.
func (e *Engine) DecideFire(ctx context.Context, f core.FireID) (core.Decision, error) {
	a := e.readAhead(ctx, f)
	defer a.reading.Wait()
	t, entry, open, known, err := e.store.Lookup(ctx, f)
	if err != nil {
		return "", err
	}
	if !known || !open {
		return entry.Decision, nil
	}
	e.aims.noteTrigger(t)
	if entry.ID == "" {
		entry = publishedEntry(f, entry.Published) // its publisher has not advanced the trigger yet
	}
	if predates(f, t) {
		entry.Decision, entry.Reason = core.Skipped, predatesText
	} else if err := e.decideTargets(ctx, f, t, a, &entry); err != nil {
		return "", err
	}
	_, err = e.store.Decide(ctx, f, entry) // which makes fired late, where it is
	return entry.Decision, err
}

func publishedEntry(f core.FireID, now time.Time) core.LedgerEntry {
	e := core.LedgerEntry{
		ID: f.Entry(), Revision: f.Revision, Manual: f.Manual != "", From: f.Slot, To: f.Slot, Count: 1, Published: now,
	}
	if !e.Manual {
		e.Lateness = now.Sub(f.Slot)
	}
	return e
}

// decideTargets starts a run per target and sums up the decisions: fired if any
// target was, else buffered, else skipped, else failed.
func (e *Engine) decideTargets(ctx context.Context, f core.FireID, t core.Trigger, ahead *ahead, entry *core.LedgerEntry) error {
	var reasons []string
	best := core.Decision("")
	chosen, err := e.choose(ctx, t, entry.Only)
	if err != nil {
		return err
	}
	for _, b := range t.Targets {
		only, wanted := chosen.of(b.UUID)
		if !wanted {
			continue
		}
		r := fireRun(f, b.Target)
		r.Overlap, r.Only = t.Overlap, only
		a, err := e.startAhead(ctx, r, ahead)
		switch {
		case core.Is(err, core.NotFound):
			a = core.Admitted{Word: core.AdmitSkipped, Reason: fmt.Sprintf("%s %s is deleted", b.Kind, b.UUID)}
		case err != nil:
			return err
		case a.Word == core.AdmitBusy:
			return core.Errorf(core.Exhausted, "too many steps wait for workers")
		}
		if a.Run != "" {
			entry.Runs = append(entry.Runs, a.Run)
		}
		if a.Reason != "" {
			reasons = append(reasons, a.Reason)
		}
		best = better(best, decisionOf(a.Word))
	}
	if best == "" {
		best, reasons = core.Skipped, []string{chosen.nothing()}
	}
	entry.Decision, entry.Reason = best, strings.Join(slices.Compact(reasons), "; ")
	return nil
}

// fireRun asks for the run that a fire becomes for a target.
func fireRun(f core.FireID, target core.Target) RunRequest {
	return RunRequest{Target: target, Request: fireRequest(f, target.UUID), Trigger: f.Trigger, Fire: f, At: f.Slot}
}

// fireRequest names the request for the run that a fire becomes for a target.
func fireRequest(f core.FireID, target string) string { return "fire:" + f.String() + ":" + target }

func decisionOf(w core.AdmitWord) core.Decision {
	switch w {
	case core.AdmitStarted:
		return core.Fired
	case core.AdmitBuffered:
		return core.Buffered
	}
	return core.Skipped
}

func better(a, b core.Decision) core.Decision {
	order := []core.Decision{core.Fired, core.Buffered, core.Skipped}
	for _, d := range order {
		if a == d || b == d {
			return d
		}
	}
	return b
}

// GiveUp decides a fire as failed after too many tries. Runs that it became for
// some of its targets stand, and the ledger tells of them.
func (e *Engine) GiveUp(ctx context.Context, f core.FireID, reason string) error {
	t, entry, open, known, err := e.store.Lookup(ctx, f)
	if err != nil || !known || !open {
		return err
	}
	if entry.ID == "" {
		entry = publishedEntry(f, entry.Published)
	}
	for _, b := range t.Targets {
		a, ok, err := e.store.Decision(ctx, b.UUID, fireRequest(f, b.UUID))
		if err != nil {
			return err
		}
		if ok && a.Run != "" {
			entry.Runs = append(entry.Runs, a.Run)
		}
	}
	entry.Decision, entry.Reason = core.Failed, reason
	_, err = e.store.Decide(ctx, f, entry)
	return err
}

// FireNow fires a trigger by hand, once, besides its schedule; only limits it to
// some of its targets, or to some jobs of the groups among them. Equal keys are
// one fire. The fire is durable before anything is started, and it needs no NATS.
func (e *Engine) FireNow(ctx context.Context, trigger, key string, only []string) (core.LedgerEntry, error) {
	t, err := e.changeableTrigger(ctx, trigger)
	if err != nil {
		return core.LedgerEntry{}, err
	}
	chosen, err := e.choose(ctx, t, only)
	if err != nil {
		return core.LedgerEntry{}, err
	}
	if len(chosen.strange) > 0 {
		return core.LedgerEntry{}, core.InvalidField("targets", "%q is not bound to trigger %q", chosen.strange[0], trigger)
	}
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return core.LedgerEntry{}, err
	}
	f, entry, err := e.manualFire(ctx, t, requestKey(c, "fire", key), only)
	if err != nil {
		return entry, err
	}
	if err := e.store.OpenFire(ctx, f, entry); err != nil {
		return entry, err
	}
	return e.settleManual(ctx, f)
}

// manualFire names a fire by hand. A repeated request finds the name that its
// first use was given, with that instant and revision.
func (e *Engine) manualFire(ctx context.Context, t core.Trigger, request string, only []string) (core.FireID, core.LedgerEntry, error) {
	now, err := e.store.Now(ctx)
	if err != nil {
		return core.FireID{}, core.LedgerEntry{}, err
	}
	if t.Born > 0 { // what the trigger before it was asked for is not asked of this one
		request = fmt.Sprintf("%s:%d", request, t.Born)
	}
	f := core.FireID{Trigger: t.UUID, Revision: t.Revision, Slot: now.Truncate(time.Millisecond), Manual: id.Derived(request)}
	known, err := e.store.ManualFire(ctx, f, rememberRequests)
	if err != nil {
		return f, core.LedgerEntry{}, err
	}
	entry := publishedEntry(known, now)
	entry.Only = only
	return known, entry, nil
}

// settleManual decides a fire that is in the ledger. Where that is not possible
// now, the trigger's process has it decided later; the entry says so by having no
// decision.
func (e *Engine) settleManual(ctx context.Context, f core.FireID) (core.LedgerEntry, error) {
	if _, err := e.DecideFire(ctx, f); err != nil && !core.Is(err, core.Exhausted) {
		return core.LedgerEntry{}, err
	}
	entry, _, err := e.store.LedgerEntry(ctx, f)
	return entry, err
}

// Ledger gives a trigger's entries, newest first.
func (e *Engine) Ledger(ctx context.Context, trigger string, from, to time.Time, skip, limit int) ([]core.LedgerEntry, error) {
	if _, err := e.visibleTrigger(ctx, trigger, true); err != nil {
		return nil, err
	}
	return e.store.Ledger(ctx, trigger, from, to, skip, limit)
}

// LedgerDays gives a trigger's counters per UTC day.
func (e *Engine) LedgerDays(ctx context.Context, trigger string) (map[string]map[core.Decision]int64, error) {
	if _, err := e.visibleTrigger(ctx, trigger, true); err != nil {
		return nil, err
	}
	return e.store.LedgerDays(ctx, trigger)
}
