package zstack

import (
	"context"
	"errors"
	"slices"

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
			return answer{}, typed(err, g.Type)
		}
		return one(groupClass, createdGroup{a.groupInventory(made, nil, types), nullable(g.Parameters["targetResourceUuid"])}), nil
	}
}

// updateGroup serves UpdateSchedulerJobGroup. The state is one of the SDK's
// words, or of the documentation's.
func (a *API) updateGroup(in *input) operation {
	group, e := in.resource("uuid", groupRef, "uuid"), in.jobEdit()
	state := in.choice("state", "Enabled", "Disabled", "enable", "disable")
	return func(ctx context.Context) (answer, error) {
		beside, err := a.beside(ctx, group.uuid)
		if err != nil {
			return answer{}, err
		}
		g, err := a.eng.UpdateGroup(ctx, group.uuid, 0, func(g *core.Group) (err error) {
			e.meta(&g.Meta)
			if state != "" {
				g.Enabled = state == "Enabled" || state == "enable"
			}
			g.Parameters, err = e.of(g.Type, g.Parameters, beside.types)
			return err
		})
		if err != nil {
			return answer{}, named(err, group)
		}
		return one(groupClass, a.groupInventory(g, beside.bound, beside.types)), nil
	}
}

// Beside is what an answer shows besides the definition itself. An update reads it
// before it changes anything: what was changed must not be answered with an error.
type beside struct {
	types jobTypes
	bound []string // triggers
}

func (a *API) beside(ctx context.Context, uuid string) (beside, error) {
	types, err := a.types(ctx)
	if err != nil {
		return beside{}, err
	}
	links, err := a.eng.Links(ctx, []string{uuid})
	return beside{types, slices.Sorted(slices.Values(links[uuid]))}, err
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
	group := in.resource("uuid", groupRef, "schedulerJobGroupUuid")
	uuids := in.jobList("schedulerJobUuids")
	in.mapping("priorities") // of newer versions; Takt runs the jobs of a group at once
	return func(ctx context.Context) (answer, error) {
		g, err := a.eng.AddJobs(ctx, group.uuid, uuids)
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

// namedMember says which of the jobs, or that the group, does not exist. That a
// group is full, and a job in another one, is to ZStack the argument's fault.
func (a *API) namedMember(ctx context.Context, err error, group ref, uuids []string) error {
	var e *core.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Kind == core.Conflict, e.Kind == core.Exhausted:
		return badArgument("%s", core.Text(err))
	case e.Kind == core.NotFound && e.Field == "job":
		return missingAll(jobRef("schedulerJobUuids", ""), a.gone(ctx, uuids))
	}
	return named(err, group)
}

// gone gives those of the jobs that do not exist, or not for the caller.
func (a *API) gone(ctx context.Context, uuids []string) []string {
	var gone []string
	for _, u := range uuids {
		if _, err := a.eng.Job(ctx, u); core.Is(err, core.NotFound) {
			gone = append(gone, u)
		}
	}
	return gone
}

// removeJobs serves RemoveSchedulerJobsFromSchedulerJobGroup. A job that is not in
// the group is no error.
func (a *API) removeJobs(in *input) operation {
	group := in.resource("uuid", groupRef, "schedulerJobGroupUuid")
	uuids := in.jobList("schedulerJobUuids")
	return func(ctx context.Context) (answer, error) {
		_, err := a.eng.RemoveJobs(ctx, group.uuid, uuids)
		return answer{}, named(err, group)
	}
}
