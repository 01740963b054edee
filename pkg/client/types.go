package client

import "time"

// The wire types of the native API. They are this package's own, so that a
// program which imports it gets nothing else of Takt; a test holds them to the
// server's.

// TargetKind says what a trigger, or a run, is aimed at.
type TargetKind string

// Kinds of target.
const (
	GroupTarget TargetKind = "group"
	JobTarget   TargetKind = "job"
	CBTTarget   TargetKind = "cbt" // of runs only: a CBT task
)

// RunState is the state of a run.
type RunState string

// States of a run.
const (
	RunPending   RunState = "pending"
	RunRunning   RunState = "running"
	RunCanceling RunState = "canceling"
	RunSucceeded RunState = "succeeded"
	RunFailed    RunState = "failed"
	RunCanceled  RunState = "canceled"
	RunTimedOut  RunState = "timed_out"
)

// Ended reports whether nothing more happens to the run.
func (s RunState) Ended() bool {
	return s != RunPending && s != RunRunning && s != RunCanceling
}

// Duration is a time.Duration that is a text such as "1m30s" on the wire.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Meta is what every definition shows of itself.
type Meta struct {
	UUID    string    `json:"uuid"`
	Account string    `json:"account"`
	Dialect string    `json:"dialect"`
	Version int64     `json:"version"` // the ETag
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// JobFields are the fields of a job that PATCH changes.
type JobFields struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Parameters  map[string]string `json:"parameters,omitempty"`
	Target      string            `json:"target,omitempty"`
	Enabled     *bool             `json:"enabled,omitempty"` // absent = true
	Retry       Retry             `json:"retry,omitzero"`
	Timeout     Duration          `json:"timeout,omitzero"` // of one attempt
	Priority    string            `json:"priority,omitempty"`
}

// NewJob creates a job.
type NewJob struct {
	UUID string `json:"uuid,omitempty"`
	Type string `json:"type"`
	JobFields
}

// Job is one action on one target.
type Job struct {
	Meta
	Type string `json:"type"`
	JobFields
	Group string `json:"group,omitempty"`
}

// Retry says how often a step is tried.
type Retry struct {
	Attempts int      `json:"attempts,omitempty"`
	Backoff  Duration `json:"backoff,omitzero"`
	Factor   float64  `json:"factor,omitempty"`
	Max      Duration `json:"max,omitzero"`
	Jitter   float64  `json:"jitter,omitempty"`
}

// GroupFields are the fields of a group that PATCH changes.
type GroupFields struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Parameters  map[string]string `json:"parameters,omitempty"`
	Enabled     *bool             `json:"enabled,omitempty"` // absent = true
	Timeout     Duration          `json:"timeout,omitzero"`  // of a whole run
}

// NewGroup creates a group without jobs.
type NewGroup struct {
	UUID string `json:"uuid,omitempty"`
	Type string `json:"type"`
	GroupFields
}

// Group is a set of jobs of one type that run together.
type Group struct {
	Meta
	Type string `json:"type"`
	GroupFields
	Jobs []Member `json:"jobs"`
}

// Member is a job's place in a group.
type Member struct {
	Job   string    `json:"job"`
	Added time.Time `json:"added"`
}

// addJobs puts jobs into a group, all or none.
type addJobs struct {
	Jobs []string `json:"jobs"`
}

// Schedule says when a trigger fires.
type Schedule struct {
	Kind       string    `json:"kind"`
	Dialect    string    `json:"dialect,omitempty"`
	Expression string    `json:"expression,omitempty"`
	Zone       string    `json:"zone,omitempty"`
	Gap        string    `json:"gap,omitempty"`
	Overlap    string    `json:"overlap,omitempty"`
	Interval   Duration  `json:"interval,omitzero"`
	Start      time.Time `json:"start,omitzero"`
	End        time.Time `json:"end,omitzero"`
	Repeat     int       `json:"repeat,omitempty"`
}

// Misfire says what becomes of slots that nobody could fire in time.
type Misfire struct {
	Policy        string   `json:"policy,omitempty"`
	Threshold     Duration `json:"threshold,omitzero"`
	CatchupWindow Duration `json:"catchupWindow,omitzero"`
	CatchupMax    int      `json:"catchupMax,omitempty"`
}

// Overlap says what happens to a run while an earlier one of its target goes on.
type Overlap struct {
	Policy string `json:"policy,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// TriggerFields are the fields of a trigger that PATCH changes.
type TriggerFields struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Schedule    Schedule `json:"schedule"`
	Misfire     Misfire  `json:"misfire,omitzero"`
	Overlap     Overlap  `json:"overlap,omitzero"`
	Enabled     *bool    `json:"enabled,omitempty"` // absent = true
}

// NewTrigger creates a trigger without targets.
type NewTrigger struct {
	UUID string `json:"uuid,omitempty"`
	TriggerFields
}

// Trigger fires its targets at the slots of its schedule.
type Trigger struct {
	Meta
	TriggerFields
	Targets  []Binding `json:"targets"`
	Revision int64     `json:"revision"`
	Next     time.Time `json:"next,omitzero"` // absent when no slot is to come
}

// Target names a group or a job.
type Target struct {
	Kind TargetKind `json:"kind"`
	UUID string     `json:"uuid"`
}

// NewBinding ties a target to a trigger.
type NewBinding struct {
	Kind    TargetKind `json:"kind"`
	UUID    string     `json:"uuid"`
	FireNow bool       `json:"fireNow,omitempty"`
}

// Binding is the tie of a target to a trigger.
type Binding struct {
	Kind  TargetKind `json:"kind"`
	UUID  string     `json:"uuid"`
	Ref   string     `json:"ref"`
	Added time.Time  `json:"added"`
}

// fireRequest fires a trigger by hand, or only some of its targets.
type fireRequest struct {
	Targets []string `json:"targets,omitempty"`
}

// LedgerEntry says what became of a slot, or of a row of slots alike.
type LedgerEntry struct {
	ID        string    `json:"id"`
	Revision  int64     `json:"revision"`
	Manual    bool      `json:"manual"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Count     int       `json:"count"`
	Published time.Time `json:"published,omitzero"`
	Decided   time.Time `json:"decided,omitzero"`
	Decision  string    `json:"decision,omitempty"` // absent while undecided
	Reason    string    `json:"reason,omitempty"`
	Runs      []string  `json:"runs"`
	Targets   []string  `json:"targets,omitempty"` // by hand: what it was limited to
	Lateness  Duration  `json:"lateness,omitzero"`
}

// LedgerDay counts the slots of one UTC day by what became of them.
type LedgerDay struct {
	Day    string           `json:"day"` // 2006-01-02
	Counts map[string]int64 `json:"counts"`
}

// Ledger is a page of a trigger's ledger, newest first, and its days.
type Ledger struct {
	Entries []LedgerEntry `json:"entries"`
	Days    []LedgerDay   `json:"days"`
	Skip    int           `json:"skip,omitempty"` // to ask for the next page with
}

// runRequest starts a run by hand.
type runRequest struct {
	Overlap Overlap `json:"overlap,omitzero"`
}

// cancelRequest asks a run to stop.
type cancelRequest struct {
	Reason string `json:"reason,omitempty"`
}

// Run is one execution of a group or a job.
type Run struct {
	ID       string     `json:"id"`
	Account  string     `json:"account"`
	Dialect  string     `json:"dialect"`
	Target   Target     `json:"target"`
	Name     string     `json:"name"`
	Type     string     `json:"type"`
	Trigger  string     `json:"trigger,omitempty"`
	Fire     string     `json:"fire,omitempty"` // id of the entry in the trigger's ledger
	Slot     time.Time  `json:"slot,omitzero"`
	State    RunState   `json:"state"`
	Reason   string     `json:"reason,omitempty"`
	RetryOf  string     `json:"retryOf,omitempty"`
	Created  time.Time  `json:"created"`
	Started  time.Time  `json:"started,omitzero"`
	Ended    time.Time  `json:"ended,omitzero"`
	Deadline time.Time  `json:"deadline,omitzero"`
	Counts   StepCounts `json:"counts"`
}

// StepCounts counts a run's steps by how they ended.
type StepCounts struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
	TimedOut  int `json:"timedOut"`
	Skipped   int `json:"skipped"`
}

// runList is a page of runs, newest first.
type runList struct {
	Items []Run  `json:"items"`
	Next  string `json:"next,omitempty"`
}

// RunDetail is a run with a page of its steps.
type RunDetail struct {
	Run
	Steps []Step `json:"steps"`
	Skip  int    `json:"skip,omitempty"` // to ask for the next page of steps with
}

// Step is one step of a run and how far it has come.
type Step struct {
	Index      int               `json:"index"`
	Job        string            `json:"job"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Target     string            `json:"target,omitempty"`
	Timeout    Duration          `json:"timeout"`
	Retry      Retry             `json:"retry,omitzero"`
	Priority   string            `json:"priority,omitempty"`
	State      string            `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Queue      string            `json:"queue,omitempty"`
	Worker     string            `json:"worker,omitempty"`
	Failures   int               `json:"failures"`
	Lost       int               `json:"lost"`
	Started    time.Time         `json:"started,omitzero"`
	Ended      time.Time         `json:"ended,omitzero"`
	Progress   Progress          `json:"progress,omitzero"`
	Attempts   []Attempt         `json:"attempts"`
}

// Progress says how far the attempt under way has come, in units of its job type;
// CBT tasks count bytes.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Attempt is one execution of a step by one worker.
type Attempt struct {
	Number   int       `json:"number"`
	State    string    `json:"state"`
	Worker   string    `json:"worker"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	ExitCode *int      `json:"exitCode,omitempty"` // absent where the executor gave none
	Error    string    `json:"error,omitempty"`
	Output   string    `json:"output,omitempty"`
}

// logText is the data of a "log" event.
type logText struct {
	Text string `json:"text"`
}

// newSession signs in.
type newSession struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// session is a signed-in account. Token is to be sent as Bearer.
type session struct {
	Token   string    `json:"token"`
	Account string    `json:"account"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// Me is who asks.
type Me struct {
	Account string    `json:"account"`
	Name    string    `json:"name"`
	Owner   string    `json:"owner"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires,omitzero"` // of the session or token; absent = never
}
