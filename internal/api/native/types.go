package native

import (
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/pkg/executor"
)

// The wire types, and nothing else. Each is a schema of the same name in
// openapi.yaml, and a test keeps the two alike. Field names are camelCase, times
// RFC 3339 in UTC, durations Duration texts. A type that a client sends never
// holds what only the server decides, so unknown fields can be refused.

// Problem is every error, as RFC 9457 has it (application/problem+json).
type Problem struct {
	Type      string `json:"type"` // "/problems/" and the kind: stable, to be compared
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`          // a sentence that says what to do
	Field     string `json:"field,omitempty"` // the offending field, like retry.attempts
	RequestID string `json:"requestId,omitempty"`
}

// Meta is what every definition shows of itself.
type Meta struct {
	UUID    string       `json:"uuid"`
	Account string       `json:"account"`
	Dialect core.Dialect `json:"dialect"`
	Version int64        `json:"version"` // the ETag
	Created time.Time    `json:"created"`
	Updated time.Time    `json:"updated"`
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
	Priority    core.Priority     `json:"priority,omitempty"`
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

// JobList is a page of jobs, newest first.
type JobList struct {
	Items []Job  `json:"items"`
	Next  string `json:"next,omitempty"` // cursor of the next page
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

// GroupList is a page of groups, newest first.
type GroupList struct {
	Items []Group `json:"items"`
	Next  string  `json:"next,omitempty"`
}

// AddJobs puts jobs into a group, all or none.
type AddJobs struct {
	Jobs []string `json:"jobs"`
}

// Schedule says when a trigger fires.
type Schedule struct {
	Kind       schedule.Kind    `json:"kind"`
	Dialect    schedule.Dialect `json:"dialect,omitempty"`
	Expression string           `json:"expression,omitempty"`
	Zone       string           `json:"zone,omitempty"`
	Gap        schedule.Gap     `json:"gap,omitempty"`
	Overlap    schedule.Overlap `json:"overlap,omitempty"`
	Interval   Duration         `json:"interval,omitzero"`
	Start      time.Time        `json:"start,omitzero"`
	End        time.Time        `json:"end,omitzero"`
	Repeat     int              `json:"repeat,omitempty"`
}

// Misfire says what becomes of slots that nobody could fire in time.
type Misfire struct {
	Policy        schedule.MisfirePolicy `json:"policy,omitempty"`
	Threshold     Duration               `json:"threshold,omitzero"`
	CatchupWindow Duration               `json:"catchupWindow,omitzero"`
	CatchupMax    int                    `json:"catchupMax,omitempty"`
}

// Overlap says what happens to a run while an earlier one of its target goes on.
type Overlap struct {
	Policy core.OverlapPolicy `json:"policy,omitempty"`
	Limit  int                `json:"limit,omitempty"`
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

// TriggerList is a page of triggers, newest first.
type TriggerList struct {
	Items []Trigger `json:"items"`
	Next  string    `json:"next,omitempty"`
}

// Target names a group or a job.
type Target struct {
	Kind core.TargetKind `json:"kind"`
	UUID string          `json:"uuid"`
}

// NewBinding ties a target to a trigger.
type NewBinding struct {
	Kind    core.TargetKind `json:"kind"`
	UUID    string          `json:"uuid"`
	FireNow bool            `json:"fireNow,omitempty"`
}

// Binding is the tie of a target to a trigger.
type Binding struct {
	Kind  core.TargetKind `json:"kind"`
	UUID  string          `json:"uuid"`
	Ref   string          `json:"ref"`
	Added time.Time       `json:"added"`
}

// FireRequest fires a trigger by hand, or only some of its targets.
type FireRequest struct {
	Targets []string `json:"targets,omitempty"`
}

// LedgerEntry says what became of a slot, or of a row of slots alike.
type LedgerEntry struct {
	ID        string        `json:"id"`
	Revision  int64         `json:"revision"`
	Manual    bool          `json:"manual"`
	From      time.Time     `json:"from"`
	To        time.Time     `json:"to"`
	Count     int           `json:"count"`
	Published time.Time     `json:"published,omitzero"`
	Decided   time.Time     `json:"decided,omitzero"`
	Decision  core.Decision `json:"decision,omitempty"` // absent while undecided
	Reason    string        `json:"reason,omitempty"`
	Runs      []string      `json:"runs"`
	Targets   []string      `json:"targets,omitempty"` // by hand: what it was limited to
	Lateness  Duration      `json:"lateness,omitzero"`
}

// LedgerDay counts the slots of one UTC day by what became of them.
type LedgerDay struct {
	Day    string                  `json:"day"` // 2006-01-02
	Counts map[core.Decision]int64 `json:"counts"`
}

// Ledger is a page of a trigger's ledger, newest first, and its days.
type Ledger struct {
	Entries []LedgerEntry `json:"entries"`
	Days    []LedgerDay   `json:"days"`
	Skip    int           `json:"skip,omitempty"` // to ask for the next page with
}

// RunRequest starts a run by hand.
type RunRequest struct {
	Overlap Overlap `json:"overlap,omitzero"`
}

// CancelRequest asks a run to stop.
type CancelRequest struct {
	Reason string `json:"reason,omitempty"`
}

// Run is one execution of a group or a job.
type Run struct {
	ID       string        `json:"id"`
	Account  string        `json:"account"`
	Dialect  core.Dialect  `json:"dialect"`
	Target   Target        `json:"target"`
	Name     string        `json:"name"`
	Type     string        `json:"type"`
	Trigger  string        `json:"trigger,omitempty"`
	Fire     string        `json:"fire,omitempty"` // id of the entry in the trigger's ledger
	Slot     time.Time     `json:"slot,omitzero"`
	State    core.RunState `json:"state"`
	Reason   string        `json:"reason,omitempty"`
	RetryOf  string        `json:"retryOf,omitempty"`
	Created  time.Time     `json:"created"`
	Started  time.Time     `json:"started,omitzero"`
	Ended    time.Time     `json:"ended,omitzero"`
	Deadline time.Time     `json:"deadline,omitzero"`
	Counts   StepCounts    `json:"counts"`
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

// RunList is a page of runs, newest first.
type RunList struct {
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
	Priority   core.Priority     `json:"priority,omitempty"`
	State      core.StepState    `json:"state"`
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
	Number   int               `json:"number"`
	State    core.AttemptState `json:"state"`
	Worker   string            `json:"worker"`
	Started  time.Time         `json:"started"`
	Ended    time.Time         `json:"ended,omitzero"`
	ExitCode *int              `json:"exitCode,omitempty"` // absent where the executor gave none
	Error    string            `json:"error,omitempty"`
	Output   string            `json:"output,omitempty"`
}

// LogText is the data of a "log" event.
type LogText struct {
	Text string `json:"text"`
}

// LogEnd is the data of an "end" event.
type LogEnd struct {
	Attempt int           `json:"attempt"`
	Run     core.RunState `json:"run"`
}

// Worker is a worker process.
type Worker struct {
	ID        string    `json:"id"`
	Host      string    `json:"host"`
	Tags      []string  `json:"tags"`
	Version   string    `json:"version"`
	Types     []string  `json:"types"`
	Resources []string  `json:"resources"`
	Queues    []string  `json:"queues"`
	Slots     int       `json:"slots"`
	Busy      int       `json:"busy"`
	Live      bool      `json:"live"`
	Draining  bool      `json:"draining"`
	Started   time.Time `json:"started"`
	Seen      time.Time `json:"seen"`
}

// WorkerList holds all workers, by host.
type WorkerList struct {
	Items []Worker `json:"items"`
}

// Resource is something that workers reach.
type Resource struct {
	UUID  string    `json:"uuid"`
	Hosts []string  `json:"hosts"` // live hosts that reach it now
	Seen  time.Time `json:"seen"`  // when it was announced last
}

// ResourceList holds all resources ever announced, by uuid.
type ResourceList struct {
	Items []Resource `json:"items"`
}

// JobType describes a job type and its parameters.
type JobType struct {
	Type        string      `json:"type"`
	Description string      `json:"description,omitempty"`
	Parameters  []Parameter `json:"parameters"`
	Open        bool        `json:"open"` // takes parameters that are not listed
}

// Parameter describes one entry of a job's parameters.
type Parameter struct {
	Name        string        `json:"name"`
	Kind        executor.Kind `json:"kind"`
	Required    bool          `json:"required"`
	Secret      bool          `json:"secret"`
	Enum        []string      `json:"enum,omitempty"`
	Default     string        `json:"default,omitempty"`
	Description string        `json:"description,omitempty"`
}

// JobTypeList holds all known job types, by name.
type JobTypeList struct {
	Items []JobType `json:"items"`
}

// PreviewRequest asks which instants a schedule fires at: either Schedule or the
// fields of a cron schedule beside it.
type PreviewRequest struct {
	Expression string           `json:"expression,omitempty"`
	Dialect    schedule.Dialect `json:"dialect,omitempty"`
	Zone       string           `json:"zone,omitempty"`
	Gap        schedule.Gap     `json:"gap,omitempty"`
	Overlap    schedule.Overlap `json:"overlap,omitempty"`
	Schedule   *Schedule        `json:"schedule,omitempty"`
	From       time.Time        `json:"from,omitzero"` // absent = now
	N          *int             `json:"n,omitempty"`   // absent = 10
}

// Preview lists the next fires in the schedule's own zone.
type Preview struct {
	Fires     []time.Time `json:"fires"`
	Exhausted bool        `json:"exhausted"` // nothing follows
}

// NewSession signs in.
type NewSession struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Session is a signed-in account. Token is to be sent as Bearer.
type Session struct {
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
	Role    core.Role `json:"role"`
	Expires time.Time `json:"expires,omitzero"` // of the session or token; absent = never
}

// NewAccount creates an account.
type NewAccount struct {
	UUID     string    `json:"uuid,omitempty"`
	Name     string    `json:"name"`
	Password string    `json:"password"`
	Role     core.Role `json:"role"`
	Owner    string    `json:"owner,omitempty"` // absent = itself
}

// AccountPatch changes the password of an account, or whether it may sign in.
type AccountPatch struct {
	Password        *string `json:"password,omitempty"`
	CurrentPassword string  `json:"currentPassword,omitempty"` // for the own password
	Disabled        *bool   `json:"disabled,omitempty"`
}

// Account signs in and owns definitions and runs.
type Account struct {
	UUID     string    `json:"uuid"`
	Name     string    `json:"name"`
	Role     core.Role `json:"role"`
	Owner    string    `json:"owner"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// AccountList holds all accounts, by name.
type AccountList struct {
	Items []Account `json:"items"`
}

// NewToken creates an API token.
type NewToken struct {
	Name    string    `json:"name"`
	Expires time.Time `json:"expires,omitzero"` // absent = never
}

// Token is an API token. Token, its text, is shown once, when it is made.
type Token struct {
	UUID    string    `json:"uuid"`
	Account string    `json:"account"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Token   string    `json:"token,omitempty"`
}

// TokenList holds the API tokens of an account, oldest first.
type TokenList struct {
	Items []Token `json:"items"`
}
