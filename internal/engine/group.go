package engine

import (
	"context"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// CreateGroup checks and stores a group without jobs and returns it complete.
func (e *Engine) CreateGroup(ctx context.Context, g core.Group) (core.Group, error) {
	if err := e.newMeta(ctx, "job group", &g.Meta); err != nil {
		return g, err
	}
	return once(ctx, "job group", func() (core.Group, error) { return e.createGroup(ctx, g) }, func() (core.Group, error) { return e.Group(ctx, g.UUID) })
}

func (e *Engine) createGroup(ctx context.Context, g core.Group) (core.Group, error) {
	spec, err := e.checkGroup(ctx, g)
	if err != nil {
		return g, err
	}
	row := g
	row.Parameters = e.sealed(spec, g.Parameters)
	if err := e.store.CreateGroup(ctx, row); err != nil {
		return g, err
	}
	g.Version, g.Members = 1, nil
	return g, nil
}

// UpdateGroup changes a group as UpdateJob changes a job. Its type cannot change
// while it has jobs.
func (e *Engine) UpdateGroup(ctx context.Context, uuid string, version int64, change func(*core.Group) error) (core.Group, error) {
	var g core.Group
	err := retryStale(func() (err error) {
		if g, err = e.group(ctx, uuid); err != nil {
			return err
		}
		if err := mayChange(ctx, "job group", uuid, g.Account); err != nil {
			return err
		}
		if err := checkVersion("job group", version, g.Version); err != nil {
			return errNotRetried(err)
		}
		if g.Parameters, err = e.opened(g.Parameters); err != nil {
			return err
		}
		name, before := g.Name, g.Type
		if err := change(&g); err != nil {
			return err
		}
		if g.Type != before && len(g.Members) > 0 {
			return core.Errorf(core.Conflict, "the job group has %d jobs of type %s; remove them before changing its type", len(g.Members), before)
		}
		if err := checkMeta(&g.Meta, name); err != nil {
			return err
		}
		spec, err := e.checkGroup(ctx, g)
		if err != nil {
			return err
		}
		now, err := e.store.Now(ctx)
		if err != nil {
			return err
		}
		g.Updated = now.UTC()
		row := g
		row.Parameters = e.sealed(spec, g.Parameters)
		return e.store.UpdateGroup(ctx, row)
	})
	g.Version++
	return g, finalStale(err)
}

// checkGroup checks the type and, of the shared parameters, that each is known
// and well-formed: what is required may come from the jobs.
func (e *Engine) checkGroup(ctx context.Context, g core.Group) (executor.Spec, error) {
	spec, err := e.checkType(ctx, g.Type)
	if err != nil {
		return spec, err
	}
	spec.Check = nil
	optional := make([]executor.Parameter, len(spec.Parameters))
	for i, p := range spec.Parameters {
		p.Required = false
		optional[i] = p
	}
	spec.Parameters = optional
	if err := parametersError(spec.Validate(g.Parameters)); err != nil {
		return spec, err
	}
	return spec, checkTimeout(g.Timeout)
}

// DeleteGroup deletes a group; its jobs become free and its triggers forget it.
// ok is false when there was none.
func (e *Engine) DeleteGroup(ctx context.Context, uuid string) (ok bool, err error) {
	g, err := e.group(ctx, uuid)
	if err == nil {
		err = mayChange(ctx, "job group", uuid, g.Account)
	}
	if core.Is(err, core.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	jobs, triggers, ok, err := e.store.DeleteGroup(ctx, uuid)
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		e.settleLater(ctx, e.store.SettleMember(ctx, uuid, j))
	}
	for _, t := range triggers {
		e.settleLater(ctx, e.SettleLink(ctx, core.Target{Kind: core.GroupTarget, UUID: uuid}, t))
	}
	return ok, nil
}

// Group gives one group the caller may see.
func (e *Engine) Group(ctx context.Context, uuid string) (core.Group, error) {
	g, err := e.group(ctx, uuid)
	if err != nil {
		return g, err
	}
	if err := maySee(ctx, "job group", uuid, g.Account); err != nil {
		return g, err
	}
	g.Parameters, err = e.opened(g.Parameters)
	return g, err
}

// Groups gives every group the caller may see, in no order.
func (e *Engine) Groups(ctx context.Context) ([]core.Group, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	all, err := e.store.ListGroups(ctx)
	if err != nil {
		return nil, err
	}
	all = seen(c, all, func(g core.Group) string { return g.Account })
	for i := range all {
		// One that cannot be opened must not hide the others; it stays sealed.
		if open, err := e.opened(all[i].Parameters); err == nil {
			all[i].Parameters = open
		}
	}
	return all, nil
}

func (e *Engine) group(ctx context.Context, uuid string) (core.Group, error) {
	groups, err := e.store.Groups(ctx, []string{uuid})
	if err != nil {
		return core.Group{}, err
	}
	if len(groups) == 0 {
		return core.Group{}, core.Missing("job group", uuid)
	}
	return groups[0], nil
}

// AddJobs puts jobs into a group, all or none, and returns the group. Jobs that
// are in it already stay where they are. NotFound, Conflict (another group),
// Invalid (another type), Exhausted (too many).
func (e *Engine) AddJobs(ctx context.Context, group string, jobs []string) (core.Group, error) {
	g, err := e.group(ctx, group)
	if err != nil {
		return g, err
	}
	if err := mayChange(ctx, "job group", group, g.Account); err != nil {
		return g, err
	}
	if len(jobs) == 0 {
		return g, core.InvalidField("jobs", "at least one job uuid must be given")
	}
	if err := e.checkMembers(ctx, g, jobs); err != nil {
		return g, err
	}
	if err := e.enroll(ctx, group, jobs); err != nil {
		for _, j := range jobs { // gives back the claims that were made
			e.settleLater(ctx, e.store.SettleMember(ctx, group, j))
		}
		return g, err
	}
	for _, j := range jobs {
		e.settleLater(ctx, e.store.SettleMember(ctx, group, j))
	}
	return e.Group(ctx, group)
}

func (e *Engine) enroll(ctx context.Context, group string, jobs []string) error {
	if err := e.store.Claim(ctx, group, jobs); err != nil {
		return err
	}
	return e.store.Enroll(ctx, group, jobs, e.groupJobs)
}

func (e *Engine) checkMembers(ctx context.Context, g core.Group, uuids []string) error {
	jobs, err := e.store.Jobs(ctx, uuids)
	if err != nil {
		return err
	}
	byID := make(map[string]core.Job, len(jobs))
	for _, j := range jobs {
		byID[j.UUID] = j
	}
	other := 0
	for _, u := range uuids {
		j, ok := byID[u]
		if !ok {
			return core.Missing("job", u)
		}
		if err := mayChange(ctx, "job", u, j.Account); err != nil {
			return err
		}
		if j.Type != g.Type {
			other++
		}
	}
	if other > 0 {
		return core.InvalidField("jobs", "%d jobs have different job type with job group, whose type is %s", other, g.Type)
	}
	return nil
}

// RemoveJobs takes jobs out of a group and gives how many were in it.
func (e *Engine) RemoveJobs(ctx context.Context, group string, jobs []string) (int, error) {
	g, err := e.group(ctx, group)
	if err != nil {
		return 0, err
	}
	if err := mayChange(ctx, "job group", group, g.Account); err != nil {
		return 0, err
	}
	n, err := e.store.Withdraw(ctx, group, jobs)
	if err != nil {
		return n, err
	}
	for _, j := range jobs {
		e.settleLater(ctx, e.store.SettleMember(ctx, group, j))
	}
	return n, nil
}
