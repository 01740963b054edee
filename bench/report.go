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

// missed lists what keeps the run from passing.
func (r *report) missed() []string {
	out := slices.Clone(r.Failed)
	if r.Smoke {
		return out
	}
	for _, res := range r.Results {
		if res.verdict() == "MISSED" {
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
