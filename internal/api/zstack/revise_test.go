package zstack

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/schedule"
)

// What an update of a trigger does not say stays as it is.
func TestRevise(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	n := func(x int64) *int64 { return &x }
	start := now.Add(-90*time.Minute + 456*time.Millisecond) // as the engine resolves 0
	end := now.Add(24 * time.Hour)
	simple := schedule.Spec{Kind: schedule.Simple, Zone: "Asia/Shanghai", Interval: time.Hour, Start: start, Repeat: 10, End: end}
	once := schedule.Spec{Kind: schedule.Simple, Interval: time.Second, Start: now.Add(time.Hour), Repeat: 1}
	cron := schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: "0 0/3 17-23 * * ?", Zone: "Asia/Shanghai"}
	unix := schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Unix, Expression: "*/5 * * * *", Zone: "Europe/Berlin", Gap: schedule.GapFire, Start: now.Add(time.Hour)}
	with := func(s schedule.Spec, change func(*schedule.Spec)) schedule.Spec {
		change(&s)
		return s
	}
	for _, row := range []struct {
		name     string
		old      schedule.Spec
		floating bool
		in       timing
		want     schedule.Spec
		err      string
	}{
		{name: "interval alone", old: simple, in: timing{interval: n(1200)}, want: with(simple, func(s *schedule.Spec) { s.Interval = 20 * time.Minute })},
		{name: "count alone", old: simple, in: timing{repeat: n(0)}, want: with(simple, func(s *schedule.Spec) { s.Repeat = 0 })},
		{name: "start alone", old: simple, in: timing{start: n(now.Unix() + 60)}, want: with(simple, func(s *schedule.Spec) { s.Start = now.Add(time.Minute) })},
		{name: "start in milliseconds", old: simple, in: timing{start: n(now.UnixMilli() + 60_000)}, want: with(simple, func(s *schedule.Spec) { s.Start = now.Add(time.Minute) })},
		{name: "start 0 is now", old: simple, in: timing{start: n(0)}, want: with(simple, func(s *schedule.Spec) { s.Start = time.Time{} })},
		{name: "the start it has", old: simple, in: timing{start: n(start.Unix())}, want: simple},
		{name: "stop alone", old: simple, in: timing{stop: n(now.Unix() + 60)}, want: with(simple, func(s *schedule.Spec) { s.End = now.Add(time.Minute) })},
		{name: "stop 0 is none", old: simple, in: timing{stop: n(0)}, want: with(simple, func(s *schedule.Spec) { s.End = time.Time{} })},
		{name: "the type it has", old: simple, in: timing{kind: "simple"}, want: simple},
		{name: "still to begin with its first target", old: simple, floating: true, in: timing{interval: n(60)},
			want: with(simple, func(s *schedule.Spec) { s.Interval, s.Start = time.Minute, time.Time{} })},
		{name: "once, later", old: once, in: timing{start: n(now.Unix() + 7200)}, want: with(once, func(s *schedule.Spec) { s.Start = now.Add(2 * time.Hour) })},
		{name: "cron alone", old: cron, in: timing{cron: "0 0 1 * * ?"}, want: with(cron, func(s *schedule.Spec) { s.Expression = "0 0 1 * * ?" })},
		{name: "cron, not before", old: cron, in: timing{start: n(now.Unix() + 60), repeat: n(0)}, want: with(cron, func(s *schedule.Spec) { s.Start = now.Add(time.Minute) })},
		{name: "a unix cron keeps its dialect", old: unix, in: timing{start: n(0)}, want: with(unix, func(s *schedule.Spec) { s.Start = time.Time{} })},
		{name: "a unix cron gets a quartz one", old: unix, in: timing{cron: "0 0 1 * * ?"},
			want: with(unix, func(s *schedule.Spec) { s.Dialect, s.Expression = schedule.Quartz, "0 0 1 * * ?" })},
		{name: "simple to cron", old: simple, in: timing{kind: "cron", cron: "0 0 1 * * ?", repeat: n(0)},
			want: schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: "0 0 1 * * ?", Zone: "UTC"}},
		{name: "cron to simple", old: cron, in: timing{kind: "simple", interval: n(60), start: n(0)},
			want: schedule.Spec{Kind: schedule.Simple, Interval: time.Minute, Zone: "UTC"}},

		{name: "cron of a simple one", old: simple, in: timing{cron: "0 0 1 * * ?"}, err: "set schedulerType to cron"},
		{name: "to cron without cron", old: simple, in: timing{kind: "cron"}, err: "cron must be set when use cron scheduler"},
		{name: "to simple without start", old: cron, in: timing{kind: "simple", interval: n(60)}, err: "startTime must be set for simple scheduler"},
		{name: "to simple without interval", old: cron, in: timing{kind: "simple", start: n(0)}, err: "schedulerInterval must be set for simple scheduler"},
		{name: "to nothing known", old: cron, in: timing{kind: "daily"}, err: "[simple, cron], but daily found"},
		{name: "interval of a cron one", old: cron, in: timing{interval: n(60)}, err: "cron scheduler only need to specify cron task"},
		{name: "wrong cron", old: cron, in: timing{cron: "0 0 1 * * *"}, err: "cron task must follow format like this"},
		{name: "count that is over", old: simple, in: timing{repeat: n(2), interval: n(60)}, err: "stopTime has been passed"},
		{name: "a second fire of a once", old: once, in: timing{repeat: n(2)}, err: "interval must be set when use simple scheduler when repeat more than once"},
		{name: "negative start", old: simple, in: timing{start: n(-1)}, err: "startTime must be positive integer or 0"},
		{name: "interval 0", old: simple, in: timing{interval: n(0)}, err: "field[schedulerInterval] of message[APIXMsg] must be in the range of [1, 2147483647], but was 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.in.call = "X"
			got, err := row.in.revise(core.Trigger{Schedule: row.old, Floating: row.floating}, now, "UTC")
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("got error %v, want one with %q", err, row.err)
				}
				return
			}
			if err != nil || got != row.want {
				t.Errorf("got %+v, %v,\nwant %+v", got, err, row.want)
			}
		})
	}
}
