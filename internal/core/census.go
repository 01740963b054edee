package core

import "time"

// A Census is the unfinished business of one run partition at one moment:
// how much there is, and how much of it is older than it may be.
type Census struct {
	Partition                            int
	Jobs, Groups, Runs                   int64
	Sent, Live, Parked, Outbox, Timers   int64
	OutboxLate, SentLate, TimersLate     int64
	OutboxKinds, TimerKinds, ParkReasons map[string]int // of a sample of what is late, or parked
	OldestRun                            time.Time      // zero: there is none
}

// A TriggerCensus is the same for one trigger partition.
type TriggerCensus struct {
	Partition                         int
	Triggers, Scheduled               int64
	Overdue, Undecided, UndecidedLate int64
	Outbox, OutboxLate                int64
	Entries                           int64 // ledger entries of the triggers looked at
	Looked                            int64 // triggers looked at for Entries and OldestEntry
	OldestEntry                       time.Time
	OverdueAge, UndecidedAge          time.Duration // of the worst
	OverdueOf, UndecidedOf            []string      // triggers and fires, at most five
}

// Ages from which unfinished business is late: several times what its repair takes.
const (
	OutboxLate    = 30 * time.Second
	SentLate      = time.Minute
	TimersLate    = 10 * time.Second
	SlotLate      = 5 * time.Second
	UndecidedLate = time.Minute
)

// An Orphan is a mark that nothing stands behind any more, or a step that
// nothing will move.
type Orphan struct {
	Kind OrphanKind
	Key  string // of what holds it, such as act:<target>
	Of   string // run, step or plan
	Text string // what is wrong
}

// OrphanKind is what kind of mark an Orphan is.
type OrphanKind string

// Kinds of orphans.
const (
	OrphanActive OrphanKind = "active" // under way for a target: a run that has ended or is gone
	OrphanBusy   OrphanKind = "busy"   // a job that still runs: a step that has ended or is gone
	OrphanPlan   OrphanKind = "plan"   // a run without its plan, or a plan that counts no run
	OrphanIndex  OrphanKind = "index"  // a listed run that is gone
	OrphanSent   OrphanKind = "sent"   // sent or under way: a dispatch of a run that is gone
	OrphanRun    OrphanKind = "run"    // a run under way that its target does not know
	OrphanTask   OrphanKind = "task"   // a CBT task whose transition has no run that will end it
	OrphanStep   OrphanKind = "step"   // an open step that no queue, worker or timer will move
)

// Orphans are what a bounded look through one partition found.
type Orphans struct {
	Found   []Orphan
	Targets int // targets and runs looked at
	Runs    int
	Stopped bool // there is more than was looked at
}

// A LeaseTable says who holds the shards of a role.
type LeaseTable struct {
	Role    string
	Members []string       // alive
	Holders map[int]string // shard to holder; a shard that nobody holds is not there
	Shards  int
}

// Free gives the shards that nobody holds.
func (l LeaseTable) Free() (free []int) {
	for n := range l.Shards {
		if _, held := l.Holders[n]; !held {
			free = append(free, n)
		}
	}
	return free
}

// A QueueState is how much one queue of the transport holds.
type QueueState struct {
	Name                                                   string
	Pending, Active, Scheduled, Retry, Archived, Completed int64
	Paused                                                 bool
}
