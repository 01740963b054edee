package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettle(t *testing.T) {
	const day = "2026-01-01T"
	minutely := Spec{Kind: Cron, Dialect: Unix, Expression: "* * * * *"}
	hourly := Spec{Kind: Simple, Start: instant(t, day+"00:00:00Z"), Interval: time.Hour}
	tests := []struct {
		name      string
		spec      Spec
		misfire   Misfire
		next, now string
		limit     int
		want      string
	}{
		{"nothing due", minutely, Misfire{}, "10:00:00", "09:59:59", 9, "fires [] gaps [] next 10:00:00"},
		{"due now", minutely, Misfire{}, "10:00:00", "10:00:00", 9, "fires [10:00:00] gaps [] next 10:01:00"},
		{"just on time", minutely, Misfire{Policy: Skip}, "10:00:00", "10:01:00", 9, "fires [10:00:00 10:01:00] gaps [] next 10:02:00"},
		{"just misfired", minutely, Misfire{Policy: Skip}, "10:00:00", "10:01:01", 9, "fires [10:01:00] gaps [missed 10:00:00..10:00:00 1] next 10:02:00"},
		{"longer threshold", minutely, Misfire{Policy: Skip, Threshold: time.Hour}, "10:00:00", "10:02:00", 9, "fires [10:00:00 10:01:00 10:02:00] gaps [] next 10:03:00"},
		{"skip", minutely, Misfire{Policy: Skip}, "10:00:00", "10:05:30", 9, "fires [10:05:00] gaps [missed 10:00:00..10:04:00 5] next 10:06:00"},
		{"once", minutely, Misfire{}, "10:00:00", "10:05:30", 9, "fires [10:04:00 10:05:00] gaps [merged 10:00:00..10:03:00 4] next 10:06:00"},
		{"once with one late", hourly, Misfire{Policy: FireOnceNow}, "10:00:00", "10:30:00", 9, "fires [10:00:00] gaps [] next 11:00:00"},
		{"once beyond the window", hourly, Misfire{Policy: FireOnceNow, CatchupWindow: time.Minute}, "08:00:00", "10:30:00", 9, "fires [10:00:00] gaps [merged 08:00:00..09:00:00 2] next 11:00:00"},
		{"all within the window", hourly, Misfire{Policy: FireAll, CatchupWindow: 2 * time.Hour}, "06:00:00", "10:00:30", 9, "fires [09:00:00 10:00:00] gaps [missed 06:00:00..08:00:00 3] next 11:00:00"},
		{"all, window inclusive", hourly, Misfire{Policy: FireAll, CatchupWindow: 2 * time.Hour}, "06:00:00", "10:00:00", 9, "fires [08:00:00 09:00:00 10:00:00] gaps [missed 06:00:00..07:00:00 2] next 11:00:00"},
		{"all up to the maximum", hourly, Misfire{Policy: FireAll, CatchupWindow: 24 * time.Hour, CatchupMax: 2}, "06:00:00", "10:30:00", 9, "fires [09:00:00 10:00:00] gaps [missed 06:00:00..08:00:00 3] next 11:00:00"},
		{"all in the default window", minutely, Misfire{Policy: FireAll}, "08:00:00", "10:00:30", 2, "fires [09:01:00 09:02:00] gaps [missed 08:00:00..09:00:00 61] next 09:03:00"},
		{"limit", minutely, Misfire{Policy: FireAll}, "10:00:00", "10:05:30", 2, "fires [10:00:00 10:01:00] gaps [] next 10:02:00"},
		{"limit after a gap", minutely, Misfire{}, "10:00:00", "10:05:30", 1, "fires [10:04:00] gaps [merged 10:00:00..10:03:00 4] next 10:05:00"},
		{"no fires wanted", minutely, Misfire{}, "10:00:00", "10:05:30", 0, "fires [] gaps [merged 10:00:00..10:03:00 4] next 10:04:00"},
		{"next between slots", minutely, Misfire{}, "09:59:01", "10:00:00", 9, "fires [10:00:00] gaps [] next 10:01:00"},
		{"the last slot", Spec{Kind: Simple, Start: hourly.Start, Interval: time.Hour, Repeat: 3}, Misfire{}, "02:00:00", "02:00:01", 9, "fires [02:00:00] gaps [] next never"},
		{"the last slots missed", Spec{Kind: Simple, Start: hourly.Start, Interval: time.Hour, Repeat: 3}, Misfire{Policy: Skip}, "01:00:00", "09:00:00", 9, "fires [] gaps [missed 01:00:00..02:00:00 2] next never"},
		{"after the end", Spec{Kind: Simple, Start: hourly.Start, Interval: time.Hour, Repeat: 3}, Misfire{}, "03:00:00", "09:00:00", 9, "fires [] gaps [] next never"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Settle(compile(t, test.spec), test.misfire, instant(t, day+test.next+"Z"), instant(t, day+test.now+"Z"), test.limit)
			if diff := cmp.Diff(test.want, describe(got)); diff != "" {
				t.Errorf("settlement (-want +got):\n%s", diff)
			}
		})
	}
}

func describe(s Settlement) string {
	fires, gaps, next := []string{}, []string{}, "never"
	for _, fire := range s.Fires {
		fires = append(fires, fire.Format(time.TimeOnly))
	}
	for _, gap := range s.Gaps {
		gaps = append(gaps, fmt.Sprintf("%s %s..%s %d", gap.Decision, gap.From.Format(time.TimeOnly), gap.To.Format(time.TimeOnly), gap.Count))
	}
	if !s.Next.IsZero() {
		next = s.Next.Format(time.TimeOnly)
	}
	return fmt.Sprintf("fires %v gaps %v next %s", fires, gaps, next)
}

func TestSettleNothingLeft(t *testing.T) {
	s := compile(t, Spec{Kind: Cron, Dialect: Unix, Expression: "* * * * *"})
	if got := Settle(s, Misfire{}, time.Time{}, instant(t, "2026-01-01T00:00:00Z"), 9); !cmp.Equal(got, Settlement{}) {
		t.Errorf("a trigger without a next slot settled %+v", got)
	}
}

// TestSettleAccountsForEverySlot settles random schedules in calls of random size and compares the account with the slots that
// Next enumerates and with the policies as their text reads.
func TestSettleAccountsForEverySlot(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 600 {
		seam := pick(random, seams...)
		spec := randomSpec(random, seam.zone, instant(t, seam.at))
		s := compile(t, spec)
		m := Misfire{
			Policy:        pick(random, "", FireOnceNow, Skip, FireAll),
			Threshold:     pick(random, 0, time.Second, 10*time.Minute),
			CatchupWindow: pick(random, 0, 5*time.Minute, 6*time.Hour),
			CatchupMax:    pick(random, 0, 1, 7, 1000),
		}
		next, ok := s.Next(instant(t, seam.at).Add(-time.Duration(random.IntN(1200)) * time.Minute))
		if !ok {
			continue
		}
		now := next.Add(time.Duration(random.Int64N(int64(pick(random, time.Minute, time.Hour, 40*time.Hour)))))
		slots := between(s, next, now.Add(1))
		wantFires, wantDecision := verdict(slots, m, now)
		name := fmt.Sprintf("%+v %+v next %s now %s", spec, m, next, now)

		var fires []time.Time
		var gaps []Omission
		for cursor := next; !cursor.IsZero() && !cursor.After(now); {
			done := Settle(s, m, cursor, now, 1+random.IntN(300))
			fires, gaps, cursor = append(fires, done.Fires...), append(gaps, done.Gaps...), done.Next
			if upcoming, ok := s.Next(now); !cursor.IsZero() && cursor.After(now) && !cursor.Equal(upcoming) || cursor.IsZero() && ok {
				t.Fatalf("%s: next %s, want %s", name, cursor, upcoming)
			}
		}
		if diff := cmp.Diff(stamps(wantFires), stamps(fires)); diff != "" {
			t.Fatalf("%s: fires (-want +got):\n%s", name, diff)
		}
		var wantGaps []Omission
		if n := len(slots) - len(wantFires); n > 0 {
			wantGaps = []Omission{{wantDecision, slots[0], slots[n-1], n}}
		}
		if diff := cmp.Diff(wantGaps, gaps); diff != "" {
			t.Fatalf("%s: gaps (-want +got):\n%s", name, diff)
		}
	}
}

// verdict says which of the slots fire, judging each by its lateness alone, and why the others do not. Those are always the
// oldest.
func verdict(slots []time.Time, m Misfire, now time.Time) (fires []time.Time, others Decision) {
	m = m.withDefaults()
	var late, onTime []time.Time
	for _, slot := range slots {
		if now.Sub(slot) > m.Threshold {
			late = append(late, slot)
		} else {
			onTime = append(onTime, slot)
		}
	}
	switch m.Policy {
	case Skip:
		return onTime, Missed
	case FireOnceNow:
		return append(late[max(0, len(late)-1):], onTime...), Merged
	}
	late = slices.DeleteFunc(late, func(slot time.Time) bool { return now.Sub(slot) > m.CatchupWindow })
	return append(late[max(0, len(late)-m.CatchupMax):], onTime...), Missed
}

func randomSpec(random *rand.Rand, zone string, near time.Time) Spec {
	switch random.IntN(3) {
	case 0:
		return Spec{
			Kind: Simple, Zone: zone, Start: near.Add(-time.Duration(random.Int64N(int64(48 * time.Hour)))),
			Interval: pick(random, time.Second, 17*time.Second, 10*time.Minute, 5*time.Hour), Repeat: pick(random, 0, 0, 1, 50),
		}
	case 1:
		spec := Spec{Kind: Cron, Dialect: Unix, Zone: zone, Expression: randomUnix(random)}
		randomPolicies(random, &spec)
		return spec
	}
	spec := Spec{Kind: Cron, Dialect: Quartz, Zone: zone, Expression: randomQuartz(random), End: near.Add(12 * time.Hour)}
	randomPolicies(random, &spec)
	return spec
}

// TestSettleWeekOfSeconds holds Settle to its promise that its cost does not grow with what was missed.
func TestSettleWeekOfSeconds(t *testing.T) {
	now := instant(t, "2026-03-30T12:00:00Z")
	next := now.AddDate(0, 0, -7)
	specs := map[string]Spec{
		"simple": {Kind: Simple, Start: next, Interval: time.Second},
		"cron":   {Kind: Cron, Dialect: Quartz, Expression: "* * * * * ?", Zone: "Europe/Berlin"},
	}
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			s := compile(t, spec)
			begun := time.Now()
			got := Settle(s, Misfire{Policy: Skip}, next, now, 256)
			if took := time.Since(begun); took > 50*time.Millisecond {
				t.Errorf("took %s, want less than 50ms", took)
			}
			want := []Omission{{Missed, next, now.Add(-61 * time.Second), 7*secondsPerDay - 60}}
			if diff := cmp.Diff(want, got.Gaps); diff != "" {
				t.Errorf("gaps (-want +got):\n%s", diff)
			}
			if len(got.Fires) != 61 || !got.Next.Equal(now.Add(time.Second)) {
				t.Errorf("%d fires and next %s, want 61 and %s", len(got.Fires), got.Next, now.Add(time.Second))
			}
		})
	}
}

func BenchmarkSettleWeekOfSeconds(b *testing.B) {
	now := instant(b, "2026-03-30T12:00:00Z")
	s := compile(b, Spec{Kind: Cron, Dialect: Quartz, Expression: "* * * * * ?", Zone: "Europe/Berlin"})
	for b.Loop() {
		Settle(s, Misfire{}, now.AddDate(0, 0, -7), now, 256)
	}
}
