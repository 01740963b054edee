package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/pkg/executor"
)

var secretive = executor.Spec{Type: "secretive", Parameters: []executor.Parameter{
	{Name: "password", Kind: executor.String, Secret: true}, {Name: "user", Kind: executor.String},
}}

// sealing gives an engine of the house that has a key, or for "" none.
func (h *house) sealing(key string) *engine.Engine {
	h.Helper()
	return engine.New(h.faults, h.queue, h.events, engine.Options{
		Types: []executor.Spec{secretive}, Secrets: must(seal.New(key))(h), FleetAge: time.Nanosecond,
	})
}

// TestSecretsLieSealed follows a secret from its job to an attempt.
func TestSecretsLieSealed(t *testing.T) {
	h := newHouse(t)
	key := seal.NewKey()
	eng := h.sealing(key)
	given := map[string]string{"password": "hunter2", "user": "sealed:v1:looks so"}
	j := must(eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "secretive", Enabled: true, Parameters: given}))(h)
	g := must(eng.CreateGroup(h.ctx, core.Group{Meta: named("g"), Type: "secretive", Enabled: true, Parameters: given}))(h)
	j = must(eng.UpdateJob(h.ctx, j.UUID, 0, func(j *core.Job) error { j.Name = "new"; return nil }))(h)
	wantEqual(t, "job", must(eng.Job(h.ctx, j.UUID))(h).Parameters, given)
	wantEqual(t, "jobs", must(eng.Jobs(h.ctx))(h)[0].Parameters, given)
	wantEqual(t, "group", must(eng.Group(h.ctx, g.UUID))(h).Parameters, given)
	wantEqual(t, "groups", must(eng.Groups(h.ctx))(h)[0].Parameters, given)

	must(eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	must(eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	for _, k := range must(h.rdb.Keys(t.Context(), "takt:{p:*").Result())(h) {
		if h.rdb.Type(t.Context(), k).Val() != "hash" {
			continue
		}
		for _, v := range h.rdb.HVals(t.Context(), k).Val() {
			if strings.Contains(v, "hunter2") {
				t.Errorf("%s holds the secret in the clear", k)
			}
		}
	}
	ds := h.queue.take()
	if len(ds) != 0 {
		t.Fatalf("nobody executes the type, yet got %+v", ds)
	}
	h.worker(core.Worker{ID: "w2", Host: "h2", Queues: []string{"default"}, Types: []executor.Spec{secretive}})
	for n := range h.store.Partitions() {
		must(eng.Unpark(t.Context(), must(h.store.Parked(t.Context(), n))(h)))(h)
	}
	if ds = h.queue.take(); len(ds) != 2 {
		t.Fatalf("got %d dispatches, want 2", len(ds))
	}
	b := must(eng.Begin(t.Context(), ds[0], "w2"))(h)
	wantEqual(t, "what the attempt gets", b.Step.Parameters, given)

	// A worker with another key, or none, cannot do it: the attempt fails and says why.
	other := h.sealing("")
	_, err := other.Begin(t.Context(), ds[1], "w2")
	wantKind(t, "without the key", err, core.Stale)
	s := must(h.eng.Steps(h.ctx, ds[1].Run))(h)[0]
	if s.State != core.StepFailed || !strings.Contains(s.Reason, "cannot open it") || strings.Contains(s.Reason, "hunter2") {
		t.Errorf("got %s (%s)", s.State, s.Reason)
	}
	_, err = other.Job(h.ctx, j.UUID)
	wantKind(t, "reading it without the key", err, core.Unavailable)
	if all, err := other.Jobs(h.ctx); err != nil || len(all) != 1 || !seal.Sealed(all[0].Parameters["password"]) {
		t.Errorf("listing without the key: got %+v, %v; want it sealed", all, err)
	}
}
