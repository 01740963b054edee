package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestReadChanges(t *testing.T) {
	h := newHouse(t)
	task := h.stopped(h.enabled(h.task(2), ""))
	task = h.enabled(task, bitmap(task, 1))
	volume := volumeOf(task.Machines[1])
	var page cbt.Page
	var err error
	ask := cbt.PageOrder{Volume: volume, Span: cbt.Span{From: 1, To: 2}, Offset: 1 << 20}
	orders := h.meanwhile(obliging, func() { page, err = h.eng.ReadChanges(core.WithCaller(t.Context(), viewer), task.UUID, ask) })
	h.ok(err)
	if page.Volume != volume || len(page.Extents) != 1 || page.Extents[0].Offset != 1<<20 {
		t.Errorf("got %+v", page)
	}
	ask.Most = cbt.MaxPage
	if len(orders) != 1 || orders[0].Machine != task.Machines[1] || orders[0].Changes != ask {
		t.Errorf("got the orders %+v", orders)
	}
	if now := h.readTask(task); now.Version != task.Version || now.Last.Run != task.Last.Run || !now.Pending.Zero() {
		t.Errorf("the reading changed the task: %+v", now)
	}
	for _, row := range []struct {
		name string
		ask  cbt.PageOrder
		kind core.Kind
	}{
		{"an unknown volume", cbt.PageOrder{Volume: id.New()}, core.NotFound},
		{"an unknown checkpoint", cbt.PageOrder{Volume: volume, Span: cbt.Span{From: 7}}, core.NotFound},
		{"up to an unknown checkpoint", cbt.PageOrder{Volume: volume, Span: cbt.Span{From: 1, To: 7}}, core.NotFound},
		{"a span that runs backwards", cbt.PageOrder{Volume: volume, Span: cbt.Span{From: 2, To: 1}}, core.Invalid},
		{"what was allocated once", cbt.PageOrder{Volume: volume, Span: cbt.Span{To: 1}}, core.Invalid},
		{"a page that is too long", cbt.PageOrder{Volume: volume, Most: cbt.MaxPage + 1}, core.Invalid},
	} {
		_, err := h.eng.ReadChanges(h.ctx, task.UUID, row.ask)
		wantKind(t, row.name, err, row.kind)
	}
	h.meanwhile(failing(task.Machines[1]), func() { _, err = h.eng.ReadChanges(h.ctx, task.UUID, ask) })
	wantKind(t, "the worker cannot tell", err, core.Conflict)
	if !hasText(err, "changes does not work") {
		t.Errorf("got %v, want the worker's reason", err)
	}
	h.vanish()
	_, err = h.eng.ReadChanges(h.ctx, task.UUID, ask)
	wantKind(t, "no worker", err, core.Conflict)
}

func TestEstimateOfAllMachines(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStopped, 3)
	var got []cbt.Estimate
	var err error
	h.meanwhile(obliging, func() { got, err = h.eng.EstimateCBT(h.ctx, task.UUID) })
	h.ok(err)
	if len(got) != 3 || got[2].Volumes[0].Volume != volumeOf(task.Machines[2]) || got[0].Session {
		t.Errorf("got %+v", got)
	}
}

// TestAReadingEndsWithWhoeverAsked has nobody wait for the answer any more.
func TestAReadingEndsWithWhoeverAsked(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStopped, 1)
	before := len(h.cbtRuns(task))
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := h.eng.EstimateCBT(ctx, task.UUID)
		answer <- err
	}()
	testenv.Eventually(t, 5*time.Second, func() bool { return len(h.cbtRuns(task)) > before })
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	if run := h.cbtRuns(task)[0]; run.State != core.RunCanceled {
		t.Errorf("its run is %s, want canceled", run.State)
	}
}

func TestForgetCheckpoint(t *testing.T) {
	h := newHouse(t)
	task := h.enabled(h.task(2), "")
	_, err := h.eng.ForgetCheckpoint(h.ctx, task.UUID, 1)
	wantKind(t, "the checkpoint of the open session", err, core.Conflict)
	task = h.stopped(task)
	task = must(h.eng.ForgetCheckpoint(h.ctx, task.UUID, 1))(h)
	if joined := must(h.eng.ForgetCheckpoint(h.ctx, task.UUID, 1))(h); joined.Pending.Run != task.Pending.Run {
		t.Error("the same again does not join")
	}
	_, err = h.eng.ForgetCheckpoint(h.ctx, task.UUID, 2)
	wantKind(t, "another one meanwhile", err, core.Conflict)
	h.work(obliging)
	task, how := h.ended(task)
	if task.Status != core.CBTStopped || how.Failed() || len(task.Records[0].Chain)+len(task.Records[1].Chain) != 0 {
		t.Errorf("got %s, %+v", task.Status, task.Records)
	}
	_, err = h.eng.ForgetCheckpoint(h.ctx, task.UUID, 1)
	wantKind(t, "once more", err, core.NotFound)
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	if got := sessions(h.work(obliging)); got[0] != "0..2" {
		t.Errorf("the number of a forgotten checkpoint is used again: %q", got)
	}
}

func TestVolumesAreExported(t *testing.T) {
	h := newHouse(t)
	task := h.in(core.CBTStopped, 2)
	machine := task.Machines[1]
	volumes := []string{volumeOf(machine), volumeOf(machine)}
	got := must(h.eng.ExportVolumes(h.ctx, machine, volumes, false))(h)
	orders := h.work(obliging)
	if len(orders) != 1 || orders[0].Op != cbt.OpExport || orders[0].Machine != machine || len(orders[0].Volumes) != 1 || len(orders[0].Token) != 32 {
		t.Fatalf("got the orders %+v", orders)
	}
	got, how := h.ended(got)
	if how.Failed() || got.Status != core.CBTStopped || len(got.Records[1].Restore) != 1 || len(got.Records[0].Restore) != 0 {
		t.Errorf("got %s, %+v", got.Status, got.Records)
	}
	_, err := h.eng.ExportVolumes(h.ctx, machine, volumes, false)
	wantKind(t, "a volume that is exported", err, core.Conflict)
	got = must(h.eng.ExportVolumes(h.ctx, machine, volumes, true))(h)
	if orders := h.work(obliging); !orders[0].Force {
		t.Error("force does not reach the worker")
	}
	got = must(h.eng.UnexportVolumes(h.ctx, machine, volumes))(h)
	h.work(obliging)
	if got, _ = h.ended(got); len(got.Records[1].Restore) != 0 {
		t.Errorf("after the end: got %+v", got.Records[1].Restore)
	}
	_, err = h.eng.ExportVolumes(h.ctx, id.New(), volumes, false)
	wantKind(t, "a machine of no task", err, core.NotFound)
	_, err = h.eng.ExportVolumes(core.WithCaller(t.Context(), stranger), machine, volumes, false)
	wantKind(t, "a stranger", err, core.NotFound)
	_, err = h.eng.ExportVolumes(h.ctx, machine, nil, false)
	wantInvalid(t, "no volumes", err, "volumes")
	h.enabled(task, "")
	_, err = h.eng.ExportVolumes(h.ctx, machine, volumes, true)
	wantKind(t, "a machine whose task is Running", err, core.Conflict)
}
