package schedule

import (
	"testing"
	"time"
)

func FuzzQuartz(f *testing.F) {
	for _, expression := range []string{
		"0 0/5 22-2 ? * FRI-MON", "0 15 10 L-3W * ? 2026-2030/2", "*/7 50-10/3 * 15W * ?", "0 0 0 ? * 6#3", "0 0 0 ? 2/3 1L",
		"0 0 0 1,15,L * ?", "0 30 2 * * ?", "0 0 0 30 2 ?", "0 0 0 ? * MON,WED#2", "* * * * * ? 1970 x", "0 0 0 LW NOV-FEB ?",
	} {
		f.Add(expression, uint8(0), uint8(0), int32(0))
	}
	f.Fuzz(func(t *testing.T, expression string, seam, policies uint8, before int32) {
		fuzz(t, Quartz, expression, seam, policies, before, 1)
	})
}

func FuzzUnix(f *testing.F) {
	for _, expression := range []string{
		"*/15 2 * * *", "30 2 * * *", "0 0 13 * 5", "0 0 */2 * 1-5/2", "5/20 1-3,22 1,31 jan-mar,7 sun,7", "@hourly", "@weekly",
		"0 22-2 * * *", "TZ= * * * * *", "@every 1s", "0 0 L * ?",
	} {
		f.Add(expression, uint8(0), uint8(0), int32(0))
	}
	f.Fuzz(func(t *testing.T, expression string, seam, policies uint8, before int32) {
		fuzz(t, Unix, expression, seam, policies, before, 60)
	})
}

// fuzz compiles an expression near a clock change. Whatever compiles must have slots that strictly increase, and near the
// change exactly those of the reference.
func fuzz(t *testing.T, dialect Dialect, expression string, seam, policies uint8, before int32, step int64) {
	place := seams[int(seam)%len(seams)]
	gaps := []Gap{"", GapSkip, GapFire, GapShift}
	overlaps := []Overlap{"", OverlapFirst, OverlapSecond, OverlapBoth}
	spec := Spec{
		Kind: Cron, Dialect: dialect, Expression: expression, Zone: place.zone,
		Gap: gaps[policies%4], Overlap: overlaps[policies/4%4],
	}
	s, err := spec.Compile()
	if err != nil {
		return
	}
	window := time.Duration(step) * 20 * time.Minute / time.Duration(max(1, step/10))
	from := instant(t, place.at).Add(-time.Duration(before) * time.Second % window).Truncate(time.Minute)
	at := from
	for range 20 {
		next, ok := s.Next(at)
		if !ok {
			break
		}
		if !next.After(at) {
			t.Fatalf("%+v: Next(%s) = %s", spec, at, next)
		}
		at = next
	}
	checkReference(t, spec, from, from.Add(window), step)
}
