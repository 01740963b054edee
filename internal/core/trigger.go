package core

import (
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

// A Trigger fires its targets at the slots of a schedule.
type Trigger struct {
	Meta
	Schedule schedule.Spec    `json:"schedule"`
	Misfire  schedule.Misfire `json:"misfire,omitzero"`
	Overlap  Overlap          `json:"overlap,omitzero"`
	Enabled  bool             `json:"enabled"`
	Targets  []Binding        `json:"targets,omitempty"`

	// Floating marks a simple schedule without a start of its own: it begins when
	// the first target is bound, and has no slots before.
	Floating bool `json:"floating,omitempty"`
	// Revision counts edits of the schedule, of Enabled and of the misfire
	// policy. A slot belongs to the revision that published it.
	Revision int64 `json:"revision"`
	// Born is the trigger's first revision, where one with its uuid was deleted
	// before; else 0. What is of an earlier revision is that one's.
	Born int64 `json:"born,omitempty"`
	// Deleted marks the tombstone that is kept while the ledger is.
	Deleted time.Time `json:"deleted,omitzero"`

	// Next is the next slot to publish, or zero; kept beside the row.
	Next time.Time `json:"-"`
}

// A Binding ties a target to a trigger.
type Binding struct {
	Target
	Ref   string    `json:"ref"` // uuid of the tie itself, which ZStack shows
	Added time.Time `json:"added"`
}

// Binding finds the tie to a target.
func (t Trigger) Binding(target string) (Binding, bool) {
	for _, b := range t.Targets {
		if b.UUID == target {
			return b, true
		}
	}
	return Binding{}, false
}

// Live reports whether the trigger fires at all: it is enabled and not deleted.
func (t Trigger) Live() bool { return t.Enabled && t.Deleted.IsZero() }

// OverlapPolicy says what happens to a run while an earlier run of the same
// target has not ended.
type OverlapPolicy string

// Overlap policies. "" means OverlapAllow.
const (
	OverlapAllow     OverlapPolicy = "allow"
	OverlapSkip      OverlapPolicy = "skip"
	OverlapBufferOne OverlapPolicy = "buffer_one"
	OverlapBufferAll OverlapPolicy = "buffer_all"
	OverlapCancel    OverlapPolicy = "cancel_other"
	// OverlapSkipSteps creates the run and skips the steps whose job is still
	// running in an earlier one: ZStack's rule.
	OverlapSkipSteps OverlapPolicy = "skip_steps"
)

// Overlap is a policy with its limit.
type Overlap struct {
	Policy OverlapPolicy `json:"policy,omitempty"`
	Limit  int           `json:"limit,omitempty"` // buffer_all: waiting runs at most; 0 = 100
}

// MaxBuffered bounds Overlap.Limit.
const MaxBuffered = 1000

// Validate refuses unknown policies and limits out of range.
func (o Overlap) Validate() error {
	switch o.Policy {
	case "", OverlapAllow, OverlapSkip, OverlapBufferOne, OverlapBufferAll, OverlapCancel, OverlapSkipSteps:
	default:
		return InvalidField("overlap.policy", "overlap.policy %q is not one of allow, skip, buffer_one, buffer_all, cancel_other, skip_steps", o.Policy)
	}
	if o.Limit < 0 || o.Limit > MaxBuffered {
		return InvalidField("overlap.limit", "overlap.limit is %d, it must be from 0 to %d", o.Limit, MaxBuffered)
	}
	return nil
}

// SkipText is what ZStack writes in the history of a step that was skipped
// because its job is still running (zstack i18n text).
const SkipText = "the last job is not completed. skip this job"
