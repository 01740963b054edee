package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// CreateCBTTask checks and stores a CBT task, and returns it complete. TaskType, Driver
// and OnBroken may be left out. Nothing is done at its machines yet. Invalid, Exists;
// Conflict when a machine is another task's.
func (e *Engine) CreateCBTTask(ctx context.Context, t core.CBTTask) (core.CBTTask, error) {
	if err := e.newMeta(ctx, "CBT task", &t.Meta); err != nil {
		return t, err
	}
	return once(ctx, "CBT task", func() (core.CBTTask, error) { return e.createCBT(ctx, t) }, func() (core.CBTTask, error) { return e.CBTTask(ctx, t.UUID) })
}

func (e *Engine) createCBT(ctx context.Context, t core.CBTTask) (core.CBTTask, error) {
	if err := checkCBT(&t); err != nil {
		return t, err
	}
	if err := e.claimMachines(ctx, t); err != nil {
		return t, err
	}
	err := e.store.CreateCBT(ctx, t)
	for _, m := range t.Machines {
		e.settleLater(ctx, e.store.SettleCBTClaim(ctx, t.UUID, m))
	}
	if err != nil {
		return t, err
	}
	t.Version, t.Status, t.Records = 1, core.CBTCreated, make([]cbt.Record, len(t.Machines))
	return t, nil
}

func checkCBT(t *core.CBTTask) error {
	if t.TaskType == "" {
		t.TaskType = "VM"
	}
	if t.Driver == "" {
		t.Driver = cbt.DriverAuto
	}
	if t.OnBroken == "" {
		t.OnBroken = cbt.OnBrokenFull
	}
	t.Machines = distinct(t.Machines)
	switch {
	case len(t.TaskType) > 64:
		return core.InvalidField("taskType", "taskType has %d characters, at most 64 are allowed", len(t.TaskType))
	case len(t.Machines) == 0 || len(t.Machines) > core.MaxMachines:
		return core.InvalidField("machines", "a CBT task has from 1 to %d machines, not %d", core.MaxMachines, len(t.Machines))
	case !slices.Contains([]string{cbt.DriverAuto, cbt.DriverQEMU, cbt.DriverScan}, t.Driver):
		return core.InvalidField("driver", "driver %q must be auto, qemu or scan", t.Driver)
	case !slices.Contains([]string{cbt.OnBrokenFull, cbt.OnBrokenRescan, cbt.OnBrokenFail}, t.OnBroken):
		return core.InvalidField("onBroken", "onBroken %q must be full, rescan or fail", t.OnBroken)
	}
	for _, m := range t.Machines {
		if !id.Valid(m) {
			return core.InvalidField("machines", "machine %q must be a uuid of 32 lower-case hexadecimal digits", m)
		}
	}
	return nil
}

// distinct gives the texts once each, in their order.
func distinct(texts []string) []string {
	var out []string
	for _, s := range texts {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// claimMachines claims all machines of a task, or none.
func (e *Engine) claimMachines(ctx context.Context, t core.CBTTask) error {
	for i, m := range t.Machines {
		holder, err := e.store.ClaimMachine(ctx, t.UUID, m)
		if err == nil && holder != t.UUID {
			err = core.Errorf(core.Conflict, "%s [uuid: %s] have been protected by task: %s", t.TaskType, m, holder)
		}
		if err == nil {
			continue
		}
		for _, claimed := range t.Machines[:i] {
			e.settleLater(ctx, e.store.UnclaimMachine(ctx, t.UUID, claimed))
		}
		return err
	}
	return nil
}

// UpdateCBTTask changes the name and the description of a task as UpdateJob changes a
// job; what else change does is lost.
func (e *Engine) UpdateCBTTask(ctx context.Context, uuid string, version int64, change func(*core.CBTTask) error) (core.CBTTask, error) {
	var t core.CBTTask
	err := retryStale(func() (err error) {
		if t, err = e.changeableCBT(ctx, uuid); err != nil {
			return err
		}
		if err := checkVersion("CBT task", version, t.Version); err != nil {
			return errNotRetried(err)
		}
		changed := t
		if err := change(&changed); err != nil {
			return err
		}
		name := t.Name
		t.Name, t.Description = changed.Name, changed.Description
		if err := checkMeta(&t.Meta, name); err != nil {
			return err
		}
		now, err := e.store.Now(ctx)
		if err != nil {
			return err
		}
		t.Updated = now.UTC()
		return e.store.UpdateCBT(ctx, t)
	})
	t.Version++
	return t, finalStale(err)
}

// CBTTask gives one task the caller may see.
func (e *Engine) CBTTask(ctx context.Context, uuid string) (core.CBTTask, error) {
	t, _, err := e.store.CBT(ctx, uuid)
	if err != nil {
		return t, err
	}
	return t, maySee(ctx, "CBT task", uuid, t.Account)
}

func (e *Engine) changeableCBT(ctx context.Context, uuid string) (core.CBTTask, error) {
	t, _, err := e.store.CBT(ctx, uuid)
	if err != nil {
		return t, err
	}
	return t, mayChange(ctx, "CBT task", uuid, t.Account)
}

// CBTTasks gives every task the caller may see, in no order.
func (e *Engine) CBTTasks(ctx context.Context) ([]core.CBTTask, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	all, err := e.store.ListCBT(ctx)
	if err != nil {
		return nil, err
	}
	return seen(c, all, func(t core.CBTTask) string { return t.Account }), nil
}

// CBTDetails tells for each machine, in the task's order, what changed on its disks as
// of the session that is open. It is nil when none is, or when the run that opened it is
// forgotten.
func (e *Engine) CBTDetails(ctx context.Context, t core.CBTTask) ([]cbt.Details, error) {
	if err := maySee(ctx, "CBT task", t.UUID, t.Account); err != nil {
		return nil, err
	}
	if t.Status != core.CBTRunning || t.Opened == "" {
		return nil, nil
	}
	answers, err := e.answers(ctx, t.Opened)
	if core.Is(err, core.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]cbt.Details, len(t.Machines))
	for i := range min(len(answers), len(out)) {
		if answers[i] == nil {
			continue
		}
		if err := json.Unmarshal(answers[i], &out[i]); err != nil {
			return nil, fmt.Errorf("read details of CBT task %s: %w", t.UUID, err)
		}
	}
	return out, nil
}
