package zstack

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The table of 1.5, codes and their texts: word by word for each code that Takt
// answers with.
func TestErrorCodeRows(t *testing.T) {
	want := map[string]string{
		"SYS.1000": "An internal error happened in system",
		"SYS.1001": "A message or a operation timeout",
		"SYS.1003": "A resource can not be found",
		"SYS.1006": "An operation failed",
		"SYS.1007": "One or more API argument is invalid",
		"ID.1000":  "Unable to authenticate a user",
		"ID.1001":  "The session is invalid, either wrong session id or the session has been expired",
		// These have no text that is public.
		"SYS.1010": "The system is not ready",
		"SYS.1017": "The operation was canceled",
		"ID.1002":  "No permission to do the operation",
		"ID.1006":  "The number of sessions exceeds the maximum",
	}
	if diff := cmp.Diff(want, descriptions); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	// The rest of the table: how no call of Takt's ends. What cannot be made, changed or
	// deleted is told by its reason, and there are no quotas.
	for _, code := range []string{"SYS.1002", "SYS.1004", "SYS.1005", "SYS.1014", "SYS.1015", "SYS.1016", "ID.1003"} {
		if text, known := descriptions[code]; known {
			t.Errorf("code %s has the text %q, want it in the table above", code, text)
		}
	}
	for kind, code := range codes {
		if descriptions[code] == "" {
			t.Errorf("errors of kind %s have the code %s, which has no text", kind, code)
		}
	}
}

// 1.5, the object: one top-level key, nulls left out, a code that is no number and
// nothing in the details that JSON cannot hold.
func TestErrorObject(t *testing.T) {
	for code := range descriptions {
		for _, details := range []string{"plain", "<uuid> & \"quotes\"", "nul \x00 and \xff\xfe", ""} {
			var body map[string]map[string]any
			if err := json.Unmarshal(failed(code, "%s", details).body(), &body); err != nil || len(body) != 1 {
				t.Fatalf("error %s %q = %v, %v, want one key", code, details, body, err)
			}
			e := body["error"]
			if len(e) != 3 || e["code"] != code || e["description"] != descriptions[code] || e["details"] == nil {
				t.Errorf("error %s %q = %v, want code, description and details and nothing else", code, details, e)
			}
			if _, number := e["code"].(float64); number {
				t.Errorf("code %v is a number", e["code"])
			}
		}
	}
}

// 1.8, timestamps: month short and English, day and hour without a leading zero, 12
// hours, AM or PM, in the zone that is set.
func TestTimestampRows(t *testing.T) {
	for _, row := range []struct{ row, zone, at, want string }{
		{"the documentation's", "UTC", "2017-11-14T22:20:57Z", "Nov 14, 2017 10:20:57 PM"},
		{"midnight", "UTC", "2026-01-01T00:00:00Z", "Jan 1, 2026 12:00:00 AM"},
		{"noon", "UTC", "2026-05-09T12:00:09Z", "May 9, 2026 12:00:09 PM"},
		{"one digit for the hour, two for minute and second", "UTC", "2026-09-30T01:02:03Z", "Sep 30, 2026 1:02:03 AM"},
		{"fractions are cut", "UTC", "2026-12-31T23:59:59.999Z", "Dec 31, 2026 11:59:59 PM"},
		{"zone of the setting", "Asia/Shanghai", "2017-11-14T22:20:57Z", "Nov 15, 2017 6:20:57 AM"},
		{"zone with a change of clocks", "Europe/Berlin", "2026-07-01T10:00:00Z", "Jul 1, 2026 12:00:00 PM"},
	} {
		zone, err := time.LoadLocation(row.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339Nano, row.at)
		if err != nil {
			t.Fatal(err)
		}
		a := New(nil, nil, Options{Zone: zone})
		if got := string(encode(a.stamp(at))); got != `"`+row.want+`"` {
			t.Errorf("%s: got %s, want %q", row.row, got, row.want)
		}
	}
	if got := string(encode(New(nil, nil, Options{}).stamp(time.Time{}))); got != "null" {
		t.Errorf("no instant: got %s, want null: the Java SDK breaks on an empty text", got)
	}
}
