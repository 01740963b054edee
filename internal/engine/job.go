package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// CreateJob checks and stores a job and returns it complete. UUID, Name,
// Description, Dialect and the job's own fields are the caller's to give; a new
// job is Enabled as given. Invalid, Exists.
func (e *Engine) CreateJob(ctx context.Context, j core.Job) (core.Job, error) {
	if err := e.newMeta(ctx, "job", &j.Meta); err != nil {
		return j, err
	}
	return once(ctx, "job", func() (core.Job, error) { return e.createJob(ctx, j) }, func() (core.Job, error) { return e.Job(ctx, j.UUID) })
}

func (e *Engine) createJob(ctx context.Context, j core.Job) (core.Job, error) {
	spec, err := e.checkJob(ctx, j)
	if err != nil {
		return j, err
	}
	row := j
	row.Parameters = e.sealed(spec, j.Parameters)
	if err := e.store.CreateJob(ctx, row); err != nil {
		return j, err
	}
	j.Version = 1
	return j, nil
}

// UpdateJob changes a job. version is the one the caller has seen, or 0 for any.
// change must not touch Meta but for Name and Description.
func (e *Engine) UpdateJob(ctx context.Context, uuid string, version int64, change func(*core.Job) error) (core.Job, error) {
	var j core.Job
	err := retryStale(func() (err error) {
		if j, err = e.job(ctx, uuid); err != nil {
			return err
		}
		if err := mayChange(ctx, "job", uuid, j.Account); err != nil {
			return err
		}
		if err := checkVersion("job", version, j.Version); err != nil {
			return errNotRetried(err)
		}
		if j.Parameters, err = e.opened(j.Parameters); err != nil {
			return err
		}
		name, before := j.Name, j.Type
		if err := change(&j); err != nil {
			return err
		}
		if j.Type != before && j.Group != "" {
			return core.Errorf(core.Conflict, "the job is in job group %q, whose jobs are of type %s; remove it there before changing its type", j.Group, before)
		}
		if err := checkMeta(&j.Meta, name); err != nil {
			return err
		}
		spec, err := e.checkJob(ctx, j)
		if err != nil {
			return err
		}
		now, err := e.store.Now(ctx)
		if err != nil {
			return err
		}
		j.Updated = now.UTC()
		row := j
		row.Parameters = e.sealed(spec, j.Parameters)
		return e.store.UpdateJob(ctx, row)
	})
	j.Version++
	return j, finalStale(err)
}

// DeleteJob deletes a job, takes it out of its group and frees it from its
// triggers. Runs under way go on; history stays. ok is false when there was none.
func (e *Engine) DeleteJob(ctx context.Context, uuid string) (ok bool, err error) {
	j, err := e.job(ctx, uuid)
	if core.Is(err, core.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := mayChange(ctx, "job", uuid, j.Account); err != nil {
		if core.Is(err, core.NotFound) {
			return false, nil
		}
		return false, err
	}
	group, triggers, ok, err := e.store.DeleteJob(ctx, uuid)
	if err != nil {
		return false, err
	}
	if group != "" {
		e.settleLater(ctx, e.store.SettleMember(ctx, group, uuid))
	}
	for _, t := range triggers {
		e.settleLater(ctx, e.SettleLink(ctx, core.Target{Kind: core.JobTarget, UUID: uuid}, t))
	}
	return ok, nil
}

// Job gives one job the caller may see.
func (e *Engine) Job(ctx context.Context, uuid string) (core.Job, error) {
	j, err := e.job(ctx, uuid)
	if err != nil {
		return j, err
	}
	if err := maySee(ctx, "job", uuid, j.Account); err != nil {
		return j, err
	}
	j.Parameters, err = e.opened(j.Parameters)
	return j, err
}

// Jobs gives every job the caller may see, in no order.
func (e *Engine) Jobs(ctx context.Context) ([]core.Job, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	all, err := e.store.ListJobs(ctx)
	if err != nil {
		return nil, err
	}
	all = seen(c, all, func(j core.Job) string { return j.Account })
	for i := range all {
		// One that cannot be opened must not hide the others; it stays sealed.
		if open, err := e.opened(all[i].Parameters); err == nil {
			all[i].Parameters = open
		}
	}
	return all, nil
}

func seen[T any](c core.Caller, all []T, account func(T) string) []T {
	out := all[:0]
	for _, x := range all {
		if c.Sees(account(x)) {
			out = append(out, x)
		}
	}
	return out
}

func (e *Engine) job(ctx context.Context, uuid string) (core.Job, error) {
	jobs, err := e.store.Jobs(ctx, []string{uuid})
	if err != nil {
		return core.Job{}, err
	}
	if len(jobs) == 0 {
		return core.Job{}, core.Missing("job", uuid)
	}
	return jobs[0], nil
}

func (e *Engine) checkJob(ctx context.Context, j core.Job) (executor.Spec, error) {
	spec, err := e.checkType(ctx, j.Type)
	if err != nil {
		return spec, err
	}
	if err := parametersError(spec.Validate(j.Parameters)); err != nil {
		return spec, err
	}
	switch {
	case j.Target != "" && !id.Valid(j.Target):
		return spec, core.InvalidField("target", "target %q must be a uuid of 32 lower-case hexadecimal digits", j.Target)
	case !j.Priority.Valid():
		return spec, core.InvalidField("priority", "priority %q must be critical, default or low", j.Priority)
	}
	if err := checkTimeout(j.Timeout); err != nil {
		return spec, err
	}
	return spec, j.Retry.Validate()
}

func checkTimeout(d time.Duration) error {
	if d < 0 || d > core.MaxTimeout || d > 0 && d < time.Second {
		return core.InvalidField("timeout", "timeout is %s, it must be from 1s to %s, or 0 for the default", d, core.MaxTimeout)
	}
	return nil
}

func (e *Engine) checkType(ctx context.Context, jobType string) (executor.Spec, error) {
	if jobType == "" {
		return executor.Spec{}, core.InvalidField("type", "type must not be empty")
	}
	if jobType == core.CBTType {
		return executor.Spec{}, core.InvalidField("type", "no job can be of type %s: its steps are made by CBT tasks only", jobType)
	}
	spec, ok, err := e.Spec(ctx, jobType)
	if err == nil && !ok {
		err = core.InvalidField("type", "No SchedulerJobFactory of type[%s] found: no worker has ever announced this job type", jobType)
	}
	return spec, err
}

func parametersError(err error) error {
	if err == nil {
		return nil
	}
	var p *executor.ParameterError
	if errors.As(err, &p) {
		return core.InvalidField("parameters."+p.Parameter, "%s", p.Error())
	}
	return core.InvalidField("parameters", "%s", err.Error())
}

// settleLater notes that a follow-up did not succeed at once. It stands in the
// outbox, so the reconciler does it.
func (e *Engine) settleLater(ctx context.Context, err error) {
	if err != nil {
		e.log.WarnContext(ctx, "follow-up left to the reconciler", "err", err)
	}
}

// A version that the caller asked for does not become right by trying again.
type notRetried struct{ err error }

func (n notRetried) Error() string { return n.err.Error() }

func errNotRetried(err error) error { return notRetried{err} }

func finalStale(err error) error {
	var n notRetried
	if errors.As(err, &n) {
		return n.err
	}
	if core.Is(err, core.Stale) {
		return core.Errorf(core.Conflict, "others keep changing this at the same time; try again: %s", fmt.Sprint(core.Text(err)))
	}
	return err
}
