package core

import "time"

// RunState is the state of a run.
type RunState string

// States of a run.
const (
	RunPending   RunState = "pending" // admitted, nothing has begun; or buffered behind another run
	RunRunning   RunState = "running"
	RunCanceling RunState = "canceling"
	RunSucceeded RunState = "succeeded"
	RunFailed    RunState = "failed"
	RunCanceled  RunState = "canceled"
	RunTimedOut  RunState = "timed_out"
)

var runMoves = map[RunState][]RunState{
	RunPending:   {RunRunning, RunCanceling, RunSucceeded, RunFailed, RunCanceled, RunTimedOut},
	RunRunning:   {RunCanceling, RunSucceeded, RunFailed, RunCanceled, RunTimedOut},
	RunCanceling: {RunCanceled, RunTimedOut},
}

// RunStates lists every state, in the order of a run's life.
func RunStates() []RunState {
	return []RunState{RunPending, RunRunning, RunCanceling, RunSucceeded, RunFailed, RunCanceled, RunTimedOut}
}

// CanBecome reports whether a run may go from s to next.
func (s RunState) CanBecome(next RunState) bool { return contains(runMoves[s], next) }

// Ended reports whether s is an end.
func (s RunState) Ended() bool { return len(runMoves[s]) == 0 }

// A Run is one execution of a group or a job.
type Run struct {
	ID       string // names its partition (package id)
	Account  string
	Dialect  Dialect
	Target   Target
	Name     string // of the target when the run was made
	Type     string // job type
	Trigger  string // uuid of the trigger, or "" for a run started by hand
	Fire     FireID // zero when not fired
	Request  string // what made Admit idempotent
	RetryOf  string // the run this one repeats, or ""
	State    RunState
	Reason   string // why it waits, failed or was canceled
	Created  time.Time
	Started  time.Time
	Ended    time.Time
	Deadline time.Time // of the whole run; zero = none
	Plan     string    // content hash of the plan
	Counts   StepCounts
}

// StepCounts counts a run's steps by how they ended.
type StepCounts struct {
	Total, Succeeded, Failed, Canceled, TimedOut, Skipped int
}

// Open is the number of steps that have not ended.
func (c StepCounts) Open() int {
	return c.Total - c.Succeeded - c.Failed - c.Canceled - c.TimedOut - c.Skipped
}

func contains[T comparable](list []T, x T) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}
