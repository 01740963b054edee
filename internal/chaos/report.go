package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/chaos/judge"
	"github.com/takt-dev/takt/internal/chaos/plan"
)

// A report is what is left of a run of the harness: the JSON file, and the page.
type report struct {
	Seed      uint64            `json:"seed"`
	Duration  string            `json:"duration"`
	Took      string            `json:"took"`
	Disk      string            `json:"disk"`
	Faults    map[plan.Kind]int `json:"faults"`
	Done      []judge.Fault     `json:"faultsDone"`
	Refused   map[string]int    `json:"refused"` // answers other than 2xx, and lost ones
	Lines     int               `json:"witnessLines"`
	Survivors []judge.Survivor  `json:"survivors"`
	judge.Verdict
}

func (r report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// mostShown violations are printed; the file has all.
const mostShown = 20

func (r report) print(w io.Writer) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w)
	row("seed", "%d, %s of load, %s in all, disk %s", r.Seed, r.Duration, r.Took, r.Disk)
	row("faults", "%s", counts(r.Faults))
	row("acknowledged", "%s", counts(r.Acked))
	row("refused", "%s", counts(r.Refused))
	row("runs", "%s", counts(r.RunStates))
	row("steps", "%s", counts(r.StepStates))
	row("slots", "%s", counts(r.Slots))
	row("executions", "%d in the witness", r.Executions)
	row("attempts", "%s; %d re-dispatched", counts(r.Attempts), r.Redispatch)
	row("duplicates", "%s", counts(r.Duplicates))
	row("refused late", "%d results of attempts that had been given up", r.Verdict.Refused)
	v := r.Recovery
	row("recovery", "%d steps of lost workers: p50 %.1fs, p99 %.1fs, max %.1fs (at most %.0fs)", v.Counted, v.P50, v.P99, v.Max, judge.Elsewhere.Seconds())
	for _, why := range slices.Sorted(maps.Keys(v.LeftOut)) {
		row("", "%d left out: %s", v.LeftOut[why], why)
	}
	for _, s := range r.Survivors {
		row("survivor", "%-10s %3.0f → %3.0f goroutines, %3.0f → %3.0f MiB", s.Name, s.Before.Goroutines, s.After.Goroutines, s.Before.Memory/(1<<20), s.After.Memory/(1<<20))
	}
	row("violations", "%d", len(r.Violations))
	for i, x := range r.Violations {
		if i == mostShown {
			fmt.Fprintf(w, "  … and %d more, in the report's file\n", len(r.Violations)-mostShown)
			break
		}
		fmt.Fprintf(w, "  %s\n", x)
	}
}

func counts[K ~string](m map[K]int) string {
	if len(m) == 0 {
		return "none"
	}
	total, text := 0, ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		total += m[k]
		text += fmt.Sprintf(", %d %s", m[k], k)
	}
	return fmt.Sprintf("%d: %s", total, text[2:])
}

func round(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
