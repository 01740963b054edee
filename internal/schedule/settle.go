package schedule

import "time"

// Decision says why a stretch of slots did not fire.
type Decision string

// The decisions of Settle.
const (
	Missed Decision = "missed" // the slots came too late and nothing makes up for them
	Merged Decision = "merged" // the one late slot that fires right after them makes up for them
)

// Omission is a stretch of consecutive slots that do not fire.
type Omission struct {
	Decision Decision
	From, To time.Time // the first and the last of them
	Count    int
}

// Settlement is the account of the slots up to some moment. Fires are in order, Gaps lie before them.
type Settlement struct {
	Fires []time.Time
	Gaps  []Omission // at most one
	Next  time.Time  // the first slot not accounted for; zero = there is none, ever
}

// Settle accounts for every slot of s in [next, now], each exactly once: as a fire or inside a gap. next is the first slot not
// yet settled (an instant between two slots stands for the later one); m must be valid. At most limit slots fire; when more are
// due, Next is the first of the rest, which the following call takes up and judges by the lateness it has then.
//
// Slots no later than the threshold fire under every policy. What happens to the older ones:
//
//   - Skip: all are missed.
//   - FireOnceNow: the latest fires, however late it is, and all before it are merged into it. The catch-up window plays no part:
//     a daily slot that a three hour outage swallowed is what this policy is there to make up for (Quartz FIRE_ONCE_NOW has no
//     window either), and a slot merged into a later fire has been made up for, whatever its age.
//   - FireAll: the newest fire, at most CatchupMax and none later than CatchupWindow; all before them are missed.
//
// A caller that knows the slots are late for a reason of its own, such as a message stream that was away, raises the Threshold.
func Settle(s *Schedule, m Misfire, next, now time.Time, limit int) Settlement {
	if next.IsZero() {
		return Settlement{}
	}
	present := nanos(now)
	slot, ok := s.first(nanos(next))
	if !ok {
		return Settlement{}
	}
	var done Settlement
	if decision, n := omitted(s, m.withDefaults(), slot, present); n > 0 {
		last := s.nth(slot, present, n-1)
		done.Gaps = []Omission{{decision, s.time(slot), s.time(last), n}}
		slot, ok = s.first(last + 1)
	}
	for ok && slot <= present && len(done.Fires) < limit {
		done.Fires = append(done.Fires, s.time(slot))
		slot, ok = s.first(slot + 1)
	}
	if ok {
		done.Next = s.time(slot)
	}
	return done
}

// omitted returns how many slots, counted from the given one, do not fire, and why. Zero or less is none.
func omitted(s *Schedule, m Misfire, slot, now int64) (Decision, int) {
	late := now - int64(m.Threshold) - 1 // the last instant that is too late
	misfired := s.count(slot, late)
	switch m.Policy {
	case Skip:
		return Missed, misfired
	case FireAll:
		recent := s.count(now-int64(m.CatchupWindow), late)
		return Missed, misfired - min(recent, m.CatchupMax)
	default:
		return Merged, misfired - 1
	}
}
