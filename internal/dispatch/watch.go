package dispatch

import (
	"time"

	"github.com/takt-dev/takt/internal/core"
)

const (
	// grace is how long the reconciler must have had unbroken contact before it
	// judges a worker as lost: after an outage of Redis nobody has heartbeats.
	grace = 5 * time.Second
	// heldUp is the silence of the store that breaks the contact. With the second
	// between two heartbeats it must stay below the time a worker counts as alive.
	heldUp = grace / 2
	// missesMost is how many heartbeats in a row may leave a dispatch out: the
	// first may be from before it was taken, and the second may have been on its
	// way then.
	missesMost = 2
)

// A watch is what the reconciler remembers from one pass to the next.
type watch struct {
	contact time.Time // since when the store has answered steadily, by our monotonic clock
	last    time.Time // when it answered last
	absent  map[string]absence
}

// An absence counts the heartbeats that did not list a dispatch.
type absence struct {
	beat  time.Time // the last of them
	beats int
}

// heard notes an answer of the store. After a silence the contact counts anew,
// also when nothing failed: who could not be heard could not send heartbeats.
func (w *watch) heard(now time.Time) {
	if w.contact.IsZero() || now.Sub(w.last) > heldUp {
		w.contact = now
	}
	w.last = now
}

// lose ends the contact.
func (w *watch) lose() { *w = watch{} }

// view gives what a pass judges by. It is to be asked for when the fleet was heard.
func (w *watch) view(f core.Fleet) *view {
	return &view{fleet: f, trusted: w.last.Sub(w.contact) >= grace, before: w.absent, absent: map[string]absence{}}
}

// A view is the fleet as one pass sees it.
type view struct {
	fleet   core.Fleet
	trusted bool // workers may be judged
	before  map[string]absence
	absent  map[string]absence
}

// misses notes that a heartbeat, of the given instant, does not list a dispatch,
// and reports whether that was so too often.
func (v *view) misses(dispatch string, beat time.Time) bool {
	a := v.before[dispatch]
	if beat.After(a.beat) {
		a = absence{beat, a.beats + 1}
	}
	v.absent[dispatch] = a
	return v.trusted && a.beats > missesMost
}
