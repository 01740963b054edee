package main

import (
	"context"
	"fmt"
	"slices"
)

// The bars in units of time were set on one machine, and another, or the same one on
// another day, is faster or slower at everything. So that a verdict is about Takt, the
// pace of the machine is taken right after a row that misses such a bar: plain asynq's
// jobs per second against those of the machine of the bars. What a machine of full pace
// would meet is met at that pace; the table says so. A machine that is faster has no
// stricter bars.
//
// Ratios, bytes and counts are judged as they are, and so is what waits for a clock.

// fullPace is what plain asynq had where the bars were set, four servers in a process:
// 17,300 jobs per second.
const fullPace = 17_300

// paceTasks take one or two seconds.
const paceTasks = 20_000

// takePace notes the machine's pace in the results of a row, if one of them asks for it.
func (e env) takePace(ctx context.Context, results []result) error {
	asks := func(r result) bool { return r.Bar != nil && r.Bar.Paced && !r.Bar.met(r.median()) }
	if e.smoke || !slices.ContainsFunc(results, asks) {
		return nil
	}
	took, _, err := rawRound(ctx, e, "everysec", paceTasks)
	if err != nil {
		return fmt.Errorf("take the machine's pace: %w", err)
	}
	pace := min(1, paceTasks/took.Seconds()/fullPace)
	e.tell("the machine's pace: %s", number(pace))
	for i := range results {
		results[i].Pace = pace
	}
	return nil
}
