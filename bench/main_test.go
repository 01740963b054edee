package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/internal/embedded"
)

func TestMain(m *testing.M) {
	house.Child()
	os.Exit(m.Run())
}

func TestLimit(t *testing.T) {
	for name, row := range map[string]struct {
		limit *limit
		value float64
		met   bool
	}{
		"at least, above":   {atLeast(0.9), 1, true},
		"at least, exactly": {atLeast(0.9), 0.9, true},
		"at least, below":   {atLeast(0.9), 0.89, false},
		"at most, below":    {atMost(5), 4, true},
		"at most, exactly":  {atMost(5), 5, true},
		"at most, above":    {atMost(5), 5.01, false},
		"nothing measured":  {atMost(5), math.NaN(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := row.limit.met(row.value); got != row.met {
				t.Errorf("met = %v, want %v", got, row.met)
			}
		})
	}
}

func TestVerdictIsOfTheMedian(t *testing.T) {
	for name, row := range map[string]struct {
		values []float64
		want   string
	}{
		"aim":          {[]float64{9, 1, 2}, "aim"},
		"bar":          {[]float64{4, 1, 9}, "bar"},
		"missed":       {[]float64{9, 1, 8}, "MISSED"},
		"not measured": {nil, "MISSED"},
	} {
		t.Run(name, func(t *testing.T) {
			r := result{Values: row.values, Bar: atMost(5), Aim: atMost(3)}
			if got := r.verdict(); got != row.want {
				t.Errorf("verdict = %q, want %q", got, row.want)
			}
		})
	}
	for name, row := range map[string]struct {
		bar  *limit
		pace float64
		want string
	}{
		"a time, at half the pace":         {within(5), 0.5, "bar at pace 0.5"},
		"a time, too long at that pace":    {within(3), 0.5, "MISSED"},
		"a time, at a pace not taken":      {within(5), 0, "MISSED"},
		"no time":                          {atMost(5), 0.5, "MISSED"},
		"a time, met without the pace":     {within(8), 0.5, "bar"},
		"a ratio is not moved by the pace": {atLeast(9), 0.5, "MISSED"},
	} {
		if got := (result{Values: []float64{8}, Bar: row.bar, Pace: row.pace}).verdict(); got != row.want {
			t.Errorf("%s: verdict = %q, want %q", name, got, row.want)
		}
	}
	if got := (result{Values: []float64{1}}).verdict(); got != "" {
		t.Errorf("verdict without a bar = %q, want none", got)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0.0334: "0.0334", 1.5: "1.5", 99.99: "100", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234", 0: "0",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) = %q, want %q", value, got, want)
		}
	}
}

func TestReportMisses(t *testing.T) {
	rep := &report{Results: []result{
		{Row: "a", Measure: "good", Values: []float64{1}, Bar: atMost(2)},
		{Row: "b", Measure: "bad", Values: []float64{3}, Bar: atMost(2)},
		{Row: "c", Measure: "disputed", Values: []float64{3}, Bar: atMost(2), Wrong: "for a reason"},
		{Row: "c", Measure: "unjudged", Values: []float64{3}},
	}, Failed: []string{"d: broke"}}
	if got, want := strings.Join(rep.missed(), "; "), "d: broke; b: bad"; got != want {
		t.Errorf("missed = %q, want %q", got, want)
	}
	rep.Smoke = true
	if got, want := strings.Join(rep.missed(), "; "), "d: broke"; got != want {
		t.Errorf("in a smoke missed = %q, want %q", got, want)
	}
}

// A disturbed machine is no miss; a figure that is too bad both times is.
func TestReportTakesARowTwice(t *testing.T) {
	rows := func(values ...float64) (out []result) {
		for _, v := range values {
			out = append(out, result{Measure: number(v), Values: []float64{v}, Bar: atMost(2)})
		}
		return out
	}
	for name, row := range map[string]struct {
		first, second measured
		missed, shown string
	}{
		"better":                {measured{"a", rows(3, 1), nil}, measured{"a", rows(1.5, 1.2), nil}, "", "1.5 1.2"},
		"one missed each time":  {measured{"a", rows(3, 1), nil}, measured{"a", rows(1.5, 4), nil}, "", "1.5 1"},
		"missed both times":     {measured{"a", rows(3, 1), nil}, measured{"a", rows(2.5, 4), nil}, "a: 2.5", "2.5 1"},
		"failed at first":       {measured{"a", nil, io.EOF}, measured{"a", rows(1), nil}, "", "1"},
		"failed the other time": {measured{"a", rows(3), nil}, measured{"a", nil, io.EOF}, "a: EOF; a: 3", "3"},
		"failed both times":     {measured{"a", nil, io.EOF}, measured{"a", nil, io.EOF}, "a: EOF", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rep := &report{}
			rep.take(row.first)
			if !rep.hasMissed("a") || rep.hasMissed("b") {
				t.Errorf("after the first: a missed %v, b missed %v, want a only", rep.hasMissed("a"), rep.hasMissed("b"))
			}
			rep.take(row.second)
			if got := strings.Join(rep.missed(), "; "); got != row.missed {
				t.Errorf("missed = %q, want %q", got, row.missed)
			}
			var shown []string
			for _, res := range rep.Results {
				shown = append(shown, res.Measure)
			}
			if got := strings.Join(shown, " "); got != row.shown {
				t.Errorf("results = %q, want %q", got, row.shown)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(rows()) {
		t.Errorf("choose nothing: %d rows, %v, want all", len(all), err)
	}
	two, err := choose("list,fanout")
	if err != nil || len(two) != 2 || two[0].name != "list" {
		t.Errorf("choose two: %v, %v", two, err)
	}
	if _, err := choose("fanout,nosuch"); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("choose an unknown row: %v, want an error that names it", err)
	}
}

func TestBareHeapPopsAllInOrder(t *testing.T) {
	const n = 1000
	late := bareHeap(t.Context(), n, func(i int) time.Duration { return time.Duration(n-i) * 10 * time.Microsecond }, 0)
	if len(late) != n {
		t.Fatalf("popped %d of %d", len(late), n)
	}
	for i, l := range late {
		if l < 0 {
			t.Fatalf("entry %d was popped %v ms before it was due", i, -l)
		}
	}
}

func TestShortCommand(t *testing.T) {
	for line, want := range map[string]string{
		`"evalsha" "916f615b2f" "1" "takt:{w}" "x"`: "evalsha 916f615b takt:{w}",
		`"exists" "asynq:{low}:pending"`:            "exists asynq:{low}:pending",
		`"ping"`:                                    "ping",
	} {
		if got := shortCommand(line + "\r\n"); got != want {
			t.Errorf("shortCommand(%s) = %q, want %q", line, got, want)
		}
	}
}

// One row from the command line to the report, with every server there is.
func TestSmokeOfARow(t *testing.T) {
	if _, _, found := embedded.LookupRedis(); !found {
		t.Skip("redis-server is not installed")
	}
	file := filepath.Join(t.TempDir(), "report.json")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-smoke", "-row", "fanout,slot", "-json", file}, &out, io.Discard); err != nil {
		t.Fatalf("run: %v\n%s", err, out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	if err := json.Unmarshal(text, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Results) != 6 {
		t.Fatalf("%d results, want 6:\n%s", len(rep.Results), text)
	}
	for _, r := range rep.Results {
		if len(r.Values) != 1 || !(r.Values[0] > 0) {
			t.Errorf("%s: %s: values %v, want one above zero", r.Row, r.Measure, r.Values)
		}
		if !strings.Contains(out.String(), r.Measure) {
			t.Errorf("the table does not tell of %q", r.Measure)
		}
	}
}

func TestARowThatFailsIsReported(t *testing.T) {
	broken := row{"broken", func(context.Context, env) ([]result, error) { return nil, errors.New("no luck") }}
	good := row{"good", func(context.Context, env) ([]result, error) {
		return []result{{Measure: "one", Values: []float64{1}, Bar: atMost(2)}}, nil
	}}
	rep := newReport(env{rounds: 1}, "")
	measure(t.Context(), env{progress: io.Discard, smoke: true}, []row{broken, good}, rep)
	if got, want := strings.Join(rep.missed(), "; "), "broken: no luck"; got != want {
		t.Errorf("missed = %q, want %q", got, want)
	}
	if len(rep.Results) != 1 || rep.Results[0].Row != "good" {
		t.Errorf("results = %v, want that of the other row", rep.Results)
	}
}
