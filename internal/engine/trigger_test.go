package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

func TestCreateTriggerChecks(t *testing.T) {
	h := newHouse(t)
	past := time.Now().Add(-time.Hour)
	cron := func(expression string) schedule.Spec {
		return schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: expression}
	}
	with := func(s schedule.Spec, change func(*schedule.Spec)) schedule.Spec { change(&s); return s }
	for _, row := range []struct {
		name    string
		trigger core.Trigger
		field   string
	}{
		{"no name", core.Trigger{Schedule: cron("0 0 0 * * ?")}, "name"},
		{"no kind", core.Trigger{Meta: named("t")}, "schedule.kind"},
		{"an unknown kind", core.Trigger{Meta: named("t"), Schedule: schedule.Spec{Kind: "hourly"}}, "schedule.kind"},
		{"no interval", core.Trigger{Meta: named("t"), Schedule: schedule.Spec{Kind: schedule.Simple}}, "schedule.interval"},
		{"a broken interval", core.Trigger{Meta: named("t"), Schedule: schedule.Spec{Kind: schedule.Simple, Interval: 1500 * time.Millisecond}}, "schedule.interval"},
		{"an unknown zone", core.Trigger{Meta: named("t"), Schedule: with(cron("0 0 0 * * ?"), func(s *schedule.Spec) { s.Zone = "Mars/Olympus" })}, "schedule.zone"},
		{"no dialect", core.Trigger{Meta: named("t"), Schedule: with(cron("0 0 0 * * ?"), func(s *schedule.Spec) { s.Dialect = "" })}, "schedule.dialect"},
		{"a long expression", core.Trigger{Meta: named("t"), Schedule: cron(strings.Repeat("0", core.MaxCron+1))}, "schedule.expression"},
		{"an end before the start", core.Trigger{Meta: named("t"), Schedule: with(everySecond(), func(s *schedule.Spec) { s.End = s.Start.Add(-1) })}, "schedule.end"},
		{"an end that is passed", core.Trigger{Meta: named("t"), Schedule: with(everySecond(), func(s *schedule.Spec) { s.End = past.Add(time.Minute) })}, "schedule"},
		{"repeats that are used up", core.Trigger{Meta: named("t"), Schedule: with(everySecond(), func(s *schedule.Spec) { s.Repeat = 5 })}, "schedule"},
		{"a day that never comes", core.Trigger{Meta: named("t"), Schedule: cron("0 0 0 30 2 ?")}, "schedule"},
		{"an unknown misfire policy", core.Trigger{Meta: named("t"), Schedule: everySecond(), Misfire: schedule.Misfire{Policy: "later"}}, "misfire.policy"},
		{"an unknown overlap policy", core.Trigger{Meta: named("t"), Schedule: everySecond(), Overlap: core.Overlap{Policy: "queue"}}, "overlap.policy"},
	} {
		_, err := h.eng.CreateTrigger(h.ctx, row.trigger)
		wantInvalid(t, row.name, err, row.field)
	}
	_, err := h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Schedule: cron("0 0 0 * * *")})
	wantKind(t, "an expression that quartz refuses", err, core.Invalid)
}

func TestCreateTrigger(t *testing.T) {
	h := newHouse(t)
	tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: named("t"), Schedule: everySecond(), Enabled: true, Targets: []core.Binding{{Ref: "forged"}}, Revision: 7, Deleted: time.Now(),
	}))(h)
	if tr.Version != 1 || tr.Revision != 1 || len(tr.Targets) != 0 || !tr.Deleted.IsZero() || tr.Schedule.Zone != "UTC" || !tr.Next.After(tr.Created) || tr.Next.After(tr.Created.Add(time.Second)) {
		t.Errorf("got %+v", tr)
	}
	if got := h.read(tr.UUID); !got.Next.Equal(tr.Next) {
		t.Errorf("stored next slot: got %v, want %v", got.Next, tr.Next)
	}
	wantEqual(t, "rung", h.events.triggers, []string{tr.UUID})
	off := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("off"), Schedule: everySecond()}))(h)
	if !off.Next.IsZero() {
		t.Errorf("disabled: got the next slot %v", off.Next)
	}
	again := tr
	again.Name = "again"
	_, err := h.eng.CreateTrigger(h.ctx, again)
	wantKind(t, "its uuid again", err, core.Exists)
	h.ok(func() error { _, err := h.eng.DeleteTrigger(h.ctx, tr.UUID); return err }())
	again = must(h.eng.CreateTrigger(h.ctx, again))(h)
	_, err = h.eng.CreateTrigger(h.ctx, again)
	wantKind(t, "the uuid of one that took the place of a deleted one", err, core.Exists)
}

// TestATriggerWithoutAStartBeginsWithItsFirstTarget has no slot before: a repeat
// count is the number of runs in all, and none must be spent on nothing.
func TestATriggerWithoutAStartBeginsWithItsFirstTarget(t *testing.T) {
	h := newHouse(t)
	once := schedule.Spec{Kind: schedule.Simple, Interval: time.Hour, Repeat: 1}
	tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Schedule: once, Enabled: true}))(h)
	if !tr.Floating || !tr.Next.IsZero() {
		t.Errorf("made: floating %v with the next slot %v; want floating with none", tr.Floating, tr.Next)
	}
	first, _ := h.group("g", 1)
	second, _ := h.group("h", 1)
	h.bind(tr, core.Target{Kind: core.GroupTarget, UUID: first.UUID})
	got := h.read(tr.UUID)
	if got.Floating || !got.Next.Equal(got.Schedule.Start) || got.Schedule.Start.Before(tr.Schedule.Start) || got.Revision != tr.Revision+1 {
		t.Errorf("bound: %+v; want its first slot at its start, in another revision", got)
	}
	h.bind(tr, core.Target{Kind: core.GroupTarget, UUID: second.UUID})
	if again := h.read(tr.UUID); !again.Schedule.Start.Equal(got.Schedule.Start) || again.Revision != got.Revision {
		t.Errorf("bound a second target: the schedule began anew: %+v", again)
	}
}

// rewind puts a trigger's next slot back, as if its process had been away.
func (h *house) rewind(t core.Trigger, by time.Duration) core.Trigger {
	h.Helper()
	at := h.read(t.UUID)
	settled := at.Next
	at.Next = time.Now().Add(-by).Truncate(time.Second)
	h.ok(h.store.PutTrigger(h.Context(), at, settled, true, nil, nil))
	return h.read(t.UUID)
}

// wantCovered checks that the ledger covers each slot of a revision, from..to, one
// second apart, by exactly one entry, and no other slot.
func (h *house) wantCovered(trigger string, revision int64, from, to time.Time) {
	h.Helper()
	covered := map[int64]int{}
	for _, e := range h.ledger(trigger) {
		if e.Manual || e.Revision != revision {
			continue
		}
		n := 0
		for at := e.From; !at.After(e.To); at = at.Add(time.Second) {
			covered[at.Unix()]++
			n++
		}
		if n != e.Count {
			h.Errorf("entry %s covers %d slots and counts %d", e.ID, n, e.Count)
		}
	}
	for at := from; !at.After(to); at = at.Add(time.Second) {
		if covered[at.Unix()] != 1 {
			h.Errorf("slot %v is covered %d times", at, covered[at.Unix()])
		}
		delete(covered, at.Unix())
	}
	for at := range covered {
		h.Errorf("slot %v is covered, which lies outside %v to %v", time.Unix(at, 0).UTC(), from, to)
	}
}

// TestChangesSettleWhatIsDue changes a trigger whose process was away: the slots
// up to now are accounted for under the old revision, each once, and the new one
// begins strictly behind them.
func TestChangesSettleWhatIsDue(t *testing.T) {
	changes := map[string]func(h *house, t core.Trigger) core.Trigger{
		"disable": func(h *house, t core.Trigger) core.Trigger {
			return must(h.eng.UpdateTrigger(h.ctx, t.UUID, 0, func(t *core.Trigger) error { t.Enabled = false; return nil }))(h)
		},
		"reschedule": func(h *house, t core.Trigger) core.Trigger {
			return must(h.eng.UpdateTrigger(h.ctx, t.UUID, 0, func(t *core.Trigger) error { t.Schedule.Interval = 2 * time.Second; return nil }))(h)
		},
		"misfire": func(h *house, t core.Trigger) core.Trigger {
			return must(h.eng.UpdateTrigger(h.ctx, t.UUID, 0, func(t *core.Trigger) error { t.Misfire.CatchupMax = 3; return nil }))(h)
		},
		"delete": func(h *house, t core.Trigger) core.Trigger {
			if ok, err := h.eng.DeleteTrigger(h.ctx, t.UUID); !ok || err != nil {
				h.Errorf("delete: got %v, %v", ok, err)
			}
			return h.read(t.UUID)
		},
	}
	policies := []schedule.Misfire{
		{Policy: schedule.FireOnceNow}, {Policy: schedule.Skip}, {Policy: schedule.FireAll, CatchupMax: 7},
		{Policy: schedule.FireAll, CatchupMax: 10_000}, {Policy: schedule.Skip, Threshold: 50 * time.Second},
	}
	for name, change := range changes {
		for i, policy := range policies {
			for _, away := range []time.Duration{3 * time.Second, 400 * time.Second} {
				t.Run(fmt.Sprint(name, " policy ", i, " away ", away), func(t *testing.T) {
					h := newHouse(t)
					tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Schedule: everySecond(), Enabled: true, Misfire: policy}))(h)
					tr = h.rewind(tr, away)
					got := change(h, tr)
					if got.Revision != 2 || got.Version != tr.Version+1 {
						t.Errorf("got revision %d and version %d", got.Revision, got.Version)
					}
					last := got.Updated.Truncate(time.Second)
					h.wantCovered(tr.UUID, 1, tr.Next, last)
					if live := got.Live(); live && !got.Next.After(last) || !live && !got.Next.IsZero() {
						t.Errorf("live %v: the next slot is %v, the last one settled %v", live, got.Next, last)
					}
					if stored := h.read(tr.UUID).Next; !stored.Equal(got.Next) {
						t.Errorf("stored next slot: got %v, want %v", stored, got.Next)
					}
				})
			}
		}
	}
}

// TestSettleOfVeryManySlots changes a trigger that lets more slots fire than one
// script takes.
func TestSettleOfVeryManySlots(t *testing.T) {
	h := newHouse(t)
	tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: named("t"), Enabled: true, Schedule: schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Start: time.Now().Add(-24 * time.Hour).Truncate(time.Second)},
		Misfire: schedule.Misfire{Policy: schedule.FireAll, Threshold: 12 * time.Hour},
	}))(h)
	tr = h.rewind(tr, 4*time.Hour)
	got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = false; return nil }))(h)
	slots := 0
	for _, e := range h.ledgerAll(tr.UUID) {
		slots += e.Count
	}
	if want := int(got.Updated.Truncate(time.Second).Sub(tr.Next)/time.Second) + 1; slots != want {
		t.Errorf("the ledger covers %d slots of %d", slots, want)
	}
}

func (h *house) ledgerAll(trigger string) []core.LedgerEntry {
	h.Helper()
	return must(h.store.Ledger(h.Context(), trigger, time.Time{}, time.Time{}, 0, 100_000))(h)
}

// TestANewRevisionBeginsBehindWhatWasPublished changes a trigger whose process
// has a clock that is ahead of the store's: a slot that it published already must
// not fire again under the new revision.
func TestANewRevisionBeginsBehindWhatWasPublished(t *testing.T) {
	for _, row := range []struct {
		name   string
		decide bool // the fire is decided, as skipped, and merged into an entry before
	}{{"published", false}, {"decided and merged", true}} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			tr := h.trigger("t", everySecond(), "")
			ahead := tr.Next
			for range 30 {
				entry := core.LedgerEntry{
					ID: core.FireID{Revision: 1, Slot: ahead}.Entry(), Revision: 1, From: ahead, To: ahead, Count: 1, Published: ahead,
				}
				moved := must(h.store.Advance(t.Context(), []core.Advance{
					{Trigger: tr.UUID, Revision: 1, From: ahead, Next: ahead.Add(time.Second), Entries: []core.LedgerEntry{entry}},
				}))(h)
				if !moved[0] {
					t.Fatal("not advanced")
				}
				if row.decide {
					must(h.eng.DecideFire(t.Context(), core.FireID{Trigger: tr.UUID, Revision: 1, Slot: ahead}))(h)
				}
				ahead = ahead.Add(time.Second)
			}
			must(h.eng.FireNow(h.ctx, tr.UUID, "", nil))(h)
			got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Misfire.CatchupMax = 3; return nil }))(h)
			if !got.Next.Equal(ahead) {
				t.Errorf("the new revision begins at %v, want %v: all before was published", got.Next, ahead)
			}
		})
	}
}

func TestChangesThatLeaveTheScheduleAlone(t *testing.T) {
	h := newHouse(t)
	tr := h.rewind(h.trigger("t", everySecond(), ""), 10*time.Second)
	got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, tr.Version, func(t *core.Trigger) error {
		t.Name, t.Overlap = "new", core.Overlap{Policy: core.OverlapSkip}
		return nil
	}))(h)
	if got.Revision != 1 || got.Version != tr.Version+1 || !got.Next.Equal(tr.Next) || len(h.ledger(tr.UUID)) != 0 {
		t.Errorf("got %+v and the ledger %v", got, h.ledger(tr.UUID))
	}
	_, err := h.eng.UpdateTrigger(h.ctx, tr.UUID, tr.Version, func(*core.Trigger) error { return nil })
	wantKind(t, "an old version", err, core.Stale)
	_, err = h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Schedule.Zone = "Nowhere"; return nil })
	wantInvalid(t, "a bad zone", err, "schedule.zone")
	_, err = h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Schedule.End = time.Now().Add(-time.Minute); return nil })
	wantInvalid(t, "an end that is passed", err, "schedule")
	_, err = h.eng.UpdateTrigger(h.ctx, id.New(), 0, func(*core.Trigger) error { return nil })
	wantKind(t, "a missing trigger", err, core.NotFound)
	if now := h.read(tr.UUID); now.Version != got.Version || now.Revision != 1 || !now.Next.Equal(tr.Next) {
		t.Errorf("refused changes changed it: got %+v", now)
	}
}

// TestAChangeMeetsAnAdvance lets the trigger's process move on between the read
// and the write of a change: the change is made again, on what is true then.
func TestAChangeMeetsAnAdvance(t *testing.T) {
	h := newHouse(t)
	tr := h.rewind(h.trigger("t", everySecond(), ""), 10*time.Second)
	calls := 0
	got := must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(c *core.Trigger) error {
		if calls++; calls == 1 {
			must(h.store.Advance(t.Context(), []core.Advance{{Trigger: tr.UUID, Revision: 1, From: tr.Next, Next: tr.Next.Add(time.Second), Entries: []core.LedgerEntry{
				{ID: core.FireID{Revision: 1, Slot: tr.Next}.Entry(), Revision: 1, From: tr.Next, To: tr.Next, Count: 1, Published: tr.Next},
			}}}))(h)
		}
		c.Enabled = false
		return nil
	}))(h)
	if calls != 2 || got.Revision != 2 {
		t.Errorf("got revision %d after %d tries", got.Revision, calls)
	}
	h.wantCovered(tr.UUID, 1, tr.Next, got.Updated.Truncate(time.Second))
}

func TestDisabledAndEnabledAgain(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	set := func(on bool) core.Trigger {
		return must(h.eng.UpdateTrigger(h.ctx, tr.UUID, 0, func(t *core.Trigger) error { t.Enabled = on; return nil }))(h)
	}
	if off := set(false); off.Revision != 2 || !off.Next.IsZero() {
		t.Errorf("off: got %+v", off)
	}
	if on := set(true); on.Revision != 3 || !on.Next.After(on.Updated) {
		t.Errorf("on: got revision %d, next slot %v at %v", on.Revision, on.Next, on.Updated)
	}
	if same := set(true); same.Revision != 3 {
		t.Errorf("on again: got revision %d, want 3: nothing has changed", same.Revision)
	}
}

func TestDeletedTrigger(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", everySecond(), "")
	g, _ := h.group("g", 1)
	h.bind(tr, ofGroup(g))
	must(h.eng.FireNow(h.ctx, tr.UUID, "", nil))(h)
	if ok, err := h.eng.DeleteTrigger(h.ctx, tr.UUID); !ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
	_, err := h.eng.Trigger(h.ctx, tr.UUID)
	wantKind(t, "read", err, core.NotFound)
	_, err = h.eng.FireNow(h.ctx, tr.UUID, "", nil)
	wantKind(t, "fire", err, core.NotFound)
	_, err = h.eng.Bind(h.ctx, tr.UUID, ofGroup(g), false)
	wantKind(t, "bind", err, core.NotFound)
	_, err = h.eng.Unbind(h.ctx, tr.UUID, ofGroup(g))
	wantKind(t, "unbind", err, core.NotFound)
	if all := must(h.eng.Triggers(h.ctx))(h); len(all) != 0 {
		t.Errorf("list: got %+v", all)
	}
	if l := must(h.eng.Ledger(h.ctx, tr.UUID, time.Time{}, time.Time{}, 0, 9))(h); len(l) == 0 {
		t.Error("the ledger went with it")
	}
	if links := must(h.eng.Links(h.ctx, []string{g.UUID}))(h); len(links[g.UUID]) != 0 {
		t.Errorf("links: got %v", links)
	}
}

func TestBind(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	g, jobs := h.group("g", 1)
	b := h.bind(tr, ofGroup(g))
	if b.Target != ofGroup(g) || !id.Valid(b.Ref) || b.Added.IsZero() {
		t.Errorf("got %+v", b)
	}
	h.bind(tr, ofJob(jobs[0]))
	got := must(h.eng.Trigger(h.ctx, tr.UUID))(h)
	if len(got.Targets) != 2 || got.Targets[0] != b || got.Revision != 1 || got.Version != 3 || !got.Next.Equal(tr.Next) {
		t.Errorf("got %+v", got)
	}
	h.reconcile()
	links := must(h.eng.Links(h.ctx, []string{g.UUID, jobs[0].UUID}))(h)
	wantEqual(t, "links", links, map[string][]string{g.UUID: {tr.UUID}, jobs[0].UUID: {tr.UUID}})

	_, err := h.eng.Bind(h.ctx, tr.UUID, ofGroup(g), false)
	wantKind(t, "bind twice", err, core.Conflict)
	if !hasText(err, "Can not add job group[uuid:"+g.UUID+"] twice") {
		t.Errorf("got %q", core.Text(err))
	}
	_, err = h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.GroupTarget, UUID: id.New()}, false)
	wantKind(t, "a missing group", err, core.NotFound)
	_, err = h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.JobTarget, UUID: g.UUID}, false)
	wantKind(t, "a group is no job", err, core.NotFound)
	_, err = h.eng.Bind(h.ctx, id.New(), ofGroup(g), false)
	wantKind(t, "a missing trigger", err, core.NotFound)

	if ok, err := h.eng.Unbind(h.ctx, tr.UUID, ofGroup(g)); !ok || err != nil {
		t.Errorf("unbind: got %v, %v", ok, err)
	}
	if ok, err := h.eng.Unbind(h.ctx, tr.UUID, ofGroup(g)); ok || err != nil {
		t.Errorf("unbind again: got %v, %v", ok, err)
	}
	links = must(h.eng.Links(h.ctx, []string{g.UUID}))(h)
	if len(links[g.UUID]) != 0 || len(must(h.eng.Trigger(h.ctx, tr.UUID))(h).Targets) != 1 {
		t.Errorf("after unbinding: got the links %v", links)
	}
	if again := h.bind(tr, ofGroup(g)); again.Ref == b.Ref {
		t.Error("a new tie has the old reference")
	}
}

func TestBindToWhatIsOver(t *testing.T) {
	h := newHouse(t)
	once := schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Start: time.Now().Add(time.Hour).Truncate(time.Second), Repeat: 1}
	tr := h.trigger("t", once, "")
	at := h.read(tr.UUID)
	at.Schedule.Start = time.Now().Add(-time.Minute).Truncate(time.Second)
	settled := at.Next
	at.Next = time.Time{}
	h.ok(h.store.PutTrigger(t.Context(), at, settled, true, nil, nil))
	_, err := h.eng.Bind(h.ctx, tr.UUID, ofJob(h.job("j")), false)
	wantKind(t, "bind", err, core.Conflict)
	if !hasText(err, "to a out of time trigger[uuid:"+tr.UUID+"]") {
		t.Errorf("got %q", core.Text(err))
	}
}

func TestBindTooManyTriggers(t *testing.T) {
	h := newHouse(t)
	j := h.job("j")
	for i := range core.MaxTargetTriggers {
		h.bind(h.trigger(fmt.Sprint("t", i), yearly(), ""), ofJob(j))
	}
	last := h.trigger("one too many", yearly(), "")
	_, err := h.eng.Bind(h.ctx, last.UUID, ofJob(j), false)
	wantKind(t, "one too many", err, core.Exhausted)
	first := must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID][0]
	if ok, err := h.eng.Unbind(h.ctx, first, ofJob(j)); !ok || err != nil {
		t.Fatalf("unbind: got %v, %v", ok, err)
	}
	h.bind(last, ofJob(j))
}

func TestBindAndFire(t *testing.T) {
	h := newHouse(t)
	tr := h.trigger("t", yearly(), "")
	first, second := h.job("first"), h.job("second")
	h.bind(tr, ofJob(first))
	must(h.eng.Bind(h.ctx, tr.UUID, ofJob(second), true))(h)
	runs := h.runs(core.RunFilter{Trigger: tr.UUID})
	if len(runs) != 1 || runs[0].Target != ofJob(second) || runs[0].Fire.Manual == "" {
		t.Errorf("got the runs %+v, want one of the new target", runs)
	}
	if l := h.ledger(tr.UUID); len(l) != 1 || !l[0].Manual || l[0].Decision != core.Fired || len(l[0].Runs) != 1 {
		t.Errorf("got the ledger %+v", l)
	}
}

// TestBindDies lets the process die between the writes of Bind and Unbind.
func TestBindDies(t *testing.T) {
	for _, row := range []struct {
		name  string
		calls []string
		bound bool
	}{
		{"before the trigger is written", []string{"PutTrigger", "SetLink"}, false},
		{"after the trigger is written", []string{"SetLink"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			tr, j := h.trigger("t", yearly(), ""), h.job("j")
			h.faults.die(row.calls...)
			_, _ = h.eng.Bind(h.ctx, tr.UUID, ofJob(j), false)
			h.faults.die()
			h.reconcile()
			links := must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID]
			_, bound := must(h.eng.Trigger(h.ctx, tr.UUID))(h).Binding(j.UUID)
			if bound != row.bound || bound != (len(links) == 1) {
				t.Errorf("bound %v, links %v", bound, links)
			}
			h.faults.die("SetLink")
			_, _ = h.eng.Unbind(h.ctx, tr.UUID, ofJob(j))
			h.faults.die()
			h.reconcile()
			if links = must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID]; len(links) != 0 {
				t.Errorf("unbound, links %v", links)
			}
		})
	}
}

// TestASlowBindMeetsTheReconciler lets the reconciler undo the note at the target
// before the trigger is written, and then the process die.
func TestASlowBindMeetsTheReconciler(t *testing.T) {
	h := newHouse(t)
	tr, j := h.trigger("t", yearly(), ""), h.job("j")
	h.faults.then("Link", func() {
		h.reconcile()
		h.faults.die("SetLink")
	})
	h.bind(tr, ofJob(j))
	h.faults.die()
	h.reconcile()
	if links := must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID]; len(links) != 1 {
		t.Errorf("bound, and the target's links are %v: deleting it would leave the trigger bound", links)
	}
}

// TestBindMeetsADelete deletes the target between the two writes of Bind.
func TestBindMeetsADelete(t *testing.T) {
	h := newHouse(t)
	tr, j := h.trigger("t", yearly(), ""), h.job("j")
	h.faults.then("Link", func() {
		if ok, err := h.eng.DeleteJob(h.ctx, j.UUID); !ok || err != nil {
			t.Errorf("delete: got %v, %v", ok, err)
		}
	})
	_, _ = h.eng.Bind(h.ctx, tr.UUID, ofJob(j), false)
	h.reconcile()
	if _, bound := must(h.eng.Trigger(h.ctx, tr.UUID))(h).Binding(j.UUID); bound {
		t.Error("the trigger is bound to a job that is gone")
	}
	if links := must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID]; len(links) != 0 {
		t.Errorf("links of a job that is gone: %v", links)
	}
}

// TestUnbindWhileTheLinkIsSettled lets another process unbind between the look of one that
// settles the link and its writing.
func TestUnbindWhileTheLinkIsSettled(t *testing.T) {
	h := newHouse(t)
	tr, j := h.trigger("t", yearly(), ""), h.job("j")
	h.bind(tr, ofJob(j))
	h.faults.then("Trigger", func() {
		if ok, err := h.eng.Unbind(h.ctx, tr.UUID, ofJob(j)); !ok || err != nil {
			t.Errorf("unbind: got %v, %v", ok, err)
		}
	})
	h.ok(h.eng.SettleLink(h.Context(), ofJob(j), tr.UUID))
	h.reconcile()
	if links := must(h.eng.Links(h.ctx, []string{j.UUID}))(h)[j.UUID]; len(links) != 0 {
		t.Errorf("the job's links are %v, want none: it is bound to nothing", links)
	}
}
