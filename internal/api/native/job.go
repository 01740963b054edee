package native

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

func (a *API) listJobs(c *gin.Context) error {
	ctx := c.Request.Context()
	q := queryOf(c)
	jobType, group := q.text("type"), q.uuid("group")
	if q.err != nil {
		return q.err
	}
	all, err := a.eng.Jobs(ctx)
	if err != nil {
		return err
	}
	items, next := page(q, all, func(j core.Job) core.Meta { return j.Meta }, func(j core.Job) bool {
		return (jobType == "" || j.Type == jobType) && (group == "" || j.Group == group)
	})
	if q.err != nil {
		return q.err
	}
	m, err := a.masker(ctx)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, JobList{each(items, m.job), next})
}

func (a *API) createJob(c *gin.Context) error {
	var in NewJob
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
	if in.Target, err = bodyUUID("target", in.Target); err != nil {
		return err
	}
	j := core.Job{Meta: core.Meta{UUID: uuid}, Type: in.Type}
	in.JobFields.set(&j)
	if j, err = a.eng.CreateJob(ctx, j); err != nil {
		return err
	}
	c.Header("ETag", etag(j.Version))
	return a.created(c, "/jobs/"+j.UUID, m.job(j))
}

// types gives the masker, and refuses a job type that nobody knows in this API's
// own words.
func (a *API) types(ctx context.Context, jobType string) (masker, error) {
	m, err := a.masker(ctx)
	if err != nil {
		return nil, err
	}
	if _, known := m[jobType]; !known && jobType != "" {
		return nil, core.InvalidField("type", "type %q is not known: no worker has announced it; GET %s/types lists the known ones", jobType, a.opts.Prefix)
	}
	return m, nil
}

func (a *API) getJob(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "job")
	if err != nil {
		return err
	}
	j, err := a.eng.Job(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return a.answerJob(c, j)
}

func (a *API) answerJob(c *gin.Context, j core.Job) error {
	m, err := a.masker(c.Request.Context())
	if err != nil {
		return err
	}
	c.Header("ETag", etag(j.Version))
	return answer(c, http.StatusOK, m.job(j))
}

func (a *API) patchJob(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "job")
	if err != nil {
		return err
	}
	version, err := a.ifMatch(c)
	if err != nil {
		return err
	}
	patch, err := a.readPatch(c, JobFields{})
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	m, err := a.masker(ctx)
	if err != nil {
		return err
	}
	j, err := a.eng.UpdateJob(ctx, uuid, version, func(j *core.Job) error { return patchedJob(m, patch, j) })
	if err != nil {
		return err
	}
	return a.answerJob(c, j)
}

func patchedJob(m masker, patch mergePatch, j *core.Job) error {
	patch, err := m.restore(j.Type, patch, j.Parameters)
	if err != nil {
		return err
	}
	fields := jobFields(*j)
	if err := patch.apply(&fields); err != nil {
		return err
	}
	if fields.Target, err = bodyUUID("target", fields.Target); err != nil {
		return err
	}
	fields.set(j)
	return nil
}

func (a *API) deleteJob(c *gin.Context) error {
	return a.remove(c, "job", a.eng.DeleteJob)
}

// remove deletes a definition; one that is gone already is not there to delete.
func (a *API) remove(c *gin.Context, noun string, verb func(ctx context.Context, uuid string) (bool, error)) error {
	uuid, err := pathUUID(c, "id", noun)
	if err != nil {
		return err
	}
	if err := refuseIfMatch(c); err != nil {
		return err
	}
	ok, err := verb(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	if !ok {
		return core.Missing(noun, uuid)
	}
	return noContent(c)
}
