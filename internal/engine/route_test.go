package engine_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestRoute(t *testing.T) {
	t.Parallel()
	shared := []string{"critical", "default", "low"}
	worker := func(id string, change func(*core.Worker)) core.Worker {
		w := core.Worker{ID: id, Host: "h-" + id, Live: true, Types: []executor.Spec{{Type: "a"}}, Queues: append([]string{core.HostQueue("h-" + id)}, shared...)}
		if change != nil {
			change(&w)
		}
		return w
	}
	noQueues := func(w *core.Worker) { w.Queues = w.Queues[:1] }
	other := func(w *core.Worker) { w.Types = []executor.Spec{{Type: "b"}} }
	dead := func(w *core.Worker) { w.Live = false }
	draining := func(w *core.Worker) { w.Draining = true }
	reaches := func(w *core.Worker) { w.Resources = []string{"res"} }
	both := func(changes ...func(*core.Worker)) func(*core.Worker) {
		return func(w *core.Worker) {
			for _, c := range changes {
				c(w)
			}
		}
	}
	const (
		nobody    = "waits for a worker that executes a; none is alive"
		unreached = "waits for a worker that executes a and reaches resource res; none is alive"
	)
	for _, row := range []struct {
		name    string
		workers []core.Worker
		known   bool // the resource was announced once
		step    core.PlannedStep
		want    []core.Route // any of them
	}{
		{"nobody", nil, false, core.PlannedStep{Type: "a"}, []core.Route{{Wait: nobody}}},
		{"one for all", []core.Worker{worker("1", nil)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Queue: "default"}}},
		{"by priority", []core.Worker{worker("1", nil)}, false, core.PlannedStep{Type: "a", Priority: core.PriorityCritical}, []core.Route{{Queue: "critical"}}},
		{"all can", []core.Worker{worker("1", nil), worker("2", nil)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Queue: "default"}}},
		{"only one can", []core.Worker{worker("1", nil), worker("2", other)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Queue: "host-h-1"}}},
		{"two of three can", []core.Worker{worker("1", nil), worker("2", nil), worker("3", other)}, false, core.PlannedStep{Type: "a"},
			[]core.Route{{Queue: "host-h-1"}, {Queue: "host-h-2"}}},
		{"who cannot does not listen", []core.Worker{worker("1", nil), worker("2", both(other, noQueues))}, false, core.PlannedStep{Type: "a"}, []core.Route{{Queue: "default"}}},
		{"who can does not listen", []core.Worker{worker("1", noQueues)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Queue: "host-h-1"}}},
		{"nobody knows the type", []core.Worker{worker("1", other)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Wait: nobody}}},
		{"the only one is dead", []core.Worker{worker("1", dead)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Wait: nobody}}},
		{"the only one is draining", []core.Worker{worker("1", draining)}, false, core.PlannedStep{Type: "a"}, []core.Route{{Wait: nobody}}},
		{"dead ones do not count", []core.Worker{worker("1", nil), worker("2", both(other, dead)), worker("3", both(other, draining))}, false, core.PlannedStep{Type: "a"},
			[]core.Route{{Queue: "default"}}},
		{"a target that is no resource", []core.Worker{worker("1", nil)}, false, core.PlannedStep{Type: "a", Target: "res"}, []core.Route{{Queue: "default"}}},
		{"a resource one reaches", []core.Worker{worker("1", nil), worker("2", reaches)}, true, core.PlannedStep{Type: "a", Target: "res"}, []core.Route{{Queue: "host-h-2"}}},
		{"a resource all reach", []core.Worker{worker("1", reaches), worker("2", reaches)}, true, core.PlannedStep{Type: "a", Target: "res"}, []core.Route{{Queue: "default"}}},
		{"a resource that is away", []core.Worker{worker("1", nil)}, true, core.PlannedStep{Type: "a", Target: "res"}, []core.Route{{Wait: unreached}}},
		{"a resource whose worker cannot", []core.Worker{worker("1", nil), worker("2", both(reaches, other))}, true, core.PlannedStep{Type: "a", Target: "res"}, []core.Route{{Wait: unreached}}},
		{"another target beside a resource", []core.Worker{worker("1", nil), worker("2", reaches)}, true, core.PlannedStep{Type: "a", Target: "vm"}, []core.Route{{Queue: "default"}}},
	} {
		f := core.Fleet{Workers: map[string]core.Worker{}}
		for _, w := range row.workers {
			f.Workers[w.ID] = w
		}
		if row.known {
			f.Resources = map[string]time.Time{"res": {}}
		}
		seen := map[core.Route]bool{}
		for range 50 {
			seen[engine.Route(f, row.step)] = true
		}
		for _, want := range row.want {
			if !seen[want] {
				t.Errorf("%s: got %v, want %v among them", row.name, seen, want)
			}
			delete(seen, want)
		}
		if len(seen) != 0 {
			t.Errorf("%s: got %v too", row.name, seen)
		}
	}
}

// A job type can be used as soon as its worker has announced it, however old the
// engine's picture of the workers may be.
func TestNewTypeIsKnownAtOnce(t *testing.T) {
	h := newHouse(t)
	eng := engine.New(h.faults, h.queue, h.events, engine.Options{FleetAge: time.Hour})
	if _, err := eng.Fleet(h.ctx); err != nil {
		t.Fatal(err)
	}
	job := core.Job{Meta: named("j"), Type: "brandNew", Enabled: true}
	_, err := eng.CreateJob(h.ctx, job)
	wantInvalid(t, "before its worker came", err, "type")
	h.worker(core.Worker{ID: "w2", Host: "h2", Types: []executor.Spec{{Type: "brandNew"}}})
	made, err := eng.CreateJob(h.ctx, job)
	if err != nil {
		t.Fatalf("after its worker came: %v", err)
	}
	h.worker(core.Worker{ID: "w3", Host: "h3", Types: []executor.Spec{{Type: "newest"}}})
	if _, err := eng.UpdateJob(h.ctx, made.UUID, 0, func(j *core.Job) error { j.Type = "newest"; return nil }); err != nil {
		t.Errorf("changed to a type that came later: %v", err)
	}
}
