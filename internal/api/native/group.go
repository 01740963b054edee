package native

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

func (a *API) listGroups(c *gin.Context) error {
	ctx := c.Request.Context()
	q := queryOf(c)
	jobType := q.text("type")
	if q.err != nil {
		return q.err
	}
	all, err := a.eng.Groups(ctx)
	if err != nil {
		return err
	}
	items, next := page(q, all, func(g core.Group) core.Meta { return g.Meta }, func(g core.Group) bool {
		return jobType == "" || g.Type == jobType
	})
	if q.err != nil {
		return q.err
	}
	m, err := a.masker(ctx)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, GroupList{each(items, m.group), next})
}

func (a *API) createGroup(c *gin.Context) error {
	var in NewGroup
	if err := a.body(c, &in); err != nil {
		return err
	}
	ctx := c.Request.Context()
	uuid, err := bodyUUID("uuid", in.UUID)
	if err != nil {
		return err
	}
	m, err := a.types(ctx, in.Type)
	if err != nil {
		return err
	}
	if in.Parameters, err = m.unmask(in.Type, in.Parameters, nil); err != nil {
		return err
	}
	g := core.Group{Meta: core.Meta{UUID: uuid}, Type: in.Type}
	in.GroupFields.set(&g)
	if g, err = a.eng.CreateGroup(ctx, g); err != nil {
		return err
	}
	c.Header("ETag", etag(g.Version))
	return a.created(c, "/groups/"+g.UUID, m.group(g))
}

func (a *API) getGroup(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "job group")
	if err != nil {
		return err
	}
	g, err := a.eng.Group(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return a.answerGroup(c, g)
}

func (a *API) answerGroup(c *gin.Context, g core.Group) error {
	m, err := a.masker(c.Request.Context())
	if err != nil {
		return err
	}
	c.Header("ETag", etag(g.Version))
	return answer(c, http.StatusOK, m.group(g))
}

func (a *API) patchGroup(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "job group")
	if err != nil {
		return err
	}
	version, err := a.ifMatch(c)
	if err != nil {
		return err
	}
	patch, err := a.readPatch(c, GroupFields{})
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	m, err := a.masker(ctx)
	if err != nil {
		return err
	}
	g, err := a.eng.UpdateGroup(ctx, uuid, version, func(g *core.Group) error {
		patch, err := m.restore(g.Type, patch, g.Parameters)
		if err != nil {
			return err
		}
		fields := groupFields(*g)
		if err := patch.apply(&fields); err != nil {
			return err
		}
		fields.set(g)
		return nil
	})
	if err != nil {
		return err
	}
	return a.answerGroup(c, g)
}

func (a *API) deleteGroup(c *gin.Context) error {
	return a.remove(c, "job group", a.eng.DeleteGroup)
}

func (a *API) addJobs(c *gin.Context) error {
	group, err := pathUUID(c, "id", "job group")
	if err != nil {
		return err
	}
	var in AddJobs
	if err := a.body(c, &in); err != nil {
		return err
	}
	jobs, err := uuids("jobs", in.Jobs)
	if err != nil {
		return err
	}
	g, err := a.eng.AddJobs(c.Request.Context(), group, jobs)
	if err != nil {
		return err
	}
	return a.answerGroup(c, g)
}

// uuids gives a list of distinct uuids in the stored form.
func uuids(field string, given []string) ([]string, error) {
	if len(given) > core.MaxGroupJobs {
		return nil, core.InvalidField(field, "%s holds %d uuids, at most %d are allowed", field, len(given), core.MaxGroupJobs)
	}
	out := make([]string, 0, len(given))
	for _, text := range given {
		uuid, err := bodyUUID(field, text)
		if err != nil {
			return nil, err
		}
		if uuid == "" {
			return nil, core.InvalidField(field, "%s holds an empty uuid", field)
		}
		if slices.Contains(out, uuid) {
			return nil, core.InvalidField(field, "%s holds %q twice; give it once", field, uuid)
		}
		out = append(out, uuid)
	}
	return out, nil
}

func (a *API) addJob(c *gin.Context) error {
	group, job, err := pathMember(c)
	if err != nil {
		return err
	}
	if _, err := a.eng.AddJobs(c.Request.Context(), group, []string{job}); err != nil {
		return err
	}
	return noContent(c)
}

func (a *API) removeJob(c *gin.Context) error {
	group, job, err := pathMember(c)
	if err != nil {
		return err
	}
	n, err := a.eng.RemoveJobs(c.Request.Context(), group, []string{job})
	if err != nil {
		return err
	}
	if n == 0 {
		return core.Errorf(core.NotFound, "job %q is not in job group %q", job, group)
	}
	return noContent(c)
}

func pathMember(c *gin.Context) (group, job string, err error) {
	if group, err = pathUUID(c, "id", "job group"); err != nil {
		return "", "", err
	}
	job, err = pathUUID(c, "job", "job")
	return group, job, err
}
