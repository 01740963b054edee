package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// A transition of a CBT task is a run with one step per order, which goes to a worker
// that reaches the order's machine. It is begun in two writes: the task takes the
// transition, with an effect in its outbox, and then the run is admitted. SettleCBT does
// the second, at once or, when the process dies in between, from the reconciler: run and
// request are fixed by the first. The end of the run is applied to the task by the store,
// in the script that ends it.

// OrderParameter is the parameter of a step that holds its cbt.Order as JSON.
const OrderParameter = "order"

// cbtPace is how patient runs of orders are.
type cbtPace struct {
	attempt time.Duration // timeout of an attempt
	run     time.Duration // timeout of the run, waiting for a worker included
	keep    time.Duration // of the ended run; 0 = as all are
	retry   core.Retry
}

var (
	// An attempt may have to read whole disks. A run that found no worker meanwhile ends
	// too: nobody waits for that backup window any more.
	transitionPace = cbtPace{attempt: 3 * time.Hour, run: 4 * time.Hour, retry: core.Retry{Attempts: 5, Backoff: 2 * time.Second, Max: 30 * time.Second, Jitter: .2}}
	// Copies of large disks, at a rate that spares them, take a day at worst.
	copyPace = cbtPace{attempt: 24 * time.Hour, run: 25 * time.Hour, retry: transitionPace.retry}
	// Nobody waits for what is done behind, and what it leaves open is of no use to
	// anyone: it is worth many attempts, and the time until a worker is back.
	behindPace = cbtPace{attempt: 10 * time.Minute, run: 7 * 24 * time.Hour, retry: core.Retry{Attempts: core.MaxAttempts, Backoff: 2 * time.Second, Max: 2 * time.Hour, Jitter: .2}}
	// A look must have ended before the next one is due twice over.
	lookPace = cbtPace{attempt: time.Minute, run: 2 * time.Minute, keep: time.Hour, retry: core.Retry{Attempts: 2, Backoff: 5 * time.Second}}
	// Somebody waits for a reading.
	readPace = cbtPace{attempt: 5 * time.Minute, run: 10 * time.Minute, keep: time.Hour, retry: core.Retry{Attempts: 5, Backoff: 200 * time.Millisecond, Max: 5 * time.Second}}
)

// beginCBT makes the transition of m the task's, has its run admitted, and gives the task
// with it. Stale when the task has changed since it was read.
func (e *Engine) beginCBT(ctx context.Context, t core.CBTTask, m core.CBTMove) (core.CBTTask, error) {
	before := t.Pending
	if !m.Pending.Zero() {
		now, err := e.store.Now(ctx)
		if err != nil {
			return t, err
		}
		p := &m.Pending
		p.At, p.By = now.UTC(), core.RequestFrom(ctx).Key
		// The random part keeps it apart from a look at the same version, from what another
		// process begins in the same millisecond, and from an earlier task of the same uuid.
		p.Request = fmt.Sprintf("cbt:%s:%d:%s", t.UUID, t.Version+1, id.Fence())
		p.Run = e.store.NewRunID(t.UUID, p.At, p.Request)
	}
	if err := e.store.MoveCBT(ctx, t, m); err != nil {
		return t, err
	}
	t.Pending = m.Pending
	if !m.Pending.Look {
		t.Version++
	}
	if m.Status != "" {
		t.Status = m.Status
	}
	if m.Status == core.CBTStopped || m.Status == core.CBTStarting { // as cbtmove.lua has it
		t.Reason = ""
	}
	t.Seq = max(t.Seq, m.Seq)
	if m.Pending.Op == core.CBTEnable {
		t.Since, t.Opened = m.Since, m.Pending.Run
	}
	ctx = context.WithoutCancel(ctx) // what is begun is begun
	e.endLook(ctx, before, "gave way to a change of the CBT task")
	if !m.Pending.Zero() {
		e.settleLater(ctx, e.SettleCBT(ctx, t.UUID))
	}
	return t, nil
}

// endLook cancels the run of a look that does not count any more.
func (e *Engine) endLook(ctx context.Context, look core.CBTPending, reason string) {
	if look.Zero() {
		return
	}
	if _, err := e.EndRun(ctx, look.Run, reason, core.RunCanceled); !core.Is(err, core.NotFound) {
		e.settleLater(ctx, err)
	}
}

// SettleCBT admits the run of the transition that a task is in, if nobody has yet. It
// may be done any number of times.
func (e *Engine) SettleCBT(ctx context.Context, uuid string) error {
	t, since, err := e.store.CBT(ctx, uuid)
	if err != nil && !core.Is(err, core.NotFound) {
		return err
	}
	if p := t.Pending; !p.Zero() {
		if _, err := e.admitOrders(ctx, t, p.At, p.Request, p.Op, p.Orders, paceOf(p)); err != nil {
			return err
		}
	}
	return e.store.SettledCBT(ctx, uuid, since)
}

func paceOf(p core.CBTPending) cbtPace {
	switch {
	case p.Look:
		return lookPace
	case p.Behind:
		return behindPace
	case p.Op == core.CBTBackup, p.Op == core.CBTRestore, p.Op == core.CBTVerify:
		return copyPace
	}
	return transitionPace
}

// SettleCBTClaim makes a claim on a machine agree with whether its task exists.
func (e *Engine) SettleCBTClaim(ctx context.Context, task, machine string) error {
	return e.store.SettleCBTClaim(ctx, task, machine)
}

// admitOrders admits the run that carries out orders, and gives its id.
func (e *Engine) admitOrders(ctx context.Context, t core.CBTTask, at time.Time, request string, op core.CBTOp, orders []cbt.Order, pace cbtPace) (string, error) {
	target := core.Target{Kind: core.CBTTarget, UUID: t.UUID}
	p := plan{
		run:     core.Run{Account: t.Account, Dialect: t.Dialect, Target: target, Name: t.Name, Type: core.CBTType, Request: request},
		steps:   make([]core.PlannedStep, len(orders)),
		timeout: pace.run, keep: pace.keep,
	}
	for i, o := range orders {
		text, err := json.Marshal(o)
		if err != nil {
			return "", fmt.Errorf("encode order: %w", err)
		}
		p.steps[i] = stepOf(op, o, pace)
		p.steps[i].Parameters = map[string]string{OrderParameter: string(text)}
	}
	a, err := e.admit(ctx, RunRequest{Target: target, Request: request, At: at}, p)
	if err == nil && a.Word == core.AdmitBusy {
		err = core.Errorf(core.Exhausted, "too many steps wait for workers; try again later or start more workers")
	}
	return a.Run, err
}

func stepOf(op core.CBTOp, o cbt.Order, pace cbtPace) core.PlannedStep {
	return core.PlannedStep{
		Job: o.Task, Name: string(op) + " " + o.Machine, Type: core.CBTType, Target: o.Machine, Timeout: pace.attempt, Retry: pace.retry,
	}
}

// reached reports whether a live worker reaches a machine, or else what it waits for.
func reached(f core.Fleet, machine string) (wait string, ok bool) {
	r := Route(f, core.PlannedStep{Type: core.CBTType, Target: machine})
	return r.Wait, r.Queue != ""
}

// answers gives the second lines of what the steps of a run have answered last; nil for
// a step that has no answer. NotFound.
func (e *Engine) answers(ctx context.Context, run string) ([]json.RawMessage, error) {
	steps, err := e.store.Steps(ctx, run)
	if err != nil {
		return nil, err
	}
	out := make([]json.RawMessage, len(steps))
	for i, st := range steps {
		for k := len(st.Attempts) - 1; k >= 0 && out[i] == nil; k-- {
			if _, detail, err := cbt.ReadAnswer(st.Attempts[k].Output); err == nil {
				out[i] = detail
			}
		}
	}
	return out, nil
}

// veil takes the orders and answers out of the steps of a CBT task's run for whoever may
// not change the task: they name the exports, which that is enough to read.
func veil(ctx context.Context, r core.Run, steps []core.Step) {
	if r.Target.Kind != core.CBTTarget || mayChange(ctx, "run", r.ID, r.Account) == nil {
		return
	}
	for i := range steps {
		steps[i].Parameters = nil
		for k := range steps[i].Attempts {
			steps[i].Attempts[k].Output = ""
		}
	}
}

// AwaitCBT waits until a transition of a task has ended, and gives the task and how it
// ended. The transition is named by its run; run "" is none, and the zero CBTPending is
// how it ended. A task that is gone by then is the zero task and no error. When ctx ends
// first, its error comes with the task as it was last.
func (e *Engine) AwaitCBT(ctx context.Context, uuid, run string) (t core.CBTTask, how core.CBTPending, err error) {
	err = poll(ctx, func() (ended bool, err error) {
		now, err := e.CBTTask(ctx, uuid)
		if core.Is(err, core.NotFound) {
			t = core.CBTTask{}
			how, err = e.endOf(ctx, run)
			return true, err
		}
		if err != nil {
			return false, err
		}
		t = now
		if run == "" {
			return true, nil
		}
		if now.Pending.Run == run {
			return false, nil
		}
		for _, p := range now.Past {
			if p.Run == run {
				how = p
				return true, nil
			}
		}
		how, err = e.endOf(ctx, run) // a look, or long ago
		return true, err
	})
	return t, how, err
}

// endOf tells how a transition ended of which the task does not tell any more. NotFound.
func (e *Engine) endOf(ctx context.Context, run string) (core.CBTPending, error) {
	if run == "" {
		return core.CBTPending{}, nil
	}
	r, err := e.Run(ctx, run)
	if err != nil {
		return core.CBTPending{}, err
	}
	p := core.CBTPending{Run: run, Request: r.Request, At: r.Created, State: r.State, Reason: r.Reason, Ended: r.Ended}
	if !r.State.Ended() {
		p.State, p.Reason = core.RunCanceled, "the CBT task was changed by force"
	}
	return p, nil
}

// poll calls look, with pauses that grow from 10 ms to 500 ms, until it says that what
// it waits for has come, or fails, or ctx ends, whose error is returned then.
func poll(ctx context.Context, look func() (bool, error)) error {
	for pause := 10 * time.Millisecond; ; pause = min(pause*3/2, 500*time.Millisecond) {
		done, err := look()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
