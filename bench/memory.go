package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/pkg/executor"
)

// Redis memory of finished runs of 100 jobs without logs and outputs, once all
// queues are empty. Without indexes: what MEMORY USAGE says of the runs' own rows.
// With: all that Redis' memory grew by, which is rows, indexes, timers and stored
// decisions, asynq's keys, and the shared plan.
func memory(ctx context.Context, e env) ([]result, error) {
	runs := e.size(500*fanoutJobs, 20*fanoutJobs) / fanoutJobs
	var executed atomic.Int64
	h, err := house.Open(ctx, house.Options{Fsync: "none", Slots: e.slots, Dequeuers: e.deq, Types: []executor.Type{noop(&executed)}})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	groups, err := makeGroups(ctx, h, fanoutGroups, fanoutJobs)
	if err != nil {
		return nil, err
	}
	if _, err := drive(ctx, h, groups, len(groups)); err != nil {
		return nil, err
	}
	before, err := restingMemory(ctx, h)
	if err != nil {
		return nil, err
	}
	if _, err := drive(ctx, h, groups, runs); err != nil {
		return nil, err
	}
	after, err := restingMemory(ctx, h)
	if err != nil {
		return nil, err
	}
	rows, count, err := rowBytes(ctx, h)
	if err != nil {
		return nil, err
	}
	per := (after - before) / float64(runs*fanoutJobs)
	row := rows / float64(count*fanoutJobs)
	return []result{
		{Measure: "Redis bytes per finished job of a run of 100: rows", Unit: "bytes", Values: []float64{row}, Bar: atMost(200), Aim: atMost(100)},
		{Measure: "the same with indexes and all else", Unit: "bytes", Values: []float64{per}, Bar: atMost(500), Aim: atMost(250)},
	}, nil
}

// restingMemory is Redis' used_memory when nothing moves, without what its clients
// use.
func restingMemory(ctx context.Context, h *house.House) (float64, error) {
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	info, err := h.Redis.Info(ctx, "memory")
	if err != nil {
		return 0, err
	}
	var sum float64
	for field, sign := range map[string]float64{"used_memory": 1, "mem_clients_normal": -1, "mem_aof_buffer": -1} {
		var n float64
		if _, err := fmt.Sscan(info[field], &n); err != nil {
			return 0, fmt.Errorf("INFO memory has no %s", field)
		}
		sum += sign * n
	}
	return sum, nil
}

// rowBytes sums MEMORY USAGE of the rows of the runs in one partition.
func rowBytes(ctx context.Context, h *house.House) (bytes float64, runs int, err error) {
	ids, err := h.Redis.Client.ZRange(ctx, "takt:{p:0}:runs", 0, -1).Result()
	if err != nil {
		return 0, 0, err
	}
	for _, run := range ids {
		n, err := h.Redis.Client.MemoryUsage(ctx, "takt:{p:0}:run:"+run, 0).Result()
		if err != nil {
			return 0, 0, err
		}
		bytes += float64(n)
	}
	return bytes, len(ids), nil
}
