package schedule

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompileErrors(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	quartz := func(expression string) Spec { return Spec{Kind: Cron, Dialect: Quartz, Expression: expression} }
	unix := func(expression string) Spec { return Spec{Kind: Cron, Dialect: Unix, Expression: expression} }
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"no kind", Spec{}, `kind field "": must be simple or cron`},
		{"no dialect", Spec{Kind: Cron, Expression: "0 0 * * *"}, `dialect field "": must be quartz or unix`},
		{"zone", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Zone: "Berlin"}, `zone field "Berlin": is not a zone of the IANA database; use a name like Europe/Berlin, or UTC`},
		{"gap", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Gap: "jump"}, `gap field "jump": must be skip, fire_at_transition or shift`},
		{"overlap", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Overlap: "none"}, `overlap field "none": must be first, second or both`},
		{"cron with interval", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Interval: time.Second}, `interval field "1s": belongs to a simple schedule; leave it empty in a cron one`},
		{"cron with repeat", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Repeat: 1}, `repeat field "1": belongs to a simple schedule; leave it empty in a cron one`},
		{"end before start", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 * * *", Start: start, End: start.Add(-1)}, `end field "2025-12-31T23:59:59Z": must not be before start`},
		{"start out of range", Spec{Kind: Simple, Interval: time.Second, Start: start.AddDate(300, 0, 0)}, `start field "2326-01-01T00:00:00Z": must lie in the years 1970 to 2199`},
		{"end out of range", Spec{Kind: Simple, Interval: time.Second, Start: start, End: start.AddDate(300, 0, 0)}, `end field "2326-01-01T00:00:00Z": must lie in the years 1970 to 2199`},
		{"simple without start", Spec{Kind: Simple, Interval: time.Second}, `start field "": is required: a simple schedule counts its intervals from there`},
		{"simple without interval", Spec{Kind: Simple, Start: start}, `interval field "0s": must be whole seconds, at least 1s`},
		{"simple below a second", Spec{Kind: Simple, Start: start, Interval: time.Millisecond}, `interval field "1ms": must be whole seconds, at least 1s`},
		{"simple with a fraction", Spec{Kind: Simple, Start: start, Interval: 1500 * time.Millisecond}, `interval field "1.5s": must be whole seconds, at least 1s`},
		{"simple negative repeat", Spec{Kind: Simple, Start: start, Interval: time.Second, Repeat: -1}, `repeat field "-1": must be 0 (for ever) or the number of fires in all`},
		{"simple with expression", Spec{Kind: Simple, Start: start, Interval: time.Second, Expression: "* * * * *"}, `expression field "* * * * *": belongs to a cron schedule; leave it empty in a simple one`},
		{"simple with dialect", Spec{Kind: Simple, Start: start, Interval: time.Second, Dialect: Unix}, `dialect field "unix": belongs to a cron schedule; leave it empty in a simple one`},
		{"simple with gap", Spec{Kind: Simple, Start: start, Interval: time.Second, Gap: GapSkip}, `gap field "skip": belongs to a cron schedule; leave it empty in a simple one`},
		{"simple with overlap", Spec{Kind: Simple, Start: start, Interval: time.Second, Overlap: OverlapBoth}, `overlap field "both": belongs to a cron schedule; leave it empty in a simple one`},

		{"quartz hour", quartz("0 0 25 * * ?"), `hour field "25": 25 is out of range; use 0 to 23`},
		{"quartz five fields", quartz("0 0 * * *"), `expression field "0 0 * * *": has 5 fields; the quartz dialect has 6 or 7: second minute hour day-of-month month day-of-week [year]`},
		{"quartz eighth field", quartz("0 0 0 * * ? 2026 x"), `expression field "0 0 0 * * ? 2026 x": has 8 fields; the quartz dialect has 6 or 7: second minute hour day-of-month month day-of-week [year]`},
		{"quartz no question mark", quartz("0 0 0 13 * FRI"), `day-of-week field "FRI": stands beside day-of-month "13"; exactly one of the two must be ?`},
		{"quartz two question marks", quartz("0 0 0 ? * ?"), `day-of-week field "?": is ? like day-of-month; exactly one of the two must be ?, write * here for every day`},
		{"quartz question mark elsewhere", quartz("0 0 ? * * ?"), `hour field "?": "?" is not a value; use 0 to 23`},
		{"quartz weekday 0", quartz("0 0 0 ? * 0"), `day-of-week field "0": 0 is out of range; use 1 to 7 or SUN to SAT`},
		{"quartz # in a list", quartz("0 0 0 ? * MON,WED#2"), `day-of-week field "MON,WED#2": L and # must be the only entry; Quartz applies them to one day of a list only`},
		{"quartz L in a weekday list", quartz("0 0 0 ? * L,2"), `day-of-week field "L,2": L and # must be the only entry; Quartz applies them to one day of a list only`},
		{"quartz nL in a weekday list", quartz("0 0 0 ? * 2,6L"), `day-of-week field "2,6L": L and # must be the only entry; Quartz applies them to one day of a list only`},
		{"quartz W in a list", quartz("0 0 0 15,16W * ?"), `day-of-month field "15,16W": W must be the only entry; Quartz applies it to one day of a list only`},
		{"quartz LW in a list", quartz("0 0 0 LW,15 * ?"), `day-of-month field "LW,15": W must be the only entry; Quartz applies it to one day of a list only`},
		{"quartz two L", quartz("0 0 0 L,L-3 * ?"), `day-of-month field "L,L-3": L may stand in a list once; Quartz keeps only one of them`},
		{"quartz L offset", quartz("0 0 0 L-31 * ?"), `day-of-month field "L-31": "L-31" is not a last day; use L, LW, L-n or L-nW with n from 0 to 30`},
		{"quartz L misspelt", quartz("0 0 0 L3 * ?"), `day-of-month field "L3": "L3" is not a last day; use L, LW, L-n or L-nW with n from 0 to 30`},
		{"quartz 32W", quartz("0 0 0 32W * ?"), `day-of-month field "32W": "32W" is not a nearest weekday; use 1W to 31W`},
		{"quartz #6", quartz("0 0 0 ? * 2#6"), `day-of-week field "2#6": "#6" is not a number of a weekday in the month; use #1 to #5`},
		{"quartz weekday before #", quartz("0 0 0 ? * 8#1"), `day-of-week field "8#1": 8 is out of range; use 1 to 7 or SUN to SAT`},
		{"quartz weekday before L", quartz("0 0 0 ? * 0L"), `day-of-week field "0L": 0 is out of range; use 1 to 7 or SUN to SAT`},
		{"quartz step too large", quartz("0 0/60 * * * ?"), `minute field "0/60": "60" is not a step; use 1 to 59`},
		{"quartz hour step too large", quartz("0 0 */24 * * ?"), `hour field "*/24": "24" is not a step; use 1 to 23`},
		{"quartz step after a name", quartz("0 0 0 ? * MON-FRI/2"), `day-of-week field "MON-FRI/2": MON-FRI/2 has a step after a name, which Quartz ignores; write numbers`},
		{"quartz year", quartz("0 0 0 * * ? 1969"), `year field "1969": 1969 is out of range; use 1970 to 2199`},
		{"quartz year range", quartz("0 0 0 * * ? 2030-2028"), `year field "2030-2028": range 2030-2028 runs backwards; write it as 2030-2199,1970-2028`},
		{"quartz empty entry", quartz("0 1, * * * ?"), `minute field "1,": has an empty entry; separate values by single commas, like 1,5`},
		{"quartz day in a list", quartz("0 0 0 1,*3 * ?"), `day-of-month field "1,*3": "*3" is not a value; use 1 to 31`},
		{"quartz second", quartz("x 0 0 * * ?"), `second field "X": "X" is not a value; use 0 to 59`},
		{"quartz month", quartz("0 0 0 1 FOO ?"), `month field "FOO": "FOO" is not a value; use 1 to 12 or JAN to DEC`},

		{"unix six fields", unix("0 0 0 * * *"), `expression field "0 0 0 * * *": has 6 fields; the unix dialect has 5: minute hour day-of-month month day-of-week (6 or 7 fields are the quartz dialect)`},
		{"unix wrapped range", unix("0 22-2 * * *"), `hour field "22-2": range 22-2 runs backwards; write it as 22-23,0-2`},
		{"unix to Sunday", unix("0 0 * * FRI-SUN"), `day-of-week field "FRI-SUN": range FRI-SUN runs backwards; write it as 5-7`},
		{"unix with quartz signs", unix("0 0 L * *"), `day-of-month field "L": "L" is not a value; use 1 to 31 (? L W # are of the quartz dialect)`},
		{"unix reboot", unix("@reboot"), `expression field "@reboot": is not a macro; use @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly`},
		{"unix every", unix("@every 5m"), `expression field "@every 5m": is not a macro; use @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly (for a fixed interval make a simple schedule)`},
		{"unix zone prefix", unix("TZ=UTC 0 0 * * *"), `expression field "TZ=UTC 0 0 * * *": must not set a variable; the zone has a field of its own`},
		{"unix foreign letter", unix("0 0 * * \u017fun"), `expression field "0 0 * * ſun": must be plain ASCII`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.spec.Compile()
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("error %v is a %T, want a *FieldError", err, err)
			}
			if diff := cmp.Diff(test.want, field.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpecJSON(t *testing.T) {
	start := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"empty", Spec{}, `{}`},
		{
			"simple",
			Spec{Kind: Simple, Interval: 90 * time.Minute, Start: start, End: start.Add(time.Hour), Repeat: 3},
			`{"kind":"simple","start":"2026-01-01T08:00:00Z","end":"2026-01-01T09:00:00Z","repeat":3,"interval":"1h30m0s"}`,
		},
		{
			"cron",
			Spec{Kind: Cron, Dialect: Quartz, Expression: "0 0 2 * * ?", Zone: "Europe/Berlin", Gap: GapShift, Overlap: OverlapBoth},
			`{"kind":"cron","dialect":"quartz","expression":"0 0 2 * * ?","zone":"Europe/Berlin","gap":"shift","overlap":"both"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(test.spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
			back := Spec{Repeat: 99, Interval: 99}
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.spec, back); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
	var spec Spec
	if err := json.Unmarshal([]byte(`{"interval":90}`), &spec); err == nil {
		t.Error("an interval without a unit was accepted")
	}
}

func TestMisfireJSON(t *testing.T) {
	m := Misfire{Policy: FireAll, Threshold: time.Minute, CatchupWindow: time.Hour, CatchupMax: 7}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(data), `{"policy":"fire_all","catchupMax":7,"threshold":"1m0s","catchupWindow":"1h0m0s"}`; got != want {
		t.Errorf("JSON %s, want %s", got, want)
	}
	var back Misfire
	if err := json.Unmarshal(data, &back); err != nil || back != m {
		t.Errorf("read back %+v, %v, want %+v", back, err, m)
	}
	if data, _ := json.Marshal(Misfire{}); string(data) != "{}" {
		t.Errorf("zero Misfire is %s, want {}", data)
	}
}

func TestMisfireValidate(t *testing.T) {
	tests := []struct {
		misfire Misfire
		field   string // "" = valid
	}{
		{Misfire{}, ""},
		{Misfire{Policy: FireAll, CatchupMax: 10_000}, ""},
		{Misfire{Policy: "sometimes"}, "policy"},
		{Misfire{Threshold: -1}, "threshold"},
		{Misfire{CatchupWindow: -1}, "catchupWindow"},
		{Misfire{CatchupMax: -1}, "catchupMax"},
		{Misfire{CatchupMax: 10_001}, "catchupMax"},
	}
	for _, test := range tests {
		got := ""
		var field *FieldError
		if errors.As(test.misfire.Validate(), &field) {
			got = field.Field
		}
		if got != test.field {
			t.Errorf("Validate of %+v names %q, want %q", test.misfire, got, test.field)
		}
	}
}

func TestSimple(t *testing.T) {
	start := instant(t, "2026-03-29T00:30:00.25Z")
	tests := []struct {
		name string
		spec Spec
		from string
		want []string
	}{
		{"start is a slot", Spec{}, "2026-03-29T00:00:00Z", []string{"2026-03-29T00:30:00.25Z", "2026-03-29T01:30:00.25Z", "2026-03-29T02:30:00.25Z"}},
		{"strictly after", Spec{}, "2026-03-29T00:30:00.25Z", []string{"2026-03-29T01:30:00.25Z", "2026-03-29T02:30:00.25Z", "2026-03-29T03:30:00.25Z"}},
		{"phase is the start's", Spec{}, "2027-01-01T00:00:00Z", []string{"2027-01-01T00:30:00.25Z", "2027-01-01T01:30:00.25Z", "2027-01-01T02:30:00.25Z"}},
		{"repeat is the number in all", Spec{Repeat: 2}, "2026-01-01T00:00:00Z", []string{"2026-03-29T00:30:00.25Z", "2026-03-29T01:30:00.25Z"}},
		{"used up", Spec{Repeat: 2}, "2026-03-29T01:30:00.25Z", nil},
		{"end is inclusive", Spec{End: start.Add(time.Hour)}, "2026-01-01T00:00:00Z", []string{"2026-03-29T00:30:00.25Z", "2026-03-29T01:30:00.25Z"}},
		{"end between slots", Spec{End: start.Add(2*time.Hour - 1)}, "2026-03-29T01:00:00Z", []string{"2026-03-29T01:30:00.25Z"}},
		{"zone changes the clothes only", Spec{Zone: "Europe/Berlin"}, "2026-03-29T00:00:00Z", []string{"2026-03-29T01:30:00.25+01:00", "2026-03-29T03:30:00.25+02:00", "2026-03-29T04:30:00.25+02:00"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Kind, test.spec.Start, test.spec.Interval = Simple, start, time.Hour
			fires, exhausted, err := Preview(test.spec, instant(t, test.from), 3)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(stamps(fires), append([]string{}, test.want...)); diff != "" {
				t.Errorf("slots (-got +want):\n%s", diff)
			}
			if exhausted != (len(test.want) < 3) {
				t.Errorf("exhausted = %t with %d of 3 slots", exhausted, len(test.want))
			}
		})
	}
}

func TestCronLimits(t *testing.T) {
	spec := Spec{Kind: Cron, Dialect: Unix, Expression: "0 * * * *", Start: instant(t, "2026-01-01T10:00:00Z"), End: instant(t, "2026-01-01T12:00:00Z")}
	fires, exhausted, err := Preview(spec, time.Time{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"}
	if diff := cmp.Diff(want, stamps(fires)); diff != "" || !exhausted {
		t.Errorf("exhausted = %t, slots (-want +got):\n%s", exhausted, diff)
	}
	if got := compile(t, spec).count(0, lastInstant); got != len(want) {
		t.Errorf("count = %d, want %d", got, len(want))
	}
}

func TestLast(t *testing.T) {
	start := instant(t, "2026-01-01T00:00:00Z")
	tests := []struct {
		name string
		spec Spec
		want string // "" = none
	}{
		{"endless", Spec{Kind: Simple, Start: start, Interval: time.Minute}, ""},
		{"repeat", Spec{Kind: Simple, Start: start, Interval: time.Minute, Repeat: 5}, "2026-01-01T00:04:00Z"},
		{"end", Spec{Kind: Simple, Start: start, Interval: time.Minute, End: start.Add(150 * time.Second)}, "2026-01-01T00:02:00Z"},
		{"end before repeat", Spec{Kind: Simple, Start: start, Interval: time.Minute, End: start.Add(150 * time.Second), Repeat: 9}, "2026-01-01T00:02:00Z"},
		{"one", Spec{Kind: Simple, Start: start, Interval: time.Minute, Repeat: 1}, "2026-01-01T00:00:00Z"},
		{"endless cron", Spec{Kind: Cron, Dialect: Unix, Expression: "0 3 * * *"}, ""},
		{"cron", Spec{Kind: Cron, Dialect: Unix, Expression: "0 3 * * *", End: instant(t, "2026-03-01T02:00:00Z")}, "2026-02-28T03:00:00Z"},
		{"cron without a slot", Spec{Kind: Cron, Dialect: Unix, Expression: "0 0 30 2 *", End: instant(t, "2026-03-01T02:00:00Z")}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if last, ok := compile(t, test.spec).Last(); ok {
				got = last.Format(time.RFC3339)
			}
			if got != test.want {
				t.Errorf("Last = %q, want %q", got, test.want)
			}
		})
	}
}

func TestPreviewBounds(t *testing.T) {
	spec := Spec{Kind: Cron, Dialect: Unix, Expression: "* * * * *"}
	for n, valid := range map[int]bool{-1: false, 0: false, 1: true, 1000: true, 1001: false} {
		fires, _, err := Preview(spec, time.Time{}, n)
		if valid && (err != nil || len(fires) != n) {
			t.Errorf("Preview of %d: %d fires, error %v", n, len(fires), err)
		}
		var field *FieldError
		if !valid && (!errors.As(err, &field) || field.Field != "n") {
			t.Errorf("Preview of %d: error %v, want a *FieldError for n", n, err)
		}
	}
}
