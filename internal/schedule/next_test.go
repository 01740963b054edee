package schedule

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compile is for specs that must be valid.
func compile(t testing.TB, spec Spec) *Schedule {
	t.Helper()
	s, err := spec.Compile()
	if err != nil {
		t.Fatalf("compile %+v: %v", spec, err)
	}
	return s
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// between enumerates the slots in [from, to) by Next alone.
func between(s *Schedule, from, to time.Time) []time.Time {
	var slots []time.Time
	for at, ok := s.Next(from.Add(-1)); ok && at.Before(to); at, ok = s.Next(at) {
		slots = append(slots, at)
	}
	return slots
}

// checkReference compares a window of a schedule with the reference: the slots, and their count.
func checkReference(t testing.TB, spec Spec, from, to time.Time, step int64) {
	t.Helper()
	s := compile(t, spec)
	want := reference(t, spec, from, to, step)
	if diff := cmp.Diff(stamps(want), stamps(between(s, from, to))); diff != "" {
		t.Errorf("%+v in [%s, %s) (-reference +schedule):\n%s", spec, from, to, diff)
	}
	if got := s.count(nanos(from), nanos(to)-1); got != len(want) {
		t.Errorf("%+v: count in [%s, %s) = %d, want %d", spec, from, to, got, len(want))
	}
}

func stamps(times []time.Time) []string {
	texts := []string{}
	for _, at := range times {
		texts = append(texts, at.Format(time.RFC3339Nano))
	}
	return texts
}

// seams are the instants of clock changes, and of calendar oddities.
var seams = []struct{ zone, at string }{
	{"Europe/Berlin", "2026-03-29T01:00:00Z"},
	{"Europe/Berlin", "2026-10-25T01:00:00Z"},
	{"America/New_York", "2026-03-08T07:00:00Z"},
	{"America/New_York", "2026-11-01T06:00:00Z"},
	{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"},
	{"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
	{"America/St_Johns", "2010-03-14T03:31:00Z"},
	{"America/St_Johns", "2010-11-07T02:31:00Z"},
	{"America/Sao_Paulo", "2018-11-04T03:00:00Z"},
	{"America/Sao_Paulo", "2019-02-17T02:00:00Z"},
	{"Africa/Cairo", "2024-04-25T22:00:00Z"},
	{"Asia/Beirut", "2024-10-26T21:00:00Z"},
	{"Antarctica/Troll", "2026-03-29T01:00:00Z"},
	{"Pacific/Apia", "2011-12-30T10:00:00Z"},
	{"Europe/Warsaw", "2040-12-31T12:00:00Z"},
	{"UTC", "2028-02-29T00:00:00Z"},
}

// TestUnixTableAgainstReference checks that the hand-made rows and the brute force agree, so that neither is wrong alone.
func TestUnixTableAgainstReference(t *testing.T) {
	for i, v := range readVectors(t, "unix-hand.tsv") {
		if v.want == "REJECT" || i%2 == 1 && testing.Short() {
			continue
		}
		spec := Spec{Kind: Cron, Dialect: Unix, Expression: v.expression, Zone: v.zone}
		to := v.from.Add(30 * time.Hour)
		var want []string
		for _, fire := range strings.Fields(v.want) {
			if at, err := time.Parse(time.RFC3339, fire); err == nil && at.Before(to) {
				want = append(want, fire)
			}
		}
		var got []string
		for _, at := range reference(t, spec, v.from.Truncate(time.Minute).Add(time.Minute), to, 60) {
			if len(got) < v.n {
				got = append(got, at.Format(offsetLayout))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %q (-table +reference):\n%s", v.line, v.expression, diff)
		}
	}
}

func TestUnixAgainstReference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		for _, seam := range seams {
			spec := Spec{Kind: Cron, Dialect: Unix, Expression: randomUnix(random), Zone: seam.zone}
			randomPolicies(random, &spec)
			from := instant(t, seam.at).Add(-time.Duration(random.IntN(900)) * time.Minute)
			checkReference(t, spec, from, from.Add(20*time.Hour), 60)
		}
	}
}

func TestQuartzAgainstReference(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		for _, seam := range seams {
			spec := Spec{Kind: Cron, Dialect: Quartz, Expression: randomQuartz(random), Zone: seam.zone}
			randomPolicies(random, &spec)
			from := instant(t, seam.at).Add(-time.Duration(random.IntN(5400)) * time.Second)
			checkReference(t, spec, from, from.Add(2*time.Hour), 1)
		}
	}
}

func randomPolicies(random *rand.Rand, spec *Spec) {
	spec.Gap = pick(random, "", GapSkip, GapFire, GapShift)
	spec.Overlap = pick(random, "", OverlapFirst, OverlapSecond, OverlapBoth)
}

func randomUnix(random *rand.Rand) string {
	minute := pick(random, "*", "*/7", "0", "30", "0,30", "15-45/10", "59")
	hour := pick(random, "*", "*/2", "2", "1-3", "0", "23", "0,1,2")
	day := pick(random, "*", "*", "*/2", fmt.Sprint(1+random.IntN(31)))
	month := pick(random, "*", "*", "3,4,10-12", "*/2")
	weekday := pick(random, "*", "*", "0", "6,7", "SAT", "*/2")
	return strings.Join([]string{minute, hour, day, month, weekday}, " ")
}

func randomQuartz(random *rand.Rand) string {
	second := pick(random, "0", "*/20", "7,41", "50-10/5")
	minute := pick(random, "*", "0/13", "30", "50-10")
	hour := pick(random, "*", "22-3", "0/2", "1,2,3")
	days := pick(random, "* * ?", "? * *", "L * ?", "LW * ?", "L-2 * ?", "? * SAT-MON", "? * 1L", "? * 7#1", "29W * ?", "28-4,L * ?")
	return strings.Join([]string{second, minute, hour, days, pick(random, "", "2010-2040/2", "*")}, " ")
}

func pick[T any](random *rand.Rand, choices ...T) T { return choices[random.IntN(len(choices))] }

// TestCountOverYears compares counting with enumerating where the count crosses many months and clock changes.
func TestCountOverYears(t *testing.T) {
	for _, expression := range []string{"17 2 * * *", "*/30 2 * * 0", "0 0 29 2 *", "30 1,2,3 1-7 3,10 6,0"} {
		for _, gap := range []Gap{GapSkip, GapFire, GapShift} {
			for _, zone := range []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe"} {
				s := compile(t, Spec{Kind: Cron, Dialect: Unix, Expression: expression, Zone: zone, Gap: gap})
				from, to := instant(t, "2027-12-30T11:00:00Z"), instant(t, "2033-01-02T13:30:00Z")
				if got, want := s.count(nanos(from), nanos(to)-1), len(between(s, from, to)); got != want {
					t.Errorf("%q in %s with gap %s: count %d, want %d", expression, zone, gap, got, want)
				}
			}
		}
	}
}

func TestPolicies(t *testing.T) {
	const spring, autumn = "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"
	tests := []struct {
		name, expression, from string
		gap                    Gap
		overlap                Overlap
		want                   string
	}{
		{"gap skip", "0 15,45 2 * * ?", spring, GapSkip, "", "2026-03-30T02:15:00+02:00 2026-03-30T02:45:00+02:00"},
		{"gap fire once", "0 15,45 2 * * ?", spring, GapFire, "", "2026-03-29T03:00:00+02:00 2026-03-30T02:15:00+02:00"},
		{"gap shift each", "0 15,45 2 * * ?", spring, GapShift, "", "2026-03-29T03:15:00+02:00 2026-03-29T03:45:00+02:00"},
		{"gap shift among others", "0 15 2,3 * * ?", spring, GapShift, "", "2026-03-29T03:15:00+02:00 2026-03-30T02:15:00+02:00"},
		{"gap shift interleaved", "0 0/20 2-3 * * ?", "2026-03-29T01:10:00Z", GapShift, "", "2026-03-29T03:20:00+02:00 2026-03-29T03:40:00+02:00"},
		{"overlap first", "0 30 2 * * ?", autumn, "", OverlapFirst, "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		{"overlap second", "0 30 2 * * ?", autumn, "", OverlapSecond, "2026-10-25T02:30:00+01:00 2026-10-26T02:30:00+01:00"},
		{"overlap both", "0 30 2 * * ?", autumn, "", OverlapBoth, "2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00"},
		{"last year's second copy", "0 30 2 25 10 ? 2026", "2026-10-25T00:45:00Z", "", OverlapSecond, "2026-10-25T02:30:00+01:00 null"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec := Spec{Kind: Cron, Dialect: Quartz, Expression: test.expression, Zone: "Europe/Berlin", Gap: test.gap, Overlap: test.overlap}
			fires, exhausted, err := Preview(spec, instant(t, test.from), 2)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, fire := range fires {
				got = append(got, fire.Format(offsetLayout))
			}
			if exhausted {
				got = append(got, "null")
			}
			if diff := cmp.Diff(strings.Fields(test.want), got); diff != "" {
				t.Errorf("fires (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextSubSecond(t *testing.T) {
	s := compile(t, Spec{Kind: Cron, Dialect: Quartz, Expression: "* * * * * ?"})
	for from, want := range map[string]string{
		"2026-01-01T00:00:00Z":           "2026-01-01T00:00:01Z",
		"2026-01-01T00:00:00.000000001Z": "2026-01-01T00:00:01Z",
		"2026-01-01T00:00:00.999999999Z": "2026-01-01T00:00:01Z",
		"1969-12-31T23:59:59.5Z":         "1970-01-01T00:00:00Z",
		"1600-01-01T00:00:00Z":           "1970-01-01T00:00:00Z", // too early for nanoseconds in an int64
		"2199-12-31T23:59:58Z":           "2199-12-31T23:59:59Z",
	} {
		if got, ok := s.Next(instant(t, from)); !ok || !got.Equal(instant(t, want)) {
			t.Errorf("Next(%s) = %s, %t, want %s", from, got, ok, want)
		}
	}
	for _, from := range []string{"2199-12-31T23:59:59Z", "2199-12-31T23:59:59.5Z", "9999-01-01T00:00:00Z"} {
		if got, ok := s.Next(instant(t, from)); ok {
			t.Errorf("Next(%s) = %s, want never again", from, got)
		}
	}
}

func TestQuartzDays(t *testing.T) {
	tests := []struct{ name, expression, want string }{
		{"nearest to Saturday the 1st stays in the month", "0 0 0 1W 8 ? 2026", "2026-08-03"},
		{"nearest to Sunday the 31st stays in the month", "0 0 0 31W 5 ? 2026", "2026-05-29"},
		{"31W wants a 31st, even before a 1 May that is a Saturday", "0 0 0 31W 4 ? 2027", ""},
		{"L-30 wants 31 days", "0 0 0 L-30 2-3 ? 2026", "2026-03-01"},
		{"L-30W is Monday the 2nd", "0 0 0 L-30W 3 ? 2026", "2026-03-02"},
		{"L-30W wants 31 days", "0 0 0 L-30W 2 ? 2026", ""},
		{"L-0 is L", "0 0 0 L-0 2 ? 2028", "2028-02-29"},
		{"fifth Sunday of a 28 day month", "0 0 0 ? 2 1#5 2026", ""},
		{"last Saturday on the last day", "0 0 0 ? 2 7L 2026", "2026-02-28"},
		{"wrapped days and months", "0 0 0 30-2 12-1 ? 2026", "2026-01-01 2026-01-02 2026-01-30 2026-01-31 2026-12-01 2026-12-02 2026-12-30 2026-12-31"},
		{"the last evening of 2199 in the west is past the end", "0 0 23 31 12 ? 2199", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := compile(t, Spec{Kind: Cron, Dialect: Quartz, Expression: test.expression, Zone: "America/New_York"})
			var got []string
			for at, ok := s.Next(time.Time{}); ok; at, ok = s.Next(at) {
				got = append(got, at.Format(time.DateOnly))
			}
			if diff := cmp.Diff(strings.Fields(test.want), got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("days (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBeginOfTime: where it was still 1969 at instant 0, slots begin with the local year.
func TestBeginOfTime(t *testing.T) {
	s := compile(t, Spec{Kind: Cron, Dialect: Quartz, Expression: "* * * * * ?", Zone: "America/New_York"})
	if got, want := stamps(between(s, time.Time{}, time.Unix(5*3600+2, 0))), []string{"1970-01-01T00:00:00-05:00", "1970-01-01T00:00:01-05:00"}; !cmp.Equal(got, want) {
		t.Errorf("first slots %v, want %v", got, want)
	}
	if got := s.count(0, (5*3600+1)*int64(time.Second)); got != 2 {
		t.Errorf("count of the first slots = %d, want 2", got)
	}
}

// TestNeverEastOfGreenwich: the sentinel for "no match" must not be mistaken for a slot where the offset is positive.
func TestNeverEastOfGreenwich(t *testing.T) {
	for _, zone := range []string{"Asia/Kolkata", "Europe/Berlin", "Pacific/Apia"} {
		s := compile(t, Spec{Kind: Cron, Dialect: Quartz, Expression: "0 0 0 30 2 ?", Zone: zone})
		if at, ok := s.Next(instant(t, "2026-01-01T00:00:00Z")); ok {
			t.Errorf("30 February came in %s: %s", zone, at)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	s := compile(t, Spec{Kind: Cron, Dialect: Unix, Expression: "*/5 * * * *", Zone: "Europe/Berlin"})
	at := instant(t, "2026-03-28T12:00:00Z")
	if n := testing.AllocsPerRun(1000, func() { at, _ = s.Next(at) }); n != 0 {
		t.Errorf("Next allocates %v times, want 0", n)
	}
}

func BenchmarkNext(b *testing.B) {
	benchmarks := []struct{ name, expression, zone string }{
		{"every second", "* * * * * ?", "UTC"},
		{"every 5 minutes", "0 0/5 * * * ?", "Europe/Berlin"},
		{"daily", "0 30 2 * * ?", "America/New_York"},
		{"last weekday", "0 0 18 LW * ?", "Europe/Berlin"},
		{"leap day", "0 0 0 29 2 ?", "Europe/Berlin"},
		{"never", "0 0 0 30 2 ?", "Europe/Berlin"},
	}
	for _, benchmark := range benchmarks {
		b.Run(benchmark.name, func(b *testing.B) {
			s := compile(b, Spec{Kind: Cron, Dialect: Quartz, Expression: benchmark.expression, Zone: benchmark.zone})
			start := instant(b, "2026-01-01T00:00:00Z")
			at := start
			for b.Loop() {
				next, ok := s.Next(at)
				if at = next; !ok || next.Year() > 2190 {
					at = start
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	spec := Spec{Kind: Cron, Dialect: Quartz, Expression: "0 0/5 8-18 ? * MON-FRI", Zone: "Europe/Berlin"}
	for b.Loop() {
		compile(b, spec)
	}
}
