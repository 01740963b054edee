package zstack

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

// The date of a signed request is a time of day and the name of a zone. ZStack
// itself compares the time of day with its own and ignores the zone, so that
// clients get by whose zone is the server's. Takt takes such a date, one in UTC,
// and the instant that the date means where its zone is known.

const (
	dateLayout = "Mon, 02 Jan 2006 15:04:05"
	// maxSkew is how far a date may lie before or after the server's time.
	maxSkew     = 15 * time.Minute
	maxZoneName = 64
)

// abbreviations are those of time zones that are no names in the IANA database.
// They are not unique; each may mean any of its offsets (hours east of UTC). The
// Go SDK writes them, and two of its own (ICT, MMT) for zones that have none.
var abbreviations = map[string][]float64{
	"ACST": {9.5}, "AEDT": {11}, "AEST": {10}, "AWST": {8}, "BRT": {-3}, "BST": {1, 6}, "CAT": {2}, "CDT": {-5}, "CEST": {2}, "CST": {8, -6},
	"EAT": {3}, "EDT": {-4}, "EEST": {3}, "HKT": {8}, "ICT": {7}, "IDT": {3}, "IST": {5.5, 1, 2}, "JST": {9}, "KST": {9}, "MDT": {-6}, "MMT": {6.5},
	"MSK": {3}, "MYT": {8}, "NPT": {5.75}, "NZDT": {13}, "NZST": {12}, "PDT": {-7}, "PHT": {8}, "PKT": {5}, "PST": {-8, 8}, "SAST": {2}, "SGT": {8},
	"WAT": {1}, "WEST": {1}, "WIB": {7}, "WIT": {9}, "WITA": {8}, "Z": {0},
}

// checkDate refuses a date that is missing, that is none, or that lies more than
// maxSkew away in each of its readings.
func (a *API) checkDate(text string) error {
	if text == "" {
		return unsignable(http.StatusBadRequest, "'Date' must be incuded in request header") // as ZStack spells it
	}
	read, zone, ok := parseDate(text)
	if !ok {
		return unsignable(http.StatusBadRequest, "'Date' format error, correct format is 'EEE, dd MMM yyyy HH:mm:ss z'")
	}
	now := a.opts.Now()
	for _, z := range append(zonesOf(zone), a.opts.Zone, time.UTC) {
		if at := inZone(read, z); at.Sub(now).Abs() <= maxSkew {
			return nil
		}
	}
	return unsignable(http.StatusForbidden, "requestTimeTooSkewed")
}

// parseDate cuts a date into its time of day, which is given in UTC, and the text
// of its zone.
func parseDate(text string) (read time.Time, zone string, ok bool) {
	if len(text) <= len(dateLayout)+1 || text[len(dateLayout)] != ' ' {
		return time.Time{}, "", false
	}
	read, err := time.Parse(dateLayout, text[:len(dateLayout)])
	zone = text[len(dateLayout)+1:]
	// Parse reads any day of the week.
	if err != nil || !strings.EqualFold(read.Format("Mon"), text[:3]) || !zoneName(zone) {
		return time.Time{}, "", false
	}
	return read, zone, true
}

func zoneName(s string) bool {
	odd := func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("+-_/:", r))
	}
	return s != "" && len(s) <= maxZoneName && !strings.ContainsFunc(s, odd)
}

// inZone gives the instant at which clocks of a zone show a time of day.
func inZone(read time.Time, zone *time.Location) time.Time {
	return time.Date(read.Year(), read.Month(), read.Day(), read.Hour(), read.Minute(), read.Second(), 0, zone)
}

// zonesOf gives the zones that a text may name: none for one that is not known.
func zonesOf(name string) []*time.Location {
	if hours, ok := abbreviations[name]; ok {
		zones := make([]*time.Location, len(hours))
		for i, h := range hours {
			zones[i] = time.FixedZone(name, int(h*3600))
		}
		return zones
	}
	if seconds, ok := offset(name); ok {
		return []*time.Location{time.FixedZone(name, seconds)}
	}
	if zone, err := schedule.Location(name); err == nil {
		return []*time.Location{zone}
	}
	return nil
}

// offset reads +8, +08, +0800 and +08:00, also after UTC, GMT or UT.
func offset(name string) (seconds int, ok bool) {
	for _, prefix := range []string{"UTC", "GMT", "UT"} {
		name = strings.TrimPrefix(name, prefix)
	}
	if len(name) < 2 || name[0] != '+' && name[0] != '-' {
		return 0, false
	}
	digits := strings.Replace(name[1:], ":", "", 1)
	hours, minutes := digits, "0"
	if len(digits) == 4 {
		hours, minutes = digits[:2], digits[2:]
	}
	h, errH := strconv.ParseUint(hours, 10, 8)
	m, errM := strconv.ParseUint(minutes, 10, 8)
	if errH != nil || errM != nil || h > 18 || m > 59 {
		return 0, false
	}
	seconds = int(h*3600 + m*60)
	if name[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}
