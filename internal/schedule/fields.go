package schedule

import "math/bits"

// fields is a parsed expression: a set of civil seconds. Bit v of a field's set is value v. It knows no zone.
type fields struct {
	seconds, minutes, hours uint64
	months                  uint64
	days                    dayRule
	years                   yearSet
}

// yearSet holds the years from firstYear on.
type yearSet [4]uint64

func (s *yearSet) add(year int) { s[(year-firstYear)/64] |= 1 << ((year - firstYear) % 64) }

// has reports whether the set holds a year from firstYear to firstYear+255.
func (s *yearSet) has(year int) bool { return s[(year-firstYear)/64]>>((year-firstYear)%64)&1 == 1 }

func everyYear() yearSet {
	var set yearSet
	for year := firstYear; year <= lastYear; year++ {
		set.add(year)
	}
	return set
}

// next returns the first matching civil second not before the given one, false when there is none up to the end of lastYear.
func (f *fields) next(second int64) (int64, bool) {
	second = max(second, 0)
	today, timeOfDay := second/secondsPerDay, int(second%secondsPerDay)
	day, ok := f.nextDay(today)
	if ok && day == today {
		if t, left := f.nextTime(timeOfDay); left {
			return day*secondsPerDay + int64(t), true
		}
		day, ok = f.nextDay(today + 1)
	}
	if !ok {
		return 0, false
	}
	return day*secondsPerDay + int64(f.firstTime()), true
}

// count returns how many civil seconds in [from, to) match.
func (f *fields) count(from, to int64) int {
	from, to = max(from, 0), max(to, 0)
	if to <= from {
		return 0
	}
	firstDay, lastDay := from/secondsPerDay, to/secondsPerDay
	n := f.countDays(firstDay, lastDay) * bits.OnesCount64(f.hours) * bits.OnesCount64(f.minutes) * bits.OnesCount64(f.seconds)
	if f.matchesDay(firstDay) {
		n -= f.countTimes(int(from % secondsPerDay))
	}
	if f.matchesDay(lastDay) {
		n += f.countTimes(int(to % secondsPerDay))
	}
	return n
}

// nextDay returns the first matching day not before the given one. Days count from 1970-01-01.
func (f *fields) nextDay(day int64) (int64, bool) {
	year, number, dayOfMonth := dateOf(day)
	for year <= lastYear {
		left := f.months >> number
		if left == 0 || !f.years.has(year) {
			year, number, dayOfMonth = year+1, 1, 1
			continue
		}
		if skip := bits.TrailingZeros64(left); skip > 0 {
			number, dayOfMonth = number+skip, 1
		}
		m := monthOf(year, number)
		if days := f.days.in(m) >> dayOfMonth; days != 0 {
			return m.start + int64(dayOfMonth-1+bits.TrailingZeros32(days)), true
		}
		number, dayOfMonth = number+1, 1
	}
	return 0, false
}

func (f *fields) matchesDay(day int64) bool {
	found, ok := f.nextDay(day)
	return ok && found == day
}

// countDays returns how many days in [from, to) match.
func (f *fields) countDays(from, to int64) int {
	n := 0
	for year, number, _ := dateOf(from); year <= lastYear; number++ {
		if number > 12 {
			year, number = year+1, 1
			if year > lastYear {
				break
			}
		}
		m := monthOf(year, number)
		if m.start >= to {
			break
		}
		if f.months>>number&1 == 0 || !f.years.has(year) {
			continue
		}
		days := f.days.in(m)
		if from > m.start {
			days &= ^uint32(0) << (from - m.start + 1)
		}
		if m.start+int64(m.length) > to {
			days &= 1<<(to-m.start+1) - 1
		}
		n += bits.OnesCount32(days)
	}
	return n
}

// nextTime returns the first matching second of a day not before the given one.
func (f *fields) nextTime(timeOfDay int) (int, bool) {
	hour, minute, second := clock(timeOfDay)
	if f.hours>>hour&1 == 1 {
		if f.minutes>>minute&1 == 1 {
			if left := f.seconds >> second; left != 0 {
				return timeOfDay + bits.TrailingZeros64(left), true
			}
		}
		if left := f.minutes >> (minute + 1); left != 0 {
			minute += 1 + bits.TrailingZeros64(left)
			return hour*3600 + minute*60 + bits.TrailingZeros64(f.seconds), true
		}
	}
	left := f.hours >> (hour + 1)
	if left == 0 {
		return 0, false
	}
	hour += 1 + bits.TrailingZeros64(left)
	return hour*3600 + bits.TrailingZeros64(f.minutes)*60 + bits.TrailingZeros64(f.seconds), true
}

func (f *fields) firstTime() int {
	return bits.TrailingZeros64(f.hours)*3600 + bits.TrailingZeros64(f.minutes)*60 + bits.TrailingZeros64(f.seconds)
}

// countTimes returns how many seconds of a matching day lie before the given one and match.
func (f *fields) countTimes(timeOfDay int) int {
	hour, minute, second := clock(timeOfDay)
	perMinute := bits.OnesCount64(f.seconds)
	perHour := bits.OnesCount64(f.minutes) * perMinute
	n := below(f.hours, hour) * perHour
	if f.hours>>hour&1 == 1 {
		n += below(f.minutes, minute) * perMinute
		if f.minutes>>minute&1 == 1 {
			n += below(f.seconds, second)
		}
	}
	return n
}

// below returns how many values of a set are smaller than the given one.
func below(set uint64, value int) int { return bits.OnesCount64(set & (1<<value - 1)) }

func clock(timeOfDay int) (hour, minute, second int) {
	return timeOfDay / 3600, timeOfDay / 60 % 60, timeOfDay % 60
}
