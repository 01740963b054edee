package core

import "time"

// StepState is the state of a step.
type StepState string

// States of a step.
const (
	StepWaiting    StepState = "waiting"    // on admission, on a time or on a worker
	StepDispatched StepState = "dispatched" // sent to a queue, not begun
	StepRunning    StepState = "running"
	StepCanceling  StepState = "canceling" // its attempt was told to stop
	StepSucceeded  StepState = "succeeded"
	StepFailed     StepState = "failed"
	StepCanceled   StepState = "canceled"
	StepTimedOut   StepState = "timed_out"
	StepSkipped    StepState = "skipped"
)

var stepMoves = map[StepState][]StepState{
	StepWaiting:    {StepDispatched, StepCanceled, StepSkipped, StepFailed},
	StepDispatched: {StepRunning, StepDispatched, StepWaiting, StepCanceled, StepFailed},
	StepRunning:    {StepCanceling, StepWaiting, StepDispatched, StepSucceeded, StepFailed, StepCanceled, StepTimedOut},
	StepCanceling:  {StepCanceled, StepTimedOut},
}

// StepStates lists every state, in the order of a step's life.
func StepStates() []StepState {
	return []StepState{StepWaiting, StepDispatched, StepRunning, StepCanceling, StepSucceeded, StepFailed, StepCanceled, StepTimedOut, StepSkipped}
}

// CanBecome reports whether a step may go from s to next.
func (s StepState) CanBecome(next StepState) bool { return contains(stepMoves[s], next) }

// Ended reports whether s is an end.
func (s StepState) Ended() bool { return len(stepMoves[s]) == 0 }

// A PlannedStep is what a step is to do. The plan of a run is fixed when the
// run is admitted: later edits of a job change later runs.
type PlannedStep struct {
	Job        string            `json:"job"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Target     string            `json:"target,omitempty"`
	Timeout    time.Duration     `json:"timeout"`
	Retry      Retry             `json:"retry,omitzero"`
	Priority   Priority          `json:"priority,omitempty"`
}

// A Step is one planned step and how far it has come.
type Step struct {
	PlannedStep
	Index    int
	State    StepState
	Fence    Fence
	Queue    string // the queue of the last dispatch
	Worker   string // the worker of the last attempt
	Failures int    // attempts that count against the retry policy
	Lost     int    // attempts that were lost with their worker
	Started  time.Time
	Ended    time.Time
	Reason   string    // why it waits, was skipped or failed
	Progress Progress  // of the attempt under way, as its worker told last; zero if it did not
	Attempts []Attempt // oldest first
}

// AttemptState is the state of an attempt.
type AttemptState string

// States of an attempt.
const (
	AttemptRunning   AttemptState = "running"
	AttemptSucceeded AttemptState = "succeeded"
	AttemptFailed    AttemptState = "failed"
	AttemptLost      AttemptState = "lost"
	AttemptCanceled  AttemptState = "canceled"
	AttemptTimedOut  AttemptState = "timed_out"
	AttemptReleased  AttemptState = "released"
)

// Ended reports whether s is an end: every state but running is.
func (s AttemptState) Ended() bool { return s != AttemptRunning }

// An Attempt is one execution of a step by one worker.
type Attempt struct {
	Number   int
	State    AttemptState
	Worker   string
	Started  time.Time
	Ended    time.Time
	ExitCode int
	Error    string
	Output   string
}

// Exited gives the exit code or status that the attempt's executor gave. ok is false
// where it gave none: no process ran, no answer came, or it is still under way. A
// failure that an executor can tell by the code 0 has an output beside it.
func (a Attempt) Exited() (code int, ok bool) {
	return a.ExitCode, a.ExitCode != 0 || a.Output != "" || a.State == AttemptSucceeded
}

// A LogPiece is a piece of an attempt's live log.
type LogPiece struct {
	Position string // to read on after it
	Text     string
	End      bool // nothing follows
}
