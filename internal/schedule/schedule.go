// Package schedule turns "when" into instants.
//
// A [Spec] is what a trigger stores: a cron expression with its dialect and zone, or an interval with its start. Compile
// checks all of it and returns a [Schedule], which answers one question: which instants, called slots, come after this one?
// Nothing here reads a clock, sleeps or keeps state, so every replica that asks gets the same answer.
//
// # How a cron slot is found
//
// Civil time is counted in seconds since 1970-01-01 00:00 as the wall clock shows it, as if every day had 86,400 of them.
// An expression is a set of civil seconds and knows no zone (fields). A zone is a row of segments, in each of which
// wall clock and instant differ by a constant (zone). A slot is found by walking the segments: search the set inside one,
// subtract the constant, go on to the next. Daylight saving changes are exactly the seams between segments, and
// only there do the policies apply: [Gap] for civil seconds the clock jumped over, [Overlap] for those it showed twice.
//
// # What happens to slots that are late
//
// [Settle] accounts for every slot up to now exactly once, as a fire or inside one gap, following the trigger's [Misfire]
// policy. Its cost does not grow with the number of slots that were missed.
//
// Schedules live in the years 1970 to 2199. A search that reaches the end of 2199 says "never again".
package schedule

import (
	"sort"
	"time"
)

const (
	firstYear = 1970
	lastYear  = 2199
	// lastInstant is the last second of 2199 UTC in nanoseconds; every instant in the package fits an int64 of them.
	lastInstant = (7258118400 - 1) * int64(time.Second)
)

// Schedule is a compiled Spec. It is immutable and safe for concurrent use.
type Schedule struct {
	slots      series
	loc        *time.Location
	start, end int64 // inclusive limits in nanoseconds since 1970
	finite     bool  // the Spec itself sets an end
}

// series is a row of slots, which the limits of a Schedule cut off at the end of 2199 at the latest. Instants are nanoseconds since
// 1970 UTC.
type series interface {
	// first returns the first slot not before from; false when there is none.
	first(from int64) (int64, bool)
	// count returns how many slots lie in [from, to].
	count(from, to int64) int
}

// Next returns the first slot strictly after the given instant, in the schedule's zone. It returns false when there is
// none: the end is passed, the repeats are used up, or no such date exists. It does not allocate.
func (s *Schedule) Next(after time.Time) (time.Time, bool) {
	slot, ok := s.first(nanos(after) + 1)
	if !ok {
		return time.Time{}, false
	}
	return s.time(slot), true
}

// Last returns the last slot of a schedule that its Spec limits by End or Repeat. It returns false for a schedule
// without such a limit and for one that has no slot at all.
func (s *Schedule) Last() (time.Time, bool) {
	if !s.finite {
		return time.Time{}, false
	}
	n := s.count(s.start, s.end)
	if n == 0 {
		return time.Time{}, false
	}
	return s.time(s.nth(s.start, s.end, n-1)), true
}

// first returns the first slot not before from, within the schedule's limits.
func (s *Schedule) first(from int64) (int64, bool) {
	slot, ok := s.slots.first(max(from, s.start))
	return slot, ok && slot <= s.end
}

// count returns how many slots lie in [from, to] and within the schedule's limits.
func (s *Schedule) count(from, to int64) int {
	from, to = max(from, s.start), min(to, s.end)
	if to < from {
		return 0
	}
	return s.slots.count(from, to)
}

// nth returns slot k, counted from 0, of those in [from, to]. There must be more than k of them.
func (s *Schedule) nth(from, to int64, k int) int64 {
	// The number of slots in [from, from+x] grows with x, and slot k is where it first exceeds k.
	x := sort.Search(int(to-from), func(x int) bool { return s.count(from, from+int64(x)) > k })
	return from + int64(x)
}

func (s *Schedule) time(instant int64) time.Time { return time.Unix(0, instant).In(s.loc) }

// nanos returns t in nanoseconds since 1970, or the nearest instant of the years schedules live in. One nanosecond is left
// on either side, so that the next and the previous nanosecond are valid as well.
func nanos(t time.Time) int64 {
	switch seconds := t.Unix(); {
	case seconds < 0:
		return -1
	case seconds > lastInstant/int64(time.Second):
		return lastInstant + 1
	}
	return t.UnixNano()
}
