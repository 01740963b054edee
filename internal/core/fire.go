package core

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A FireID names a slot of a trigger: trigger, revision and instant. A fire by
// hand has the instant it was asked for and the key of its request.
type FireID struct {
	Trigger  string
	Revision int64
	Slot     time.Time
	Manual   string // "" for a slot of the schedule
}

// String gives "<trigger>/<entry>".
func (f FireID) String() string { return f.Trigger + "/" + f.Entry() }

// Entry gives the fire's id within its trigger's ledger:
// "<revision>.<slot in Unix ms>" or, by hand, "<revision>.<ms>.<key>".
func (f FireID) Entry() string {
	s := strconv.FormatInt(f.Revision, 10) + "." + strconv.FormatInt(f.Slot.UnixMilli(), 10)
	if f.Manual != "" {
		s += "." + f.Manual
	}
	return s
}

// IsZero reports whether f names no fire.
func (f FireID) IsZero() bool { return f.Revision == 0 }

// ParseFireID reads what String wrote.
func ParseFireID(s string) (FireID, error) {
	trigger, entry, ok := strings.Cut(s, "/")
	if !ok || trigger == "" {
		return FireID{}, fmt.Errorf("read fire id %q: want <trigger>/<revision>.<ms>", s)
	}
	return ParseEntry(trigger, entry)
}

// ParseEntry reads what Entry wrote.
func ParseEntry(trigger, entry string) (FireID, error) {
	parts := strings.SplitN(entry, ".", 3)
	if len(parts) < 2 {
		return FireID{}, fmt.Errorf("read ledger entry id %q: want <revision>.<ms>", entry)
	}
	rev, err := strconv.ParseInt(parts[0], 10, 64)
	ms, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || err2 != nil {
		return FireID{}, fmt.Errorf("read ledger entry id %q: want <revision>.<ms>", entry)
	}
	f := FireID{Trigger: trigger, Revision: rev, Slot: time.UnixMilli(ms).UTC()}
	if len(parts) == 3 {
		f.Manual = parts[2]
	}
	return f, nil
}

// Decision is what became of a slot, or of one target of a fire.
type Decision string

// Decisions. An entry that is published and not yet decided has none.
const (
	Fired    Decision = "fired"
	Late     Decision = "late"     // fired, but more than LateAfter behind its slot
	Buffered Decision = "buffered" // a run was made and waits for an earlier one to end
	Skipped  Decision = "skipped"  // overlap, disabled or empty target
	Merged   Decision = "merged"   // covered by a later slot's fire (misfire policy)
	Missed   Decision = "missed"   // not fired by the misfire policy
	Failed   Decision = "failed"   // could not be turned into runs
)

// LateAfter is the lateness from which a fire counts as late.
const LateAfter = time.Second

// A LedgerEntry covers one slot, or a row of slots with the same decision, of a
// trigger. Each expected slot is covered by exactly one entry.
type LedgerEntry struct {
	ID        string // FireID.Entry of its first slot
	Revision  int64
	Manual    bool
	From, To  time.Time // first and last slot; equal for one slot
	Count     int
	Published time.Time
	Decided   time.Time // zero while undecided
	Decision  Decision
	Reason    string
	Runs      []string      // ids of the runs it became
	Only      []string      // by hand: the targets it is limited to, or nil
	Lateness  time.Duration // from the slot to its decision, or to its publishing while undecided
}
