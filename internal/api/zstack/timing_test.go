package zstack

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

func TestTiming(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	n := func(x int64) *int64 { return &x }
	later := n(now.Unix() + 60)
	for _, row := range []struct {
		name string
		in   timing
		want string // text of the error, "" = fine
	}{
		{"simple for ever", timing{kind: "simple", interval: n(60), start: n(0)}, ""},
		{"simple once", timing{kind: "simple", repeat: n(1), start: later}, ""},
		{"simple once, now", timing{kind: "simple", repeat: n(1), start: n(0)}, ""},
		{"simple, past start for ever", timing{kind: "simple", interval: n(60), start: n(1)}, ""},
		{"simple, past start, not over", timing{kind: "simple", interval: n(3600), repeat: n(3), start: n(now.Unix() - 7200)}, ""},
		{"simple, longest", timing{kind: "simple", interval: n(1), repeat: n(2147454847), start: n(0)}, "stopTime out of mysql timestamp range"},
		{"no type", timing{}, "valid value for field[schedulerType] of message[APIXMsg] are [simple, cron], but  found"},
		{"type in upper case", timing{kind: "Simple"}, "[simple, cron], but Simple found"},
		{"no start", timing{kind: "simple", interval: n(60)}, "startTime must be set for simple scheduler"},
		{"negative start", timing{kind: "simple", interval: n(60), start: n(-1)}, "startTime must be positive integer or 0"},
		{"late start", timing{kind: "simple", interval: n(60), start: n(2147454848)}, "startTime out of range"},
		{"latest start", timing{kind: "simple", interval: n(60), start: n(2147454847)}, ""},
		{"late start in ms", timing{kind: "simple", interval: n(60), start: n(2147454848000)}, "startTime out of range"},
		{"no interval", timing{kind: "simple", start: n(0)}, "schedulerInterval must be set for simple scheduler"},
		{"no interval, count 0", timing{kind: "simple", start: n(0), repeat: n(0)}, "schedulerInterval must be set for simple scheduler"},
		{"no interval, count 2", timing{kind: "simple", start: n(0), repeat: n(2)}, "interval must be set when use simple scheduler when repeat more than once"},
		{"interval 0", timing{kind: "simple", start: n(0), interval: n(0)}, "field[schedulerInterval] of message[APIXMsg] must be in the range of [1, 2147483647], but was 0"},
		{"interval too long", timing{kind: "simple", start: n(0), interval: n(2147483648)}, "field[schedulerInterval]"},
		{"negative count", timing{kind: "simple", start: n(0), interval: n(1), repeat: n(-1)}, "field[repeatCount] of message[APIXMsg] must be in the range of [0, 2147483647], but was -1"},
		{"too long in all", timing{kind: "simple", start: n(0), interval: n(2147483647), repeat: n(2147483647)}, "duration time out of range"},
		{"ends too late", timing{kind: "simple", start: n(2147454847), interval: n(60), repeat: n(2)}, "stopTime out of mysql timestamp range"},
		{"over", timing{kind: "simple", start: n(now.Unix() - 61), interval: n(60), repeat: n(2)}, "stopTime has been passed"},
		{"over, once", timing{kind: "simple", start: n(1), repeat: n(1)}, "stopTime has been passed"},
		{"stop passed", timing{kind: "simple", start: n(0), interval: n(60), stop: n(now.Unix() - 1)}, "stopTime has been passed"},
		{"stop before start", timing{kind: "simple", start: n(now.Unix() + 100), interval: n(60), stop: later}, "stopTime must not be before startTime"},
		{"stop 0", timing{kind: "simple", start: n(0), interval: n(60), stop: n(0)}, ""},
		{"cron", timing{kind: "cron", cron: "0 0/3 17-23 * * ?"}, ""},
		{"cron with what the Java SDK adds", timing{kind: "cron", cron: "0 0/3 17-23 * * ?", repeat: n(0), start: n(0)}, ""},
		{"cron with start", timing{kind: "cron", cron: "0 0/3 17-23 * * ?", start: later}, ""},
		{"cron without cron", timing{kind: "cron"}, "cron must be set when use cron scheduler"},
		{"cron of five fields", timing{kind: "cron", cron: "0 17 * * *"}, `cron task must follow format like this : "0 0/3 17-23 * * ?" `},
		{"cron with interval", timing{kind: "cron", cron: "0 0/3 17-23 * * ?", interval: n(60)}, "cron scheduler only need to specify cron task"},
		{"cron with count", timing{kind: "cron", cron: "0 0/3 17-23 * * ?", repeat: n(1)}, "cron scheduler only need to specify cron task"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.in.call = "X"
			spec, err := row.in.spec(now, "UTC")
			if row.want == "" {
				if err != nil {
					t.Fatalf("got error %v, want none", err)
				}
				if spec.Kind == schedule.Simple && spec.Start.IsZero() {
					spec.Start = now // as the engine does
				}
				if _, err := spec.Compile(); err != nil {
					t.Errorf("the schedule does not compile: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.HasPrefix(err.Error(), codeArgument) {
				t.Errorf("got error %v, want SYS.1007 with %q", err, row.want)
			}
		})
	}
}

func TestWholeNumber(t *testing.T) {
	for text, want := range map[string]int64{"3600": 3600, "3600.0": 3600, "1.510669257141E12": 1510669257141, "-0": 0, " 7 ": 7, "9223372036854775807": 1<<63 - 1} {
		if got, ok := wholeNumber(text); !ok || got != want {
			t.Errorf("wholeNumber(%q) = %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "1.5", "x", "NaN", "Inf", "1e400", "9223372036854775808", "0x10", "1_000"} {
		if got, ok := wholeNumber(text); ok {
			t.Errorf("wholeNumber(%q) = %d, want none", text, got)
		}
	}
}
