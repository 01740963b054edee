package engine

import (
	"context"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// ExportVolumes serves volumes of a stopped machine, for writing: a restore. When it has
// succeeded they are in Restore of the machine's record. NotFound when no task has the
// machine; Conflict while that is enabled, or when a volume is exported already and force
// is not set.
func (e *Engine) ExportVolumes(ctx context.Context, machine string, volumes []string, force bool) (core.CBTTask, error) {
	return e.serve(ctx, machine, volumes, core.CBTExport, func(o *cbt.Order) error {
		o.Op, o.Force, o.Token = cbt.OpExport, force, token()
		for _, x := range o.Record.Restore {
			if !force && slices.Contains(volumes, x.Volume) {
				return core.Errorf(core.Conflict, "volume [uuid: %s] is exported already; end that first, or use force", x.Volume)
			}
		}
		return nil
	})
}

// UnexportVolumes ends what ExportVolumes began. Volumes that are not exported count as
// done.
func (e *Engine) UnexportVolumes(ctx context.Context, machine string, volumes []string) (core.CBTTask, error) {
	return e.serve(ctx, machine, volumes, core.CBTUnexport, func(o *cbt.Order) error {
		o.Op = cbt.OpUnexport
		return nil
	})
}

// serve gives the worker of a machine an order about its volumes.
func (e *Engine) serve(ctx context.Context, machine string, volumes []string, op core.CBTOp, fill func(*cbt.Order) error) (core.CBTTask, error) {
	volumes = distinct(volumes)
	if len(volumes) == 0 {
		return core.CBTTask{}, core.InvalidField("volumes", "at least one volume uuid must be given")
	}
	task, err := e.store.CBTOf(ctx, machine)
	if err != nil {
		return core.CBTTask{}, err
	}
	t, err := e.turn(ctx, task, op, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		i := t.Machine(machine)
		switch {
		case i < 0:
			return m, false, core.Missing("CBT task", task)
		case t.Pending.Op == op && t.Pending.Orders[0].Machine == machine && slices.Equal(t.Pending.Orders[0].Volumes, volumes):
			return m, true, nil
		case t.Changing():
			return m, false, busy(t)
		case t.Status == core.CBTRunning:
			return m, false, core.Errorf(core.Conflict, "the CBT task %s of machine %s is Running; disable it first", task, machine)
		}
		o := order(t, i, "")
		o.Volumes = volumes
		if err := fill(&o); err != nil {
			return m, false, err
		}
		m.Pending = core.CBTPending{Op: op, Then: t.Status, Else: t.Status, Orders: []cbt.Order{o}}
		return m, false, nil
	})
	if core.Is(err, core.NotFound) {
		return t, core.Errorf(core.NotFound, "no CBT task has the machine [uuid: %s]", machine)
	}
	return t, err
}
