package schedule

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// tzdata is IANA time zone database 2025c as Go 1.26 ships it in lib/time/zoneinfo.zip.
//
// time.LoadLocation asks ZONEINFO and the host's files first and the copy in time/tzdata last, and the standard library
// offers no way to turn that round. Two hosts with different packages would then compute different slots, so this package
// carries the database itself and never looks at the host's.
//
//go:generate sh -c "cp $(go env GOROOT)/lib/time/zoneinfo.zip zoneinfo.zip"
//go:embed zoneinfo.zip
var tzdata []byte

// zone is a time zone cut into segments of constant offset, in order and without a hole.
type zone struct {
	loc      *time.Location
	segments []segment
}

// segment is a stretch of time in which a wall clock is ahead of UTC by a constant. Instants are seconds since 1970 UTC, and the
// civil second is instant + offset.
type segment struct {
	start, end    int64 // [start, end)
	offset        int64
	before, after int64 // offsets of the neighbours; its own where there is none
}

// jumped returns the civil seconds [from, to) that the clock was put forward over at the segment's start.
func (s *segment) jumped() (from, to int64, ok bool) {
	return s.start + s.before, s.start + s.offset, s.before < s.offset
}

const (
	// distantPast and distantFuture bound the outer segments. Offsets can be added to both.
	distantPast   = -1 << 60
	distantFuture = 1 << 60
	// maxOffset is more than any two offsets of a zone differ.
	maxOffset = 2 * secondsPerDay
)

// Location returns the time zone of an IANA name from the database in the binary, never the host's. Empty is UTC.
// The error is a *FieldError.
func Location(name string) (*time.Location, error) {
	z, err := loadZone(name)
	if err != nil {
		return nil, err
	}
	return z.loc, nil
}

var (
	utc = &zone{loc: time.UTC, segments: []segment{{start: distantPast, end: distantFuture}}}
	// zones holds each *zone that was asked for under its name. It cannot outgrow the database.
	zones    sync.Map
	database = sync.OnceValues(func() (map[string]*zip.File, error) {
		archive, err := zip.NewReader(bytes.NewReader(tzdata), int64(len(tzdata)))
		if err != nil {
			return nil, err
		}
		files := make(map[string]*zip.File, len(archive.File))
		for _, file := range archive.File {
			files[file.Name] = file
		}
		return files, nil
	})
)

func loadZone(name string) (*zone, error) {
	if name == "" || name == "UTC" {
		return utc, nil
	}
	if z, ok := zones.Load(name); ok {
		return z.(*zone), nil
	}
	loc, err := readLocation(name)
	if err != nil {
		return nil, &FieldError{"zone", name, err.Error()}
	}
	z, _ := zones.LoadOrStore(name, newZone(loc))
	return z.(*zone), nil
}

func readLocation(name string) (*time.Location, error) {
	files, err := database()
	if err != nil {
		return nil, fmt.Errorf("read embedded zones: %w", err)
	}
	file, ok := files[name]
	if !ok {
		return nil, errors.New("is not a zone of the IANA database; use a name like Europe/Berlin, or UTC")
	}
	r, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("open embedded zone: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read embedded zone: %w", err)
	}
	return time.LoadLocationFromTZData(name, data)
}

// newZone tabulates a location for the years that schedules live in.
func newZone(loc *time.Location) *zone {
	z := &zone{loc: loc}
	for u := int64(-maxOffset); u < lastInstant/int64(time.Second)+maxOffset; {
		t := time.Unix(u, 0).In(loc)
		_, offset := t.Zone()
		z.add(u, int64(offset))
		_, end := t.ZoneBounds()
		if end.IsZero() {
			break
		}
		if u < end.Unix() {
			u = end.Unix()
		} else {
			// golang/go#81583: on the last day of leap years that a zone's rule covers, the end is not after t.
			u += 3600
		}
	}
	last := len(z.segments) - 1
	z.segments[0].start, z.segments[last].end, z.segments[last].after = distantPast, distantFuture, z.segments[last].offset
	return z
}

// add ends the last segment and begins a new one, unless the offset stays: package time also reports bounds where only the
// abbreviation changes, and at year ends where nothing does.
func (z *zone) add(start, offset int64) {
	next := segment{start: start, offset: offset, before: offset}
	if n := len(z.segments); n > 0 {
		last := &z.segments[n-1]
		if last.offset == offset {
			return
		}
		last.end, last.after, next.before = start, offset, last.offset
	}
	z.segments = append(z.segments, next)
}

// index returns the number of the segment that an instant lies in.
func (z *zone) index(instant int64) int {
	low, high := 0, len(z.segments)-1
	for low < high {
		middle := (low + high + 1) / 2
		if z.segments[middle].start <= instant {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}
