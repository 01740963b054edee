package schedule

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file is a second answer to every question the package answers, made to be obviously right and not fast: it looks at
// each instant of a window, asks package time what the wall clock shows, and compares that with the text of the expression
// entry by entry. It shares no code with the package, and it reads valid expressions only.

// reference returns the slots of a cron spec in [from, to), looking every step seconds.
func reference(t testing.TB, spec Spec, from, to time.Time, step int64) []time.Time {
	t.Helper()
	loc, err := Location(spec.Zone)
	if err != nil {
		t.Fatal(err)
	}
	gap, overlap := referencePolicies(spec)
	clock := wallClock{loc, offsetsAround(loc, from, to)}
	found := map[int64]bool{}
	for u := from.Unix(); u < to.Unix(); u += step {
		if referenceMatches(spec, clock.at(u)) && clock.copyCounts(u, overlap) {
			found[u] = true
		}
	}
	// A civil second that was jumped over less than two days before the window may be shifted into it.
	for u := from.Truncate(time.Minute).Unix() - 2*secondsPerDay; u < to.Unix(); u += 60 {
		before, after := clock.offset(u-1), clock.offset(u)
		for lost := u + before; lost < u+after; lost += step {
			if !referenceMatches(spec, time.Unix(lost, 0).UTC()) {
				continue
			}
			switch gap {
			case GapFire:
				found[u] = true
			case GapShift:
				found[lost-before] = true
			}
		}
	}
	var slots []time.Time
	for u := range found {
		if u >= from.Unix() && u < to.Unix() {
			slots = append(slots, time.Unix(u, 0).In(loc))
		}
	}
	slices.SortFunc(slots, time.Time.Compare)
	return slots
}

type wallClock struct {
	loc     *time.Location
	offsets []int64 // all that are in force near the window
}

func (c wallClock) offset(u int64) int64 {
	_, offset := time.Unix(u, 0).In(c.loc).Zone()
	return int64(offset)
}

// at returns what the wall clock shows, as a UTC time.
func (c wallClock) at(u int64) time.Time { return time.Unix(u+c.offset(u), 0).UTC() }

// copyCounts reports whether the policy lets an instant fire, should the clock show the same at another one.
func (c wallClock) copyCounts(u int64, overlap Overlap) bool {
	shown := u + c.offset(u)
	for _, offset := range c.offsets {
		twin := shown - offset
		if twin == u || c.offset(twin) != offset {
			continue
		}
		if overlap == OverlapFirst && twin < u || overlap == OverlapSecond && twin > u {
			return false
		}
	}
	return true
}

func offsetsAround(loc *time.Location, from, to time.Time) []int64 {
	c := wallClock{loc: loc}
	var offsets []int64
	for u := from.Unix() - 2*secondsPerDay; u < to.Unix()+2*secondsPerDay; u += 3600 {
		if offset := c.offset(u); !slices.Contains(offsets, offset) {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

func referencePolicies(spec Spec) (Gap, Overlap) {
	gap, overlap := GapSkip, OverlapSecond
	if spec.Dialect == Unix {
		gap, overlap = GapFire, OverlapFirst
		texts := strings.Fields(referenceExpression(spec))
		if strings.Contains(texts[0]+texts[1], "*") {
			gap, overlap = GapSkip, OverlapBoth
		}
	}
	if spec.Gap != "" {
		gap = spec.Gap
	}
	if spec.Overlap != "" {
		overlap = spec.Overlap
	}
	return gap, overlap
}

func referenceExpression(spec Spec) string {
	switch expression := strings.TrimSpace(spec.Expression); expression {
	case "@hourly":
		return "0 * * * *"
	case "@daily", "@midnight":
		return "0 0 * * *"
	case "@weekly":
		return "0 0 * * 0"
	case "@monthly":
		return "0 0 1 * *"
	case "@yearly", "@annually":
		return "0 0 1 1 *"
	default:
		return strings.ToUpper(expression)
	}
}

const (
	referenceMonths = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"
	referenceDays   = "SUNMONTUEWEDTHUFRISAT"
)

func referenceMatches(spec Spec, shown time.Time) bool {
	texts := strings.Fields(referenceExpression(spec))
	if spec.Dialect == Unix {
		weekday := int(shown.Weekday())
		onDay := referenceListed(texts[2], shown.Day(), 1, 31, "")
		onWeekday := referenceListed(texts[4], weekday, 0, 7, referenceDays) || weekday == 0 && referenceListed(texts[4], 7, 0, 7, referenceDays)
		if either := !strings.Contains(texts[2], "*") && !strings.Contains(texts[4], "*"); either {
			onDay, onWeekday = onDay || onWeekday, true
		}
		return shown.Second() == 0 && referenceListed(texts[0], shown.Minute(), 0, 59, "") && referenceListed(texts[1], shown.Hour(), 0, 23, "") &&
			referenceListed(texts[3], int(shown.Month()), 1, 12, referenceMonths) && onDay && onWeekday
	}
	return referenceListed(texts[0], shown.Second(), 0, 59, "") && referenceListed(texts[1], shown.Minute(), 0, 59, "") &&
		referenceListed(texts[2], shown.Hour(), 0, 23, "") && referenceListed(texts[4], int(shown.Month()), 1, 12, referenceMonths) &&
		(len(texts) < 7 || referenceListed(texts[6], shown.Year(), 1970, 2199, "")) &&
		referenceDayOfMonth(texts[3], shown) && referenceWeekday(texts[5], shown)
}

// referenceListed walks each entry's values one by one, wrapping where the end is before the start.
func referenceListed(list string, value, lo, hi int, names string) bool {
	read := func(text string) int {
		if i := strings.Index(names, text); i >= 0 && i%3 == 0 && len(text) == 3 {
			return lo + i/3
		}
		n, _ := strconv.Atoi(text)
		return n
	}
	for _, text := range strings.Split(list, ",") {
		if text == "?" {
			return true
		}
		body, step, stepped := strings.Cut(text, "/")
		by := 1
		if stepped {
			by = read(step)
		}
		first, last, ranged := strings.Cut(body, "-")
		from, to := read(first), read(first)
		switch {
		case first == "*" || first == "":
			from, to = lo, hi
		case ranged:
			to = read(last)
		case stepped:
			to = hi
		}
		for walked, at := 0, from; ; {
			if at == value {
				return true
			}
			length := to - from
			if to < from {
				length += hi - lo + 1
			}
			if walked += by; walked > length {
				break
			}
			if at += by; at > hi {
				at -= hi - lo + 1
			}
		}
	}
	return false
}

func referenceDayOfMonth(list string, shown time.Time) bool {
	last := time.Date(shown.Year(), shown.Month()+1, 0, 0, 0, 0, 0, time.UTC)
	for _, text := range strings.Split(list, ",") {
		day, nearest := strings.CutSuffix(text, "W")
		wanted := 0
		if back, isLast := strings.CutPrefix(day, "L"); isLast {
			n, _ := strconv.Atoi(strings.TrimPrefix(back, "-"))
			wanted = last.Day() - n
		} else if nearest {
			wanted, _ = strconv.Atoi(day)
		} else {
			if referenceListed(text, shown.Day(), 1, 31, "") {
				return true
			}
			continue
		}
		if wanted < 1 || wanted > last.Day() {
			continue
		}
		if nearest {
			wanted = referenceNearest(last.AddDate(0, 0, wanted-last.Day()))
		}
		if shown.Day() == wanted {
			return true
		}
	}
	return false
}

// referenceNearest tries the days around in the order of their distance.
func referenceNearest(day time.Time) int {
	for _, move := range []int{0, -1, 1, -2, 2} {
		moved := day.AddDate(0, 0, move)
		if moved.Month() == day.Month() && moved.Weekday() != time.Saturday && moved.Weekday() != time.Sunday {
			return moved.Day()
		}
	}
	panic("no weekday within two days")
}

func referenceWeekday(list string, shown time.Time) bool {
	weekday := int(shown.Weekday()) + 1
	if list == "L" {
		return weekday == 7
	}
	if day, nth, ok := strings.Cut(list, "#"); ok {
		return referenceListed(day, weekday, 1, 7, referenceDays) && strconv.Itoa((shown.Day()+6)/7) == strings.TrimLeft(nth, "0")
	}
	if day, ok := strings.CutSuffix(list, "L"); ok {
		return referenceListed(day, weekday, 1, 7, referenceDays) && shown.AddDate(0, 0, 7).Month() != shown.Month()
	}
	return referenceListed(list, weekday, 1, 7, referenceDays)
}
