package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// From a slot to the executor's first instruction on an idle system: trigger
// process, JetStream, dispatcher, admission, queue, ring, begin. Ten triggers of
// one second stand a tenth of a second apart, each bound to a job of its own, from
// which the executor knows whose slot it serves.
func slotToExecutor(ctx context.Context, e env) ([]result, error) {
	const count = 10
	var mu sync.Mutex
	start := map[string]time.Time{} // by job
	var late []float64
	stamp := executor.Type{
		Spec: executor.Spec{Type: "stamp"},
		Executor: executor.Func(func(_ context.Context, a executor.Attempt) (executor.Result, error) {
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if s := start[a.Job]; now.After(s) {
				late = append(late, ms(now.Sub(s)%time.Second))
			}
			return executor.Result{}, nil
		}),
	}
	h, err := house.Open(ctx, house.Options{Trigger: true, Types: []executor.Type{stamp}})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	first := time.Now().Add(3 * time.Second).Truncate(time.Second)
	for i := range count {
		job, err := h.Client.CreateJob(ctx, client.NewJob{Type: "stamp", JobFields: client.JobFields{Name: fmt.Sprint("stamp ", i)}})
		if err != nil {
			return nil, err
		}
		at := first.Add(time.Duration(i) * time.Second / count)
		mu.Lock()
		start[job.UUID] = at
		mu.Unlock()
		t, err := h.Client.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
			Name: fmt.Sprint("each second ", i), Schedule: client.Schedule{Kind: "simple", Interval: client.Duration(time.Second), Start: at},
		}})
		if err != nil {
			return nil, err
		}
		if _, err := h.Client.Bind(ctx, t.UUID, client.NewBinding{Kind: client.JobTarget, UUID: job.UUID}); err != nil {
			return nil, err
		}
	}
	take := func() []float64 {
		mu.Lock()
		defer mu.Unlock()
		out := late
		late = nil
		return out
	}
	if err := pause(ctx, time.Until(first.Add(2*time.Second))); err != nil { // warms up
		return nil, err
	}
	var p50, p99, bare []float64
	for range e.rounds {
		hops, err := bareHops(ctx, h, e.smokeOr(40, 5), 100*time.Millisecond)
		if err != nil {
			return nil, err
		}
		bare = append(bare, stat.Percentile(hops, 50))
		take()
		if err := pause(ctx, time.Duration(e.smokeOr(8, 2))*time.Second); err != nil {
			return nil, err
		}
		part := take()
		if len(part) == 0 {
			return nil, fmt.Errorf("no slot came to an executor")
		}
		p50, p99 = append(p50, stat.Percentile(part, 50)), append(p99, stat.Percentile(part, 99))
		e.tell("%d slots: p50 %s, p99 %s ms (bare hops p50 %s)", len(part), number(stat.Percentile(part, 50)), number(stat.Percentile(part, 99)), number(bare[len(bare)-1]))
	}
	return []result{
		{
			Measure: "slot → executor entered, idle system, p50", Unit: "ms", Values: p50, Bar: within(2), Aim: within(0.8),
			Wrong: "the hops alone take most of it, see the next row",
			Notes: []note{{"the same hops bare: JetStream, a ring and four round trips to Redis, p50", "ms", bare}},
		},
		{Measure: "the same ÷ the same hops bare", Values: stat.Ratios(p50, bare), Bar: atMost(2.5), Aim: atMost(1.2)},
		{Measure: "slot → executor entered, p99", Unit: "ms", Values: p99, Bar: within(10), Aim: within(2)},
	}, nil
}
