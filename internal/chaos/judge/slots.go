package judge

import (
	"slices"
	"time"

	"github.com/takt-dev/takt/pkg/client"
)

// slots: each slot is covered by exactly one ledger entry, whatever the revision,
// and became at most one run per target.
func (v *Verdict) slots(e Evidence) {
	fired := map[string][]client.RunDetail{} // "<trigger>/<entry>" → runs
	for _, r := range e.Runs {
		if r.Trigger != "" {
			fired[r.Trigger+"/"+r.Fire] = append(fired[r.Trigger+"/"+r.Fire], r)
		}
	}
	for _, t := range e.Triggers {
		covered := map[time.Time]int{}
		for _, entry := range t.Entries {
			v.entry(t, entry, covered)
			v.fire(t, entry, fired[t.UUID+"/"+entry.ID])
			delete(fired, t.UUID+"/"+entry.ID)
		}
		v.coverage(t, covered)
	}
	for fire, runs := range fired {
		v.breaks("ledger", "run %s belongs to fire %s, which is in no ledger", runs[0].ID, fire)
	}
}

func (v *Verdict) entry(t Trigger, e client.LedgerEntry, covered map[time.Time]int) {
	decision := e.Decision
	switch decision {
	case "":
		decision = "undecided"
		v.breaks("ledger", "%s: entry %s is undecided", t.Name, e.ID)
	case "failed":
		v.breaks("ledger", "%s: entry %s is failed (%s)", t.Name, e.ID, e.Reason)
	}
	if e.Manual {
		v.Slots["by hand"]++
		return
	}
	v.Slots[decision] += e.Count
	n := 0
	for at := e.From.UTC(); !at.After(e.To) && t.Every > 0; at = at.Add(t.Every) {
		covered[at]++
		n++
	}
	if n != e.Count {
		v.breaks("ledger", "%s: entry %s counts %d slots from %s to %s, which are %d", t.Name, e.ID, e.Count, clock(e.From), clock(e.To), n)
	}
}

// coverage compares the slots between enabling and disabling with those covered.
func (v *Verdict) coverage(t Trigger, covered map[time.Time]int) {
	if t.Every == 0 {
		return
	}
	for at := t.Enabled.UTC().Truncate(t.Every).Add(t.Every); !at.After(t.Disabled); at = at.Add(t.Every) {
		if covered[at] == 0 {
			v.breaks("slot missing", "%s: slot %s has no ledger entry", t.Name, clock(at))
		}
	}
	for at, n := range covered {
		if n > 1 {
			v.breaks("slot twice", "%s: slot %s has %d ledger entries", t.Name, clock(at), n)
		}
		if !at.After(t.Enabled) || at.After(t.Disabled.Add(t.Ahead)) {
			v.breaks("slot outside", "%s: slot %s was covered; it was enabled from %s to %s", t.Name, clock(at), clock(t.Enabled), clock(t.Disabled))
		}
	}
}

// fire compares the runs that an entry names with those that name it.
func (v *Verdict) fire(t Trigger, e client.LedgerEntry, runs []client.RunDetail) {
	targets := map[string]bool{}
	for _, r := range runs {
		if targets[r.Target.UUID] {
			v.breaks("fired twice", "%s: slot %s became more than one run of %s", t.Name, e.ID, r.Target.UUID)
		}
		targets[r.Target.UUID] = true
		if !slices.Contains(e.Runs, r.ID) {
			v.breaks("ledger", "%s: entry %s does not name its run %s", t.Name, e.ID, r.ID)
		}
	}
	if len(e.Runs) != len(runs) {
		v.breaks("ledger", "%s: entry %s names %d runs, %d name it", t.Name, e.ID, len(e.Runs), len(runs))
	}
	switch e.Decision {
	case "fired", "late", "buffered":
		if len(runs) == 0 || len(runs) > t.Targets {
			v.breaks("ledger", "%s: entry %s is %s with %d runs of %d targets", t.Name, e.ID, e.Decision, len(runs), t.Targets)
		}
	}
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
