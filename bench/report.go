package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A report is what one run of the harness found.
type report struct {
	Began   time.Time `json:"began"`
	Took    float64   `json:"tookSeconds"`
	Go      string    `json:"go"`
	Redis   string    `json:"redis"`
	Cores   int       `json:"cores"`
	Rounds  int       `json:"rounds"`
	Smoke   bool      `json:"smoke,omitempty"` // nothing is judged
	Results []result  `json:"results"`
	Failed  []string  `json:"failed,omitempty"` // rows that could not be measured
}

func newReport(e env, redis string) *report {
	return &report{Began: time.Now(), Go: runtime.Version(), Redis: redis, Cores: runtime.GOMAXPROCS(0), Rounds: e.rounds, Smoke: e.smoke}
}

// measured is what one measurement of a row gave.
type measured struct {
	row     string
	results []result
	err     error
}

// take adds a row's measurement. Where there is one already, a figure is missed only if
// both are.
func (r *report) take(m measured) {
	failure := func(text string) bool { return strings.HasPrefix(text, m.row+": ") }
	if m.err != nil {
		r.Failed = append(slices.DeleteFunc(r.Failed, failure), fmt.Sprintf("%s: %v", m.row, m.err))
		return
	}
	r.Failed = slices.DeleteFunc(r.Failed, failure)
	first := slices.IndexFunc(r.Results, func(old result) bool { return old.Row == m.row })
	for k, res := range m.results {
		res.Row = m.row
		if first < 0 {
			r.Results = append(r.Results, res)
		} else {
			r.Results[first+k] = better(r.Results[first+k], res)
		}
	}
}

// better gives the second of two measurements, unless only the first met its bar.
func better(first, second result) result {
	kept, left := second, first
	if second.isMissed() && !first.isMissed() {
		kept, left = first, second
	}
	kept.Notes = append(slices.Clone(kept.Notes), note{"measured twice, the other time", kept.Unit, left.Values})
	return kept
}

// hasMissed reports whether a row missed a bar or could not be measured.
func (r *report) hasMissed(row string) bool {
	return slices.ContainsFunc(r.Results, func(res result) bool { return res.Row == row && res.isMissed() }) ||
		slices.ContainsFunc(r.Failed, func(text string) bool { return strings.HasPrefix(text, row+": ") })
}

// missed lists what keeps the run from passing.
func (r *report) missed() []string {
	out := slices.Clone(r.Failed)
	if r.Smoke {
		return out
	}
	for _, res := range r.Results {
		if res.isMissed() {
			out = append(out, res.Row+": "+res.Measure)
		}
	}
	return out
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func (r *report) writeTable(w io.Writer) {
	fmt.Fprintf(w, "\n%d cores, %s, Redis %s, median of %d (least–most), %s\n\n", r.Cores, r.Go, r.Redis, r.Rounds, time.Duration(r.Took*float64(time.Second)).Round(time.Second))
	const line = "%-14s %-58s %24s %9s %9s  %s\n"
	fmt.Fprintf(w, line, "row", "measure", "median (least–most)", "bar", "aim", "")
	for _, res := range r.Results {
		verdict := res.verdict()
		if r.Smoke {
			verdict = ""
		}
		fmt.Fprintf(w, line, res.Row, res.Measure, figure(res.Values, res.Unit), res.Bar.text(), res.Aim.text(), verdict)
		if res.Wrong != "" {
			fmt.Fprintf(w, "%-14s     the bar is held to be set wrongly: %s\n", "", res.Wrong)
		}
		for _, n := range res.Notes {
			if len(n.Values) == 0 {
				continue
			}
			fmt.Fprintf(w, line, "", "    "+n.Label, figure(n.Values, n.Unit), "", "", "")
		}
		for _, t := range res.Remarks {
			fmt.Fprintf(w, "%-14s     %s\n", "", t)
		}
	}
	for _, f := range r.Failed {
		fmt.Fprintln(w, "NOT MEASURED:", f)
	}
}

// figure writes the median of values, with the spread where there are several.
func figure(values []float64, unit string) string {
	r := result{Values: values}
	text := number(r.median())
	if len(values) > 1 {
		text += " (" + number(slices.Min(values)) + "–" + number(slices.Max(values)) + ")"
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

// number writes three digits that matter.
func number(v float64) string {
	switch {
	case v >= 1000 || v <= -1000:
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// group puts commas between thousands.
func group(digits string) string {
	var b strings.Builder
	for i, c := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (l *limit) text() string {
	if l == nil {
		return ""
	}
	sign := "≤ "
	if l.AtLeast {
		sign = "≥ "
	}
	return sign + number(l.Value)
}
