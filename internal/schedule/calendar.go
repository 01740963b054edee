package schedule

import (
	"math/bits"
	"time"
)

const secondsPerDay = 24 * 60 * 60

// month is one month of one year, with what the day rules need to know of it.
type month struct {
	start   int64 // days from 1970-01-01 to its first day
	length  int
	weekday int // of its first day, 0 = Sunday
}

// daysBefore holds the days of a common year that pass before each month.
var daysBefore = [14]int{1: 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

func isLeap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func monthOf(year, number int) month {
	y := year - 1
	day := int64(365*(year-firstYear) + (y/4 - y/100 + y/400) - 477 + daysBefore[number]) // 477 leap days before 1970
	length := daysBefore[number+1] - daysBefore[number]
	if isLeap(year) {
		if number == 2 {
			length++
		} else if number > 2 {
			day++
		}
	}
	return month{start: day, length: length, weekday: int((day + 4) % 7)} // 1970-01-01 was a Thursday
}

// weekdayOf returns the weekday of a day of the month.
func (m month) weekdayOf(day int) int { return (m.weekday + day - 1) % 7 }

// nearestWeekday returns the day from Monday to Friday that is nearest to the given one and in the same month.
func (m month) nearestWeekday(day int) int {
	switch m.weekdayOf(day) {
	case 6: // Saturday: the day before, or the Monday after where that would be last month
		if day == 1 {
			return 3
		}
		return day - 1
	case 0: // Sunday: the day after, or the Friday before where that would be next month
		if day == m.length {
			return day - 2
		}
		return day + 1
	}
	return day
}

// dateOf returns the date that lies so many days after 1970-01-01. UTC has no seams, so package time may do this one.
func dateOf(day int64) (year, number, dayOfMonth int) {
	y, m, d := time.Unix(day*secondsPerDay, 0).UTC().Date()
	return y, int(m), d
}

// dayRule says which days of a month match. Bit d of a day set is day d; bit w of a weekday set is weekday w, 0 = Sunday.
type dayRule struct {
	days         uint32   // plain days
	beforeLast   uint32   // bit n: n days before the last (Quartz L-n)
	nearest      uint32   // bit d: the weekday nearest to day d (Quartz nW)
	nearestLast  uint32   // bit n: the weekday nearest to n days before the last (Quartz L-nW)
	weekdays     uint8    // every such weekday
	lastWeekdays uint8    // the month's last such weekday (Quartz nL)
	nthWeekdays  [7]uint8 // bit k of element w: the month's weekday w number k (Quartz w#k)
	either       bool     // a day matches by its number or by its weekday (unix, both restricted), else it must by both
}

const (
	allDays     = uint32(0xfffffffe)
	allWeekdays = uint8(0x7f)
	weekly      = uint32(1<<1 | 1<<8 | 1<<15 | 1<<22 | 1<<29)
)

// in returns the set of matching days of a month.
func (r *dayRule) in(m month) uint32 {
	exists := uint32(1)<<(m.length+1) - 2
	byNumber, byWeekday := exists, exists
	if r.days != allDays {
		byNumber = r.byNumber(m) & exists
	}
	if r.weekdays != allWeekdays {
		byWeekday = r.byWeekday(m) & exists
	}
	if r.either {
		return byNumber | byWeekday
	}
	return byNumber & byWeekday
}

func (r *dayRule) byNumber(m month) uint32 {
	set := r.days
	for rest := r.beforeLast; rest != 0; rest &= rest - 1 {
		if day := m.length - bits.TrailingZeros32(rest); day >= 1 {
			set |= 1 << day
		}
	}
	for rest := r.nearestLast; rest != 0; rest &= rest - 1 {
		if day := m.length - bits.TrailingZeros32(rest); day >= 1 {
			set |= 1 << m.nearestWeekday(day)
		}
	}
	for rest := r.nearest; rest != 0; rest &= rest - 1 {
		if day := bits.TrailingZeros32(rest); day <= m.length {
			set |= 1 << m.nearestWeekday(day)
		}
	}
	return set
}

func (r *dayRule) byWeekday(m month) uint32 {
	var set uint32
	for weekday := range 7 {
		first := (weekday - m.weekday + 7) % 7 // days from the 1st to the first such weekday
		if r.weekdays>>weekday&1 == 1 {
			set |= weekly << first
		}
		for rest := r.nthWeekdays[weekday]; rest != 0; rest &= rest - 1 {
			set |= 2 << (first + 7*(bits.TrailingZeros8(rest)-1))
		}
		if r.lastWeekdays>>weekday&1 == 1 {
			last := 1 + first + 28
			if last > m.length {
				last -= 7
			}
			set |= 1 << last
		}
	}
	return set
}
