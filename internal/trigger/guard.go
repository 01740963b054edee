package trigger

import (
	"cmp"
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

// An outage remembers when fires could not be published. Slots that are late for
// that reason are not misfires: within the catch-up window they fire.
type outage struct {
	since, until time.Time // until is zero while it lasts
}

func (o *outage) begin(now time.Time) {
	if o.since.IsZero() || !o.until.IsZero() {
		o.since, o.until = now, time.Time{}
	}
}

func (o *outage) end(now time.Time) {
	if !o.since.IsZero() && o.until.IsZero() {
		o.until = now
	}
}

// lasts reports whether the last publish failed.
func (o *outage) lasts() bool { return !o.since.IsZero() && o.until.IsZero() }

// judge gives the misfire policy that holds for a slot.
func (o *outage) judge(m schedule.Misfire, slot time.Time) schedule.Misfire {
	if o.since.IsZero() || slot.Before(o.since.Add(-schedule.DefaultThreshold)) || !o.until.IsZero() && slot.After(o.until) {
		return m
	}
	m.Threshold = max(m.Threshold, cmp.Or(m.CatchupWindow, schedule.DefaultCatchupWindow))
	return m
}

// A burst bounds how many triggers catch up per second after a downtime, so that
// a morning's missed slots do not all start at once.
type burst struct {
	begun time.Time
	used  int
}

const (
	burstRate   = 200 // triggers in each burstPeriod
	burstPeriod = time.Second
)

func (b *burst) allow(now time.Time) bool {
	if now.Sub(b.begun) >= burstPeriod {
		b.begun, b.used = now, 0
	}
	b.used++
	return b.used <= burstRate
}

// renewed gives when the next triggers may catch up.
func (b *burst) renewed() time.Time { return b.begun.Add(burstPeriod) }
