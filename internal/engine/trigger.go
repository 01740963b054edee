package engine

import (
	"context"
	"errors"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// CreateTrigger checks and stores a trigger without targets and returns it
// complete. A simple schedule without a start begins when the first target is
// bound: slots before that could fire nothing. The uuid of a trigger that the
// account has deleted may be used again. Invalid, Exists.
func (e *Engine) CreateTrigger(ctx context.Context, t core.Trigger) (core.Trigger, error) {
	if err := e.newMeta(ctx, "trigger", &t.Meta); err != nil {
		return t, err
	}
	return once(ctx, "trigger", func() (core.Trigger, error) { return e.createTrigger(ctx, t) }, func() (core.Trigger, error) { return e.visibleTrigger(ctx, t.UUID, true) })
}

// ErrNeverFires refuses a schedule whose slots, if it has any, are all in the past. A
// dialect that has words of its own for it knows it by this.
var ErrNeverFires error = core.InvalidField("schedule", "the schedule never fires from now on; give a later end or start, or an expression whose day comes")

func (e *Engine) createTrigger(ctx context.Context, t core.Trigger) (core.Trigger, error) {
	t.Revision, t.Born, t.Targets, t.Deleted, t.Next = 1, 0, nil, time.Time{}, time.Time{}
	t.Floating = floating(t)
	s, err := compile(&t, t.Created)
	if err != nil {
		return t, err
	}
	// A schedule without a start begins with the millisecond it is made in.
	next, ok := s.Next(t.Created.Truncate(time.Millisecond).Add(-1))
	if !ok {
		return t, ErrNeverFires
	}
	if t.Enabled && !t.Floating {
		t.Next = next
	}
	err = e.store.PutTrigger(ctx, t, time.Time{}, false, nil, nil)
	if core.Is(err, core.Exists) {
		t, err = e.replaceTombstone(ctx, t, s, err)
	}
	if err != nil {
		return t, err
	}
	e.events.RingTrigger(t.UUID)
	t.Version++
	return t, nil
}

func floating(t core.Trigger) bool {
	return t.Schedule.Kind == schedule.Simple && t.Schedule.Start.IsZero() && len(t.Targets) == 0
}

// compile checks a trigger's schedule and policies. It resolves what is left
// open, so that the stored trigger means the same for ever: the start of a
// simple schedule and the zone.
func compile(t *core.Trigger, now time.Time) (*schedule.Schedule, error) {
	if t.Schedule.Kind == schedule.Simple && t.Schedule.Start.IsZero() {
		t.Schedule.Start = now.Truncate(time.Millisecond)
	}
	if t.Schedule.Zone == "" {
		t.Schedule.Zone = "UTC"
	}
	if len(t.Schedule.Expression) > core.MaxCron {
		return nil, core.InvalidField("schedule.expression", "the cron expression has %d characters, at most %d are allowed", len(t.Schedule.Expression), core.MaxCron)
	}
	s, err := t.Schedule.Compile()
	if err != nil {
		return nil, scheduleError("schedule", err)
	}
	if err := t.Misfire.Validate(); err != nil {
		return nil, scheduleError("misfire", err)
	}
	return s, t.Overlap.Validate()
}

func scheduleError(in string, err error) error {
	var f *schedule.FieldError
	if errors.As(err, &f) {
		return core.InvalidField(in+"."+f.Field, "%s", f.Error())
	}
	return core.InvalidField(in, "%s", err.Error())
}

// UpdateTrigger changes a trigger. version is the one the caller has seen, or 0
// for any. change may touch Name, Description, Schedule, Misfire, Overlap and
// Enabled. Slots up to now are settled under the old revision; the new one
// begins strictly after them.
func (e *Engine) UpdateTrigger(ctx context.Context, uuid string, version int64, change func(*core.Trigger) error) (core.Trigger, error) {
	var out core.Trigger
	err := retryStale(func() error {
		old, err := e.changeableTrigger(ctx, uuid)
		if err != nil {
			return err
		}
		if err := checkVersion("trigger", version, old.Version); err != nil {
			return errNotRetried(err)
		}
		out, err = e.changeTrigger(ctx, old, change)
		return err
	})
	if err != nil {
		return out, finalStale(err)
	}
	e.events.RingTrigger(uuid)
	out.Version++
	return out, nil
}

func (e *Engine) changeTrigger(ctx context.Context, old core.Trigger, change func(*core.Trigger) error) (core.Trigger, error) {
	t := old
	if err := change(&t); err != nil {
		return t, err
	}
	if err := checkMeta(&t.Meta, old.Name); err != nil {
		return t, err
	}
	now, err := e.store.Now(ctx)
	if err != nil {
		return t, err
	}
	float := floating(t)
	s, err := compile(&t, now)
	if err != nil {
		return t, err
	}
	t.Updated = now.UTC()
	if t.Schedule != old.Schedule {
		t.Floating = float
	}
	if t.Schedule == old.Schedule && t.Enabled == old.Enabled && t.Misfire == old.Misfire {
		return t, e.store.PutTrigger(ctx, t, old.Next, false, nil, nil)
	}
	return e.reschedule(ctx, old, t, s, now)
}

// reschedule writes a trigger under its next revision, which begins strictly
// behind the slots of the old one.
func (e *Engine) reschedule(ctx context.Context, old, t core.Trigger, s *schedule.Schedule, now time.Time) (core.Trigger, error) {
	entries, err := settle(old, now)
	if err != nil {
		return t, err
	}
	last, err := e.lastSlot(ctx, old.UUID, entries)
	if err != nil {
		return t, err
	}
	begin := now
	if t.Schedule.Kind == schedule.Simple && t.Schedule.Start.Equal(now.Truncate(time.Millisecond)) {
		// It was left open: the first slot is now, or the next moment that is free.
		if !last.Before(t.Schedule.Start) {
			t.Schedule.Start = last.Add(time.Millisecond)
			if s, err = t.Schedule.Compile(); err != nil {
				return t, scheduleError("schedule", err)
			}
		}
		begin = t.Schedule.Start.Add(-1)
	}
	if last.After(begin) {
		begin = last
	}
	t.Revision++
	t.Next = time.Time{}
	next, ok := s.Next(begin)
	if !ok && t.Schedule != old.Schedule {
		return t, ErrNeverFires
	}
	if t.Enabled && !t.Floating {
		t.Next = next
	}
	return t, e.store.PutTrigger(ctx, t, old.Next, true, entries, nil)
}

// lastSlot gives the last slot that the ledger, and entries to be added to it,
// cover. It may lie in the future of the store's clock, where the clock of the
// process that published it is ahead.
func (e *Engine) lastSlot(ctx context.Context, trigger string, entries []core.LedgerEntry) (time.Time, error) {
	const recent = 100 // fires by hand among them count for nothing
	known, err := e.store.Ledger(ctx, trigger, time.Time{}, time.Time{}, 0, recent)
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, l := range append(known, entries...) {
		if !l.Manual && l.To.After(last) {
			last = l.To
		}
	}
	return last, nil
}

// mostSettled is about how many entries one change of a trigger writes. Slots
// beyond that are missed.
const mostSettled = 10_000

// settle accounts for the slots of a trigger up to now as its own process would:
// those to fire are entries published and undecided, which the trigger's
// process publishes.
func settle(t core.Trigger, now time.Time) ([]core.LedgerEntry, error) {
	if t.Next.IsZero() || t.Next.After(now) {
		return nil, nil
	}
	s, err := t.Schedule.Compile()
	if err != nil {
		return nil, scheduleError("schedule", err)
	}
	var out []core.LedgerEntry
	next := t.Next
	for !next.IsZero() && !next.After(now) {
		policy := t.Misfire
		if len(out) >= mostSettled {
			policy = schedule.Misfire{Policy: schedule.Skip, Threshold: 1}
		}
		done := schedule.Settle(s, policy, next, now, 256)
		out = append(out, Entries(t, s, done, now)...)
		next = done.Next
	}
	return out, nil
}

// Entries turns a settlement of a trigger's slots into ledger entries: slots
// that fire are published at now and undecided. The first slot of a gap gets an
// entry of its own: it may have been published and decided already, by a process
// that died before it advanced the trigger, and the entry it then has must not
// stand in for the whole gap. The ledger joins entries that agree.
func Entries(t core.Trigger, s *schedule.Schedule, done schedule.Settlement, now time.Time) []core.LedgerEntry {
	out := make([]core.LedgerEntry, 0, len(done.Fires)+2*len(done.Gaps))
	for _, g := range done.Gaps {
		first, rest := g, g
		first.To, first.Count = g.From, 1
		out = append(out, passedOver(t, first, now))
		if rest.Count--; rest.Count > 0 {
			rest.From, _ = s.Next(g.From)
			out = append(out, passedOver(t, rest, now))
		}
	}
	for _, slot := range done.Fires {
		out = append(out, publishedEntry(core.FireID{Trigger: t.UUID, Revision: t.Revision, Slot: slot}, now))
	}
	return out
}

func passedOver(t core.Trigger, g schedule.Omission, now time.Time) core.LedgerEntry {
	f := core.FireID{Trigger: t.UUID, Revision: t.Revision, Slot: g.From}
	e := core.LedgerEntry{
		ID: f.Entry(), Revision: t.Revision, From: g.From, To: g.To, Count: g.Count, Decided: now,
		Decision: core.Missed, Reason: "too late for the misfire policy",
	}
	if g.Decision == schedule.Merged {
		e.Decision, e.Reason = core.Merged, "made up for by the fire that follows"
	}
	return e
}

// DeleteTrigger deletes a trigger; its ledger stays for its retention. ok is
// false when there was none.
func (e *Engine) DeleteTrigger(ctx context.Context, uuid string) (ok bool, err error) {
	err = retryStale(func() error {
		t, err := e.changeableTrigger(ctx, uuid)
		if err != nil {
			return err
		}
		now, err := e.store.Now(ctx)
		if err != nil {
			return err
		}
		entries, err := settle(t, now)
		if err != nil {
			return err
		}
		settled, touched := t.Next, targetsOf(t)
		t.Deleted, t.Updated, t.Next = now.UTC(), now.UTC(), time.Time{}
		t.Revision++
		if err := e.store.PutTrigger(ctx, t, settled, true, entries, touched); err != nil {
			return err
		}
		for _, target := range touched {
			e.settleLater(ctx, e.SettleLink(ctx, target, uuid))
		}
		return nil
	})
	if core.Is(err, core.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, finalStale(err)
	}
	e.events.RingTrigger(uuid)
	return true, nil
}

func targetsOf(t core.Trigger) []core.Target {
	out := make([]core.Target, len(t.Targets))
	for i, b := range t.Targets {
		out[i] = b.Target
	}
	return out
}

// Trigger gives one trigger the caller may see.
func (e *Engine) Trigger(ctx context.Context, uuid string) (core.Trigger, error) {
	return e.visibleTrigger(ctx, uuid, false)
}

// Triggers gives every trigger the caller may see, in no order.
func (e *Engine) Triggers(ctx context.Context) ([]core.Trigger, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	all, err := e.store.ListTriggers(ctx, -1)
	return seen(c, all, func(t core.Trigger) string { return t.Account }), err
}

func (e *Engine) visibleTrigger(ctx context.Context, uuid string, dead bool) (core.Trigger, error) {
	t, err := e.store.Trigger(ctx, uuid, dead)
	if err != nil {
		return t, err
	}
	return t, maySee(ctx, "trigger", uuid, t.Account)
}

func (e *Engine) changeableTrigger(ctx context.Context, uuid string) (core.Trigger, error) {
	t, err := e.store.Trigger(ctx, uuid, false)
	if err != nil {
		return t, err
	}
	return t, mayChange(ctx, "trigger", uuid, t.Account)
}

// Bind ties a target to a trigger, and with fireNow fires that target once
// besides the schedule. Conflict when it is bound already or the trigger has no
// slot left; NotFound; Exhausted.
func (e *Engine) Bind(ctx context.Context, trigger string, target core.Target, fireNow bool) (core.Binding, error) {
	if err := e.mayBind(ctx, target); err != nil {
		return core.Binding{}, err
	}
	var bound core.Binding
	err := retryStale(func() error {
		t, err := e.changeableTrigger(ctx, trigger)
		if err != nil {
			return err
		}
		bound, err = e.bind(ctx, t, target)
		return err
	})
	if err != nil {
		return bound, finalStale(err)
	}
	// Not only noted: the target may have been deleted meanwhile.
	e.settleLater(ctx, e.SettleLink(ctx, target, trigger))
	e.events.RingTrigger(trigger)
	if !fireNow {
		return bound, nil
	}
	_, err = e.FireNow(ctx, trigger, "bind:"+bound.Ref, []string{target.UUID})
	return bound, err
}

func (e *Engine) mayBind(ctx context.Context, target core.Target) error {
	if target.Kind == core.GroupTarget {
		g, err := e.group(ctx, target.UUID)
		if err != nil {
			return err
		}
		return mayChange(ctx, "job group", target.UUID, g.Account)
	}
	j, err := e.job(ctx, target.UUID)
	if err != nil {
		return err
	}
	return mayChange(ctx, "job", target.UUID, j.Account)
}

func noun(k core.TargetKind) string {
	if k == core.GroupTarget {
		return "job group"
	}
	return "job"
}

func (e *Engine) bind(ctx context.Context, t core.Trigger, target core.Target) (core.Binding, error) {
	noun := noun(target.Kind)
	ref := newID(ctx, "binding:"+t.UUID+":"+target.UUID)
	if b, twice := t.Binding(target.UUID); twice && b.Ref == ref {
		return b, nil // the same request has bound it before
	} else if twice {
		return core.Binding{}, core.Errorf(core.Conflict, "Can not add %s[uuid:%s] twice to the same trigger[uuid:%s]", noun, target.UUID, t.UUID)
	}
	now, err := e.store.Now(ctx)
	if err != nil {
		return core.Binding{}, err
	}
	begins := t.Floating
	if begins {
		t.Schedule.Start, t.Floating = now.Truncate(time.Millisecond), false
		t.Revision++
	}
	s, err := t.Schedule.Compile()
	if err != nil {
		return core.Binding{}, scheduleError("schedule", err)
	}
	if _, ok := s.Next(now.Add(-time.Second)); !ok {
		return core.Binding{}, core.Errorf(core.Conflict, "Can not add %s[uuid:%s] to a out of time trigger[uuid:%s]", noun, target.UUID, t.UUID)
	}
	if err := e.store.Link(ctx, target, t.UUID, e.targetTriggers); err != nil {
		return core.Binding{}, err
	}
	b := core.Binding{Target: target, Ref: ref, Added: now.UTC()}
	t.Targets = append(t.Targets[:len(t.Targets):len(t.Targets)], b)
	if begins && t.Enabled {
		t.Next, _ = s.Next(t.Schedule.Start.Add(-1))
	}
	return b, e.store.PutTrigger(ctx, t, time.Time{}, begins, nil, []core.Target{target})
}

// Unbind frees a target from a trigger; ok is false when it was not bound.
func (e *Engine) Unbind(ctx context.Context, trigger string, target core.Target) (ok bool, err error) {
	if _, err := e.changeableTrigger(ctx, trigger); err != nil {
		return false, err
	}
	return e.unbind(ctx, trigger, target)
}

func (e *Engine) unbind(ctx context.Context, trigger string, target core.Target) (ok bool, err error) {
	err = retryStale(func() error {
		t, err := e.store.Trigger(ctx, trigger, false)
		if err != nil {
			return err
		}
		kept := make([]core.Binding, 0, len(t.Targets))
		for _, b := range t.Targets {
			if b.UUID != target.UUID {
				kept = append(kept, b)
			}
		}
		if ok = len(kept) < len(t.Targets); !ok {
			return nil
		}
		t.Targets = kept
		return e.store.PutTrigger(ctx, t, time.Time{}, false, nil, []core.Target{target})
	})
	if err != nil {
		return ok, finalStale(err)
	}
	e.events.RingTrigger(trigger)
	e.settleLater(ctx, e.SettleLink(ctx, target, trigger))
	return ok, nil
}

// SettleLink makes a target and a trigger agree on whether they are bound: the
// trigger's list is the truth, unless the target is gone.
func (e *Engine) SettleLink(ctx context.Context, target core.Target, trigger string) error {
	exists, note, err := e.store.NoteLink(ctx, target, trigger)
	if err != nil {
		return err
	}
	t, err := e.store.Trigger(ctx, trigger, false)
	if err != nil && !core.Is(err, core.NotFound) {
		return err
	}
	_, bound := t.Binding(target.UUID)
	if bound && !exists {
		_, err := e.unbind(ctx, trigger, target)
		return err
	}
	return e.store.SetLink(ctx, target, trigger, bound, note)
}

// SettleMember makes a job and a group agree on whether it is a member.
func (e *Engine) SettleMember(ctx context.Context, group, job string) error {
	return e.store.SettleMember(ctx, group, job)
}

// Links gives the triggers that are bound to each of the targets.
func (e *Engine) Links(ctx context.Context, targets []string) (map[string][]string, error) {
	return e.store.Links(ctx, targets)
}
