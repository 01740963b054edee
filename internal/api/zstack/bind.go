package zstack

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
)

// A tie is a target and a trigger as the path of a call names them.
type tie struct {
	target  core.Target
	trigger string
	refs    []ref
}

func (in *input) groupTie() tie {
	const group, trigger = "schedulerJobGroupUuid", "schedulerTriggerUuid"
	return tieOf(core.GroupTarget, in.resource("uuid", groupRef, group), in.resource(trigger, triggerRef, trigger))
}

func (in *input) jobTie() tie {
	const job, trigger = "schedulerJobUuid", "schedulerTriggerUuid"
	return tieOf(core.JobTarget, in.resource("uuid", jobRef, job), in.resource(trigger, triggerRef, trigger))
}

func tieOf(kind core.TargetKind, target, trigger ref) tie {
	return tie{target: core.Target{Kind: kind, UUID: target.uuid}, trigger: trigger.uuid, refs: []ref{target, trigger}}
}

// bindGroup serves AddSchedulerJobGroupToSchedulerTrigger.
func (a *API) bindGroup(in *input) operation {
	t, now := in.groupTie(), in.flag("triggerNow")
	return func(ctx context.Context) (answer, error) {
		b, err := a.bind(ctx, t, now)
		at := a.stamp(b.Added)
		return one(groupTieClass, groupTriggerInventory{t.target.UUID, t.trigger, at, at}), err
	}
}

// bindJob serves AddSchedulerJobToSchedulerTrigger.
func (a *API) bindJob(in *input) operation {
	t, now := in.jobTie(), in.flag("triggerNow")
	return func(ctx context.Context) (answer, error) {
		b, err := a.bind(ctx, t, now)
		at := a.stamp(b.Added)
		return one(jobTriggerClass, jobTriggerInventory{b.Ref, t.target.UUID, t.trigger, at, at}), err
	}
}

// bind ties a target to a trigger and, if asked, fires it. The two are told apart
// in the error: a client must not repeat a binding that stands.
func (a *API) bind(ctx context.Context, t tie, now bool) (core.Binding, error) {
	b, err := a.eng.Bind(ctx, t.trigger, t.target, false)
	if core.Is(err, core.Conflict) || core.Is(err, core.Exhausted) {
		// Bound already, to too many, or out of time: ZStack blames the argument.
		return b, badArgument("%s", core.Text(err))
	}
	if err != nil || !now {
		return b, named(err, t.refs...)
	}
	if _, err := a.eng.FireNow(ctx, t.trigger, "bind:"+b.Ref, []string{t.target.UUID}); err != nil {
		f := a.faultOf(ctx, err)
		return b, failed(f.code, "the trigger[uuid:%s] has been added, but to trigger it now is not confirmed: %s", t.trigger, f.details)
	}
	return b, nil
}

// unbindGroup serves RemoveSchedulerJobGroupFromSchedulerTrigger.
func (a *API) unbindGroup(in *input) operation {
	t := in.groupTie()
	return func(ctx context.Context) (answer, error) {
		if _, err := a.eng.Group(ctx, t.target.UUID); err != nil {
			return answer{}, named(err, t.refs...)
		}
		return answer{}, a.unbind(ctx, t)
	}
}

// unbindJob serves RemoveSchedulerJobFromSchedulerTrigger.
func (a *API) unbindJob(in *input) operation {
	t := in.jobTie()
	return func(ctx context.Context) (answer, error) {
		if _, err := a.eng.Job(ctx, t.target.UUID); err != nil {
			return answer{}, named(err, t.refs...)
		}
		return answer{}, a.unbind(ctx, t)
	}
}

// unbind frees a target; one that is not bound is no error.
func (a *API) unbind(ctx context.Context, t tie) error {
	_, err := a.eng.Unbind(ctx, t.trigger, t.target)
	return named(err, t.refs...)
}
