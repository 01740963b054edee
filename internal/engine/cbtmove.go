package engine

import (
	"context"
	"slices"
	"strconv"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The verbs that change a CBT task, here, in cbtdelete.go, cbtbackup.go and cbtrestore.go,
// give the task with, as its Pending, the transition that they have begun, or joined, or, where a
// request is carried out again, begun before, which may have ended; AwaitCBT waits for
// it. It is zero when nothing had to be done.

// errAgain has a verb look at the task anew.
var errAgain = core.Errorf(core.Stale, "the CBT task has changed meanwhile")

// turn reads a task and has decide choose what is to become of it: nothing, if the move
// is zero, or what is under way, if it has joined that.
func (e *Engine) turn(ctx context.Context, uuid string, op core.CBTOp, decide func(core.CBTTask) (m core.CBTMove, joined bool, err error)) (core.CBTTask, error) {
	var t core.CBTTask
	err := retryStale(func() (err error) {
		if t, err = e.changeableCBT(ctx, uuid); err != nil {
			return err
		}
		if p, ok := asked(ctx, t, op); ok {
			t.Pending = p
			return nil
		}
		m, joined, err := decide(t)
		if err != nil || joined {
			return err
		}
		if m.Pending.Zero() && m.Status == "" {
			t.Pending = core.CBTPending{}
			return nil
		}
		if t.Pending.Behind {
			return e.halt(ctx, t, "it gave way to what was asked for next")
		}
		t, err = e.beginCBT(ctx, t, m)
		return err
	})
	return t, finalStale(err)
}

// asked finds the transition that the context's request has begun before.
func asked(ctx context.Context, t core.CBTTask, op core.CBTOp) (core.CBTPending, bool) {
	key := core.RequestFrom(ctx).Key
	if key == "" {
		return core.CBTPending{}, false
	}
	for _, p := range append([]core.CBTPending{t.Pending}, t.Past...) {
		if p.By == key && p.Op == op {
			return p, true
		}
	}
	return core.CBTPending{}, false
}

func busy(t core.CBTTask) error {
	return core.Errorf(core.Conflict, "the CBT task is %s and its %s has not ended; wait for it and try again", t.Status, t.Pending.Op)
}

// EnableCBTTask opens a session of all machines: a moment that is frozen and exported.
// bitmap names the checkpoint that changes are counted from; "" is for a full copy. A
// task that is Running or Starting with the same bitmap stays as it is. Conflict in any
// other state but Created, Stopped and Failed; NotFound for a checkpoint that no machine
// has.
func (e *Engine) EnableCBTTask(ctx context.Context, uuid, bitmap string) (core.CBTTask, error) {
	return e.turn(ctx, uuid, core.CBTEnable, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		same := t.Since == bitmap
		switch {
		case t.Busy() && t.Pending.Op == core.CBTEnable && same:
			return m, true, nil
		case t.Busy():
			return m, false, busy(t)
		case t.Status == core.CBTRunning && same:
			return m, false, nil
		case t.Status == core.CBTRunning:
			return m, false, core.Errorf(core.Conflict, "the CBT task is Running since another bitmap; disable it first")
		}
		if err := e.claimMachines(ctx, t); err != nil {
			return m, false, err
		}
		m, err = opening(t, bitmap)
		return m, false, err
	})
}

func opening(t core.CBTTask, bitmap string) (core.CBTMove, error) {
	from, err := checkpointOf(t, bitmap)
	if err != nil {
		return core.CBTMove{}, err
	}
	m := core.CBTMove{
		Status: core.CBTStarting, Since: bitmap, Seq: nextCheckpoint(t),
		Pending: core.CBTPending{Op: core.CBTEnable, Then: core.CBTRunning, Else: core.CBTFailed},
	}
	for i := range t.Machines {
		o := order(t, i, cbt.OpOpen)
		o.Session = cbt.Session{Seq: m.Seq, Token: token()}
		if t.Records[i].Chain.Has(from) {
			o.Session.From = from // else its chain was begun anew since: a full copy
		} else if bitmap != "" && t.OnBroken == cbt.OnBrokenFail {
			return m, core.Errorf(core.Conflict, "machine %s does not have the checkpoint %s any more: %s", t.Machines[i], bitmap, t.Records[i].Broken)
		}
		m.Pending.Orders = append(m.Pending.Orders, o)
	}
	return m, nil
}

// nextCheckpoint gives a number that no checkpoint of the task has had.
func nextCheckpoint(t core.CBTTask) int {
	seq := t.Seq + 1
	for _, r := range t.Records {
		seq = max(seq, r.Chain.Last()+1)
	}
	return seq
}

// checkpointOf gives the number of a checkpoint that some machine of the task has; 0 for "".
func checkpointOf(t core.CBTTask, bitmap string) (int, error) {
	if bitmap == "" {
		return 0, nil
	}
	_, rest, _ := cbt.ParseName(bitmap)
	seq, err := strconv.Atoi(rest)
	known := err == nil && cbt.CheckpointName(t.UUID, seq) == bitmap &&
		slices.ContainsFunc(t.Records, func(r cbt.Record) bool { return r.Chain.Has(seq) })
	if !known {
		return 0, core.Errorf(core.NotFound, "there is no checkpoint %q of CBT task %s; leave the bitmap out for a full copy", bitmap, t.UUID)
	}
	return seq, nil
}

// DisableCBTTask closes the session. A task that is Starting is canceled first, which
// the call waits for. force does not wait for workers: the task is Stopped at once, and
// the orders to close, which cut off readers that are connected, are carried out Behind.
// So they are for one that is Stopped and has sessions left, which an earlier force could
// not close. force makes a task Stopped, too, that was never enabled. One that is Stopped
// stays so. Conflict, NotFound.
func (e *Engine) DisableCBTTask(ctx context.Context, uuid string, force bool) (core.CBTTask, error) {
	return e.turn(ctx, uuid, core.CBTDisable, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		if t.Changing() {
			return e.disablePending(ctx, t, force)
		}
		switch {
		case t.Status == core.CBTStopped && !leftOpen(t):
			return m, false, nil
		case t.Status == core.CBTCreated && force:
			return core.CBTMove{Status: core.CBTStopped}, false, nil
		case t.Status == core.CBTCreated:
			return m, false, core.Errorf(core.Conflict, "the CBT task is Created and was never enabled")
		}
		return closing(t, force), false, nil
	})
}

// disablePending decides about a task with something under way.
func (e *Engine) disablePending(ctx context.Context, t core.CBTTask, force bool) (m core.CBTMove, joined bool, err error) {
	switch p := t.Pending; {
	case p.Behind, p.Op == core.CBTDisable && !force:
		return m, true, nil
	case p.Op == core.CBTVerify && t.Status == core.CBTStopped:
		return m, false, nil
	case p.Op == core.CBTDisable:
		return m, false, e.halt(ctx, t, "the CBT task was disabled by force")
	case p.Op == core.CBTEnable, p.Op == core.CBTBackup, p.Op == core.CBTVerify:
		return m, false, e.halt(ctx, t, "the CBT task was disabled")
	}
	return m, false, busy(t)
}

func leftOpen(t core.CBTTask) bool {
	return slices.ContainsFunc(t.Records, func(r cbt.Record) bool { return r.Open != nil })
}

func closing(t core.CBTTask, force bool) core.CBTMove {
	m := core.CBTMove{Pending: core.CBTPending{Op: core.CBTDisable, Then: core.CBTStopped, Else: t.Status}}
	if force || t.Status == core.CBTStopped {
		force, m.Status = true, core.CBTStopped
		m.Pending.Behind, m.Pending.Else = true, core.CBTStopped
	}
	for i := range t.Machines {
		o := order(t, i, cbt.OpClose)
		o.Force = force
		if open := t.Records[i].Open; open != nil {
			o.Session = open.Session
		}
		m.Pending.Orders = append(m.Pending.Orders, o)
	}
	return m
}

// halt cancels what is under way and waits until that has ended. It returns errAgain.
func (e *Engine) halt(ctx context.Context, t core.CBTTask, reason string) error {
	_, err := e.EndRun(ctx, t.Pending.Run, reason, core.RunCanceled)
	if core.Is(err, core.NotFound) { // its run is yet to be admitted
		if err := e.SettleCBT(ctx, t.UUID); err != nil {
			return err
		}
		_, err = e.EndRun(ctx, t.Pending.Run, reason, core.RunCanceled)
	}
	if err != nil {
		return err
	}
	if _, _, err := e.AwaitCBT(ctx, t.UUID, t.Pending.Run); err != nil {
		return err
	}
	return errAgain
}

// ForgetCheckpoint takes a checkpoint out of the chains of all machines that have it;
// what was written after it then counts as written after the one before it. A backup of
// it stays, but none can be based on it any more. NotFound; Conflict while the open
// session is that of it, or since it.
func (e *Engine) ForgetCheckpoint(ctx context.Context, uuid string, seq int) (core.CBTTask, error) {
	return e.turn(ctx, uuid, core.CBTForget, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		switch {
		case t.Pending.Op == core.CBTForget && t.Pending.Orders[0].Seq == seq:
			return m, true, nil
		case t.Changing():
			return m, false, busy(t)
		}
		m.Pending = core.CBTPending{Op: core.CBTForget, Then: t.Status, Else: t.Status}
		for i, r := range t.Records {
			if !r.Chain.Has(seq) {
				continue
			}
			if r.Open != nil && (r.Open.Seq == seq || r.Open.From == seq) {
				return m, false, core.Errorf(core.Conflict, "the open session needs checkpoint %s; disable the CBT task first", cbt.CheckpointName(t.UUID, seq))
			}
			o := order(t, i, cbt.OpForget)
			o.Seq = seq
			m.Pending.Orders = append(m.Pending.Orders, o)
		}
		if len(m.Pending.Orders) == 0 {
			return m, false, core.Errorf(core.NotFound, "there is no checkpoint %q of CBT task %s", cbt.CheckpointName(t.UUID, seq), t.UUID)
		}
		return m, false, nil
	})
}

// order gives an order for the i-th machine of a task.
func order(t core.CBTTask, i int, op cbt.Op) cbt.Order {
	return cbt.Order{Op: op, Task: t.UUID, Machine: t.Machines[i], Driver: t.Driver, OnBroken: t.OnBroken, Record: t.Records[i]}
}

func forced(p core.CBTPending) bool { return len(p.Orders) > 0 && p.Orders[0].Force }

// token gives 128 random bits as 32 hex digits.
func token() string { return id.Fence() + id.Fence() }
