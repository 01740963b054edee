package native

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

func (a *API) listTriggers(c *gin.Context) error {
	q := queryOf(c)
	target := q.uuid("target")
	if q.err != nil {
		return q.err
	}
	all, err := a.eng.Triggers(c.Request.Context())
	if err != nil {
		return err
	}
	items, next := page(q, all, func(t core.Trigger) core.Meta { return t.Meta }, func(t core.Trigger) bool {
		_, bound := t.Binding(target)
		return target == "" || bound
	})
	if q.err != nil {
		return q.err
	}
	return answer(c, http.StatusOK, TriggerList{each(items, triggerOf), next})
}

func (a *API) createTrigger(c *gin.Context) error {
	var in NewTrigger
	if err := a.body(c, &in); err != nil {
		return err
	}
	uuid, err := bodyUUID("uuid", in.UUID)
	if err != nil {
		return err
	}
	t := core.Trigger{Meta: core.Meta{UUID: uuid}}
	in.TriggerFields.set(&t)
	if t, err = a.eng.CreateTrigger(c.Request.Context(), t); err != nil {
		return err
	}
	c.Header("ETag", etag(t.Version))
	return a.created(c, "/triggers/"+t.UUID, triggerOf(t))
}

func (a *API) getTrigger(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	t, err := a.eng.Trigger(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return answerTrigger(c, t)
}

func answerTrigger(c *gin.Context, t core.Trigger) error {
	c.Header("ETag", etag(t.Version))
	return answer(c, http.StatusOK, triggerOf(t))
}

func (a *API) patchTrigger(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	version, err := a.ifMatch(c)
	if err != nil {
		return err
	}
	patch, err := a.readPatch(c, TriggerFields{})
	if err != nil {
		return err
	}
	t, err := a.eng.UpdateTrigger(c.Request.Context(), uuid, version, func(t *core.Trigger) error { return patchedTrigger(patch, t) })
	if err != nil {
		return err
	}
	return answerTrigger(c, t)
}

// patchedTrigger leaves a schedule alone that the patch says nothing of: a new
// schedule is a new revision, and must have slots to come.
func patchedTrigger(patch mergePatch, t *core.Trigger) error {
	fields := triggerFields(*t)
	if err := patch.apply(&fields); err != nil {
		return err
	}
	kept := t.Schedule
	fields.set(t)
	if !patch.has("schedule") {
		t.Schedule = kept
	}
	return nil
}

func (a *API) deleteTrigger(c *gin.Context) error {
	return a.remove(c, "trigger", a.eng.DeleteTrigger)
}

func (a *API) bind(c *gin.Context) error {
	trigger, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	var in NewBinding
	if err := a.body(c, &in); err != nil {
		return err
	}
	target, err := in.target()
	if err != nil {
		return err
	}
	b, err := a.eng.Bind(c.Request.Context(), trigger, target, in.FireNow)
	if err != nil {
		return err
	}
	return answer(c, http.StatusCreated, bindingOf(b))
}

func (b NewBinding) target() (core.Target, error) {
	if b.Kind != core.GroupTarget && b.Kind != core.JobTarget {
		return core.Target{}, core.InvalidField("kind", "kind %q must be group or job", b.Kind)
	}
	if b.UUID == "" {
		return core.Target{}, core.InvalidField("uuid", "uuid must name the %s to bind", b.Kind)
	}
	uuid, err := bodyUUID("uuid", b.UUID)
	return core.Target{Kind: b.Kind, UUID: uuid}, err
}

func (a *API) unbind(c *gin.Context) error {
	trigger, err := pathUUID(c, "id", "trigger")
	if err != nil {
		return err
	}
	uuid, err := pathUUID(c, "uuid", "target")
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	t, err := a.eng.Trigger(ctx, trigger)
	if err != nil {
		return err
	}
	b, bound := t.Binding(uuid)
	if bound {
		bound, err = a.eng.Unbind(ctx, trigger, b.Target)
	}
	if err != nil {
		return err
	}
	if !bound {
		return core.Errorf(core.NotFound, "%q is not bound to trigger %q", uuid, trigger)
	}
	return noContent(c)
}
