package zstack

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// createTrigger serves CreateSchedulerTrigger.
func (a *API) createTrigger(in *input) operation {
	t := core.Trigger{Meta: in.meta(), Enabled: true, Overlap: core.Overlap{Policy: core.OverlapSkipSteps}}
	w := readTiming(in)
	return func(ctx context.Context) (answer, error) {
		now, err := a.eng.Now(ctx)
		if err != nil {
			return answer{}, err
		}
		if t.Schedule, err = w.spec(now, a.opts.Zone.String()); err != nil {
			return answer{}, err
		}
		t.Misfire.Policy = misfire[t.Schedule.Kind]
		made, err := a.eng.CreateTrigger(ctx, t)
		if err != nil {
			return answer{}, err
		}
		return one(triggerClass, a.triggerInventory(made)), nil
	}
}

// deleteTrigger serves DeleteSchedulerTrigger, which succeeds for what is gone.
func (a *API) deleteTrigger(in *input) operation {
	trigger := in.doomed(triggerRef)
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.DeleteTrigger(ctx, trigger)
		return answer{}, err
	}
}

// runTrigger serves RunSchedulerTrigger: the trigger's targets are started once,
// besides the schedule. A job uuid makes it the same fire when a client repeats
// the request.
func (a *API) runTrigger(in *input) operation {
	trigger := in.uuid("uuid", "uuid")
	only := in.texts("jobUuids")
	for _, u := range only {
		in.checkUUID("jobUuids", u)
	}
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.FireNow(ctx, trigger, in.job, only)
		return answer{}, named(err, triggerRef("uuid", trigger))
	}
}
