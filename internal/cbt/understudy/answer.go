// Package understudy plays the worker of CBT tasks in tests of what stands above
// the workers: the engine's verbs, the API dialects, the client. It takes
// dispatches, and answers their orders as a worker with a machine of two disks
// would, without any machine:
//
//	queue.Send ─▶ Worker.Take ─▶ engine.Begin ─▶ Answer(order) ─▶ engine.Finish
//
// A test can hold an op back, let it fail, and see the orders. That the answers are
// those of real drivers is what package e2e tests.
package understudy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/id"
)

// What the machines look like.
const (
	Disks = 2
	Block = 64 << 10
	Size  = 4 << 20 // of each disk
	// Changed is how much of each disk has changed between two moments: its first
	// and its third block.
	Changed = 2 * Block
)

// Volume is the uuid of a disk of a machine.
func Volume(machine string, disk int) string {
	return id.Derived(machine + " disk " + strconv.Itoa(disk))
}

// Bitmap is the bitmap of a volume's detail: {"0":65536,"131072":65536}.
const Bitmap = "eJyqVjJQsjIzNTU201EyNDY0MDeCcmsBAQAA//9JsQWR"

// Answer carries an order out on the record alone.
func Answer(o cbt.Order) (cbt.Answer, error) {
	r := o.Record
	r.Driver, r.Block, r.Volumes = cbt.DriverQEMU, Block, volumes(o.Machine)
	switch o.Op {
	case cbt.OpOpen:
		return open(o, r)
	case cbt.OpClose:
		r.Open = nil
	case cbt.OpDrop:
		r = cbt.Record{}
	case cbt.OpForget:
		r.Chain = r.Chain.Without(o.Seq)
	case cbt.OpProbe:
		return cbt.Answer{Record: r, Detail: estimate(o.Machine, r)}, nil
	case cbt.OpChanges:
		return cbt.Answer{Record: r, Detail: page(o.Changes)}, nil
	case cbt.OpExport:
		r.Restore = restore(o, r.Restore)
	case cbt.OpUnexport:
		r.Restore = slices.DeleteFunc(r.Restore, func(e cbt.Export) bool { return slices.Contains(o.Volumes, e.Volume) })
	case cbt.OpBackup:
		return backup(o, r)
	case cbt.OpDiscard:
		r.Backups = slices.DeleteFunc(slices.Clone(r.Backups), func(b cbt.Backup) bool { return b.Seq == o.Seq })
	case cbt.OpRestore, cbt.OpVerify:
		if !slices.ContainsFunc(r.Backups, func(b cbt.Backup) bool { return b.Seq == o.Seq }) {
			return cbt.Answer{}, fmt.Errorf("there is no backup %d", o.Seq)
		}
	default:
		return cbt.Answer{}, fmt.Errorf("no op %q", o.Op)
	}
	return cbt.Answer{Record: r}, nil
}

func volumes(machine string) []cbt.Volume {
	out := make([]cbt.Volume, Disks)
	for i := range out {
		out[i] = cbt.Volume{UUID: Volume(machine, i), Path: fmt.Sprintf("/vm/%s/disk%d.qcow2", machine, i), Format: cbt.FormatQcow2, Size: Size}
	}
	return out
}

func open(o cbt.Order, r cbt.Record) (cbt.Answer, error) {
	if err := o.Session.Check(); err != nil {
		return cbt.Answer{}, err
	}
	at := time.Date(2026, 11, 21, 3, 0, o.Session.Seq, 0, time.UTC)
	s := &cbt.OpenSession{Session: o.Session, At: at}
	var details cbt.Details
	name := cbt.CheckpointName(o.Task, o.Session.Seq)
	for i, v := range r.Volumes {
		e := cbt.Export{
			Volume: v.UUID, Size: v.Size, Network: "unix", Address: "/vm/" + o.Machine + "/nbd.sock", Name: name + "-" + strconv.Itoa(i),
			Mode: o.Session.Mode(), Bitmap: name, Scratch: "/vm/" + o.Machine + "/scratch" + strconv.Itoa(i), ScratchNode: "cbt-scratch" + strconv.Itoa(i),
		}
		d := cbt.VolumeDetail{Volume: v.UUID, Changed: Size, Bitmap: Bitmap}
		if o.Session.From > 0 {
			e.Context, d.Changed = "qemu:dirty-bitmap:"+cbt.CheckpointName(o.Task, o.Session.From), Changed
		}
		s.Exports, details = append(s.Exports, e), append(details, d)
	}
	point := cbt.Point{Seq: o.Session.Seq, At: at, Sizes: []uint64{Size, Size}}
	if len(r.Chain) > 0 {
		point.Changed = Disks * Changed
	}
	r.Chain, r.Open = append(slices.Clone(r.Chain), point), s
	return cbt.Answer{Record: r, Detail: details}, nil
}

// backup is a session that is copied and closed.
func backup(o cbt.Order, r cbt.Record) (cbt.Answer, error) {
	opened, err := open(o, r)
	if err != nil {
		return cbt.Answer{}, err
	}
	moment := opened.Record.Open
	b := cbt.Backup{Seq: moment.Seq, Base: moment.From, At: moment.At, Dir: "/backups/" + o.Machine + "/" + cbt.CheckpointName(o.Task, moment.Seq)}
	for _, d := range opened.Detail.(cbt.Details) {
		b.Files = append(b.Files, cbt.BackupFile{Volume: d.Volume, Name: d.Volume + ".qcow2", Size: Size, Bytes: d.Changed, Sum: strings.Repeat("0", 64)})
	}
	r = opened.Record
	r.Open, r.Backups = nil, append(slices.Clone(r.Backups), b)
	return cbt.Answer{Record: r, Detail: b}, nil
}

func estimate(machine string, r cbt.Record) cbt.Estimate {
	e := cbt.Estimate{Running: true, InUse: true, Session: r.Open != nil}
	for i := range Disks {
		e.Volumes = append(e.Volumes, cbt.VolumeEstimate{Volume: Volume(machine, i), Size: Size, Changed: Changed, Known: i == 0})
	}
	return e
}

// page cuts the order's page out of all changes.
func page(o cbt.PageOrder) cbt.Page {
	p := cbt.Page{Volume: o.Volume, Size: Size, Block: Block, Extents: []cbt.PageExtent{}}
	for _, e := range []cbt.PageExtent{{Offset: 0, Length: Block}, {Offset: 2 * Block, Length: Block, Zero: true}} {
		cut, ok := cbt.Cursor{Offset: o.Offset}.Cut(0, cbt.Extent(e))
		switch {
		case !ok:
		case len(p.Extents) == o.Most:
			p.Next = cut.Offset
			return p
		default:
			p.Extents = append(p.Extents, cbt.PageExtent(cut))
		}
	}
	return p
}

func restore(o cbt.Order, have []cbt.Export) []cbt.Export {
	out := slices.DeleteFunc(slices.Clone(have), func(e cbt.Export) bool { return slices.Contains(o.Volumes, e.Volume) })
	for i, v := range o.Volumes {
		out = append(out, cbt.Export{
			Volume: v, Size: Size, Network: "tcp", Address: "host1:1080" + strconv.Itoa(i), Name: "restore-" + strconv.Itoa(i), Mode: cbt.ModeFull,
		})
	}
	return out
}
