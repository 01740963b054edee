package engine

import (
	"testing"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// Neighbors share a route only where what Route judges by is the same and chance has no part.
func TestRoutesOfNeighbors(t *testing.T) {
	t.Parallel()
	worker := func(host string, types ...string) core.Worker {
		w := core.Worker{ID: host, Host: host, Live: true, Queues: []string{"critical", "default", core.HostQueue(host)}}
		for _, name := range types {
			w.Types = append(w.Types, executor.Spec{Type: name})
		}
		return w
	}
	fleet := core.Fleet{Workers: map[string]core.Worker{"1": worker("one", "all", "some"), "2": worker("two", "all", "some"), "3": worker("three", "all")}}
	plan := []core.PlannedStep{
		{Type: "all"}, {Type: "all"}, {Type: "all", Priority: core.PriorityCritical}, {Type: "all"},
		{Type: "none"}, {Type: "none"}, {Type: "none", Target: "t"}, {Type: "all", Target: "t"},
	}
	for i, got := range routes(fleet, plan) {
		if want := Route(fleet, plan[i]); got != want {
			t.Errorf("step %d: got %+v, want %+v", i, got, want)
		}
	}
	some := make([]core.PlannedStep, 64)
	for i := range some {
		some[i].Type = "some"
	}
	spread := map[string]int{}
	for _, r := range routes(fleet, some) {
		spread[r.Queue]++
	}
	if len(spread) != 2 || spread["host-one"] == 0 || spread["host-two"] == 0 {
		t.Errorf("64 steps that two of three hosts can execute go to %v, want both", spread)
	}
}
