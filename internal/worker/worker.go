// Package worker is the worker process: it takes dispatches from queues, has
// executors carry them out and records how they ended.
//
//	queue ─▶ slot ─▶ Begin ─▶ Execute ─▶ Finish ─▶ nil to the queue
//
// A slot is taken before Begin and given back when the executor has really
// ended, whatever the queue thinks of it. The handler returns nil to the queue
// only when the reply to its own Finish has come. A heartbeat each second lists
// what the worker has taken and what it executes; a worker that cannot send it
// for ContactLimit stops its executors, since others will take over its steps.
package worker

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// ContactLimit is how long a worker goes on without a heartbeat: less than the
// time after which it counts as lost.
const ContactLimit = 4 * time.Second

// An Engine begins and ends attempts.
type Engine interface {
	Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) // Stale
	Finish(ctx context.Context, d core.Dispatch, worker string, b core.Begun, o core.Outcome, permanent bool) (core.Finished, error)
	Release(ctx context.Context, d core.Dispatch, worker string) error
	Redispatch(ctx context.Context, why core.MoveReason, of []core.Under) error
}

// A Store takes heartbeats and logs.
type Store interface {
	Beat(ctx context.Context, h core.Heartbeat, announce *core.Worker) (stop []string, err error) // NotFound: announce
	Leave(ctx context.Context, worker string) error
	AppendLog(ctx context.Context, run string, step, attempt int, text string, end bool) (string, error)
	CutLog(ctx context.Context, run string, step, attempt int, ids []string) error
}

// Metrics are counted by the worker; nil functions are passed over.
type Metrics struct {
	Slots func(used, total int)
	Ended func(jobType string, state core.AttemptState, took time.Duration)
	Stale func() // a dispatch was dropped since it was not the latest
}

// Options configure a Worker.
type Options struct {
	Host      string // "" = os.Hostname()
	Tags      []string
	Resources []string
	Slots     int // 0 = 16
	Version   string
	Queues    []string // the queues it reads, for the announcement
	Drain     time.Duration
	Types     []executor.Type
	Log       *slog.Logger
	Metrics   Metrics
}

// A Worker executes dispatches.
type Worker struct {
	self   core.Worker
	types  map[string]executor.Type
	engine Engine
	store  Store
	log    *slog.Logger
	meter  Metrics
	drain  time.Duration
	slots  chan struct{}

	contact contact

	mu       sync.Mutex
	taken    map[string]time.Time // dispatch ids; the instant of the fetch, or zero in its handler
	running  map[string]*attempt
	draining bool
	idle     sync.WaitGroup // handlers under way
}

// New makes a Worker. Its id is new with each process.
func New(eng Engine, store Store, o Options) *Worker {
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if o.Slots == 0 {
		o.Slots = 16
	}
	if o.Drain == 0 {
		o.Drain = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Host = HostName(o.Host)
	w := &Worker{
		self: core.Worker{
			ID: o.Host + "." + id.New()[:8], Host: o.Host, Tags: o.Tags, Slots: o.Slots, Version: o.Version,
			Resources: o.Resources, Queues: o.Queues, Started: time.Now().UTC(),
		},
		types: map[string]executor.Type{}, engine: eng, store: store, meter: o.Metrics, drain: o.Drain,
		slots: make(chan struct{}, o.Slots), taken: map[string]time.Time{}, running: map[string]*attempt{},
	}
	w.log = o.Log.With("worker", w.self.ID)
	for _, t := range o.Types {
		w.self.Types = append(w.self.Types, t.Spec)
		w.types[t.Spec.Type] = t
	}
	return w
}

// HostName makes a host's name fit for ids and queue names.
func HostName(host string) string {
	fit := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, host)
	if fit == "" {
		return "unnamed"
	}
	return fit
}

// ID names this process in the fleet.
func (w *Worker) ID() string { return w.self.ID }

// Run sends heartbeats until ctx ends. Then it lets attempts end for as long as
// Drain, releases the others and leaves the fleet. Before it is canceled the
// caller makes the queue stop bringing dispatches.
func (w *Worker) Run(ctx context.Context) error {
	beats, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeats()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	done := make(chan struct{})
	go func() { defer close(done); w.beat(beats, tick.C) }()

	<-ctx.Done()
	w.shutDown(context.WithoutCancel(ctx))
	stopBeats()
	<-done
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return w.store.Leave(leave, w.self.ID)
}

// Announce sends the first heartbeat, so that the worker is known before it
// takes anything.
func (w *Worker) Announce(ctx context.Context) error {
	_, err := w.store.Beat(ctx, w.heartbeat(), &w.self)
	return err
}

func (w *Worker) shutDown(ctx context.Context) {
	w.mu.Lock()
	w.draining = true
	n := len(w.running)
	w.mu.Unlock()
	if n > 0 {
		w.log.InfoContext(ctx, "draining", "attempts", n, "for", w.drain)
	}
	if w.wait(w.drain) {
		return
	}
	w.releaseAll(ctx, "the drain time has passed")
	if !w.wait(deafAfter + 5*time.Second) {
		w.log.ErrorContext(ctx, "executors did not stop; their steps are taken over once the worker is gone")
	}
}

// wait waits for the handlers and reports whether they ended in time.
func (w *Worker) wait(most time.Duration) bool {
	ended := make(chan struct{})
	go func() { w.idle.Wait(); close(ended) }()
	select {
	case <-ended:
		return true
	case <-time.After(most):
		return false
	}
}

func (w *Worker) releaseAll(ctx context.Context, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	released := 0
	for _, a := range w.running {
		if !a.released {
			a.released = true
			a.cancel(executor.ErrReleased)
			released++
		}
	}
	if released > 0 {
		w.log.WarnContext(ctx, "attempts released", "count", released, "why", why)
	}
}

// Stop stops the attempt of a dispatch, if this worker executes it.
func (w *Worker) Stop(dispatch string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.running[dispatch]; ok {
		a.cancel(executor.ErrCanceled)
	}
}

// unhandled is how long a fetched dispatch is listed as taken before it has come to
// its handler. It comes at once; one whose message cannot be read never does, and
// the reconciler must be let at it.
const unhandled = 30 * time.Second

// Took notes dispatches that the queue has fetched for this worker.
func (w *Worker) Took(ids []string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range ids {
		if _, known := w.taken[d]; !known {
			w.taken[d] = now
		}
	}
}

// GaveBack notes that fetched dispatches went back to their queue.
func (w *Worker) GaveBack(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range ids {
		if !w.taken[d].IsZero() {
			delete(w.taken, d)
		}
	}
}

func (w *Worker) heartbeat() core.Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := core.Heartbeat{Worker: w.self.ID, Draining: w.draining}
	for d, at := range w.taken {
		if !at.IsZero() && time.Since(at) > unhandled {
			delete(w.taken, d)
			continue
		}
		h.Taken = append(h.Taken, d)
	}
	for d, a := range w.running {
		h.Running = append(h.Running, d)
		if p := a.progress.Load(); p != nil {
			if h.Progress == nil {
				h.Progress = map[string]core.Progress{}
			}
			h.Progress[d] = *p
		}
	}
	slices.Sort(h.Taken)
	slices.Sort(h.Running)
	if w.meter.Slots != nil {
		w.meter.Slots(len(w.slots), cap(w.slots))
	}
	return h
}
