package core

import "time"

// The types below pass between the engine and its store. They are values
// without behavior.

// A Route says where a step is sent: to a queue or, where Queue is "", nowhere
// until a worker comes that can execute it; Wait then says what it waits for.
type Route struct {
	Queue string
	Wait  string
}

// An Admission asks the store to decide about a run and to make it.
type Admission struct {
	Run      Run           // ID, Request, Target and what describes it
	Plan     []PlannedStep // 1..MaxSteps
	Overlap  Overlap
	Timeout  time.Duration // of the run; 0 = none
	Routes   []Route       // of the first steps, at most Chunk
	Remember time.Duration // how long the decision is kept under Run.Request; 0 = nobody asks again
	Keep     time.Duration // how long the run is kept when it has ended; 0 = as all are
	Random   string        // of the first fences, as id.Fence makes it; "" = chosen by who admits
}

// Chunk is the number of steps that one script makes or changes at most.
const Chunk = 500

// An AdmitWord is what Admit decided.
type AdmitWord string

// Decisions of Admit.
const (
	AdmitStarted  AdmitWord = "started"
	AdmitBuffered AdmitWord = "buffered"
	AdmitSkipped  AdmitWord = "skipped"
	AdmitBusy     AdmitWord = "busy" // too much waits already; nothing was changed
)

// Admitted is the answer to an Admission.
type Admitted struct {
	Word   AdmitWord
	Again  bool   // the decision had been stored before
	Run    string // "" when skipped or busy
	Reason string
	Made   Run // the run as it was made by this very call, else zero
	Effects
}

// Effects are what a script leaves for its caller to do at once. All of it is in
// the partition's outbox or sent set too, so a caller that dies loses nothing.
type Effects struct {
	Sends  []Dispatch // to put into their queues
	Stops  []Stop     // to tell to workers
	Expand []string   // runs whose next steps are to be made
}

// Add appends other to e.
func (e *Effects) Add(other Effects) {
	e.Sends = append(e.Sends, other.Sends...)
	e.Stops = append(e.Stops, other.Stops...)
	e.Expand = append(e.Expand, other.Expand...)
}

// A Stop tells a worker to stop an attempt.
type Stop struct {
	Worker   string
	Dispatch string // id
}

// Begun is what a worker learns when an attempt begins.
type Begun struct {
	Attempt  int
	Failures int
	Step     PlannedStep
	Now      time.Time
}

// An Outcome is how an attempt ended.
type Outcome struct {
	State    AttemptState // succeeded, failed, canceled or timed_out
	ExitCode int
	Reason   string
	Output   string
	Retry    time.Duration // wait before the next attempt; negative = none
}

// Finished is the answer to an Outcome.
type Finished struct {
	Step StepState // "" when the dispatch was stale
	Run  RunState  // the run's end, or ""
	Late bool      // the step had ended before; only the attempt was kept
	Effects
}

// A MoveReason is why a step is dispatched again.
type MoveReason string

// Reasons for Move.
const (
	MoveWaiting  MoveReason = "wait"     // its retry is due or a worker is back
	MoveSent     MoveReason = "sent"     // the dispatch was lost on its way
	MoveLost     MoveReason = "lost"     // its worker vanished
	MoveReleased MoveReason = "released" // its worker hands it back
)

// MaxLost is how many attempts of a step may be lost with their workers before
// the step fails: a job that kills every worker must not kill them for ever.
const MaxLost = 20

// A Move is one step to be dispatched again, by compare-and-set on the fence.
type Move struct {
	Dispatch Dispatch
	Worker   string // for lost and released: who had it
	Route    Route
}

// Under is an attempt under way, as its partition lists it.
type Under struct {
	Dispatch Dispatch
	Worker   string
	Overdue  time.Time // when its timeout and grace have passed
}

// A Sent is a dispatch that has not begun.
type Sent struct {
	Dispatch Dispatch
	Since    time.Time
}

// An Advance moves a trigger past slots. It takes effect only while the trigger
// has the given revision and next slot.
type Advance struct {
	Trigger  string
	Revision int64
	From     time.Time // the next slot as the caller knows it
	Next     time.Time // the new next slot; zero = none
	Entries  []LedgerEntry
}

// A RunFilter selects runs. Zero fields select all.
type RunFilter struct {
	Account string
	Target  string
	Kind    TargetKind
	Kinds   []TargetKind // any of these
	Trigger string
	Dialect Dialect
	States  []RunState
	After   time.Time // created at or after
	Before  time.Time // created before
	Cursor  string    // from the page before
	Limit   int       // 1..1000; 0 = 50

	Targets  []string // any of these
	Triggers []string // any of these
	Jobs     []string // with a step of any of these jobs
	Oldest   bool     // oldest first, instead of newest
}

// A RunPage is one page of runs in the order asked for. Next is "" on the last page.
type RunPage struct {
	Runs   []Run
	Next   string
	Looked int // runs that were looked at, those that did not match too
}
