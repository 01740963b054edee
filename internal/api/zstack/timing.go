package zstack

import (
	"cmp"
	"math"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// Limits of ZStack's columns: seconds are ints, and instants are MySQL timestamps
// that must stay valid in every zone.
const (
	maxSeconds = math.MaxInt32
	maxInstant = 2147454847
	// Above this an instant is in milliseconds: ZStack's own examples send
	// 1.510669257141E12 where seconds are meant.
	leastMillis = int64(1e11)
)

// misfire is what becomes of slots nobody could fire in time: ZStack skips those
// of a simple trigger and makes up for those of a cron one.
var misfire = map[schedule.Kind]schedule.MisfirePolicy{
	schedule.Simple: schedule.Skip,
	schedule.Cron:   schedule.FireOnceNow,
}

// A timing is when a trigger fires, as a request says it. A nil field was not
// given.
type timing struct {
	call     string
	kind     string
	cron     string
	dialect  schedule.Dialect // of cron; "" = Quartz
	interval *int64           // seconds
	repeat   *int64           // runs in all; 0 = for ever. The Java SDK always sends it, for cron too
	start    *int64           // seconds since 1970; 0 = now
	stop     *int64
}

func readTiming(in *input) timing {
	number := func(name string) *int64 {
		n, given := in.number(name)
		if !given {
			return nil
		}
		return &n
	}
	return timing{
		call: in.call, kind: in.text("schedulerType"), cron: in.text("cron"), interval: number("schedulerInterval"),
		repeat: number("repeatCount"), start: number("startTime"), stop: number("stopTime"),
	}
}

// given reports whether a request says anything about when to fire.
func (w timing) given() bool {
	return w.kind != "" || w.cron != "" || w.interval != nil || w.repeat != nil || w.start != nil || w.stop != nil
}

// revise gives the schedule of a trigger after an update, in which what was not
// given is as it was. A schedule of the other kind begins afresh.
func (w timing) revise(t core.Trigger, now time.Time, zone string) (schedule.Spec, error) {
	old := t.Schedule
	if w.kind == "" && w.cron != "" && old.Kind == schedule.Simple {
		return old, badArgument("cron belongs to a cron scheduler; set schedulerType to cron to make this trigger one")
	}
	if w.kind != "" && schedule.Kind(w.kind) != old.Kind {
		return w.spec(now, zone)
	}
	spec, err := w.completed(t).spec(now, old.Zone)
	if err != nil {
		return spec, err
	}
	spec.Gap, spec.Overlap = old.Gap, old.Overlap
	// ZStack counts whole seconds. An instant that is the same to it is the same.
	spec.Start, spec.End = sameSecond(spec.Start, old.Start), sameSecond(spec.End, old.End)
	return spec, nil
}

// completed fills in what a trigger of the same kind has.
func (w timing) completed(t core.Trigger) timing {
	old := t.Schedule
	w.kind = string(old.Kind)
	if w.cron == "" {
		w.cron, w.dialect = old.Expression, old.Dialect // another API may have made it
	}
	if w.start == nil && t.Floating {
		w.start = new(int64) // it still begins with its first target
	}
	w.start, w.stop = cmp.Or(w.start, unixSeconds(old.Start)), cmp.Or(w.stop, unixSeconds(old.End))
	if old.Kind != schedule.Simple {
		return w
	}
	repeat, interval := int64(old.Repeat), int64(old.Interval/time.Second)
	// One that fires once may have an interval that nobody gave.
	if made := repeat == 1 && interval == 1; w.interval == nil && !made {
		w.interval = &interval
	}
	w.repeat = cmp.Or(w.repeat, &repeat)
	return w
}

func unixSeconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

func sameSecond(given, old time.Time) time.Time {
	if given.Unix() == old.Unix() {
		return old
	}
	return given
}

// spec checks the timing as ZStack does, in its words, and turns it into a
// schedule. zone is the name of the zone that a cron expression means.
func (w timing) spec(now time.Time, zone string) (schedule.Spec, error) {
	if err := w.inRange("schedulerInterval", w.interval, 1); err != nil {
		return schedule.Spec{}, err
	}
	if err := w.inRange("repeatCount", w.repeat, 0); err != nil {
		return schedule.Spec{}, err
	}
	start, err := instant("startTime", w.start)
	if err != nil {
		return schedule.Spec{}, err
	}
	stop, err := w.stopLimit(now, start)
	if err != nil {
		return schedule.Spec{}, err
	}
	spec := schedule.Spec{Zone: zone, Start: start, End: stop}
	switch schedule.Kind(w.kind) {
	case schedule.Simple:
		return w.simple(spec, now)
	case schedule.Cron:
		return w.cronSpec(spec)
	}
	return spec, badArgument("valid value for field[schedulerType] of message[API%sMsg] are [simple, cron], but %s found", w.call, w.kind)
}

func (w timing) inRange(field string, n *int64, least int64) error {
	if n != nil && (*n < least || *n > maxSeconds) {
		return badArgument("field[%s] of message[API%sMsg] must be in the range of [%d, %d], but was %d", field, w.call, least, maxSeconds, *n)
	}
	return nil
}

// instant reads seconds, or milliseconds, since 1970; nothing and 0 are zero.
func instant(field string, n *int64) (time.Time, error) {
	if n == nil || *n == 0 {
		return time.Time{}, nil
	}
	seconds := *n
	if seconds > leastMillis {
		seconds /= 1000
	}
	switch {
	case seconds < 0:
		return time.Time{}, badArgument("%s must be positive integer or 0", field)
	case seconds > maxInstant:
		return time.Time{}, badArgument("%s out of range", field)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// stopLimit reads stopTime, which only the newest Go SDK sends.
func (w timing) stopLimit(now, start time.Time) (time.Time, error) {
	stop, err := instant("stopTime", w.stop)
	switch {
	case err != nil || stop.IsZero():
		return stop, err
	case stop.Before(now):
		return stop, badArgument("stopTime has been passed")
	case stop.Before(start):
		return stop, badArgument("stopTime must not be before startTime")
	}
	return stop, nil
}

func (w timing) simple(spec schedule.Spec, now time.Time) (schedule.Spec, error) {
	spec.Kind = schedule.Simple
	if w.start == nil {
		return spec, badArgument("startTime must be set for simple scheduler")
	}
	repeat := int64(0)
	if w.repeat != nil {
		repeat = *w.repeat
	}
	interval := int64(1) // of a single fire it means nothing
	switch {
	case w.interval != nil:
		interval = *w.interval
	case repeat == 0:
		return spec, badArgument("schedulerInterval must be set for simple scheduler")
	case repeat > 1:
		return spec, badArgument("interval must be set when use simple scheduler when repeat more than once")
	}
	spec.Interval, spec.Repeat = time.Duration(interval)*time.Second, int(repeat)
	return spec, checkDuration(spec, now)
}

// checkDuration refuses a limited schedule that lasts too long or is over.
func checkDuration(spec schedule.Spec, now time.Time) error {
	if spec.Repeat == 0 {
		return nil
	}
	start := spec.Start
	if start.IsZero() {
		start = now
	}
	seconds := int64(spec.Repeat-1) * int64(spec.Interval/time.Second)
	if seconds > maxSeconds {
		return badArgument("duration time out of range")
	}
	end := start.Unix() + seconds
	switch {
	case end > maxInstant:
		return badArgument("stopTime out of mysql timestamp range")
	case end < now.Unix():
		return badArgument("stopTime has been passed")
	}
	return nil
}

func (w timing) cronSpec(spec schedule.Spec) (schedule.Spec, error) {
	spec.Kind, spec.Dialect, spec.Expression = schedule.Cron, cmp.Or(w.dialect, schedule.Quartz), w.cron
	switch {
	case w.cron == "":
		return spec, badArgument("cron must be set when use cron scheduler")
	case w.interval != nil || w.repeat != nil && *w.repeat > 0:
		return spec, badArgument("cron scheduler only need to specify cron task")
	}
	if _, err := spec.Compile(); err != nil {
		return spec, badArgument("cron task must follow format like this : \"0 0/3 17-23 * * ?\" (%v)", err)
	}
	return spec, nil
}

// stopTime is when a trigger's last fire is due at the latest; zero for one
// without an end.
func stopTime(s schedule.Spec) time.Time {
	if s.Kind != schedule.Simple || s.Repeat == 0 {
		return s.End
	}
	last := s.Start.Add(time.Duration(s.Repeat-1) * s.Interval)
	if !s.End.IsZero() && s.End.Before(last) {
		return s.End
	}
	return last
}
