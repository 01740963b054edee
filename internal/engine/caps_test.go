package engine_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/pkg/executor"
)

// The caps are settings; what is there already stays when they are lowered.
func TestCapsAreSettings(t *testing.T) {
	h := newHouse(t)
	eng := engine.New(h.faults, h.queue, h.events, engine.Options{
		Types: []executor.Spec{noop, strict}, Log: slog.New(slog.DiscardHandler), FleetAge: time.Nanosecond, GroupJobs: 2, TargetTriggers: 1,
	})
	a, b, c := h.job("a"), h.job("b"), h.job("c")
	g := h.groupOf(a)
	_, err := eng.AddJobs(h.ctx, g.UUID, []string{b.UUID, c.UUID})
	wantKind(t, "one job too many", err, core.Exhausted)
	if want := "job group has contained 1 job, only 1 seats left"; core.Text(err) != want {
		t.Errorf("got %q, want %q", core.Text(err), want)
	}
	must(eng.AddJobs(h.ctx, g.UUID, []string{b.UUID, a.UUID}))(h)
	must(eng.Bind(h.ctx, h.trigger("t", yearly(), "").UUID, ofGroup(g), false))(h)
	_, err = eng.Bind(h.ctx, h.trigger("u", yearly(), "").UUID, ofGroup(g), false)
	wantKind(t, "one trigger too many", err, core.Exhausted)
	if want := "There are [1] triggers added to job group[uuid:" + g.UUID + "], cannot add any more."; core.Text(err) != want {
		t.Errorf("got %q, want %q", core.Text(err), want)
	}
}
