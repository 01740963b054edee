package engine

import (
	"context"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// DeleteCBTTask deletes a task, and on the hosts all that it made there but backups. A
// task that is enabled, or has something under way, is deleted only with force; machines
// that no live worker reaches are left to the sweeper of their worker then. One that is
// gone, or not for this caller, is the zero task and no error. Conflict.
func (e *Engine) DeleteCBTTask(ctx context.Context, uuid string, force bool) (core.CBTTask, error) {
	return e.deleteCBT(ctx, uuid, cbt.Order{Op: cbt.OpDrop, Force: force})
}

// DeleteCBTTaskAndBackups is DeleteCBTTask, and deletes the backups too, but for those of
// machines that no live worker reaches.
func (e *Engine) DeleteCBTTaskAndBackups(ctx context.Context, uuid string, force bool) (core.CBTTask, error) {
	return e.deleteCBT(ctx, uuid, cbt.Order{Op: cbt.OpDrop, Force: force, Backups: true})
}

// deleteCBT deletes a task; how says what each order to drop is like.
func (e *Engine) deleteCBT(ctx context.Context, uuid string, how cbt.Order) (core.CBTTask, error) {
	t, err := e.turn(ctx, uuid, core.CBTDelete, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		switch {
		case t.Busy():
			return e.deletePending(ctx, t, how)
		case t.Status == core.CBTRunning && !how.Force:
			return m, false, core.Errorf(core.Conflict, "CBT task is still enabled; disable it first, or delete it with force")
		case t.Pending.Behind:
			return m, false, e.halt(ctx, t, "the CBT task is deleted")
		}
		m, err = e.dropping(ctx, t, how)
		if err == nil && len(m.Pending.Orders) == 0 {
			return core.CBTMove{}, false, e.drop(ctx, t)
		}
		return m, false, err
	})
	if core.Is(err, core.NotFound) {
		return core.CBTTask{}, nil
	}
	return t, err
}

// deletePending decides about a task with something under way.
func (e *Engine) deletePending(ctx context.Context, t core.CBTTask, how cbt.Order) (m core.CBTMove, joined bool, err error) {
	deleting := t.Pending.Op == core.CBTDelete && t.Pending.Orders[0].Backups == how.Backups
	if !how.Force && deleting {
		return m, true, nil
	}
	if !how.Force {
		return m, false, busy(t)
	}
	f, err := e.Fleet(ctx)
	if err != nil {
		return m, false, err
	}
	lost := slices.ContainsFunc(t.Pending.Orders, func(o cbt.Order) bool { _, ok := reached(f, o.Machine); return !ok })
	if deleting && forced(t.Pending) && !lost {
		return m, true, nil
	}
	return m, false, e.halt(ctx, t, "the CBT task was deleted by force")
}

// dropping gives the move that deletes a task. It has no orders when there is nothing to
// remove on any host, or with force nobody who could.
func (e *Engine) dropping(ctx context.Context, t core.CBTTask, how cbt.Order) (m core.CBTMove, err error) {
	m.Pending = core.CBTPending{Op: core.CBTDelete, Then: "", Else: t.Status}
	if t.Status == core.CBTRunning {
		m.Pending.Else = core.CBTFailed // its session may be gone by then
	}
	if t.Seq == 0 && len(t.Past) == 0 {
		return m, nil // no worker has ever heard of it
	}
	f, err := e.Fleet(ctx)
	if err != nil {
		return m, err
	}
	for i, machine := range t.Machines {
		if _, ok := reached(f, machine); !ok && how.Force {
			continue
		}
		o := order(t, i, how.Op)
		o.Force, o.Backups = how.Force, how.Backups
		m.Pending.Orders = append(m.Pending.Orders, o)
	}
	return m, nil
}

// drop deletes a task without a run.
func (e *Engine) drop(ctx context.Context, t core.CBTTask) error {
	if err := e.store.DropCBT(ctx, t); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	e.endLook(ctx, t.Pending, "the CBT task was deleted")
	for _, m := range t.Machines {
		e.settleLater(ctx, e.store.SettleCBTClaim(ctx, t.UUID, m))
	}
	return nil
}
