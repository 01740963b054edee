package core_test

import (
	"math"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

func TestRetryDelay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		retry    core.Retry
		failures int
		random   float64
		want     time.Duration
		again    bool
	}{
		{"zero value tries once", core.Retry{}, 1, 0, 0, false},
		{"one attempt is no retry", core.Retry{Attempts: 1}, 1, 0, 0, false},
		{"default wait", core.Retry{Attempts: 2}, 1, 0, time.Second, true},
		{"no attempt left", core.Retry{Attempts: 2}, 2, 0, 0, false},
		{"past the last attempt", core.Retry{Attempts: 2}, 3, 0, 0, false},
		{"default factor doubles", core.Retry{Attempts: 9, Backoff: time.Minute}, 4, 0, 8 * time.Minute, true},
		{"factor one stays", core.Retry{Attempts: 9, Backoff: time.Minute, Factor: 1}, 8, 0, time.Minute, true},
		{"own factor", core.Retry{Attempts: 9, Backoff: time.Second, Factor: 3}, 3, 0, 9 * time.Second, true},
		{"default bound is an hour", core.Retry{Attempts: 100, Backoff: time.Minute}, 99, 0, time.Hour, true},
		{"own bound", core.Retry{Attempts: 9, Max: 3 * time.Second}, 5, 0, 3 * time.Second, true},
		{"backoff beyond the bound", core.Retry{Attempts: 2, Backoff: 2 * time.Hour}, 1, 0, time.Hour, true},
		{"growth beyond any number", core.Retry{Attempts: 100, Backoff: 24 * time.Hour, Factor: 10, Max: 24 * time.Hour}, 99, 0, 24 * time.Hour, true},
		{"jitter at its least", core.Retry{Attempts: 2, Jitter: 0.5}, 1, 0, time.Second, true},
		{"jitter in the middle", core.Retry{Attempts: 2, Jitter: 0.5}, 1, 0.5, 750 * time.Millisecond, true},
		{"full jitter", core.Retry{Attempts: 2, Jitter: 1}, 1, 0.75, 250 * time.Millisecond, true},
	} {
		got, again := row.retry.Delay(row.failures, row.random)
		if got != row.want || again != row.again {
			t.Errorf("%s: got %v, %v; want %v, %v", row.name, got, again, row.want, row.again)
		}
	}
}

func TestJitterStaysWithinItsShare(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{0, 0.1, 0.5, 1} {
		r := core.Retry{Attempts: 2, Backoff: time.Minute, Jitter: jitter}
		for _, random := range []float64{0, 0.25, 0.5, 0.999999} {
			got, _ := r.Delay(1, random)
			least := time.Duration(float64(time.Minute) * (1 - jitter))
			if got < least || got > time.Minute {
				t.Errorf("jitter %v, random %v: got %v, want from %v to 1m", jitter, random, got, least)
			}
		}
	}
}

func TestRetryValidate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		retry core.Retry
		field string // "" = valid
	}{
		{"zero", core.Retry{}, ""},
		{"all at the top", core.Retry{Attempts: core.MaxAttempts, Backoff: 24 * time.Hour, Factor: 10, Max: 24 * time.Hour, Jitter: 1}, ""},
		{"factor one", core.Retry{Factor: 1}, ""},
		{"negative attempts", core.Retry{Attempts: -1}, "retry.attempts"},
		{"too many attempts", core.Retry{Attempts: core.MaxAttempts + 1}, "retry.attempts"},
		{"negative backoff", core.Retry{Backoff: -1}, "retry.backoff"},
		{"long backoff", core.Retry{Backoff: 24*time.Hour + 1}, "retry.backoff"},
		{"negative bound", core.Retry{Max: -1}, "retry.max"},
		{"long bound", core.Retry{Max: 24*time.Hour + 1}, "retry.max"},
		{"shrinking", core.Retry{Factor: 0.99}, "retry.factor"},
		{"negative factor", core.Retry{Factor: -2}, "retry.factor"},
		{"steep factor", core.Retry{Factor: 10.1}, "retry.factor"},
		{"factor not a number", core.Retry{Factor: math.NaN()}, "retry.factor"},
		{"endless factor", core.Retry{Factor: math.Inf(1)}, "retry.factor"},
		{"negative jitter", core.Retry{Jitter: -0.1}, "retry.jitter"},
		{"too much jitter", core.Retry{Jitter: 1.1}, "retry.jitter"},
		{"jitter not a number", core.Retry{Jitter: math.NaN()}, "retry.jitter"},
	} {
		wantField(t, row.name, row.retry.Validate(), row.field)
	}
}
