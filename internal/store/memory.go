package store

import (
	"maps"
	"slices"
	"sync"

	"github.com/takt-dev/takt/internal/core"
)

// Bounds of what a Store remembers of plans: about this many runs and steps, at
// most twice as many.
const (
	rememberedRuns  = 1024
	rememberedSteps = 4096
)

// A planMemory spares a worker reading the same plan again with each attempt:
// plans are named by their content, so what is remembered never goes stale. It is
// safe for concurrent use.
type planMemory struct {
	mu    sync.Mutex
	runs  generations[string, string] // run to its plan
	steps generations[plannedAt, core.PlannedStep]
}

type plannedAt struct {
	plan string
	step int
}

// recall gives the plan and the planned step of a run's step, if both are known.
func (m *planMemory) recall(run string, step int) (plan string, p core.PlannedStep, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if plan, ok = m.runs.get(run, rememberedRuns); !ok {
		return "", p, false
	}
	p, ok = m.steps.get(plannedAt{plan, step}, rememberedSteps)
	return plan, p, ok
}

// plan gives the planned step of a plan, if it is known, and notes that it is the
// run's.
func (m *planMemory) plan(run, plan string, step int) (core.PlannedStep, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs.put(run, plan, rememberedRuns)
	return m.steps.get(plannedAt{plan, step}, rememberedSteps)
}

func (m *planMemory) note(plan string, step int, p core.PlannedStep) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps.put(plannedAt{plan, step}, p, rememberedSteps)
}

// Bounds of what a Store remembers of the names of plans: about this many targets, at
// most twice as many, whose plans have at most so many steps.
const (
	namedTargets = 512
	namedSteps   = 128
)

// planNames spares naming the plan of a target anew for each of its runs: to compare
// it with that of the run before costs little beside encoding it. It is safe for
// concurrent use.
type planNames struct {
	mu   sync.Mutex
	last generations[string, namedPlan] // by target
}

type namedPlan struct {
	steps []core.PlannedStep
	name  string
}

// recall gives the name of a plan, if it is that of the target's last run.
func (n *planNames) recall(target string, steps []core.PlannedStep) (string, bool) {
	n.mu.Lock()
	last, ok := n.last.get(target, namedTargets)
	n.mu.Unlock()
	return last.name, ok && slices.EqualFunc(last.steps, steps, samePlanned)
}

func (n *planNames) note(target string, steps []core.PlannedStep, name string) {
	if len(steps) > namedSteps {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last.put(target, namedPlan{steps, name}, namedTargets)
}

func samePlanned(a, b core.PlannedStep) bool {
	return a.Job == b.Job && a.Name == b.Name && a.Type == b.Type && a.Target == b.Target && a.Timeout == b.Timeout &&
		a.Retry == b.Retry && a.Priority == b.Priority && maps.Equal(a.Parameters, b.Parameters)
}

// generations is a map that forgets what was not used for long: when the young
// generation is full it becomes the old one, and the old one goes.
type generations[K comparable, V any] struct{ young, old map[K]V }

func (g *generations[K, V]) get(k K, most int) (V, bool) {
	if v, ok := g.young[k]; ok {
		return v, true
	}
	v, ok := g.old[k]
	if ok {
		g.put(k, v, most)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V, most int) {
	if g.young == nil || len(g.young) >= most {
		g.young, g.old = make(map[K]V), g.young
	}
	g.young[k] = v
}
