package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/takt-dev/takt/internal/redisconn"
)

// A Report is all findings of an examination, by place. As JSON it is what
// `takt doctor --json` prints.
type Report struct {
	Worst    redisconn.Severity `json:"worst"`
	OK       int                `json:"ok"`
	Warnings int                `json:"warnings"`
	Problems int                `json:"problems"`
	Findings []Finding          `json:"findings"`
}

// places are the headings of the text, in order.
var places = []struct {
	place Place
	title string
}{{Redis, "Redis"}, {NATS, "NATS"}, {Processes, "Processes"}, {Work, "Work"}, {Records, "Records"}}

func report(findings []Finding) Report {
	r := Report{Worst: redisconn.OK}
	for _, p := range places {
		for _, f := range findings {
			if f.Place == p.place {
				r.Findings = append(r.Findings, f)
			}
		}
	}
	for _, f := range r.Findings {
		switch f.Severity {
		case redisconn.Problem:
			r.Problems++
		case redisconn.Warning:
			r.Warnings++
		default:
			r.OK++
		}
	}
	switch {
	case r.Problems > 0:
		r.Worst = redisconn.Problem
	case r.Warnings > 0:
		r.Worst = redisconn.Warning
	}
	return r
}

// Quiet is the report without what is ok; its counts stay.
func (r Report) Quiet() Report {
	r.Findings = slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Severity == redisconn.OK })
	return r
}

// WriteText writes the findings as a table under the headings of their places,
// and the counts below.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	for _, p := range places {
		title := p.title + "\n"
		for _, f := range r.Findings {
			if f.Place != p.place {
				continue
			}
			fmt.Fprintf(&b, "%s  %-7s  %-*s  %s\n", title, f.Severity, width, f.Check, oneLine(f.Text))
			if f.Do != "" {
				fmt.Fprintf(&b, "  %-7s  %-*s  do: %s\n", "", width, "", oneLine(f.Do))
			}
			title = ""
		}
	}
	fmt.Fprintf(&b, "%s: %d ok, %s, %s\n", plural(r.OK+r.Warnings+r.Problems, "check", "checks"), r.OK,
		plural(r.Warnings, "warning", "warnings"), plural(r.Problems, "problem", "problems"))
	_, err := io.WriteString(w, b.String())
	return err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// listed names a few of many: "a, b and 3 more".
func listed(names []string) string {
	const most = 3
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// tally writes counts by name: "2 a, 1 b".
func tally(counts map[string]int) string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}
