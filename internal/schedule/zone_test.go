package schedule

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLocationIgnoresHost plants a zone file that lies. No test of this package may call time.LoadLocation, which reads ZONEINFO
// only once.
func TestLocationIgnoresHost(t *testing.T) {
	files, err := database()
	if err != nil {
		t.Fatal(err)
	}
	r, err := files["Asia/Tokyo"].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var tokyo bytes.Buffer
	if _, err := tokyo.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "Europe"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Europe", "Vienna"), tokyo.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZONEINFO", dir)

	if host, err := time.LoadLocation("Europe/Vienna"); err != nil || offsetIn(host, "2026-01-01T00:00:00Z") != 9*3600 {
		t.Fatalf("the planted file has no effect on time.LoadLocation (%v), so this test shows nothing", err)
	}
	vienna, err := Location("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	if got := offsetIn(vienna, "2026-01-01T00:00:00Z"); got != 3600 {
		t.Errorf("offset %d s, want 3600 of the embedded database", got)
	}
	if vienna.String() != "Europe/Vienna" {
		t.Errorf("name %q, want Europe/Vienna", vienna)
	}
}

func offsetIn(loc *time.Location, at string) int {
	parsed, _ := time.Parse(time.RFC3339, at)
	_, offset := parsed.In(loc).Zone()
	return offset
}

func TestLocationUTC(t *testing.T) {
	for _, name := range []string{"", "UTC"} {
		if loc, err := Location(name); err != nil || loc != time.UTC {
			t.Errorf("Location(%q) = %v, %v, want time.UTC", name, loc, err)
		}
	}
}

// TestSegmentsCoverTime holds every zone of the database to what the cron series relies on.
func TestSegmentsCoverTime(t *testing.T) {
	files, err := database()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 590 {
		t.Errorf("%d zones, want the whole database", len(files))
	}
	for name := range files {
		z, err := loadZone(name)
		if err != nil {
			t.Errorf("load %s: %v", name, err)
			continue
		}
		checkSegments(t, name, z.segments)
	}
}

func checkSegments(t *testing.T, name string, segments []segment) {
	t.Helper()
	if segments[0].start != distantPast || segments[len(segments)-1].end != distantFuture {
		t.Errorf("%s: the outer segments do not reach the ends of time", name)
	}
	for i := 1; i < len(segments); i++ {
		s, previous := segments[i], segments[i-1]
		if s.start != previous.end || s.before != previous.offset || previous.after != s.offset || s.offset == previous.offset {
			t.Errorf("%s: segments %+v and %+v do not join", name, previous, s)
		}
		if length := s.end - s.start; length < maxOffset {
			t.Errorf("%s: segment %+v lasts %d s; moved slots could leave it", name, s, length)
		}
		if change := s.offset - s.before; change > maxOffset || change < -maxOffset {
			t.Errorf("%s: segment %+v changes the clock by %d s", name, s, change)
		}
	}
}

// TestSegmentsMatchOffsets compares the tables with the offset of every quarter of an hour around the leap years in which
// golang/go#81583 shows, and of some years that the database tabulates.
func TestSegmentsMatchOffsets(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "Asia/Gaza"} {
		z, err := loadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, year := range []int{1970, 2011, 2026, 2039, 2040, 2196} {
			from := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
			for u := from; u < from+370*secondsPerDay; u += 900 {
				_, want := time.Unix(u, 0).In(z.loc).Zone()
				if got := z.segments[z.index(u)].offset; got != int64(want) {
					t.Fatalf("%s: offset at %s is %d, want %d", name, time.Unix(u, 0).UTC(), got, want)
				}
			}
		}
	}
}
