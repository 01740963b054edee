package schedule

import (
	"errors"
	"fmt"
	"strings"
)

var (
	quartzSecond     = unit{name: "second", lo: 0, hi: 59, dialect: Quartz, wraps: true}
	quartzMinute     = unit{name: "minute", lo: 0, hi: 59, dialect: Quartz, wraps: true}
	quartzHour       = unit{name: "hour", lo: 0, hi: 23, dialect: Quartz, wraps: true}
	quartzDayOfMonth = unit{name: "day-of-month", lo: 1, hi: 31, dialect: Quartz, wraps: true}
	quartzMonth      = unit{name: "month", lo: 1, hi: 12, words: monthWords, dialect: Quartz, wraps: true}
	quartzWeekday    = unit{name: "day-of-week", lo: 1, hi: 7, words: dayWords, dialect: Quartz, wraps: true}
	quartzYear       = unit{name: "year", lo: firstYear, hi: lastYear, dialect: Quartz}
)

// parseQuartz reads an expression as Java Quartz 2.3.2 does, and refuses what that version takes but misreads: an eighth field,
// W, # and L in lists where only one of the entries counts, and a step after a name.
func parseQuartz(expression string) (fields, error) {
	texts, err := splitFields(expression, 6, 7, "the quartz dialect has 6 or 7: second minute hour day-of-month month day-of-week [year]")
	if err != nil {
		return fields{}, err
	}
	f := fields{years: everyYear()}
	if f.seconds, err = quartzSecond.set(texts[0]); err != nil {
		return fields{}, err
	}
	if f.minutes, err = quartzMinute.set(texts[1]); err != nil {
		return fields{}, err
	}
	if f.hours, err = quartzHour.set(texts[2]); err != nil {
		return fields{}, err
	}
	if f.months, err = quartzMonth.set(texts[4]); err != nil {
		return fields{}, err
	}
	if f.days, err = quartzDays(texts[3], texts[5]); err != nil {
		return fields{}, err
	}
	if len(texts) == 7 {
		f.years, err = quartzYears(texts[6])
	}
	return f, err
}

func quartzYears(list string) (yearSet, error) {
	var set yearSet
	for text := range strings.SplitSeq(list, ",") {
		entry, err := quartzYear.entry(text)
		if err != nil {
			return set, quartzYear.fault(list, err)
		}
		for year := entry.from; year <= entry.to; year += entry.by {
			set.add(year)
		}
	}
	return set, nil
}

// quartzDays reads the two day fields, of which exactly one must be "?".
func quartzDays(dayOfMonth, weekday string) (dayRule, error) {
	rule := dayRule{days: allDays, weekdays: allWeekdays}
	switch {
	case dayOfMonth == "?" && weekday == "?":
		return rule, quartzWeekday.fault(weekday, errors.New("is ? like day-of-month; exactly one of the two must be ?, write * here for every day"))
	case dayOfMonth == "?":
		return rule, rule.readQuartzWeekdays(weekday)
	case weekday == "?":
		return rule, rule.readQuartzDaysOfMonth(dayOfMonth)
	}
	return rule, quartzWeekday.fault(weekday, fmt.Errorf("stands beside day-of-month %q; exactly one of the two must be ?", dayOfMonth))
}

// readQuartzDaysOfMonth reads L, L-n, LW, L-nW and nW beside plain values. A W must stand alone: in a list Quartz applies it to the
// first value only. So must a second L: Quartz keeps one offset.
func (r *dayRule) readQuartzDaysOfMonth(list string) error {
	r.days = 0
	listed := strings.Contains(list, ",")
	for text := range strings.SplitSeq(list, ",") {
		var err error
		switch {
		case listed && strings.HasSuffix(text, "W"):
			err = errors.New("W must be the only entry; Quartz applies it to one day of a list only")
		case strings.HasPrefix(text, "L") && r.beforeLast != 0:
			err = errors.New("L may stand in a list once; Quartz keeps only one of them")
		case strings.HasPrefix(text, "L"):
			err = r.readLastDay(text)
		case strings.HasSuffix(text, "W"):
			err = r.readNearest(strings.TrimSuffix(text, "W"))
		default:
			err = r.readDays(text)
		}
		if err != nil {
			return quartzDayOfMonth.fault(list, err)
		}
	}
	return nil
}

func (r *dayRule) readDays(text string) error {
	entry, err := quartzDayOfMonth.entry(text)
	if err != nil {
		return err
	}
	r.days |= uint32(quartzDayOfMonth.bits(entry))
	return nil
}

// readLastDay reads L, L-n, LW and L-nW.
func (r *dayRule) readLastDay(text string) error {
	rest, nearest := strings.CutSuffix(text[1:], "W")
	back := 0
	if rest != "" {
		digits, dashed := strings.CutPrefix(rest, "-")
		n, err := number(digits)
		if !dashed || err != nil || n > 30 {
			return fmt.Errorf("%q is not a last day; use L, LW, L-n or L-nW with n from 0 to 30", text)
		}
		back = n
	}
	if nearest {
		r.nearestLast = 1 << back
	} else {
		r.beforeLast = 1 << back
	}
	return nil
}

func (r *dayRule) readNearest(text string) error {
	day, err := number(text)
	if err != nil || day < 1 || day > 31 {
		return fmt.Errorf("%q is not a nearest weekday; use 1W to 31W", text+"W")
	}
	r.nearest = 1 << day
	return nil
}

// readQuartzWeekdays reads L, nL and n#k, each of which must stand alone, or a list of plain values.
func (r *dayRule) readQuartzWeekdays(list string) error {
	day, nth, isNth := strings.Cut(list, "#")
	lastDay, isLast := strings.CutSuffix(list, "L")
	var err error
	switch {
	case (isNth || isLast || strings.Contains(list, "L,")) && strings.Contains(list, ","):
		err = errors.New("L and # must be the only entry; Quartz applies them to one day of a list only")
	case list == "L":
		r.weekdays = 1 << 6 // in this field L is no last day, only another name for Saturday
	case isNth:
		err = r.readNth(day, nth)
	case isLast:
		err = r.readLastWeekday(lastDay)
	default:
		var set uint64
		set, err = quartzWeekday.set(list)
		r.weekdays = uint8(set >> 1)
		return err
	}
	if err != nil {
		return quartzWeekday.fault(list, err)
	}
	return nil
}

func (r *dayRule) readNth(text, nth string) error {
	day, err := quartzWeekday.value(text)
	if err != nil {
		return err
	}
	k, err := number(nth)
	if err != nil || k < 1 || k > 5 {
		return fmt.Errorf("%q is not a number of a weekday in the month; use #1 to #5", "#"+nth)
	}
	r.weekdays = 0
	r.nthWeekdays[day-1] = 1 << k
	return nil
}

func (r *dayRule) readLastWeekday(text string) error {
	day, err := quartzWeekday.value(text)
	if err != nil {
		return err
	}
	r.weekdays, r.lastWeekdays = 0, 1<<(day-1)
	return nil
}
