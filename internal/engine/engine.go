// Package engine holds Takt's verbs: what can be done with jobs, groups,
// triggers and runs. The API dialects, the background roles and the workers all
// act through it, so each rule stands once.
//
// The engine keeps no state of its own beyond a short-lived picture of the
// fleet. It decides; the Store makes each decision durable in one script; what is
// then owed to other places (a queue message, a doorbell) is an effect, which
// Deliver does at once and the reconciler repairs should the process die first:
//
//	StartRun ─▶ Store.Admit ─▶ Effects ─▶ Deliver ─▶ Queue.Send, Events.Ring
//
// Verbs that a user may ask for take the caller from the context
// (core.WithCaller) and refuse a context without one. Verbs of the background
// roles and of workers take none; they are not reachable from outside.
package engine

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/pkg/executor"
)

// Options configure an Engine. The zero value is usable.
type Options struct {
	// Types are the job types whose specs are part of this binary. They are
	// accepted also while no worker announces them.
	Types []executor.Spec
	// Secrets seals secret parameters; nil keeps them plain.
	Secrets *seal.Box
	// Log takes what the engine repairs or gives up; nil = slog.Default().
	Log *slog.Logger
	// GroupJobs bounds the jobs of a group; 0 = core.MaxGroupJobs.
	GroupJobs int
	// TargetTriggers bounds the triggers that a job or group is bound to;
	// 0 = core.MaxTargetTriggers.
	TargetTriggers int
	// FleetAge is how old the engine's picture of the workers may be; 0 = 500 ms.
	FleetAge time.Duration
}

// An Engine is safe for concurrent use.
type Engine struct {
	store  Store
	queue  Queue
	events Events
	log    *slog.Logger
	types  map[string]executor.Spec
	box    *seal.Box
	maxAge time.Duration

	groupJobs, targetTriggers int // caps

	fleetMu sync.Mutex // held while reading, so that one reading serves all who wait
	picture atomic.Pointer[picture]
	aims    aims
	along   along
}

// New makes an Engine on its ports.
func New(store Store, queue Queue, events Events, opts Options) *Engine {
	e := &Engine{
		store: store, queue: queue, events: events, log: opts.Log, types: map[string]executor.Spec{}, box: opts.Secrets, maxAge: opts.FleetAge,
		groupJobs: cmp.Or(opts.GroupJobs, core.MaxGroupJobs), targetTriggers: cmp.Or(opts.TargetTriggers, core.MaxTargetTriggers),
	}
	if e.log == nil {
		e.log = slog.Default()
	}
	if e.maxAge == 0 {
		e.maxAge = 500 * time.Millisecond
	}
	for _, t := range opts.Types {
		e.types[t.Type] = t
	}
	return e
}

// Now gives the store's time, by which everything is judged. To a request that is
// carried out again it is still the time of its first.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	if r := core.RequestFrom(ctx); r.Again {
		return r.At, nil
	}
	return e.store.Now(ctx)
}

// Ready reports whether the store answers.
func (e *Engine) Ready(ctx context.Context) error { return e.store.Ping(ctx) }

// random is a source for jitter and choice, never for ids.
func random() float64 { return rand.Float64() }
