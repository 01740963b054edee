package engine

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// While a task is Running, a timer has CheckCBT look at its sessions each core.CBTWatch.
// The rule by which a look makes a task Failed: some worker has asked a machine and said
// in its answer that the session does not live. Nothing else does, be it an answer that
// does not come, a machine that cannot be reached, an error of whatever kind or a run
// that times out or is canceled: what nobody has seen does not count.
//
// So a look is told apart in two places. Finish takes an answer to an order with Check
// whose Estimate says that the session is gone for a failure with the exit code CBTGone;
// and the script that ends the run knows that no other code counts.

// CheckCBT begins a look at the sessions of a task. One that is not Running, or has
// something under way, or of which no machine can be reached, is left alone.
func (e *Engine) CheckCBT(ctx context.Context, uuid string) error {
	t, _, err := e.store.CBT(ctx, uuid)
	if err != nil && !core.Is(err, core.NotFound) {
		return err
	}
	var m core.CBTMove
	if err == nil && t.Status == core.CBTRunning && t.Pending.Zero() {
		if m, err = e.looking(ctx, t); err != nil {
			return err
		}
	}
	if len(m.Pending.Orders) == 0 {
		return e.store.RestCBT(ctx, uuid, core.CBTWatch)
	}
	if _, err = e.beginCBT(ctx, t, m); core.Is(err, core.Stale) {
		return nil // somebody began something: the timer went with that
	}
	return err
}

func (e *Engine) looking(ctx context.Context, t core.CBTTask) (m core.CBTMove, err error) {
	m.Pending = core.CBTPending{Op: core.CBTCheck, Look: true, Then: core.CBTRunning, Else: core.CBTFailed}
	f, err := e.Fleet(ctx)
	if err != nil {
		return m, err
	}
	for i, machine := range t.Machines {
		if _, ok := reached(f, machine); ok && t.Records[i].Open != nil {
			o := order(t, i, cbt.OpProbe)
			o.Check = true
			m.Pending.Orders = append(m.Pending.Orders, o)
		}
	}
	return m, nil
}

// judged gives how an attempt of an order ended by what it answered: the record in an
// answer becomes the machine's, so one that cannot be read is a failure and is not kept.
func judged(p core.PlannedStep, o core.Outcome, permanent bool) (core.Outcome, bool) {
	_, detail, err := cbt.ReadAnswer(o.Output)
	if err != nil && strings.HasPrefix(o.Output, "{") {
		o.Output = ""
	}
	if o.State != core.AttemptSucceeded {
		return o, permanent
	}
	if err != nil {
		o.State, o.Reason = core.AttemptFailed, "the worker's answer holds no record of the machine: "+err.Error()
		return o, true
	}
	var asked cbt.Order
	if json.Unmarshal([]byte(p.Parameters[OrderParameter]), &asked) != nil || !asked.Check {
		return o, permanent
	}
	var found cbt.Estimate
	if err := json.Unmarshal(detail, &found); err == nil && !found.Session {
		o.State, o.ExitCode, o.Reason = core.AttemptFailed, core.CBTGone, "the session is gone"
		switch {
		case found.Broken != "":
			o.Reason += ", and its chain is broken: " + found.Broken
		case found.Gone != "":
			o.Reason += ": " + found.Gone
		}
		return o, true
	}
	return o, permanent
}
