package native

import (
	"context"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Changed block tracking: tasks, and what is done with them. What takes a worker is
// begun here and answered 202 with the task, whose run tells how it goes on; see
// cbtread.go for what is only looked at.

const cbtNoun = "CBT task"

func (a *API) listCBTTasks(c *gin.Context) error {
	q := queryOf(c)
	machine := q.uuid("machine")
	status := oneOf(q, "status", core.CBTCreated, core.CBTStarting, core.CBTRunning, core.CBTStopped, core.CBTFailed)
	if q.err != nil {
		return q.err
	}
	all, err := a.eng.CBTTasks(c.Request.Context())
	if err != nil {
		return err
	}
	items, next := page(q, all, func(t core.CBTTask) core.Meta { return t.Meta }, func(t core.CBTTask) bool {
		return (status == "" || t.Status == status) && (machine == "" || t.Machine(machine) >= 0)
	})
	if q.err != nil {
		return q.err
	}
	return answer(c, http.StatusOK, CBTTaskList{each(items, func(t core.CBTTask) CBTTask { return cbtTaskOf(t, nil, false) }), next})
}

func (a *API) createCBTTask(c *gin.Context) error {
	var in NewCBTTask
	if err := a.body(c, &in); err != nil {
		return err
	}
	uuid, err := bodyUUID("uuid", in.UUID)
	if err != nil {
		return err
	}
	machines, err := uuids("machines", in.Machines)
	if err != nil {
		return err
	}
	t, err := a.eng.CreateCBTTask(c.Request.Context(), core.CBTTask{
		Meta:     core.Meta{UUID: uuid, Name: in.Name, Description: in.Description},
		TaskType: in.TaskType, Machines: machines, Driver: in.Driver, OnBroken: in.OnBroken,
	})
	if err != nil {
		return err
	}
	c.Header("ETag", etag(t.Version))
	return a.created(c, "/cbt-tasks/"+t.UUID, cbtTaskOf(t, nil, true))
}

func (a *API) getCBTTask(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	t, err := a.eng.CBTTask(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return a.answerCBTTask(c, http.StatusOK, t)
}

// answerCBTTask shows a task with its session, if the caller may change it.
func (a *API) answerCBTTask(c *gin.Context, status int, t core.CBTTask) error {
	ctx := c.Request.Context()
	caller, err := core.CallerFrom(ctx)
	if err != nil {
		return err
	}
	var details []cbt.Details
	if open := slices.ContainsFunc(t.Records, func(r cbt.Record) bool { return r.Open != nil }); open && caller.Changes(t.Account) {
		if details, err = a.eng.CBTDetails(ctx, t); err != nil {
			return err
		}
	}
	c.Header("ETag", etag(t.Version))
	return answer(c, status, cbtTaskOf(t, details, caller.Changes(t.Account)))
}

func (a *API) patchCBTTask(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	version, err := a.ifMatch(c)
	if err != nil {
		return err
	}
	patch, err := a.readPatch(c, CBTFields{})
	if err != nil {
		return err
	}
	t, err := a.eng.UpdateCBTTask(c.Request.Context(), uuid, version, func(t *core.CBTTask) error {
		fields := cbtFields(*t)
		if err := patch.apply(&fields); err != nil {
			return err
		}
		t.Name, t.Description = fields.Name, fields.Description
		return nil
	})
	if err != nil {
		return err
	}
	return a.answerCBTTask(c, http.StatusOK, t)
}

// deleteCBTTask answers 204 where nothing had to be done on a host.
func (a *API) deleteCBTTask(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	if err := refuseIfMatch(c); err != nil {
		return err
	}
	q := queryOf(c)
	force, drop := q.flag("force"), a.eng.DeleteCBTTask
	if q.flag("backups") {
		drop = a.eng.DeleteCBTTaskAndBackups
	}
	if q.err != nil {
		return q.err
	}
	ctx := c.Request.Context()
	if _, err := a.eng.CBTTask(ctx, uuid); err != nil { // to the engine a task that is gone is deleted
		return err
	}
	t, err := drop(ctx, uuid, force)
	if err != nil {
		return err
	}
	if t.UUID == "" || t.Pending.Zero() {
		return noContent(c)
	}
	return a.answerCBTTask(c, http.StatusAccepted, t)
}

func (a *API) enableCBTTask(c *gin.Context) error {
	var in CBTEnable
	return a.transition(c, &in, func(ctx context.Context, uuid string) (core.CBTTask, error) {
		return a.eng.EnableCBTTask(ctx, uuid, in.Since)
	})
}

func (a *API) disableCBTTask(c *gin.Context) error {
	var in CBTDisable
	return a.transition(c, &in, func(ctx context.Context, uuid string) (core.CBTTask, error) {
		return a.eng.DisableCBTTask(ctx, uuid, in.Force)
	})
}

// transition begins what a worker has to carry out, once per Idempotency-Key: 202
// while that is under way, and 200 when nothing had to be done, or is done.
func (a *API) transition(c *gin.Context, in any, begin func(ctx context.Context, uuid string) (core.CBTTask, error)) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	if err := a.optionalBody(c, in); err != nil {
		return err
	}
	ctx, err := repeatable(c, uuid)
	if err != nil {
		return err
	}
	t, err := begin(ctx, uuid)
	if err != nil {
		return err
	}
	return a.begun(c, t)
}

func (a *API) begun(c *gin.Context, t core.CBTTask) error {
	if !t.Pending.Ended.IsZero() { // a repeated request, whose transition has ended
		t.Pending = core.CBTPending{}
	}
	if t.Pending.Zero() {
		return a.answerCBTTask(c, http.StatusOK, t)
	}
	return a.answerCBTTask(c, http.StatusAccepted, t)
}

// repeatable gives the context of a request, which its Idempotency-Key names: the
// same key of the same owner, on the same thing, is the same request.
func repeatable(c *gin.Context, thing string) (context.Context, error) {
	ctx := c.Request.Context()
	key, err := idempotencyKey(c)
	if err != nil || key == "" {
		return ctx, err
	}
	caller, err := core.CallerFrom(ctx)
	if err != nil {
		return ctx, err
	}
	return core.WithRequest(ctx, core.Request{Key: id.Derived(caller.Owner + " " + thing + " " + c.FullPath() + " " + key)}), nil
}
