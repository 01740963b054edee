package zstack

import (
	"context"
	"errors"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
)

// createTrigger serves CreateSchedulerTrigger.
func (a *API) createTrigger(in *input) operation {
	t := core.Trigger{Meta: in.meta(), Enabled: true, Overlap: core.Overlap{Policy: core.OverlapSkipSteps}}
	w := readTiming(in)
	if w.kind == "" {
		in.mandatory("schedulerType")
	}
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
			return answer{}, outOfTime(err)
		}
		return one(triggerClass, a.triggerInventory(made)), nil
	}
}

// updateTrigger serves UpdateSchedulerTrigger. What it does not say about when to
// fire stays as it is; a trigger that is out of time can still be renamed.
func (a *API) updateTrigger(in *input) operation {
	trigger, e, w := in.resource("uuid", triggerRef, "uuid"), in.edit(), readTiming(in)
	return func(ctx context.Context) (answer, error) {
		now, err := a.eng.Now(ctx)
		if err != nil {
			return answer{}, err
		}
		t, err := a.eng.UpdateTrigger(ctx, trigger.uuid, 0, func(t *core.Trigger) error {
			e.meta(&t.Meta)
			if !w.given() {
				return nil
			}
			before := t.Schedule.Kind
			var err error
			if t.Schedule, err = w.revise(*t, now, a.opts.Zone.String()); err == nil && t.Schedule.Kind != before {
				t.Misfire.Policy = misfire[t.Schedule.Kind]
			}
			return err
		})
		if err != nil {
			return answer{}, outOfTime(named(err, trigger))
		}
		return one(triggerClass, a.triggerInventory(t)), nil
	}
}

// outOfTime puts the dialect's words before the engine's, where a schedule never fires.
func outOfTime(err error) error {
	if errors.Is(err, engine.ErrNeverFires) {
		return badArgument("stopTime has been passed: %s", core.Text(err))
	}
	return err
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
// besides the schedule, or of them only the jobs that jobUuids names, be they bound
// themselves or in a group. A job uuid makes it the same fire when a client repeats
// the request.
func (a *API) runTrigger(in *input) operation {
	trigger, only := in.resource("uuid", triggerRef, "uuid"), in.texts("jobUuids")
	in.checkJobs("jobUuids", only)
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.FireNow(ctx, trigger.uuid, in.job, only)
		if core.Is(err, core.Invalid) { // not one of the trigger's; perhaps because it is no job
			if gone := a.gone(ctx, only); len(gone) > 0 {
				return answer{}, missingAll(jobRef("jobUuids", ""), gone)
			}
		}
		return answer{}, named(err, trigger)
	}
}
