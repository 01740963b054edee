// Package judge holds what was seen of an installation under faults against what
// Takt promises. It is pure: evidence in, verdict out.
//
// The evidence comes from outside: the answers that clients got, what the API says
// afterwards, the witness's own account of what was executed, and the faults as
// they were done.
package judge

import (
	"fmt"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/chaos/witness"
	"github.com/takt-dev/takt/pkg/client"
)

// Evidence is all that was seen.
type Evidence struct {
	Acks      []Ack
	Requested map[string]int              // target → different requests for a run of it
	Runs      map[string]client.RunDetail // every run that the API lists, with its steps
	Triggers  []Trigger
	Lines     []witness.Line
	Faults    []Fault
	Survivors []Survivor
	Leftovers []string // unfinished business in Redis, after calm
	Deaths    []string // processes that ended without being told to
	Need      Need
}

// A Verb is what an acknowledged request asked for.
type Verb string

// The verbs.
const (
	Run    Verb = "run"
	Skip   Verb = "run or skip" // a run under overlap skip
	Fire   Verb = "fire"
	Cancel Verb = "cancel"
	Edit   Verb = "edit"
)

// An Ack is a request that was answered for good: with 2xx, or by a decision not to
// run under overlap skip.
type Ack struct {
	Verb Verb
	Key  string
	At   time.Time
	Runs []string // what the answer named
	// Again is what the same request, sent once more with its key, was answered;
	// nil if it was not sent again.
	Again []string
}

// A Trigger is a trigger that fired each Every while it was enabled.
type Trigger struct {
	UUID, Name        string
	Every             time.Duration // 0 = by hand only
	Targets           int
	Enabled, Disabled time.Time     // the changes, by Redis
	Ahead             time.Duration // how far its publisher's clock was ahead at most
	Entries           []client.LedgerEntry
}

// A Fault is a fault that was done.
type Fault struct {
	Kind  plan.Kind `json:"kind"`
	Host  string    `json:"host,omitempty"` // of the worker that it struck, or ""
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
}

// A Survivor is a process that lived through all faults.
type Survivor struct {
	Name          string
	Before, After Use
}

// Use is what a process uses.
type Use struct {
	Goroutines float64
	Memory     float64 // resident bytes
}

// Need is how much there must be to judge: a verdict on nothing proves nothing.
type Need struct {
	Acks, Executions, Slots, Faults int
	Recoveries                      int // where a worker was lost and the store left in peace
}

// A Violation is a promise that was broken.
type Violation struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// String gives rule and text.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// A Verdict says what was found.
type Verdict struct {
	Violations []Violation    `json:"violations"`
	Acked      map[Verb]int   `json:"acknowledged"`
	RunStates  map[string]int `json:"runs"`
	StepStates map[string]int `json:"steps"`
	Slots      map[string]int `json:"slots"` // by decision
	Executions int            `json:"executions"`
	Attempts   map[string]int `json:"attempts"`
	Redispatch int            `json:"redispatches"` // attempts after the first of a step
	Duplicates map[string]int `json:"duplicates"`   // executions after the first of a step, by cause
	Refused    int            `json:"lateResultsRefused"`
	Recovery   Recovery       `json:"recovery"`
}

// Of judges the evidence.
func Of(e Evidence) Verdict {
	v := &Verdict{
		Violations: []Violation{}, Acked: map[Verb]int{}, RunStates: map[string]int{}, StepStates: map[string]int{},
		Slots: map[string]int{}, Attempts: map[string]int{}, Duplicates: map[string]int{},
	}
	v.requests(e)
	v.runs(e)
	v.slots(e)
	v.witness(e)
	v.recovery(e)
	v.survivors(e)
	for _, l := range e.Leftovers {
		v.breaks("orphan", "%s", l)
	}
	for _, d := range e.Deaths {
		v.breaks("death", "%s", d)
	}
	v.enough(e)
	return *v
}

func (v *Verdict) breaks(rule, format string, args ...any) {
	v.Violations = append(v.Violations, Violation{rule, fmt.Sprintf(format, args...)})
}

// hostOf gives the host in a worker's id.
func hostOf(worker string) string {
	if i := strings.LastIndexByte(worker, '.'); i >= 0 {
		return worker[:i]
	}
	return worker
}

// survivors holds a process's use at the end, at rest, against its use at the
// begin, under load. A leak of one goroutine or a few kilobytes a run shows within
// minutes; the slack is for what a runtime keeps.
func (v *Verdict) survivors(e Evidence) {
	for _, s := range e.Survivors {
		if most := s.Before.Goroutines*1.25 + 25; s.After.Goroutines > most {
			v.breaks("growth", "%s went from %.0f goroutines under load to %.0f at rest, at most %.0f are fine", s.Name, s.Before.Goroutines, s.After.Goroutines, most)
		}
		if most := s.Before.Memory*1.5 + 64<<20; s.After.Memory > most {
			v.breaks("growth", "%s went from %.0f MiB to %.0f MiB, at most %.0f are fine", s.Name, s.Before.Memory/(1<<20), s.After.Memory/(1<<20), most/(1<<20))
		}
	}
}

func (v *Verdict) enough(e Evidence) {
	acks, slots := 0, 0
	for _, n := range v.Acked {
		acks += n
	}
	for _, n := range v.Slots {
		slots += n
	}
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"acknowledged requests", acks, e.Need.Acks},
		{"executions", v.Executions, e.Need.Executions},
		{"slots", slots, e.Need.Slots},
		{"faults", len(e.Faults), e.Need.Faults},
		{"recoveries", v.Recovery.Counted, e.Need.Recoveries},
	} {
		if c.got < c.want {
			v.breaks("vacuous", "%d %s are too few to judge by, want %d", c.got, c.what, c.want)
		}
	}
}
