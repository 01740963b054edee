package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// A worker process is killed by SIGKILL while it executes 16 steps; another one,
// which came meanwhile, executes them. The time is from the kill until the last of
// them has entered the other's executor.
func killed(ctx context.Context, e env) ([]result, error) {
	const steps = 16
	var took []float64
	for range e.rounds {
		one, err := oneKill(ctx, steps)
		if err != nil {
			return nil, err
		}
		took = append(took, one.Seconds())
		e.tell("%s", one.Round(time.Millisecond))
	}
	return []result{{Measure: "worker killed → its 16 steps run elsewhere", Unit: "s", Values: took, Bar: atMost(10), Aim: atMost(7)}}, nil
}

func oneKill(ctx context.Context, steps int) (time.Duration, error) {
	var entered atomic.Int64
	all := make(chan time.Time, 1)
	quick := house.Hold
	quick.Executor = executor.Func(func(context.Context, executor.Attempt) (executor.Result, error) {
		if entered.Add(1) == int64(steps) {
			all <- time.Now()
		}
		return executor.Result{}, nil
	})
	h, err := house.Open(ctx, house.Options{NoWorker: true, Types: []executor.Type{quick}})
	if err != nil {
		return 0, err
	}
	defer h.Close()
	victim, err := h.SpawnWorker("victim")
	if err != nil {
		return 0, err
	}
	defer victim.Kill()
	if err := h.AwaitWorkers(ctx, 1); err != nil {
		return 0, err
	}
	group, err := makeGroup(ctx, h, "hold", 0, steps)
	if err != nil {
		return 0, err
	}
	if _, err := h.Client.RunGroup(ctx, group, client.RunOptions{}); err != nil {
		return 0, err
	}
	if err := house.Await(ctx, 5*time.Millisecond, 20*time.Second, func() (bool, error) {
		n, err := h.Redis.Client.HLen(ctx, "takt:{p:0}:live").Result()
		return n == int64(steps), err
	}); err != nil {
		return 0, err
	}
	h.StartWorker("heir")
	if err := h.AwaitWorkers(ctx, 2); err != nil {
		return 0, err
	}
	if err := pause(ctx, 6*time.Second); err != nil { // the reconciler trusts its contact only then
		return 0, err
	}
	began := time.Now()
	victim.Kill()
	select {
	case at := <-all:
		return at.Sub(began), nil
	case <-time.After(time.Minute):
		return time.Minute, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
