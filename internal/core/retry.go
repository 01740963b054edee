package core

import (
	"math"
	"time"
)

// Retry says how often a step is tried and how long Takt waits in between.
// The zero value tries once.
type Retry struct {
	Attempts int           `json:"attempts,omitempty"` // in all; 0 and 1 mean no retry
	Backoff  time.Duration `json:"backoff,omitempty"`  // before the second attempt; 0 = 1 s
	Factor   float64       `json:"factor,omitempty"`   // growth per attempt; 0 = 2
	Max      time.Duration `json:"max,omitempty"`      // upper bound of the wait; 0 = 1 h
	Jitter   float64       `json:"jitter,omitempty"`   // 0..1: share of the wait that is random
}

// MaxAttempts bounds Retry.Attempts.
const MaxAttempts = 100

// Validate refuses values out of range.
func (r Retry) Validate() error {
	switch {
	case r.Attempts < 0 || r.Attempts > MaxAttempts:
		return InvalidField("retry.attempts", "retry.attempts is %d, it must be from 0 to %d", r.Attempts, MaxAttempts)
	case r.Backoff < 0 || r.Backoff > 24*time.Hour:
		return InvalidField("retry.backoff", "retry.backoff is %s, it must be from 0 to 24h", r.Backoff)
	case r.Max < 0 || r.Max > 24*time.Hour:
		return InvalidField("retry.max", "retry.max is %s, it must be from 0 to 24h", r.Max)
	case r.Factor != 0 && !(r.Factor >= 1 && r.Factor <= 10):
		return InvalidField("retry.factor", "retry.factor is %v, it must be from 1 to 10", r.Factor)
	case !(r.Jitter >= 0 && r.Jitter <= 1):
		return InvalidField("retry.jitter", "retry.jitter is %v, it must be from 0 to 1", r.Jitter)
	}
	return nil
}

// Delay gives the wait after the given number of counted failures (1 = the
// first), and false when the policy has no attempt left. random is in [0,1).
func (r Retry) Delay(failures int, random float64) (time.Duration, bool) {
	if failures >= r.Attempts {
		return 0, false
	}
	base, factor, limit := r.Backoff, r.Factor, r.Max
	if base == 0 {
		base = time.Second
	}
	if factor == 0 {
		factor = 2
	}
	if limit == 0 {
		limit = time.Hour
	}
	wait := min(float64(base)*math.Pow(factor, float64(failures-1)), float64(limit))
	return time.Duration(wait * (1 - r.Jitter*random)), true
}
