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
	// roundsMost is how many rounds through what waits in its partition an absence is
	// kept for: in the next one its dispatch is looked at again, unless others that left
	// the queue moved it out of that look.
	roundsMost = 2
)

// A watch is what the reconciler remembers from one pass to the next.
type watch struct {
	contact time.Time          // since when the store has answered steadily, by our monotonic clock
	last    time.Time          // when it answered last
	absent  map[string]absence // by dispatch
	alive   map[string]bool    // the workers that were alive
	lost    time.Time          // when one of them was not any more, or may not have been
	rounds  map[int]int        // by partition: how far into what waits the looks have come
}

// An absence counts the heartbeats that did not list a dispatch.
type absence struct {
	partition int
	beat      time.Time // the last of them
	beats     int
	rounds    int // through its partition that have ended since
}

// heard notes an answer of the store. After a silence the contact counts anew,
// also when nothing failed: who could not be heard could not send heartbeats. With
// the first answer nobody knows who died before it, so it counts as the loss of a worker.
func (w *watch) heard(now time.Time) {
	if w.contact.IsZero() {
		w.lost = now
	}
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
	if w.absent == nil {
		w.absent = map[string]absence{}
	}
	return &view{
		fleet: f, trusted: w.last.Sub(w.contact) >= grace, absent: w.absent,
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

// keep takes over how far a pass has come. An absence outlives passes that do not look
// at its dispatch; it is forgotten when whole rounds have not met the dispatch, which has
// begun then, and when the partition is not ours any more.
func (w *watch) keep(v *view) {
	w.rounds = v.rounds
	for id, a := range w.absent {
		at, ours := v.rounds[a.partition]
		if at == 0 {
			a.rounds++
		}
		if !ours || a.rounds > roundsMost {
			delete(w.absent, id)
			continue
		}
		w.absent[id] = a
	}
}

// A view is the fleet as one pass sees it.
type view struct {
	fleet   core.Fleet
	trusted bool               // workers may be judged
	absent  map[string]absence // the watch's own
	alarmed bool               // a worker was lost lately
	begun   map[int]int        // the rounds as the pass before left them
	rounds  map[int]int        // and as this one does
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

// misses notes that a heartbeat, of the given instant, does not list a dispatch of a
// partition, and reports whether that was so too often.
func (v *view) misses(n int, dispatch string, beat time.Time) bool {
	a := v.absent[dispatch]
	a.partition, a.rounds = n, 0
	if beat.After(a.beat) {
		a.beat, a.beats = beat, a.beats+1
	}
	v.absent[dispatch] = a
	return v.trusted && a.beats > missesMost
}

// meets notes that a dispatch is where it should be.
func (v *view) meets(dispatch string) { delete(v.absent, dispatch) }
