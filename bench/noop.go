package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// noop is a job type that does nothing but count.
func noop(executed *atomic.Int64) executor.Type {
	return executor.Type{
		Spec: executor.Spec{Type: "noop"},
		Executor: executor.Func(func(context.Context, executor.Attempt) (executor.Result, error) {
			executed.Add(1)
			return executor.Result{}, nil
		}),
	}
}

// makeGroups makes groups of no-op jobs through the api, one after another in each
// partition.
func makeGroups(ctx context.Context, h *house.House, groups, jobs int) ([]string, error) {
	out := make([]string, groups)
	errs := make(chan error, groups)
	var wg sync.WaitGroup
	for g := range groups {
		wg.Go(func() {
			var err error
			if out[g], err = makeGroup(ctx, h, "noop", g%partitions, jobs); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return out, <-errs
}

// partitions of a new installation.
const partitions = 16

// uuidIn makes a uuid that lies in a partition.
func uuidIn(partition int) string {
	for {
		if uuid := id.New(); id.Partition(uuid, partitions) == partition {
			return uuid
		}
	}
}

func makeGroup(ctx context.Context, h *house.House, jobType string, partition, jobs int) (string, error) {
	group, err := h.Client.CreateGroup(ctx, client.NewGroup{
		UUID: uuidIn(partition), Type: jobType, GroupFields: client.GroupFields{Name: fmt.Sprintf("group %d", partition)},
	})
	if err != nil {
		return "", fmt.Errorf("make a group: %w", err)
	}
	uuids := make([]string, jobs)
	for i := range uuids {
		job, err := h.Client.CreateJob(ctx, client.NewJob{Type: jobType, JobFields: client.JobFields{Name: fmt.Sprintf("job %d", i)}})
		if err != nil {
			return "", fmt.Errorf("make a job: %w", err)
		}
		uuids[i] = job.UUID
	}
	_, err = h.Client.AddJobs(ctx, group.UUID, uuids...)
	return group.UUID, err
}
