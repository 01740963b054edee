package engine

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// The ports are what the engine needs of the outside. All methods may return an
// Unavailable error; the others are named.

// A Store keeps the state. Package store implements it on Redis.
type Store interface {
	Definitions
	Runs
	Fires
	Receipts
	CBT
	Histories

	Now(ctx context.Context) (time.Time, error)
	Ping(ctx context.Context) error
	Fleet(ctx context.Context) (core.Fleet, error)
}

// Definitions are jobs, groups, triggers and how they hang together.
type Definitions interface {
	CreateJob(ctx context.Context, j core.Job) error // Exists
	UpdateJob(ctx context.Context, j core.Job) error // Stale, NotFound
	DeleteJob(ctx context.Context, uuid string) (group string, triggers []string, ok bool, err error)
	Jobs(ctx context.Context, uuids []string) ([]core.Job, error)
	ListJobs(ctx context.Context) ([]core.Job, error)

	CreateGroup(ctx context.Context, g core.Group) error // Exists
	UpdateGroup(ctx context.Context, g core.Group) error // Stale, NotFound
	DeleteGroup(ctx context.Context, uuid string) (jobs, triggers []string, ok bool, err error)
	Groups(ctx context.Context, uuids []string) ([]core.Group, error)
	// Blueprint gives a group with its jobs, to read only.
	Blueprint(ctx context.Context, group string) (core.Group, []core.Job, error) // NotFound
	ListGroups(ctx context.Context) ([]core.Group, error)

	Claim(ctx context.Context, group string, jobs []string) error            // NotFound, Conflict
	Enroll(ctx context.Context, group string, jobs []string, most int) error // NotFound, Exhausted
	Withdraw(ctx context.Context, group string, jobs []string) (int, error)
	SettleMember(ctx context.Context, group, job string) error

	// PutTrigger returns Stale when the version, or with checkNext the next slot,
	// is another one; Exists for version 0, of a tombstone too; NotFound. A tombstone
	// is replaced by its version.
	PutTrigger(ctx context.Context, t core.Trigger, settled time.Time, checkNext bool, entries []core.LedgerEntry, touched []core.Target) error
	Trigger(ctx context.Context, uuid string, dead bool) (core.Trigger, error) // NotFound
	ListTriggers(ctx context.Context, partition int) ([]core.Trigger, error)
	Link(ctx context.Context, t core.Target, trigger string, most int) error // NotFound, Exhausted
	Links(ctx context.Context, targets []string) (map[string][]string, error)
	// NoteLink gives the note that SetLink wants. What SetLink is told is to be read in
	// between; it changes nothing where somebody noted the link later.
	NoteLink(ctx context.Context, t core.Target, trigger string) (exists bool, note string, err error)
	SetLink(ctx context.Context, t core.Target, trigger string, bound bool, note string) error
}

// Runs are runs, steps and attempts.
type Runs interface {
	NewRunID(target string, at time.Time, seed string) string
	Admit(ctx context.Context, a core.Admission) (core.Admitted, error)
	// Decision gives what Admit decided under a request, if it did.
	Decision(ctx context.Context, target, request string) (core.Admitted, bool, error)
	Plan(ctx context.Context, run string) (plan []core.PlannedStep, made int, started bool, err error) // NotFound
	Expand(ctx context.Context, run string, plan []core.PlannedStep, from int, routes []core.Route) (core.Effects, error)
	Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) // Stale
	Finish(ctx context.Context, d core.Dispatch, worker string, o core.Outcome) (core.Finished, error)
	Move(ctx context.Context, why core.MoveReason, moves []core.Move) (core.Effects, error)
	Cancel(ctx context.Context, run, reason string, end core.RunState) (ended bool, eff core.Effects, err error) // NotFound
	PlannedSteps(ctx context.Context, of []core.Dispatch) (map[string]core.PlannedStep, error)
	TellStop(ctx context.Context, st core.Stop) error

	Run(ctx context.Context, run string) (core.Run, error) // NotFound
	Steps(ctx context.Context, run string) ([]core.Step, error)
	ListRuns(ctx context.Context, f core.RunFilter) (core.RunPage, error) // Invalid: the cursor
	ReadLog(ctx context.Context, run string, step, attempt int, after string) ([]core.LogPiece, error)
}

// Fires are slots and the ledger.
type Fires interface {
	Lookup(ctx context.Context, f core.FireID) (t core.Trigger, e core.LedgerEntry, open, known bool, err error)
	Decide(ctx context.Context, f core.FireID, e core.LedgerEntry) (bool, error)
	// ManualFire keeps a fire's name under its Manual key and gives the one kept first.
	ManualFire(ctx context.Context, f core.FireID, keep time.Duration) (core.FireID, error)
	OpenFire(ctx context.Context, f core.FireID, e core.LedgerEntry) error // NotFound
	LedgerEntry(ctx context.Context, f core.FireID) (core.LedgerEntry, bool, error)
	Ledger(ctx context.Context, trigger string, from, to time.Time, skip, limit int) ([]core.LedgerEntry, error)
	LedgerDays(ctx context.Context, trigger string) (map[string]map[core.Decision]int64, error)
}

// Receipts stand for asynchronous requests. Only a holder may change one: the
// errors are Stale when it is somebody else's by now, NotFound when it is forgotten.
type Receipts interface {
	OpenReceipt(ctx context.Context, r core.Receipt) (core.Receipt, error) // Exists
	TakeReceipt(ctx context.Context, id, holder string) (r core.Receipt, ok bool, err error)
	KeepReceipt(ctx context.Context, r core.Receipt) error  // Stale
	CloseReceipt(ctx context.Context, r core.Receipt) error // Stale, NotFound
	LeaveReceipt(ctx context.Context, r core.Receipt, wait time.Duration) error
	SpendReceipt(ctx context.Context, r core.Receipt, rest []byte) (first bool, err error)
	DueReceipts(ctx context.Context, limit int) ([]string, error)
	Receipt(ctx context.Context, id string) (core.Receipt, error) // NotFound
}

// CBT are CBT tasks, and the claims on their machines.
type CBT interface {
	CreateCBT(ctx context.Context, t core.CBTTask) error // Exists
	UpdateCBT(ctx context.Context, t core.CBTTask) error // Stale, NotFound
	// CBT gives a task and when its outbox entry was written, for SettledCBT.
	CBT(ctx context.Context, task string) (t core.CBTTask, since string, err error) // NotFound
	ListCBT(ctx context.Context) ([]core.CBTTask, error)
	// MoveCBT returns Stale also while a transition is under way that is no look.
	MoveCBT(ctx context.Context, t core.CBTTask, m core.CBTMove) error // Stale, NotFound
	DropCBT(ctx context.Context, t core.CBTTask) error                 // Stale
	RestCBT(ctx context.Context, task string, wait time.Duration) error
	SettledCBT(ctx context.Context, task, since string) error

	// ClaimMachine gives the task that holds the machine: this one, or another.
	ClaimMachine(ctx context.Context, task, machine string) (holder string, err error)
	UnclaimMachine(ctx context.Context, task, machine string) error
	SettleCBTClaim(ctx context.Context, task, machine string) error
	CBTOf(ctx context.Context, machine string) (task string, err error)
}

// A Queue carries dispatches to workers. Package queue implements it on asynq.
type Queue interface {
	// Send puts dispatches into their queues. One that is there already counts as sent.
	Send(ctx context.Context, ds []core.Dispatch) error
}

// Events are hints between processes. A lost hint costs time, never work, so the
// methods return nothing. Package events implements them on NATS.
type Events interface {
	Ring(queues []string)       // work has come to these queues
	RingTrigger(trigger string) // a trigger has changed
	Stop(s core.Stop)           // a worker is to stop an attempt
}
