package trigger

import "time"

// An alarm wakes Run when the next slot is due. A process at rest sleeps in its
// poller, which counts in milliseconds, so a Go timer rings up to one too late; the
// system's own timer, where there is one, rings within some 50 µs. Both are set: a
// process at work looks at its Go timers more often than at its poller. Whichever
// rings first will do, and neither rings early.
type alarm struct {
	timer *time.Timer
	exact *exactTimer // nil: the system has none, or it is not wanted
}

func newAlarm(exact bool) *alarm {
	a := &alarm{timer: time.NewTimer(time.Hour)}
	if exact {
		a.exact = newExactTimer()
	}
	return a
}

// set replaces what was set before. What has rung already may ring once more.
func (a *alarm) set(wait time.Duration) {
	a.timer.Reset(wait)
	if a.exact != nil {
		a.exact.set(wait)
	}
}

// precise gives the channel of the system's timer; nil, which never rings, without one.
func (a *alarm) precise() <-chan struct{} {
	if a.exact == nil {
		return nil
	}
	return a.exact.rung
}

func (a *alarm) close() {
	a.timer.Stop()
	if a.exact != nil {
		a.exact.close()
	}
}
