package zstack

import (
	"context"
	"slices"
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// A call on what belongs to another account is refused with ID.1002, as ZStack
// does. The engine says of such a thing that it does not exist, and a deletion of
// what does not exist succeeds; so it is looked up before the call is carried out.
// Queries do not come here: they answer with what the account may see.

// owned puts this look before the calls of all endpoints.
func (a *API) owned(endpoints []endpoint) []endpoint {
	for _, e := range endpoints {
		for i, k := range e.calls {
			e.calls[i].prepare = func(in *input) operation { return a.checked(k.prepare(in), e.named(in)) }
		}
	}
	return endpoints
}

func (a *API) checked(run operation, refs []ref) operation {
	return func(ctx context.Context) (answer, error) {
		if err := a.denyForeign(ctx, refs); err != nil {
			return answer{}, err
		}
		return run(ctx)
	}
}

// named gives the resources that a call names in its path and its lists.
func (e endpoint) named(in *input) []ref {
	var refs []ref
	uuid := strings.TrimSpace(in.path("uuid"))
	switch {
	case strings.HasPrefix(e.path, "/scheduler/jobgroups/"):
		refs = append(refs, groupRef("uuid", uuid))
	case strings.HasPrefix(e.path, "/scheduler/jobs/"), strings.HasPrefix(e.path, "/schedulers/"):
		refs = append(refs, jobRef("uuid", uuid))
	case strings.HasPrefix(e.path, "/scheduler/triggers/"):
		refs = append(refs, triggerRef("uuid", uuid))
	case strings.HasPrefix(e.path, "/cbt-task/"):
		refs = append(refs, cbtTaskRef("uuid", uuid))
	}
	refs = append(refs, triggerRef("schedulerTriggerUuid", strings.TrimSpace(in.path("schedulerTriggerUuid"))))
	for _, field := range []string{"schedulerJobUuids", "jobUuids"} {
		for _, job := range in.texts(field) {
			refs = append(refs, jobRef(field, job))
		}
	}
	for _, job := range strings.Split(strings.Trim(in.path("uuids"), "[]"), ",") {
		refs = append(refs, jobRef("schedulerJobUuids", strings.Trim(job, " \"'")))
	}
	return slices.DeleteFunc(refs, func(r ref) bool { return !id.Valid(r.uuid) })
}

// denyForeign refuses a call that names what the caller may not see. What does not
// exist is left to the call.
func (a *API) denyForeign(ctx context.Context, refs []ref) error {
	c, err := core.CallerFrom(ctx)
	if err != nil || c.Role == core.Admin {
		return err
	}
	all := core.WithCaller(ctx, core.Caller{Role: core.Admin})
	for _, r := range refs {
		account, err := a.accountOf(all, r)
		switch {
		case core.Is(err, core.NotFound):
		case err != nil:
			return err
		case !c.Sees(account):
			return failed(codeDenied, "operation denied: the account[uuid:%s] has no permission on the resource[uuid:%s, type:%s]", c.Account, r.uuid, r.kind)
		}
	}
	return nil
}

// accountOf gives the account that a resource belongs to.
func (a *API) accountOf(ctx context.Context, r ref) (string, error) {
	switch r.noun {
	case "job group":
		g, err := a.eng.Group(ctx, r.uuid)
		return g.Account, err
	case "job":
		j, err := a.eng.Job(ctx, r.uuid)
		return j.Account, err
	case "CBT task":
		t, err := a.eng.CBTTask(ctx, r.uuid)
		return t.Account, err
	}
	t, err := a.eng.Trigger(ctx, r.uuid)
	return t.Account, err
}
