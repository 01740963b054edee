package schedule

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Kind says how a Spec describes its slots.
type Kind string

// The kinds of schedule.
const (
	Simple Kind = "simple" // a start and an interval
	Cron   Kind = "cron"   // a cron expression in a zone
)

// Dialect is the language of a cron expression. It is always stated and never guessed, because the two number the days
// of the week differently.
type Dialect string

// The cron dialects.
const (
	// Quartz has 6 or 7 fields, from second to year, with 1 = SUN and exactly one ? (Java Quartz 2.3.2).
	Quartz Dialect = "quartz"
	// Unix has 5 fields, from minute to day of week, with 0 and 7 = SUN (crontab(5)), or a macro like @daily.
	Unix Dialect = "unix"
)

// Gap says what becomes of a civil time that does not exist because the clock was put forward over it.
type Gap string

// The policies for a gap.
const (
	GapSkip  Gap = "skip"               // it does not fire
	GapFire  Gap = "fire_at_transition" // all that was jumped over fires once, at the instant of the jump
	GapShift Gap = "shift"              // each fires as long after the jump as it lies behind the gap's begin
)

// Overlap says which copy of a civil time fires when the clock was put back and shows it twice.
type Overlap string

// The policies for an overlap.
const (
	OverlapFirst  Overlap = "first"
	OverlapSecond Overlap = "second"
	OverlapBoth   Overlap = "both"
)

// Spec describes a schedule as it is stored. Its JSON leaves out zero fields; Interval is a Go duration text ("1h30m0s").
// A Spec is only data: [Spec.Compile] says whether it is valid.
type Spec struct {
	Kind Kind `json:"kind,omitzero"`

	// Dialect and Expression belong to Cron and are required there.
	Dialect    Dialect `json:"dialect,omitzero"`
	Expression string  `json:"expression,omitzero"`
	// Zone is an IANA name; empty is UTC. A simple schedule uses it only to present its slots.
	Zone string `json:"zone,omitzero"`
	// Gap and Overlap belong to Cron. Empty is the dialect's own rule. Quartz: skip and second. Unix: fire_at_transition and first
	// for fixed times, skip and both where the hour or minute field has a *, so that such an entry follows elapsed time.
	Gap     Gap     `json:"gap,omitzero"`
	Overlap Overlap `json:"overlap,omitzero"`

	// Interval belongs to Simple: whole seconds, at least one. Slot k is Start + k * Interval.
	Interval time.Duration `json:"-"`
	// Start is the first slot of a simple schedule and required there. A cron schedule has no slot before it; zero is no limit.
	Start time.Time `json:"start,omitzero"`
	// End is the last instant that may be a slot; zero is no limit.
	End time.Time `json:"end,omitzero"`
	// Repeat belongs to Simple: the number of slots in all; 0 is for ever.
	Repeat int `json:"repeat,omitzero"`
}

// FieldError says which part of a Spec, a Misfire or a preview is wrong and what would be right.
type FieldError struct {
	Field  string // of the struct ("zone"), or of the cron expression ("day-of-week")
	Value  string // as it was given, a field of an expression in upper case
	Reason string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s field %q: %s", e.Field, e.Value, e.Reason)
}

// Compile validates all of s and returns the schedule it describes. Every error is a *FieldError.
func (s Spec) Compile() (*Schedule, error) {
	zone, err := loadZone(s.Zone)
	if err != nil {
		return nil, err
	}
	compiled, err := s.limits()
	if err != nil {
		return nil, err
	}
	compiled.loc = zone.loc
	switch s.Kind {
	case Simple:
		compiled.slots, err = s.simple()
	case Cron:
		compiled.slots, err = s.cron(zone)
	default:
		err = &FieldError{"kind", string(s.Kind), "must be simple or cron"}
	}
	if err != nil {
		return nil, err
	}
	return compiled, nil
}

// limits returns a Schedule that has only its limits.
func (s Spec) limits() (*Schedule, error) {
	limited := &Schedule{end: lastInstant, finite: s.Repeat > 0 || !s.End.IsZero()}
	if !s.Start.IsZero() {
		if err := checkYear("start", s.Start); err != nil {
			return nil, err
		}
		limited.start = s.Start.UnixNano()
	}
	if !s.End.IsZero() {
		if err := checkYear("end", s.End); err != nil {
			return nil, err
		}
		if s.End.Before(s.Start) {
			return nil, &FieldError{"end", s.End.Format(time.RFC3339), "must not be before start"}
		}
		limited.end = s.End.UnixNano()
	}
	return limited, nil
}

func checkYear(field string, t time.Time) error {
	if year := t.UTC().Year(); year < firstYear || year > lastYear {
		return &FieldError{field, t.Format(time.RFC3339), fmt.Sprintf("must lie in the years %d to %d", firstYear, lastYear)}
	}
	return nil
}

func (s Spec) simple() (series, error) {
	const cronOnly = "belongs to a cron schedule; leave it empty in a simple one"
	switch {
	case s.Dialect != "":
		return nil, &FieldError{"dialect", string(s.Dialect), cronOnly}
	case s.Expression != "":
		return nil, &FieldError{"expression", s.Expression, cronOnly}
	case s.Gap != "":
		return nil, &FieldError{"gap", string(s.Gap), cronOnly}
	case s.Overlap != "":
		return nil, &FieldError{"overlap", string(s.Overlap), cronOnly}
	case s.Interval < time.Second || s.Interval%time.Second != 0:
		return nil, &FieldError{"interval", s.Interval.String(), "must be whole seconds, at least 1s"}
	case s.Start.IsZero():
		return nil, &FieldError{"start", "", "is required: a simple schedule counts its intervals from there"}
	case s.Repeat < 0:
		return nil, &FieldError{"repeat", strconv.Itoa(s.Repeat), "must be 0 (for ever) or the number of fires in all"}
	}
	return every{start: s.Start.UnixNano(), interval: int64(s.Interval), repeat: s.Repeat}, nil
}

func (s Spec) cron(zone *zone) (series, error) {
	const simpleOnly = "belongs to a simple schedule; leave it empty in a cron one"
	switch {
	case s.Interval != 0:
		return nil, &FieldError{"interval", s.Interval.String(), simpleOnly}
	case s.Repeat != 0:
		return nil, &FieldError{"repeat", strconv.Itoa(s.Repeat), simpleOnly}
	}
	if err := s.checkPolicies(); err != nil {
		return nil, err
	}
	switch s.Dialect {
	case Quartz:
		f, err := parseQuartz(s.Expression)
		if err != nil {
			return nil, err
		}
		return &civil{f, zone, cmp.Or(s.Gap, GapSkip), cmp.Or(s.Overlap, OverlapSecond)}, nil
	case Unix:
		f, wildcard, err := parseUnix(s.Expression)
		if err != nil {
			return nil, err
		}
		gap, overlap := GapFire, OverlapFirst
		if wildcard {
			gap, overlap = GapSkip, OverlapBoth
		}
		return &civil{f, zone, cmp.Or(s.Gap, gap), cmp.Or(s.Overlap, overlap)}, nil
	}
	return nil, &FieldError{"dialect", string(s.Dialect), "must be quartz or unix"}
}

func (s Spec) checkPolicies() error {
	switch s.Gap {
	case "", GapSkip, GapFire, GapShift:
	default:
		return &FieldError{"gap", string(s.Gap), "must be skip, fire_at_transition or shift"}
	}
	switch s.Overlap {
	case "", OverlapFirst, OverlapSecond, OverlapBoth:
	default:
		return &FieldError{"overlap", string(s.Overlap), "must be first, second or both"}
	}
	return nil
}

type (
	// plainSpec is Spec without its JSON methods.
	plainSpec Spec
	specJSON  struct {
		plainSpec
		Interval durationText `json:"interval,omitzero"`
	}
)

// MarshalJSON implements json.Marshaler.
func (s Spec) MarshalJSON() ([]byte, error) {
	return json.Marshal(specJSON{plainSpec(s), durationText(s.Interval)})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown members are ignored, so that an older binary reads a newer row.
func (s *Spec) UnmarshalJSON(data []byte) error {
	var wire specJSON
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*s = Spec(wire.plainSpec)
	s.Interval = time.Duration(wire.Interval)
	return nil
}

// durationText is a duration whose JSON is a text with its unit: a bare number would leave open whether it counts seconds.
type durationText time.Duration

func (d durationText) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}

func (d *durationText) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = durationText(parsed)
	return err
}
