package zstack

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// createJob serves CreateSchedulerJob.
func (a *API) createJob(in *input) operation {
	j := core.Job{
		Meta: in.meta(), Type: in.mustText("type"), Parameters: in.mapping("parameters"),
		Target: in.mustText("targetResourceUuid"), Enabled: true,
	}
	if j.Target != "" {
		in.checkUUID("targetResourceUuid", j.Target)
	}
	return func(ctx context.Context) (answer, error) {
		types, err := a.types(ctx)
		if err != nil {
			return answer{}, err
		}
		made, err := a.eng.CreateJob(ctx, j)
		if err != nil {
			return answer{}, err
		}
		return one(jobClass, a.jobInventory(made, nil, types)), nil
	}
}

// deleteJob serves DeleteSchedulerJob, which succeeds for what is gone.
func (a *API) deleteJob(in *input) operation {
	job := in.doomed(jobRef)
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.DeleteJob(ctx, job)
		return answer{}, err
	}
}
