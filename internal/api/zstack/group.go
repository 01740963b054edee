package zstack

import (
	"context"
	"errors"

	"github.com/takt-dev/takt/internal/core"
)

// createGroup serves CreateSchedulerJobGroup.
func (a *API) createGroup(in *input) operation {
	g := core.Group{Meta: in.meta(), Type: in.mustText("type"), Parameters: in.mapping("parameters"), Enabled: true}
	return func(ctx context.Context) (answer, error) {
		types, err := a.types(ctx)
		if err != nil {
			return answer{}, err
		}
		made, err := a.eng.CreateGroup(ctx, g)
		if err != nil {
			return answer{}, err
		}
		return one(groupClass, createdGroup{a.groupInventory(made, nil, types), nullable(g.Parameters["targetResourceUuid"])}), nil
	}
}

// types gives the known job types. It is asked before something is made: what
// was made must not be answered with an error.
func (a *API) types(ctx context.Context) (jobTypes, error) {
	return a.eng.Types(ctx)
}

// deleteGroup serves DeleteSchedulerJobGroup, which succeeds for what is gone.
func (a *API) deleteGroup(in *input) operation {
	group := in.doomed(groupRef)
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.DeleteGroup(ctx, group)
		return answer{}, err
	}
}

// addJobs serves AddSchedulerJobsToSchedulerJobGroup.
func (a *API) addJobs(in *input) operation {
	group := in.uuid("uuid", "schedulerJobGroupUuid")
	uuids := in.uuidList("schedulerJobUuids")
	return func(ctx context.Context) (answer, error) {
		g, err := a.eng.AddJobs(ctx, group, uuids)
		if err != nil {
			return answer{}, a.namedMember(ctx, err, group, uuids)
		}
		added := make(map[string]core.Member, len(g.Members))
		for _, m := range g.Members {
			added[m.Job] = m
		}
		refs := make([]any, len(uuids))
		for i, u := range uuids {
			at := a.stamp(added[u].Added)
			refs[i] = groupJobInventory{g.UUID, u, at, at}
		}
		return many(groupJobClass, refs), nil
	}
}

// namedMember says which of the jobs, or that the group, does not exist.
func (a *API) namedMember(ctx context.Context, err error, group string, uuids []string) error {
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.NotFound || e.Field != "job" {
		return named(err, groupRef("schedulerJobGroupUuid", group))
	}
	var gone []string
	for _, u := range uuids {
		if _, err := a.eng.Job(ctx, u); core.Is(err, core.NotFound) {
			gone = append(gone, u)
		}
	}
	return missingAll(jobRef("schedulerJobUuids", ""), gone)
}

// removeJobs serves RemoveSchedulerJobsFromSchedulerJobGroup. A job that is not in
// the group is no error.
func (a *API) removeJobs(in *input) operation {
	group := in.uuid("uuid", "schedulerJobGroupUuid")
	uuids := in.uuidList("schedulerJobUuids")
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.RemoveJobs(ctx, group, uuids)
		return answer{}, named(err, groupRef("schedulerJobGroupUuid", group))
	}
}
