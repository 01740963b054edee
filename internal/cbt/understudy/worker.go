package understudy

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/pkg/executor"
)

// A Worker carries out dispatches. It is safe for concurrent use.
type Worker struct {
	t   testing.TB
	eng *engine.Engine
	id  string

	ctx   context.Context
	under sync.WaitGroup

	mu     sync.Mutex
	orders []cbt.Order
	faults map[cbt.Op]string
	held   map[cbt.Op]chan struct{}
	stops  map[string]context.CancelFunc // of attempts, by dispatch
}

// New makes a worker, until the test ends. Its Card has to be announced.
func New(t testing.TB, eng *engine.Engine, name string) *Worker {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &Worker{
		t: t, eng: eng, id: name, ctx: ctx, faults: map[cbt.Op]string{}, held: map[cbt.Op]chan struct{}{}, stops: map[string]context.CancelFunc{},
	}
	t.Cleanup(func() {
		stop()
		w.under.Wait()
	})
	return w
}

// Card is what the worker announces: it reaches the machines.
func (w *Worker) Card(machines ...string) *core.Worker {
	return &core.Worker{
		ID: w.id, Host: w.id, Slots: 16, Types: []executor.Spec{{Type: core.CBTType, Open: true}}, Resources: machines,
		Queues: []string{"critical", "default", "low", core.HostQueue(w.id)}, Started: time.Now(),
	}
}

// Hold keeps attempts of an op from ending until release is called.
func (w *Worker) Hold(op cbt.Op) (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate := make(chan struct{})
	w.held[op] = gate
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.held, op)
		close(gate)
	})
}

// Fail lets attempts of an op fail for good; "" lets them succeed again.
func (w *Worker) Fail(op cbt.Op, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[op] = reason
}

// Orders gives the orders of an op that were begun, oldest first.
func (w *Worker) Orders(op cbt.Op) []cbt.Order {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.orders), func(o cbt.Order) bool { return o.Op != op })
}

// Take carries out dispatches of CBT steps, each by itself, and returns at once.
func (w *Worker) Take(ds ...core.Dispatch) {
	for _, d := range ds {
		w.under.Go(func() { w.carryOut(d) })
	}
}

// Stop tells the worker to stop an attempt.
func (w *Worker) Stop(s core.Stop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stop := w.stops[s.Dispatch]; stop != nil {
		stop()
	}
}

func (w *Worker) carryOut(d core.Dispatch) {
	b, err := w.eng.Begin(w.ctx, d, w.id)
	if core.Is(err, core.Stale) || w.ctx.Err() != nil {
		return
	}
	if err != nil {
		w.t.Errorf("begin %s: %v", d.ID(), err)
		return
	}
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	w.mu.Lock()
	w.stops[d.ID()] = stop
	w.mu.Unlock()
	o := w.outcome(ctx, b.Step)
	_, err = w.eng.Finish(context.WithoutCancel(ctx), d, w.id, b, o, true)
	if err != nil && !core.Is(err, core.Stale) && w.ctx.Err() == nil {
		w.t.Errorf("finish %s: %v", d.ID(), err)
	}
}

func (w *Worker) outcome(ctx context.Context, step core.PlannedStep) core.Outcome {
	output, err := w.answer(ctx, step)
	switch {
	case ctx.Err() != nil:
		return core.Outcome{State: core.AttemptCanceled, Reason: "it was told to stop"}
	case err != nil:
		return core.Outcome{State: core.AttemptFailed, Reason: err.Error()}
	}
	return core.Outcome{State: core.AttemptSucceeded, Output: output}
}

func (w *Worker) answer(ctx context.Context, step core.PlannedStep) (string, error) {
	var o cbt.Order
	if err := json.Unmarshal([]byte(step.Parameters["order"]), &o); err != nil {
		return "", err
	}
	w.mu.Lock()
	w.orders = append(w.orders, o)
	gate := w.held[o.Op]
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	w.mu.Lock()
	fault := w.faults[o.Op]
	w.mu.Unlock()
	if fault != "" {
		return "", errors.New(fault)
	}
	answer, err := Answer(o)
	if err != nil {
		return "", err
	}
	return answer.Encode()
}
