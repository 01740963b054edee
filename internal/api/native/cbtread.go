package native

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// What is read of a CBT task: its checkpoints off the record, changes and estimates
// by a worker.

// workerPatience is how long an answer of a worker is waited for, less than what a
// client waits for ours.
const workerPatience = 25 * time.Second

func (a *API) listCheckpoints(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	t, err := a.eng.CBTTask(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, CheckpointList{checkpointsOf(t)})
}

func (a *API) deleteCheckpoint(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	if err := refuseIfMatch(c); err != nil {
		return err
	}
	seq, ok := checkpointOf(uuid, c.Param("name"))
	if !ok {
		return core.Errorf(core.NotFound, "the task has no checkpoint %q; GET /cbt-tasks/%s/checkpoints lists those it has", c.Param("name"), uuid)
	}
	t, err := a.eng.ForgetCheckpoint(c.Request.Context(), uuid, seq)
	if err != nil {
		return err
	}
	return a.begun(c, t)
}

// checkpointOf gives the number of a checkpoint by its name.
func checkpointOf(task, name string) (seq int, ok bool) {
	of, seq, ok := cbt.ParseCheckpoint(name)
	own, err := cbt.TaskName(task)
	return seq, ok && err == nil && of == own
}

// checkpoint reads a parameter that names a checkpoint of a task; absent is 0.
func (q *query) checkpoint(name, task string) int {
	text := q.text(name)
	if text == "" {
		return 0
	}
	seq, ok := checkpointOf(task, text)
	if !ok {
		q.refuse(name, "%s %q is not a checkpoint of this task; GET /cbt-tasks/%s/checkpoints lists those it has", name, text, task)
	}
	return seq
}

// readChanges gives a page. It is resumed by offset, so that a client that was cut
// off goes on where it stopped.
func (a *API) readChanges(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	q := queryOf(c)
	o := cbt.PageOrder{
		Volume: q.uuid("volume"), Span: cbt.Span{From: q.checkpoint("from", uuid), To: q.checkpoint("to", uuid)},
		Offset: uint64(q.number("startingOffset", 0, 0, math.MaxInt64)), Most: q.number("maxResults", cbt.MaxPage, 1, cbt.MaxPage),
	}
	if o.Volume == "" {
		q.refuse("volume", "volume must name one of the task's volumes")
	}
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), workerPatience)
	defer cancel()
	p, err := a.eng.ReadChanges(ctx, uuid, o)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, changesOf(p, q.text("from"), q.text("to")))
}

func (a *API) estimateCBT(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", cbtNoun)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), workerPatience)
	defer cancel()
	t, err := a.eng.CBTTask(ctx, uuid)
	if err != nil {
		return err
	}
	found, err := a.eng.EstimateCBT(ctx, uuid)
	if err != nil {
		return err
	}
	out := EstimateList{Items: make([]Estimate, 0, len(found))}
	for i, e := range found[:min(len(found), len(t.Machines))] {
		out.Items = append(out.Items, estimateOf(t.Machines[i], e))
	}
	return answer(c, http.StatusOK, out)
}
