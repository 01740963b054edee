package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// A job whose workers are away is accepted and the run says what it waits for. More
// steps than one look takes in wait that way: one whose worker comes must not wait
// behind them. When the workers of the others come, all of them run.
func TestStepsWaitForTheirWorker(t *testing.T) {
	t.Parallel()
	other := executor.Type{Spec: executor.Spec{Type: "other"}, Executor: noop.Executor}
	h := newHouse(t, noop.Spec, other.Spec)
	h.roles()
	many := h.group("other", 600)
	waiting, err := h.eng.RunGroup(h.ctx, many, "", core.Overlap{})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := h.eng.Steps(h.ctx, waiting.ID)
	if err != nil {
		t.Fatal(err)
	}
	if s := steps[0]; s.State != core.StepWaiting || !strings.Contains(s.Reason, "waits for a worker that executes other") {
		t.Errorf("step is %s, %q; want waiting, and for what", s.State, s.Reason)
	}
	// Of the same partition, so that it stands behind the others.
	j := h.jobBeside(many)
	r, err := h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{})
	if err != nil {
		t.Fatal(err)
	}
	h.worker("one", 2, noop)
	if r = h.await(r.ID, 10*time.Second); r.State != core.RunSucceeded {
		t.Errorf("run ended as %s", r.State)
	}
	h.worker("two", 16, other)
	if waiting = h.await(waiting.ID, 30*time.Second); waiting.Counts.Succeeded != 600 {
		t.Errorf("the waiting run ended as %s, %+v", waiting.State, waiting.Counts)
	}
}

// jobBeside makes a noop job in the partition of a target: run ids end in their
// partition.
func (h *house) jobBeside(target string) core.Job {
	h.t.Helper()
	partition := func(uuid string) string { return h.store.NewRunID(uuid, time.Now(), "")[30:] }
	uuid := id.New()
	for partition(uuid) != partition(target) {
		uuid = id.New()
	}
	j, err := h.eng.CreateJob(h.ctx, core.Job{Meta: core.Meta{UUID: uuid, Name: "beside"}, Type: noop.Spec.Type, Enabled: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}
