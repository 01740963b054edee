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
			return answer{}, typed(err, j.Type)
		}
		return one(jobClass, a.jobInventory(made, nil, types)), nil
	}
}

// updateJob serves UpdateSchedulerJob.
func (a *API) updateJob(in *input) operation {
	job, e := in.resource("uuid", jobRef, "uuid"), in.jobEdit()
	return a.changeJob(job, func(j *core.Job, types jobTypes) (err error) {
		e.meta(&j.Meta)
		j.Parameters, err = e.of(j.Type, j.Parameters, types)
		return err
	})
}

// changeState serves ChangeSchedulerState, whose uuid is a job's. A disabled job
// stays where it is and is not fired.
func (a *API) changeState(in *input) operation {
	job, event := in.resource("uuid", jobRef, "uuid"), in.choice("stateEvent", "enable", "disable")
	if event == "" {
		in.mandatory("stateEvent")
	}
	return a.changeJob(job, func(j *core.Job, _ jobTypes) error {
		j.Enabled = event == "enable"
		return nil
	})
}

func (a *API) changeJob(job ref, change func(*core.Job, jobTypes) error) operation {
	return func(ctx context.Context) (answer, error) {
		beside, err := a.beside(ctx, job.uuid)
		if err != nil {
			return answer{}, err
		}
		j, err := a.eng.UpdateJob(ctx, job.uuid, 0, func(j *core.Job) error { return change(j, beside.types) })
		if err != nil {
			return answer{}, named(err, job)
		}
		return one(jobClass, a.jobInventory(j, beside.bound, beside.types)), nil
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
