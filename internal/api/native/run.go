package native

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

func (a *API) runGroup(c *gin.Context) error {
	return a.startRun(c, "job group", a.eng.RunGroup)
}

func (a *API) runJob(c *gin.Context) error {
	return a.startRun(c, "job", a.eng.RunJob)
}

func (a *API) startRun(c *gin.Context, noun string, verb func(ctx context.Context, target, key string, overlap core.Overlap) (core.Run, error)) error {
	target, err := pathUUID(c, "id", noun)
	if err != nil {
		return err
	}
	var in RunRequest
	if err := a.optionalBody(c, &in); err != nil {
		return err
	}
	return a.once(c, func(ctx context.Context, key string) (core.Run, error) {
		return verb(ctx, target, key, in.Overlap.core())
	})
}

// once makes a run, at most one per Idempotency-Key, and answers with it.
func (a *API) once(c *gin.Context, start func(ctx context.Context, key string) (core.Run, error)) error {
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	var before time.Time
	if key != "" {
		if before, err = a.eng.Now(ctx); err != nil {
			return err
		}
	}
	r, err := start(ctx, key)
	if err != nil {
		return err
	}
	return a.started(c, key != "" && earlier(r.Created, before), "/runs/"+r.ID, runOf(r))
}

func (a *API) listRuns(c *gin.Context) error {
	f, err := runFilter(queryOf(c))
	if err != nil {
		return err
	}
	page, err := a.eng.Runs(c.Request.Context(), f)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, RunList{each(page.Runs, runOf), page.Next})
}

func runFilter(q *query) (core.RunFilter, error) {
	f := core.RunFilter{
		Account: q.uuid("account"),
		Kind:    oneOf(q, "kind", core.GroupTarget, core.JobTarget, core.CBTTarget),
		Trigger: q.uuid("trigger"),
		Dialect: oneOf(q, "dialect", core.Native, core.ZStack),
		States:  manyOf(q, "state", core.RunStates()...),
		After:   q.time("from"),
		Before:  q.time("to"),
		Cursor:  q.text("cursor"),
		Limit:   q.number("limit", usualPage, 1, mostPage),
	}
	group, job := q.uuid("group"), q.uuid("job")
	switch {
	case group != "" && job != "":
		q.refuse("job", "give either group or job: a run has one target")
	case group != "":
		f.Target, f.Kind = group, narrow(q, f.Kind, core.GroupTarget)
	case job != "":
		f.Target, f.Kind = job, narrow(q, f.Kind, core.JobTarget)
	}
	return f, q.err
}

func narrow(q *query, given, implied core.TargetKind) core.TargetKind {
	if given != "" && given != implied {
		q.refuse("kind", "kind %s does not go with a %s", given, implied)
	}
	return implied
}

func (a *API) getRun(c *gin.Context) error {
	run, err := pathUUID(c, "id", "run")
	if err != nil {
		return err
	}
	q := queryOf(c)
	skip, limit := q.number("skip", 0, 0, core.MaxSteps), q.number("limit", mostPage, 1, mostPage)
	if q.err != nil {
		return q.err
	}
	ctx := c.Request.Context()
	r, err := a.eng.Run(ctx, run)
	if err != nil {
		return err
	}
	steps, err := a.eng.Steps(ctx, run)
	if err != nil {
		return err
	}
	m, err := a.masker(ctx)
	if err != nil {
		return err
	}
	out := RunDetail{Run: runOf(r)}
	steps = steps[min(skip, len(steps)):]
	if len(steps) > limit {
		steps, out.Skip = steps[:limit], skip+limit
	}
	out.Steps = each(steps, m.step)
	return answer(c, http.StatusOK, out)
}

func (a *API) cancelRun(c *gin.Context) error {
	run, err := pathUUID(c, "id", "run")
	if err != nil {
		return err
	}
	var in CancelRequest
	if err := a.optionalBody(c, &in); err != nil {
		return err
	}
	if len(in.Reason) > core.MaxDescription {
		return core.InvalidField("reason", "reason has %d bytes, at most %d are allowed", len(in.Reason), core.MaxDescription)
	}
	r, err := a.eng.CancelRun(c.Request.Context(), run, in.Reason)
	if err != nil {
		return err
	}
	return answer(c, http.StatusAccepted, runOf(r))
}

func (a *API) retryRun(c *gin.Context) error {
	run, err := pathUUID(c, "id", "run")
	if err != nil {
		return err
	}
	var none struct{}
	if err := a.optionalBody(c, &none); err != nil {
		return err
	}
	return a.once(c, func(ctx context.Context, key string) (core.Run, error) { return a.eng.RetryRun(ctx, run, key) })
}
