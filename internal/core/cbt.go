package core

import (
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// CBTTarget is the kind of target whose runs are transitions of a CBT task, or reads of
// its changes.
const CBTTarget TargetKind = "cbt"

// CBTType is the job type of the steps of such runs: one step per machine. No job can
// be made of it.
const CBTType = "cbtTask"

// A CBTStatus is the status of a CBT task, as ZStack names it.
type CBTStatus string

// Statuses of a CBT task. "Running" is a backup window: each machine has a moment that
// is frozen and exported.
const (
	CBTCreated  CBTStatus = "Created"
	CBTStarting CBTStatus = "Starting"
	CBTRunning  CBTStatus = "Running"
	CBTStopped  CBTStatus = "Stopped"
	CBTFailed   CBTStatus = "Failed"
)

// MaxMachines bounds the machines of a CBT task.
const MaxMachines = 16

// CBTGone is the exit code of a look at a session that is gone.
const CBTGone = 410

// CBTWatch is the time between two looks at a task that is Running. lib.lua has it too.
const CBTWatch = time.Minute

// CBTClaimVoid is the age from which a claim on a machine is void whose task does not
// exist.
const CBTClaimVoid = 10 * time.Second

// A CBTTask tracks the changed blocks of machines. What is done with it is done by runs
// at workers that reach the machines; the end of such a run changes the task in the same
// script.
//
//	           enable                 its run succeeded
//	Created ──────────▶ Starting ──────────────────────▶ Running
//	Stopped ──────────▶    │  └─ its run failed ─▶ Failed    │
//	Failed  ──────────▶    └─ disable: canceled ─▶ Stopped ◀─┘ disable
//
//	           backup                 its run succeeded
//	the same  ─────────▶ Starting ──────────────────────▶ Stopped
//	                       │  └─ its run failed ─▶ Failed
//	                       └─ disable: canceled ─▶ Stopped
//
// A disable by force is Stopped at once; the sessions are closed Behind.
type CBTTask struct {
	Meta
	TaskType string   `json:"taskType"` // "VM"
	Machines []string `json:"machines"` // uuids of resources that workers announce, 1..MaxMachines
	Driver   string   `json:"driver"`   // cbt.DriverAuto, DriverQEMU or DriverScan
	OnBroken string   `json:"onBroken"` // cbt.OnBrokenFull, OnBrokenRescan or OnBrokenFail

	Status  CBTStatus    `json:"-"`
	Reason  string       `json:"-"` // why it failed last
	Pending CBTPending   `json:"-"` // what is under way; zero if nothing is
	Last    CBTPending   `json:"-"` // what ended last; checks do not count
	Past    []CBTPending `json:"-"` // all that ended, the latest first, at most MaxPast
	Records []cbt.Record `json:"-"` // one per machine

	// Of the last enable: its run, and the checkpoint that was asked for, "" for a full
	// copy. Seq is the highest number that was ever given to a checkpoint, by an enable or
	// a backup.
	Opened string `json:"-"`
	Since  string `json:"-"`
	Seq    int    `json:"-"`
}

// MaxPast bounds CBTTask.Past: a request that is carried out again finds its own
// transition there.
const MaxPast = 8

// Busy reports whether a transition is under way that others must wait for.
func (t CBTTask) Busy() bool { return t.Changing() && !t.Pending.Behind }

// Changing reports whether a transition is under way, be it one that nobody waits for.
func (t CBTTask) Changing() bool { return !t.Pending.Zero() && !t.Pending.Look }

// Machine gives the index of a machine, -1 if the task has no such one.
func (t CBTTask) Machine(uuid string) int { return slices.Index(t.Machines, uuid) }

// A CBTOp is a transition of a CBT task.
type CBTOp string

// Transitions.
const (
	CBTEnable   CBTOp = "enable"
	CBTDisable  CBTOp = "disable"
	CBTDelete   CBTOp = "delete"
	CBTForget   CBTOp = "forget"
	CBTCheck    CBTOp = "check" // whether its sessions live
	CBTExport   CBTOp = "export"
	CBTUnexport CBTOp = "unexport"
	CBTBackup   CBTOp = "backup"  // into files of the worker's host
	CBTRestore  CBTOp = "restore" // from them
	CBTVerify   CBTOp = "verify"  // whether they are as they were made
	CBTDiscard  CBTOp = "discard"
	CBTRead     CBTOp = "read" // no transition: nothing changes
)

// A CBTPending is a transition under way, or one that has ended. It holds all that its
// run is made of, so that whoever finds it without a run makes the same one.
type CBTPending struct {
	Op      CBTOp       `json:"op"`
	Run     string      `json:"run"`     // id of the run
	Request string      `json:"request"` // the run's, and so what makes it once
	At      time.Time   `json:"at"`
	Orders  []cbt.Order `json:"-"` // one per step; not kept of one that has ended
	// Then and Else are the status when the run has succeeded and when not; Then ""
	// deletes the task.
	Then CBTStatus `json:"then"`
	Else CBTStatus `json:"else"`
	// Look: nothing is changed by it, so it gives way to whatever is asked for, and
	// leaves no trace in Past. Only a step that fails with the exit code CBTGone brings
	// about Else.
	Look bool `json:"look,omitempty"`
	// Behind: the status is Then already, and the run follows when a worker is there,
	// however late. Nobody waits for it. A new session takes its place, as does a delete.
	Behind bool   `json:"behind,omitempty"`
	By     string `json:"by,omitempty"` // key of the Request that asked

	// How it ended: the state of its run, and why that did not succeed.
	State  RunState  `json:"-"`
	Reason string    `json:"-"`
	Ended  time.Time `json:"-"`
}

// Zero reports whether there is none.
func (p CBTPending) Zero() bool { return p.Op == "" }

// Failed reports whether it has ended and its run did not succeed.
func (p CBTPending) Failed() bool { return p.State != "" && p.State != RunSucceeded }

// A CBTMove begins a transition of a task, or changes its status without one.
type CBTMove struct {
	Status  CBTStatus  // at once; "" = as it is
	Pending CBTPending // zero: nothing but the status changes
	Since   string     // of enable
	Seq     int        // of enable and backup
}
