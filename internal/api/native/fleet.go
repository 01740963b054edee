package native

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// Workers, resources and job types belong to no account: whoever is signed in
// sees them.

func (a *API) listWorkers(c *gin.Context) error {
	f, err := a.eng.Fleet(c.Request.Context())
	if err != nil {
		return err
	}
	out := WorkerList{Items: make([]Worker, 0, len(f.Workers))}
	for _, w := range f.Workers {
		out.Items = append(out.Items, workerOf(w))
	}
	slices.SortFunc(out.Items, func(x, y Worker) int { return cmp.Or(strings.Compare(x.Host, y.Host), strings.Compare(x.ID, y.ID)) })
	return answer(c, http.StatusOK, out)
}

func workerOf(w core.Worker) Worker {
	types := each(w.Types, func(s executor.Spec) string { return s.Type })
	slices.Sort(types)
	return Worker{
		ID: w.ID, Host: w.Host, Tags: append([]string{}, w.Tags...), Version: w.Version, Types: types,
		Resources: append([]string{}, w.Resources...), Queues: append([]string{}, w.Queues...),
		Slots: w.Slots, Busy: w.Busy, Live: w.Live, Draining: w.Draining, Started: w.Started, Seen: w.Seen,
	}
}

func (a *API) listResources(c *gin.Context) error {
	f, err := a.eng.Fleet(c.Request.Context())
	if err != nil {
		return err
	}
	hosts := map[string][]string{}
	for _, w := range f.Workers {
		if !w.Live {
			continue
		}
		for _, uuid := range w.Resources {
			hosts[uuid] = append(hosts[uuid], w.Host)
		}
	}
	out := ResourceList{Items: make([]Resource, 0, len(f.Resources))}
	for uuid, seen := range f.Resources {
		reaching := append([]string{}, hosts[uuid]...)
		slices.Sort(reaching)
		out.Items = append(out.Items, Resource{UUID: uuid, Hosts: slices.Compact(reaching), Seen: seen})
	}
	slices.SortFunc(out.Items, func(x, y Resource) int { return strings.Compare(x.UUID, y.UUID) })
	return answer(c, http.StatusOK, out)
}

func (a *API) listTypes(c *gin.Context) error {
	types, err := a.eng.Types(c.Request.Context())
	if err != nil {
		return err
	}
	out := JobTypeList{Items: make([]JobType, 0, len(types))}
	for _, s := range types {
		out.Items = append(out.Items, jobTypeOf(s))
	}
	slices.SortFunc(out.Items, func(x, y JobType) int { return strings.Compare(x.Type, y.Type) })
	return answer(c, http.StatusOK, out)
}

func jobTypeOf(s executor.Spec) JobType {
	return JobType{Type: s.Type, Description: s.Description, Open: s.Open, Parameters: each(s.Parameters, func(p executor.Parameter) Parameter {
		return Parameter{
			Name: p.Name, Kind: p.Kind, Required: p.Required, Secret: p.Secret, Enum: p.Enum, Default: p.Default, Description: p.Description,
		}
	})}
}
