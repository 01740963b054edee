package dispatch

import (
	"slices"
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
	// alarm is how long after the loss of a worker all that waits is looked at in each
	// pass: long enough for what it had taken to be missed by missesMost heartbeats.
	alarm = 2 * grace
)

// A watch is what the reconciler remembers from one pass to the next.
type watch struct {
	contact time.Time // since when the store has answered steadily, by our monotonic clock
	last    time.Time // when it answered last
	absent  map[string]absence
	alive   map[string]bool // the workers that were alive
	lost    time.Time       // when one of them was not any more
	rounds  map[int]int     // by partition: how far into what waits the looks have come
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
	w.count(f)
	return &view{
		fleet: f, trusted: w.last.Sub(w.contact) >= grace, before: w.absent, absent: map[string]absence{},
		alarmed: !w.lost.IsZero() && w.last.Sub(w.lost) < alarm, begun: w.rounds, rounds: map[int]int{},
	}
}

// count notes who is alive, and when somebody is not any more.
func (w *watch) count(f core.Fleet) {
	for id := range w.alive {
		if !f.Workers[id].Live {
			w.lost = w.last
		}
	}
	w.alive = map[string]bool{}
	for id, worker := range f.Workers {
		if worker.Live {
			w.alive[id] = true
		}
	}
}

// keep takes over what a pass has found out.
func (w *watch) keep(v *view) { w.absent, w.rounds = v.absent, v.rounds }

// A view is the fleet as one pass sees it.
type view struct {
	fleet   core.Fleet
	trusted bool // workers may be judged
	before  map[string]absence
	absent  map[string]absence
	alarmed bool        // a worker was lost lately
	begun   map[int]int // the rounds as the pass before left them
	rounds  map[int]int // and as this one does
}

// A look is one reading of a part of what waits in a partition.
type look struct {
	next int  // where the next one would begin; 0 where nothing follows
	lost bool // something in it was
}

// next says where a pass looks next, after the looks that it had in a partition. What
// waits longest is looked at in each pass, and of what stands behind it one part, so that
// a backlog costs a pass no more than a thousand or two of its dispatches, and all of it
// has its turn within seconds. All is looked at where a worker was lost lately, something in
// the partition was, or the partition is new to us: whoever had it may have died in the
// middle of something.
func (v *view) next(n int, had []look) (from int, more bool) {
	last := had[len(had)-1]
	at, known := v.begun[n]
	all := v.alarmed || !known || slices.ContainsFunc(had, func(l look) bool { return l.lost })
	switch {
	case last.next == 0:
		v.rounds[n] = 0
		return 0, false
	case all:
		return last.next, true
	case len(had) == 1:
		return max(last.next, at), true
	}
	v.rounds[n] = last.next
	return 0, false
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
