package core

import (
	"time"
)

// A Job is one action (Type, Parameters) on one target.
type Job struct {
	Meta
	Type       string            `json:"type"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Target     string            `json:"target,omitempty"` // uuid of what the job acts on, or ""
	Enabled    bool              `json:"enabled"`
	Retry      Retry             `json:"retry,omitzero"`
	Timeout    time.Duration     `json:"timeout,omitempty"` // of one attempt; 0 = DefaultTimeout
	Priority   Priority          `json:"priority,omitempty"`

	Group string `json:"-"` // the group the job is in, or ""; kept beside the row
}

// A Group is a set of jobs of one type that are run together.
type Group struct {
	Meta
	Type       string            `json:"type"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Enabled    bool              `json:"enabled"`
	Timeout    time.Duration     `json:"timeout,omitempty"` // of a whole run; 0 = none

	Members []Member `json:"-"` // in the order they were added; kept beside the row
}

// A Member is a job's place in a group.
type Member struct {
	Job   string
	Added time.Time
}

// MaxGroupJobs and MaxTargetTriggers are the caps ZStack's texts speak of, where
// the configuration names no others. ZStack's values are not public, these are ours.
const (
	MaxGroupJobs      = 1000
	MaxTargetTriggers = 10
)

// Limits and defaults of timeouts.
const (
	DefaultTimeout = 30 * time.Minute
	MaxTimeout     = 7 * 24 * time.Hour
)

// Priority chooses the shared queue of a job's steps.
type Priority string

// Priorities, highest first. "" means PriorityDefault.
const (
	PriorityCritical Priority = "critical"
	PriorityDefault  Priority = "default"
	PriorityLow      Priority = "low"
)

// Valid reports whether p is one of the priorities or "".
func (p Priority) Valid() bool {
	return p == "" || p == PriorityCritical || p == PriorityDefault || p == PriorityLow
}

// EffectiveTimeout is the timeout of one attempt of the job.
func (j Job) EffectiveTimeout() time.Duration {
	if j.Timeout > 0 {
		return j.Timeout
	}
	return DefaultTimeout
}
