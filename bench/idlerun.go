package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// One run of 100 no-op jobs on an idle system: from the moment the POST is sent
// until the run has ended in the store. The worker is a default one. The harness
// learns of the last execution from the executor, and only then looks at the
// store's counter of ended runs, so that its looking costs nothing meanwhile.
func idleRun(ctx context.Context, e env) ([]result, error) {
	var executed atomic.Int64
	last, first := make(chan time.Time, 1), make(chan time.Time, 1)
	quick := noop(&executed)
	quick.Executor = executor.Func(func(context.Context, executor.Attempt) (executor.Result, error) {
		switch executed.Add(1) % fanoutJobs {
		case 1:
			first <- time.Now()
		case 0:
			last <- time.Now()
		}
		return executor.Result{}, nil
	})
	h, err := house.Open(ctx, house.Options{Types: []executor.Type{quick}})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	groups, err := makeGroups(ctx, h, 1, fanoutJobs)
	if err != nil {
		return nil, err
	}
	var p50, p99, firstAt, lastAt []float64
	for round := -1; round < e.rounds; round++ { // the first warms up
		var took, toFirst, toLast []time.Duration
		for range e.size(100, 10) {
			began, done, err := oneRun(ctx, h, groups[0], last)
			if err != nil {
				return nil, err
			}
			took = append(took, done.all)
			toFirst, toLast = append(toFirst, (<-first).Sub(began)), append(toLast, done.last.Sub(began))
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return nil, err
			}
		}
		if round < 0 {
			continue
		}
		p50, p99 = append(p50, stat.Percentile(stat.Millis(took), 50)), append(p99, stat.Percentile(stat.Millis(took), 99))
		firstAt = append(firstAt, stat.Percentile(stat.Millis(toFirst), 50))
		lastAt = append(lastAt, stat.Percentile(stat.Millis(toLast), 50))
		e.tell("p50 %s, p99 %s ms", number(p50[round]), number(p99[round]))
	}
	return []result{{
		Measure: "idle system, run of 100 no-op jobs, submit → done, p50", Unit: "ms", Values: p50,
		Bar: within(15), Aim: within(8), Notes: []note{{"p99", "ms", p99}, {"until the first job was entered, p50", "ms", firstAt}, {"until the last job was entered, p50", "ms", lastAt}},
	}}, nil
}

// oneDone is when a run's last job was entered, and how long all of it took.
type oneDone struct {
	last time.Time
	all  time.Duration
}

func oneRun(ctx context.Context, h *house.House, group string, last <-chan time.Time) (began time.Time, done oneDone, err error) {
	start, err := ended(ctx, h)
	if err != nil {
		return began, done, err
	}
	began = time.Now()
	if _, err := h.Client.RunGroup(ctx, group, client.RunOptions{}); err != nil {
		return began, done, err
	}
	select {
	case done.last = <-last:
	case <-ctx.Done():
		return began, done, ctx.Err()
	}
	err = house.Await(ctx, 100*time.Microsecond, time.Minute, func() (bool, error) {
		now, err := ended(ctx, h)
		return now.all() > start.all(), err
	})
	done.all = time.Since(began)
	return began, done, err
}

// pause lets the system come to rest.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
