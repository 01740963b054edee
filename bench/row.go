package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/pprof"
	"time"

	"github.com/takt-dev/takt/bench/stat"
)

// A row is one line, or a few that are measured together, of the table.
type row struct {
	name string // for -row
	run  func(context.Context, env) ([]result, error)
}

// rows lists all of them, in the order of the table.
func rows() []row {
	return []row{
		{"fanout", fanout},
		{"fanout-always", fanoutAlways},
		{"idle-run", idleRun},
		{"post", post},
		{"triggers", triggers},
		{"burst", burst},
		{"slot", slotToExecutor},
		{"kill", killed},
		{"memory", memory},
		{"list", list},
		{"zquery", zquery},
		{"idle-worker", idleWorker},
		{"dev", dev},
	}
}

// env is what a row is run with.
type env struct {
	rounds   int  // measurements of each value
	smoke    bool // as short as possible: only that it works matters
	n        int  // size of the measurement; 0 = the row's own
	slots    int
	deq      int
	profile  string // file for a CPU profile of Takt's part, or ""
	progress io.Writer
}

// size gives the row's own size, the -n flag's or, in a smoke, the least.
func (e env) size(own, smoke int) int {
	switch {
	case e.n > 0:
		return e.n
	case e.smoke:
		return smoke
	}
	return own
}

// profiled begins a CPU profile, where one is asked for, in the last round. The
// caller calls stop.
func (e env) profiled(round int) (stop func(), err error) {
	if e.profile == "" || round != e.rounds-1 {
		return func() {}, nil
	}
	f, err := os.Create(e.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// tell writes a line of progress.
func (e env) tell(format string, args ...any) {
	fmt.Fprintf(e.progress, "  "+format+"\n", args...)
}

// A limit is what a value has to be: at least, or at most.
type limit struct {
	Value   float64 `json:"value"`
	AtLeast bool    `json:"atLeast"`
	Paced   bool    `json:"paced,omitempty"` // it moves with the machine's pace
}

func atLeast(v float64) *limit { return &limit{Value: v, AtLeast: true} }
func atMost(v float64) *limit  { return &limit{Value: v} }

// within is atMost for a time.
func within(v float64) *limit { return &limit{Value: v, Paced: true} }

// met reports whether a value keeps the limit. What was not measured does not.
func (l limit) met(v float64) bool {
	if math.IsNaN(v) {
		return false
	}
	if l.AtLeast {
		return v >= l.Value
	}
	return v <= l.Value
}

// A note is a figure beside the judged one: the two sides of a ratio, or detail.
type note struct {
	Label  string    `json:"label"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
}

// A result is one judged value: the median of its rounds against bar and aim.
type result struct {
	Row     string    `json:"row"`
	Measure string    `json:"measure"`
	Unit    string    `json:"unit"`
	Values  []float64 `json:"values"`         // one for each round
	Pace    float64   `json:"pace,omitempty"` // of the machine after the row; 0 = not taken
	Bar     *limit    `json:"bar,omitempty"`
	Wrong   string    `json:"wrong,omitempty"` // why the bar is held to be set wrongly: shown, not judged by
	Aim     *limit    `json:"aim,omitempty"`
	Notes   []note    `json:"notes,omitempty"`
	Remarks []string  `json:"remarks,omitempty"`
}

func (r result) median() float64 { return stat.Median(r.Values) }

// verdict is "aim" when the aim is reached, "bar" when only the bar is, "bar at" a pace
// when it would be on a machine of full pace, "MISSED" when not even that, or "missed,
// see below" where the bar is held to be set wrongly, and "" where there is nothing to reach.
func (r result) verdict() string {
	switch {
	case r.Bar == nil:
		return ""
	case r.Aim != nil && r.Aim.met(r.median()):
		return "aim"
	case r.Bar.met(r.median()):
		return "bar"
	case r.Bar.Paced && r.Bar.met(r.median()*r.Pace) && r.Pace > 0:
		return "bar at pace " + number(r.Pace)
	case r.Wrong != "":
		return "missed, see below"
	}
	return "MISSED"
}

func (r result) isMissed() bool { return r.verdict() == "MISSED" }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// smokeOr gives the full figure, or the smoke's.
func (e env) smokeOr(full, smoke int) int {
	if e.smoke {
		return smoke
	}
	return full
}
