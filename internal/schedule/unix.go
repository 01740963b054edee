package schedule

import (
	"fmt"
	"strings"
)

var (
	unixMinute     = unit{name: "minute", lo: 0, hi: 59, dialect: Unix}
	unixHour       = unit{name: "hour", lo: 0, hi: 23, dialect: Unix}
	unixDayOfMonth = unit{name: "day-of-month", lo: 1, hi: 31, dialect: Unix}
	unixMonth      = unit{name: "month", lo: 1, hi: 12, words: monthWords, dialect: Unix}
	unixWeekday    = unit{name: "day-of-week", lo: 0, hi: 7, words: dayWords, dialect: Unix}
)

// macro returns what a nickname of crontab(5) stands for. Like there, it is written in lower case.
func macro(name string) (string, bool) {
	switch name {
	case "@yearly", "@annually":
		return "0 0 1 1 *", true
	case "@monthly":
		return "0 0 1 * *", true
	case "@weekly":
		return "0 0 * * 0", true
	case "@daily", "@midnight":
		return "0 0 * * *", true
	case "@hourly":
		return "0 * * * *", true
	}
	return "", false
}

// parseUnix reads an expression as crontab(5) describes it. wildcard says that the minute or the hour field contains a star: such an
// entry is meant as "every so often", not as a time of day.
func parseUnix(expression string) (f fields, wildcard bool, err error) {
	meaning := strings.TrimSpace(expression)
	if strings.HasPrefix(meaning, "@") {
		var ok bool
		if meaning, ok = macro(meaning); !ok {
			return fields{}, false, &FieldError{"expression", expression, macroHint(expression)}
		}
	}
	if strings.Contains(meaning, "=") {
		return fields{}, false, &FieldError{"expression", expression, "must not set a variable; the zone has a field of its own"}
	}
	texts, err := splitFields(meaning, 5, 5, "the unix dialect has 5: minute hour day-of-month month day-of-week (6 or 7 fields are the quartz dialect)")
	if err != nil {
		return fields{}, false, err
	}
	f = fields{seconds: 1, years: everyYear()}
	if f.minutes, err = unixMinute.set(texts[0]); err != nil {
		return fields{}, false, err
	}
	if f.hours, err = unixHour.set(texts[1]); err != nil {
		return fields{}, false, err
	}
	if f.months, err = unixMonth.set(texts[3]); err != nil {
		return fields{}, false, err
	}
	if f.days, err = unixDays(texts[2], texts[4]); err != nil {
		return fields{}, false, err
	}
	return f, starred(texts[0]) || starred(texts[1]), nil
}

func macroHint(name string) string {
	hint := "is not a macro; use @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly"
	if strings.HasPrefix(strings.TrimSpace(name), "@every") {
		return fmt.Sprintf("%s (for a fixed interval make a simple schedule)", hint)
	}
	return hint
}

// unixDays reads the two day fields. When both are restricted, which for crontab(5) means that neither contains a star, a day
// needs to match only one of them.
func unixDays(dayOfMonth, weekday string) (dayRule, error) {
	days, err := unixDayOfMonth.set(dayOfMonth)
	if err != nil {
		return dayRule{}, err
	}
	weekdays, err := unixWeekday.set(weekday)
	if err != nil {
		return dayRule{}, err
	}
	return dayRule{
		days:     uint32(days),
		weekdays: uint8(weekdays|weekdays>>7) & allWeekdays, // 7 is Sunday as well
		either:   !starred(dayOfMonth) && !starred(weekday),
	}, nil
}

func starred(list string) bool { return strings.Contains(list, "*") }
