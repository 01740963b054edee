package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// How long an admission's decision is kept under its request: longer than the
// fire stream keeps a message (24 h).
const rememberRequests = 25 * time.Hour

// A RunRequest asks for one run of one target.
type RunRequest struct {
	Target  core.Target
	Request string // equal requests become one run
	Trigger string
	Fire    core.FireID
	Overlap core.Overlap
	At      time.Time // the slot or the present; part of the run's id
	Only    []string  // of a group: no other of its jobs; nil = all of them
}

// Start plans and admits a run, and sends what is ready. A target that is
// disabled or empty is skipped with a reason. NotFound when the target is gone.
func (e *Engine) Start(ctx context.Context, r RunRequest) (core.Admitted, error) {
	p, err := e.plan(ctx, r)
	if err != nil {
		return core.Admitted{}, err
	}
	return e.carryOut(ctx, r, p)
}

func (e *Engine) carryOut(ctx context.Context, r RunRequest, p plan) (core.Admitted, error) {
	if p.skip != "" {
		return core.Admitted{Word: core.AdmitSkipped, Reason: p.skip}, nil
	}
	return e.admit(ctx, r, p)
}

func (e *Engine) admit(ctx context.Context, r RunRequest, p plan) (core.Admitted, error) {
	f, err := e.Fleet(ctx)
	if err != nil {
		return core.Admitted{}, err
	}
	p.run.ID = e.store.NewRunID(r.Target.UUID, r.At, r.Request)
	first := p.steps[:min(len(p.steps), core.Chunk)]
	a, err := e.admitAlong(ctx, core.Admission{
		Run: p.run, Plan: p.steps, Overlap: r.Overlap, Timeout: p.timeout, Routes: routes(f, first), Remember: remember(r.Request), Keep: p.keep,
	})
	if err != nil {
		return a, err
	}
	withTimeouts(a.Sends, p.run.ID, p.steps)
	if a.Word == core.AdmitStarted && !a.Again && len(p.steps) > core.Chunk {
		a.Expand = append(a.Expand, a.Run)
	}
	e.Deliver(ctx, a.Effects)
	return a, nil
}

// A plan is what a target is to become.
type plan struct {
	run     core.Run // what is fixed of it
	steps   []core.PlannedStep
	timeout time.Duration
	keep    time.Duration // of the ended run; 0 = as all are kept
	skip    string        // why there is no run; "" = there is one
}

// plan turns a target into steps. It changes nothing.
func (e *Engine) plan(ctx context.Context, r RunRequest) (plan, error) {
	p := plan{run: core.Run{Target: r.Target, Trigger: r.Trigger, Fire: r.Fire, Request: r.Request}}
	switch r.Target.Kind {
	case core.GroupTarget:
		g, jobs, err := e.store.Blueprint(ctx, r.Target.UUID)
		if err != nil {
			return p, err
		}
		p.run.Account, p.run.Dialect, p.run.Name, p.run.Type, p.timeout = g.Account, g.Dialect, g.Name, g.Type, g.Timeout
		p.steps, p.skip = planGroup(g, jobs, r.Only)
	case core.JobTarget:
		j, err := e.job(ctx, r.Target.UUID)
		if err != nil {
			return p, err
		}
		p.run.Account, p.run.Dialect, p.run.Name, p.run.Type = j.Account, j.Dialect, j.Name, j.Type
		p.steps = []core.PlannedStep{planned(j, nil)}
		if !j.Enabled {
			p.skip = "the job is disabled"
		}
	default:
		return p, fmt.Errorf("plan run: target kind %q", r.Target.Kind)
	}
	return p, nil
}

func planGroup(g core.Group, jobs []core.Job, only []string) (plan []core.PlannedStep, skip string) {
	if !g.Enabled {
		return nil, "the job group is disabled"
	}
	named := make(map[string]bool, len(only))
	for _, uuid := range only {
		named[uuid] = true
	}
	plan = make([]core.PlannedStep, 0, len(jobs))
	for _, j := range jobs {
		if j.Enabled && (only == nil || named[j.UUID]) {
			plan = append(plan, planned(j, g.Parameters))
		}
	}
	switch {
	case len(plan) > 0:
		return plan, ""
	case only != nil:
		return nil, "none of the jobs asked for is enabled"
	}
	return nil, "the job group has no enabled jobs"
}

// planned fixes what a job is to do; a group's parameters fill in what the job
// leaves open.
func planned(j core.Job, shared map[string]string) core.PlannedStep {
	p := core.PlannedStep{
		Job: j.UUID, Name: j.Name, Type: j.Type, Parameters: j.Parameters, Target: j.Target,
		Timeout: j.EffectiveTimeout(), Retry: j.Retry, Priority: j.Priority,
	}
	if len(shared) == 0 {
		return p
	}
	p.Parameters = make(map[string]string, len(shared)+len(j.Parameters))
	for k, v := range shared {
		p.Parameters[k] = v
	}
	for k, v := range j.Parameters {
		p.Parameters[k] = v
	}
	return p
}

func withTimeouts(ds []core.Dispatch, run string, plan []core.PlannedStep) {
	for i := range ds {
		if ds[i].Run == run && ds[i].Step < len(plan) {
			ds[i].Timeout = plan[ds[i].Step].Timeout
		}
	}
}

// Deliver does what scripts left to do. It does not fail: what it could not do
// stays in the sent set and the outbox, and the reconciler does it. It goes on
// when the caller's context ends, since the decision is made.
func (e *Engine) Deliver(ctx context.Context, eff core.Effects) {
	ctx = context.WithoutCancel(ctx)
	for len(eff.Sends)+len(eff.Stops)+len(eff.Expand) > 0 {
		e.send(ctx, eff.Sends)
		e.stop(ctx, eff.Stops)
		var more core.Effects
		for _, run := range eff.Expand {
			made, err := e.Expand(ctx, run)
			if err != nil {
				e.log.WarnContext(ctx, "run not expanded, the reconciler will", "run", run, "err", err)
			}
			more.Add(made)
		}
		eff = more
	}
}

func (e *Engine) send(ctx context.Context, ds []core.Dispatch) {
	if len(ds) == 0 {
		return
	}
	if err := e.queue.Send(ctx, ds); err != nil {
		e.log.WarnContext(ctx, "dispatches not sent, the reconciler will", "count", len(ds), "run", ds[0].Run, "err", err)
		return
	}
	e.events.Ring(queuesOf(ds))
}

func (e *Engine) stop(ctx context.Context, stops []core.Stop) {
	for _, s := range stops {
		e.events.Stop(s)
		if err := e.store.TellStop(ctx, s); err != nil {
			e.log.WarnContext(ctx, "worker not told to stop, the reconciler will", "worker", s.Worker, "dispatch", s.Dispatch, "err", err)
		}
	}
}

// Expand makes all steps of a run that are still to be made. It returns the
// runs that may start in turn; dispatches are sent on the way.
func (e *Engine) Expand(ctx context.Context, run string) (core.Effects, error) {
	plan, made, started, err := e.store.Plan(ctx, run)
	if err != nil || !started {
		return core.Effects{}, err
	}
	var left core.Effects
	for made < len(plan) {
		f, err := e.Fleet(ctx)
		if err != nil {
			return left, err
		}
		part := plan[made:min(made+core.Chunk, len(plan))]
		eff, err := e.store.Expand(ctx, run, plan, made, routes(f, part))
		if err != nil {
			return left, err
		}
		withTimeouts(eff.Sends, run, plan)
		e.send(ctx, eff.Sends)
		left.Expand = append(left.Expand, eff.Expand...)
		made += len(part)
	}
	return left, nil
}

// requestKey scopes a client's idempotency key; without one every request is new.
func requestKey(c core.Caller, what, key string) string {
	if key == "" {
		return newRequest + id.New()
	}
	return "key:" + c.Owner + ":" + what + ":" + key
}

// newRequest begins the request of who has no key to ask with again.
const newRequest = "new:"

// remember says how long the decision about a request is kept.
func remember(request string) time.Duration {
	if strings.HasPrefix(request, newRequest) {
		return 0
	}
	return rememberRequests
}
