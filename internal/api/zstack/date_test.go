package zstack

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// judge says what a server in a zone, at noon UTC, makes of a date: a status, 0 for
// accepted, and the text.
func judge(zone, date string) (int, string) {
	location, err := schedule.Location(zone)
	if err != nil {
		panic(err)
	}
	a := New(nil, nil, Options{Zone: location, Now: func() time.Time { return noon }})
	var f *fault
	if errors.As(a.checkDate(date), &f) {
		return f.status, f.details
	}
	return 0, ""
}

func TestDateOfSignedRequest(t *testing.T) {
	const skewed = "requestTimeTooSkewed"
	for _, row := range []struct {
		name, server, date string
		status             int
		text               string
	}{
		{"Java, zone id", "UTC", "Fri, 20 Nov 2026 12:00:00 Etc/UTC", 0, ""},
		{"Java, zone id elsewhere", "UTC", "Fri, 20 Nov 2026 20:00:00 Asia/Shanghai", 0, ""},
		{"Java, offset for a zone", "UTC", "Fri, 20 Nov 2026 20:00:00 GMT+08:00", 0, ""},
		{"Java, Z", "America/New_York", "Fri, 20 Nov 2026 12:00:00 Z", 0, ""},
		{"Go, UTC", "Asia/Shanghai", "Fri, 20 Nov 2026 12:00:00 UTC", 0, ""},
		{"Go, abbreviation of the server's zone", "Asia/Shanghai", "Fri, 20 Nov 2026 20:00:00 CST", 0, ""},
		{"Go, abbreviation elsewhere", "UTC", "Fri, 20 Nov 2026 20:00:00 CST", 0, ""},
		{"Go, the same abbreviation of another zone", "UTC", "Fri, 20 Nov 2026 06:00:00 CST", 0, ""},
		{"Go, abbreviation that is a name too", "UTC", "Fri, 20 Nov 2026 07:00:00 EST", 0, ""},
		{"Go, zone without an abbreviation", "UTC", "Fri, 20 Nov 2026 15:00:00 +03", 0, ""},
		{"Go, the same with minutes", "UTC", "Fri, 20 Nov 2026 17:45:00 +0545", 0, ""},
		{"Go, west of Greenwich", "UTC", "Fri, 20 Nov 2026 09:00:00 -03", 0, ""},
		{"Go SDK's own abbreviation, Myanmar", "UTC", "Fri, 20 Nov 2026 18:30:00 MMT", 0, ""},
		{"Go SDK's own abbreviation, Indochina", "UTC", "Fri, 20 Nov 2026 19:00:00 ICT", 0, ""},
		{"server's time under the wrong zone's name", "Asia/Shanghai", "Fri, 20 Nov 2026 20:00:00 GMT", 0, ""},
		{"UTC under a zone that nobody knows", "Asia/Shanghai", "Fri, 20 Nov 2026 12:00:00 XYZ", 0, ""},
		{"server's time under such a zone", "Asia/Shanghai", "Fri, 20 Nov 2026 20:00:00 XYZ", 0, ""},
		{"day before, east of the date line", "UTC", "Sat, 21 Nov 2026 00:00:00 Pacific/Auckland", http.StatusForbidden, skewed},
		{"day after, east of the date line", "UTC", "Sat, 21 Nov 2026 01:00:00 Pacific/Auckland", 0, ""},

		{"15 min early", "UTC", "Fri, 20 Nov 2026 11:45:00 UTC", 0, ""},
		{"15 min late", "UTC", "Fri, 20 Nov 2026 12:15:00 UTC", 0, ""},
		{"a second more than 15 min early", "UTC", "Fri, 20 Nov 2026 11:44:59 UTC", http.StatusForbidden, skewed},
		{"a second more than 15 min late", "UTC", "Fri, 20 Nov 2026 12:15:01 UTC", http.StatusForbidden, skewed},
		{"right time of another day", "UTC", "Sat, 21 Nov 2026 12:00:00 UTC", http.StatusForbidden, skewed},
		{"known zone and wrong time", "UTC", "Fri, 20 Nov 2026 19:00:00 Asia/Shanghai", http.StatusForbidden, skewed},
		{"offset out of range", "UTC", "Fri, 20 Nov 2026 07:00:00 +19", http.StatusForbidden, skewed},

		{"no date", "UTC", "", http.StatusBadRequest, "'Date' must be incuded in request header"},
		{"no zone", "UTC", "Fri, 20 Nov 2026 12:00:00", http.StatusBadRequest, "'Date' format error"},
		{"empty zone", "UTC", "Fri, 20 Nov 2026 12:00:00 ", http.StatusBadRequest, "'Date' format error"},
		{"zone with a space", "UTC", "Fri, 20 Nov 2026 12:00:00 UTC x", http.StatusBadRequest, "'Date' format error"},
		{"zone with a line break", "UTC", "Fri, 20 Nov 2026 12:00:00 UTC\nx", http.StatusBadRequest, "'Date' format error"},
		{"long zone", "UTC", "Fri, 20 Nov 2026 12:00:00 " + strings.Repeat("x", 65), http.StatusBadRequest, "'Date' format error"},
		{"zone that is a path", "UTC", "Fri, 20 Nov 2026 12:00:00 ../etc/passwd", http.StatusBadRequest, "'Date' format error"},
		{"another day of the week", "UTC", "Thu, 20 Nov 2026 12:00:00 UTC", http.StatusBadRequest, "'Date' format error"},
		{"no such day", "UTC", "Tue, 31 Nov 2026 12:00:00 UTC", http.StatusBadRequest, "'Date' format error"},
		{"one digit for the day", "UTC", "Fri, 6 Nov 2026 12:00:00 UTC", http.StatusBadRequest, "'Date' format error"},
		{"no hour", "UTC", "Fri, 20 Nov 2026 24:00:00 UTC", http.StatusBadRequest, "'Date' format error"},
		{"ISO", "UTC", "2026-11-20T12:00:00Z", http.StatusBadRequest, "'Date' format error, correct format is 'EEE, dd MMM yyyy HH:mm:ss z'"},
		{"epoch", "UTC", "1795176000", http.StatusBadRequest, "'Date' format error"},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, text := judge(row.server, row.date)
			if status != row.status || !strings.HasPrefix(text, row.text) {
				t.Errorf("date %q at noon UTC, server in %s: got %d %q, want %d %q", row.date, row.server, status, text, row.status, row.text)
			}
		})
	}
}

// Whatever a date is, it is judged and does no harm; what is accepted is near.
func FuzzDate(f *testing.F) {
	f.Add("Fri, 20 Nov 2026 12:00:00 Etc/UTC")
	f.Add("Fri, 20 Nov 2026 20:00:00 CST")
	f.Add("Fri, 20 Nov 2026 12:00:00 GMT+8")
	f.Add("Fri, 20 Nov 2026 12:00:00 +")
	f.Fuzz(func(t *testing.T, date string) {
		status, _ := judge("Asia/Shanghai", date)
		read, zone, ok := parseDate(date)
		switch {
		case ok != (status == 0 || status == http.StatusForbidden):
			t.Errorf("date %q: got %d, readable %v", date, status, ok)
		case status == 0 && read.Sub(noon).Abs() > 19*time.Hour:
			t.Errorf("date %q is accepted: %v is near noon UTC in no zone", date, read)
		case ok && (zone == "" || len(zone) > maxZoneName || !strings.HasSuffix(date, " "+zone)):
			t.Errorf("date %q: got zone %q", date, zone)
		}
	})
}
