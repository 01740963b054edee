package native

import (
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// cbtTaskOf shows a task. details are those of its open session, one per machine,
// or nil. open says that exports may be shown: whoever knows the name of one can
// read the volume.
func cbtTaskOf(t core.CBTTask, details []cbt.Details, open bool) CBTTask {
	out := CBTTask{
		Meta: metaOf(t.Meta), CBTFields: cbtFields(t), TaskType: t.TaskType, Driver: t.Driver, OnBroken: t.OnBroken,
		Status: t.Status, Reason: t.Reason, Run: t.Last.Run, Machines: make([]CBTMachine, len(t.Machines)),
	}
	if t.Changing() {
		out.Operation, out.Run = t.Pending.Op, t.Pending.Run
	}
	for i, uuid := range t.Machines {
		out.Machines[i] = CBTMachine{UUID: uuid, Volumes: []CBTVolume{}}
		if i >= len(t.Records) {
			continue
		}
		var known cbt.Details
		if i < len(details) {
			known = details[i]
		}
		out.Machines[i] = machineOf(t.UUID, uuid, t.Records[i], known, open)
	}
	for _, c := range slices.Backward(checkpointsOf(t)) {
		if c.Complete {
			out.Checkpoint = c.Name
			break
		}
	}
	return out
}

func cbtFields(t core.CBTTask) CBTFields { return CBTFields{t.Name, t.Description} }

func machineOf(task, uuid string, r cbt.Record, details cbt.Details, open bool) CBTMachine {
	m := CBTMachine{
		UUID: uuid, Driver: r.Driver, Block: int64(r.Block), Broken: r.Broken, BrokenAt: r.BrokenAt,
		Volumes: each(r.Volumes, func(v cbt.Volume) CBTVolume { return CBTVolume{v.UUID, v.Path, v.Format, int64(v.Size)} }),
	}
	if r.Open == nil {
		return m
	}
	m.Session = &CBTSession{
		Checkpoint: cbt.CheckpointName(task, r.Open.Seq), Since: sinceName(task, r.Open.From), At: r.Open.At, Fuzzy: r.Open.Fuzzy, Exports: []CBTExport{},
	}
	if open {
		m.Session.Exports = each(r.Open.Exports, func(e cbt.Export) CBTExport { return exportOf(e, details) })
	}
	return m
}

func sinceName(task string, seq int) string {
	if seq == 0 {
		return ""
	}
	return cbt.CheckpointName(task, seq)
}

func exportOf(e cbt.Export, details cbt.Details) CBTExport {
	out := CBTExport{Volume: e.Volume, URI: e.URI(), Size: int64(e.Size), Mode: e.Mode, Context: e.Context}
	for _, d := range details {
		if changed := int64(d.Changed); d.Volume == e.Volume {
			out.Changed, out.Bitmap = &changed, d.Bitmap
		}
	}
	return out
}

// checkpointsOf gives the checkpoints that any machine of a task has, oldest first.
func checkpointsOf(t core.CBTTask) []Checkpoint {
	found := map[int]*Checkpoint{}
	var numbers []int
	for i, r := range t.Records {
		for _, p := range r.Chain {
			c := found[p.Seq]
			if c == nil {
				c = &Checkpoint{Name: cbt.CheckpointName(t.UUID, p.Seq), At: p.At}
				found[p.Seq], numbers = c, append(numbers, p.Seq)
			}
			c.Machines = append(c.Machines, t.Machines[i])
			c.Changed += int64(p.Changed)
			c.Fuzzy = c.Fuzzy || p.Fuzzy
			c.Complete = len(c.Machines) == len(t.Machines)
		}
	}
	slices.Sort(numbers)
	return each(numbers, func(seq int) Checkpoint { return *found[seq] })
}

func changesOf(p cbt.Page, from, to string) Changes {
	return Changes{
		Volume: p.Volume, Size: int64(p.Size), Block: int64(p.Block), From: from, To: to, NextOffset: int64(p.Next),
		Extents: each(p.Extents, func(e cbt.PageExtent) Extent { return Extent{int64(e.Offset), int64(e.Length), e.Zero} }),
	}
}

func estimateOf(machine string, e cbt.Estimate) Estimate {
	return Estimate{
		Machine: machine, Running: e.Running, InUse: e.InUse, Session: e.Session, Broken: e.Broken,
		Volumes: each(e.Volumes, func(v cbt.VolumeEstimate) VolumeEstimate {
			out := VolumeEstimate{Volume: v.Volume, Size: int64(v.Size)}
			if changed := int64(v.Changed); v.Known {
				out.Changed = &changed
			}
			return out
		}),
	}
}
