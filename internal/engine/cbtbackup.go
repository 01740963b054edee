package engine

import (
	"context"
	"path"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// Backups are files on the hosts of a task's machines, made and read by the workers there.
// Which there are is in the machines' records. One backup of a task, over its machines, is
// named by its checkpoint.

// A BackupRequest says how a backup is made. The zero value is incremental where it can
// be, and as fast as it can be.
type BackupRequest struct {
	Full bool   // based on no other
	Rate uint64 // bytes a second that are copied of each machine, at most; 0 = no bound
}

// BackupCBTTask copies a moment of all machines into files: what was written since the
// newest backup whose checkpoint the machine still has, or all that is allocated. The task
// is Starting until its run has ended, then Stopped, or Failed. Conflict while it is
// Running, or when a machine keeps as many backups as it may.
func (e *Engine) BackupCBTTask(ctx context.Context, uuid string, r BackupRequest) (core.CBTTask, error) {
	return e.turn(ctx, uuid, core.CBTBackup, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		m = copying(t, r)
		switch {
		case t.Busy() && t.Pending.Op == core.CBTBackup && sameCopy(t.Pending.Orders, m.Pending.Orders):
			return m, true, nil
		case t.Busy():
			return m, false, busy(t)
		case t.Status == core.CBTRunning:
			return m, false, core.Errorf(core.Conflict, "the CBT task is Running; disable it first")
		}
		for i, r := range t.Records {
			if len(r.Backups) >= cbt.MaxBackups {
				return m, false, core.Errorf(core.Conflict, "machine %s keeps %d backups, which is the most there may be; delete some first", t.Machines[i], len(r.Backups))
			}
		}
		return m, false, e.claimMachines(ctx, t)
	})
}

func copying(t core.CBTTask, r BackupRequest) core.CBTMove {
	m := core.CBTMove{
		Status: core.CBTStarting, Seq: nextCheckpoint(t),
		Pending: core.CBTPending{Op: core.CBTBackup, Then: core.CBTStopped, Else: core.CBTFailed},
	}
	for i, record := range t.Records {
		o := order(t, i, cbt.OpBackup)
		o.Rate, o.Session = r.Rate, cbt.Session{Seq: m.Seq, Token: token()}
		if !r.Full {
			o.Session.From = baseOf(record)
		}
		m.Pending.Orders = append(m.Pending.Orders, o)
	}
	return m
}

// baseOf gives the newest backup that changes can be counted from; 0 if there is none.
func baseOf(r cbt.Record) int {
	for _, b := range slices.Backward(r.Backups) {
		if r.Chain.Has(b.Seq) {
			return b.Seq
		}
	}
	return 0
}

// sameCopy reports whether orders make the same backup.
func sameCopy(a, b []cbt.Order) bool {
	return slices.EqualFunc(a, b, func(a, b cbt.Order) bool {
		return a.Machine == b.Machine && a.Rate == b.Rate && a.Session.From == b.Session.From
	})
}

// VerifyBackup has the files of a backup, and those that it is based on, read and compared
// with their digests. It changes nothing, and fails with what is wrong. NotFound.
func (e *Engine) VerifyBackup(ctx context.Context, uuid string, seq int) (core.CBTTask, error) {
	return e.withBackup(ctx, uuid, seq, core.CBTVerify, cbt.OpVerify, nil)
}

// DiscardBackup deletes a backup. NotFound; Conflict when another is based on it.
func (e *Engine) DiscardBackup(ctx context.Context, uuid string, seq int) (core.CBTTask, error) {
	return e.withBackup(ctx, uuid, seq, core.CBTDiscard, cbt.OpDiscard, func(r cbt.Record) error {
		for _, b := range r.Backups {
			if b.Base == seq {
				return core.Errorf(core.Conflict, "backup %s is based on it; delete that first", cbt.CheckpointName(uuid, b.Seq))
			}
		}
		return nil
	})
}

// withBackup gives each machine that has a backup an order about it. mayBe, if not nil,
// says of each machine's record why that may not be.
func (e *Engine) withBackup(ctx context.Context, uuid string, seq int, op core.CBTOp, what cbt.Op, mayBe func(cbt.Record) error) (core.CBTTask, error) {
	return e.turn(ctx, uuid, op, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		switch {
		case t.Pending.Op == op && t.Pending.Orders[0].Seq == seq:
			return m, true, nil
		case t.Changing():
			return m, false, busy(t)
		}
		m.Pending = core.CBTPending{Op: op, Then: t.Status, Else: t.Status}
		for i, r := range t.Records {
			if _, ok := backupOf(r, seq); !ok {
				continue
			}
			if mayBe != nil {
				if err := mayBe(r); err != nil {
					return m, false, err
				}
			}
			o := order(t, i, what)
			o.Seq = seq
			m.Pending.Orders = append(m.Pending.Orders, o)
		}
		if len(m.Pending.Orders) == 0 {
			return m, false, noBackup(t, seq)
		}
		return m, false, nil
	})
}

func backupOf(r cbt.Record, seq int) (cbt.Backup, bool) {
	for _, b := range r.Backups {
		if b.Seq == seq {
			return b, true
		}
	}
	return cbt.Backup{}, false
}

func noBackup(t core.CBTTask, seq int) error {
	return core.Errorf(core.NotFound, "there is no backup %q of CBT task %s", cbt.CheckpointName(t.UUID, seq), t.UUID)
}

// A RestoreRequest says where a backup is written to.
type RestoreRequest struct {
	Machine string   // whose disks; may be left out of a task with one machine
	Volumes []string // of the backup; none = all
	// Into is a directory of the machine's host, below the roots of its worker, for new
	// raw files, "<volume>.raw". "" = the volumes themselves, of a machine that is off.
	Into string
	Rate uint64 // bytes a second, at most; 0 = no bound
}

// maxPath bounds RestoreRequest.Into in bytes, as Linux does.
const maxPath = 4095

// RestoreCBT writes disks of a machine as a backup has them. Invalid; NotFound: the
// backup; Conflict while the task is Running.
func (e *Engine) RestoreCBT(ctx context.Context, uuid string, seq int, r RestoreRequest) (core.CBTTask, error) {
	if r.Into != "" && (!path.IsAbs(r.Into) || path.Clean(r.Into) != r.Into || len(r.Into) > maxPath) {
		return core.CBTTask{}, core.InvalidField("directory", "directory %q must be an absolute path without dots and doubled slashes", r.Into)
	}
	r.Volumes = distinct(r.Volumes)
	return e.turn(ctx, uuid, core.CBTRestore, func(t core.CBTTask) (m core.CBTMove, joined bool, err error) {
		o, err := restoring(t, seq, r)
		switch {
		case err != nil:
			return m, false, err
		case t.Pending.Op == core.CBTRestore && sameRestore(t.Pending.Orders[0], o):
			return m, true, nil
		case t.Changing():
			return m, false, busy(t)
		case t.Status == core.CBTRunning:
			return m, false, core.Errorf(core.Conflict, "the CBT task is Running; disable it first")
		}
		m.Pending = core.CBTPending{Op: core.CBTRestore, Then: t.Status, Else: t.Status, Orders: []cbt.Order{o}}
		return m, false, nil
	})
}

func restoring(t core.CBTTask, seq int, r RestoreRequest) (o cbt.Order, err error) {
	i := t.Machine(r.Machine)
	switch {
	case r.Machine == "" && len(t.Machines) == 1:
		i = 0
	case r.Machine == "":
		return o, core.InvalidField("machine", "machine must name one of the task's %d machines", len(t.Machines))
	case i < 0:
		return o, core.InvalidField("machine", "machine %q is none of the task's", r.Machine)
	}
	b, ok := backupOf(t.Records[i], seq)
	if !ok {
		return o, noBackup(t, seq)
	}
	for _, v := range r.Volumes {
		if !slices.ContainsFunc(b.Files, func(f cbt.BackupFile) bool { return f.Volume == v }) {
			return o, core.InvalidField("volumes", "volume %q is not in the backup %s of machine %s", v, cbt.CheckpointName(t.UUID, seq), t.Machines[i])
		}
	}
	o = order(t, i, cbt.OpRestore)
	o.Seq, o.Volumes, o.Into, o.Rate, o.Token = seq, r.Volumes, r.Into, r.Rate, token()
	return o, nil
}

func sameRestore(a, b cbt.Order) bool {
	return a.Machine == b.Machine && a.Seq == b.Seq && slices.Equal(a.Volumes, b.Volumes) && a.Into == b.Into && a.Rate == b.Rate
}
