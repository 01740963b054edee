// Package core holds Takt's nouns and their rules: what a job, a group, a
// trigger, a run, a step and an attempt are, which states they may take, and
// what can go wrong. It knows no database, no queue and no wire format.
//
// Everything asynchronous is a Run. A Trigger fires at its slots; each fire
// becomes at most one Run per target (a Group or a Job); a Run has one Step per
// job; a Step is carried out by Attempts, one after another, until one ends it.
//
//	Trigger ──slot──▶ fire ──▶ Run ──▶ Step ──▶ Attempt
//	   │                        ▲
//	   └──targets──▶ Group / Job┘
package core

import "time"

// MaxSteps bounds the steps of one run.
const MaxSteps = 10_000

// Limits of the texts a client may give, as ZStack's columns have them.
const (
	MaxName        = 255
	MaxDescription = 2048
	MaxCron        = 255
)

// A Dialect is the wire dialect through which a thing was made. It decides
// vendor rules such as overlap, never who may see the thing.
type Dialect string

// Dialects.
const (
	Native Dialect = "native"
	ZStack Dialect = "zstack"
)

// TargetKind says what a trigger, or a run, is aimed at.
type TargetKind string

// Kinds of target.
const (
	GroupTarget TargetKind = "group"
	JobTarget   TargetKind = "job"
)

// A Target names a group or a job.
type Target struct {
	Kind TargetKind `json:"kind"`
	UUID string     `json:"uuid"`
}

// Meta is what every definition (job, group, trigger) carries.
type Meta struct {
	UUID        string    `json:"uuid"`
	Account     string    `json:"account"` // owner
	Dialect     Dialect   `json:"dialect"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Version     int64     `json:"version"` // raised by every change; the ETag of the native API
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	// Request is the key of the Request that made it under a uuid that its client
	// chose; one that was not chosen is derived from the key.
	Request string `json:"request,omitempty"`
}

// Identity gives what every definition carries.
func (m Meta) Identity() Meta { return m }
