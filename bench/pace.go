package main

import (
	"context"
	"fmt"
)

// The bars in units of time were set on one machine, and another, or the same one on
// another day, is faster or slower at everything. So that a verdict is about Takt, the
// pace of the machine is taken before each row: plain asynq's jobs per second against
// those of the machine of the bars. A bar in units of time that is missed, and would be
// met by a machine of full pace, is met at that pace; the table says so. A machine that
// is faster has no stricter bars.
//
// Ratios, bytes and counts are judged as they are, and so is what waits for a clock.

// fullPace is what plain asynq had where the bars were set, four servers in a process:
// 17,300 jobs per second.
const fullPace = 17_300

// paceTasks takes about a second.
const paceTasks = 15_000

// pace gives it, 0 in a smoke.
func (e env) pace(ctx context.Context) (float64, error) {
	if e.smoke {
		return 0, nil
	}
	took, _, err := rawRound(ctx, e, "everysec", paceTasks)
	if err != nil {
		return 0, fmt.Errorf("take the machine's pace: %w", err)
	}
	return min(1, paceTasks/took.Seconds()/fullPace), nil
}
