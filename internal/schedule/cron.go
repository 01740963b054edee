package schedule

import "time"

// civil is the series of a cron schedule: a set of civil seconds seen through a zone.
//
// Each slot belongs to the segment it lies in and is one of two sorts. A plain one is a matching civil second that the
// overlap policy keeps. A moved one stands for civil seconds that were jumped over at the segment's start. No zone changes its
// offset twice within two days, so a moved slot never leaves its segment (a test holds the database to that).
type civil struct {
	fields  fields
	zone    *zone
	gap     Gap
	overlap Overlap
}

// never is later than every slot and may still be added to.
const never = distantFuture

func (c *civil) first(from int64) (int64, bool) {
	// Most searches end in the first segment. The others go on segment by segment, or, when the next matching civil second
	// is years away, to the segment that shows it.
	instant := ceilSeconds(from)
	segments := c.zone.segments
	for i := c.zone.index(instant); i < len(segments); {
		s := &segments[i]
		instant = max(instant, s.start)
		slot := min(c.plain(s, instant), c.moved(s, instant))
		if slot < s.end {
			return slot * int64(time.Second), true
		}
		i++
		if i < len(segments) && segments[i].start+segments[i].offset < instant+s.offset {
			continue // the next segment shows civil seconds again that lie before this search
		}
		match := c.match(instant + s.offset)
		if match == never {
			return 0, false
		}
		i = max(i, c.zone.index(match-s.offset-maxOffset))
	}
	return 0, false
}

func (c *civil) count(from, to int64) int {
	low, high := ceilSeconds(from), ceilSeconds(to+1)
	n := 0
	for i := c.zone.index(low); i < len(c.zone.segments) && c.zone.segments[i].start < high; i++ {
		s := &c.zone.segments[i]
		start, end := max(low, s.start), min(high, s.end)
		begin, limit := c.kept(s)
		n += c.fields.count(max(start+s.offset, begin), min(end+s.offset, limit))
		for at := c.moved(s, start); at < end; at = c.moved(s, at+1) {
			if c.plain(s, at) != at {
				n++
			}
		}
	}
	return n
}

// kept returns the civil seconds [begin, limit) of a segment that the overlap policy lets fire.
func (c *civil) kept(s *segment) (begin, limit int64) {
	begin, limit = s.start+s.offset, s.end+s.offset
	if c.overlap == OverlapFirst && s.before > s.offset {
		begin = s.start + s.before
	}
	if c.overlap == OverlapSecond && s.after < s.offset {
		limit = s.end + s.after
	}
	return begin, limit
}

// plain returns the segment's first plain slot not before an instant in it, or never.
func (c *civil) plain(s *segment, instant int64) int64 {
	begin, limit := c.kept(s)
	if match := c.match(max(instant+s.offset, begin)); match != never && match < limit {
		return match - s.offset
	}
	return never
}

// moved returns the segment's first moved slot not before an instant in it, or never.
func (c *civil) moved(s *segment, instant int64) int64 {
	from, to, ok := s.jumped()
	switch {
	case !ok || c.gap == GapSkip:
		return never
	case c.gap == GapFire:
		if instant == s.start && c.match(from) < to {
			return s.start
		}
	case instant+s.before < to: // GapShift: the old offset stays in force for them
		if match := c.match(instant + s.before); match < to {
			return match - s.before
		}
	}
	return never
}

// match returns the first civil second of the expression not before the given one, or never.
func (c *civil) match(second int64) int64 {
	if match, ok := c.fields.next(second); ok {
		return match
	}
	return never
}

// ceilSeconds returns the first whole second not before an instant in nanoseconds.
func ceilSeconds(instant int64) int64 {
	seconds := instant / int64(time.Second)
	if instant > seconds*int64(time.Second) {
		seconds++
	}
	return seconds
}
