// Package tracking executes the steps of CBT tasks at the machines of this host.
//
// A step is an order for one machine: open a session, close it, drop what is the
// task's, read what changed, copy a moment into files and restore it. The order holds the task's record of the machine, and
// what comes back is the new record with a detail:
//
//	order {op, record, …} ─▶ driver ─▶ QEMU, images, digests
//	answer record ⏎ detail ◀──┘
//
// The package knows machines by the worker's configuration, and decides which driver
// an order is carried out by and what a broken chain leads to. How blocks are tracked
// is the drivers': packages qemu and scan. Exports for a restore are package volume's.
//
// An order may come again after any failure, to another process too. What was done
// already is found and answered as before. A machine that is busy or does not answer
// is a failure that is tried again; all others are permanent. An attempt that is
// canceled, times out or fails for good undoes what it made, and leaves the chain
// whole. One that is released leaves all as it is, for the attempt that follows.
//
// An answer beside an error tells what was changed all the same. Attempt.Key is not
// needed: names of objects come from task, checkpoint and disk.
package tracking

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qemu"
	"github.com/takt-dev/takt/internal/cbt/scan"
	"github.com/takt-dev/takt/internal/cbt/volume"
	"github.com/takt-dev/takt/pkg/executor"
)

const (
	// Type is the job type. No job can be made of it: the engine plans its steps.
	Type = "cbtTask"
	// Parameter holds the order, as JSON.
	Parameter = "order"
	// MaxOutput bounds an answer in bytes.
	MaxOutput = 4 << 20
)

// Settings say which machines a Host has.
type Settings struct {
	// Roots are where images, monitors and certificates may lie.
	Roots []string
	// Dir is where each machine gets a directory of its own.
	Dir string
	// Backups is where backups into files are kept; empty: they are refused.
	Backups  string
	Machines []Machine
	Log      *slog.Logger // of the sweeper; nil is slog.Default
}

// A Machine is what is tracked together: the disks of a virtual machine, or one volume.
type Machine struct {
	UUID string // as records have it
	Name string // for people
	// QMP is the unix socket of a monitor that is ours alone; empty if there is none.
	QMP string
	// Driver is what auto means here: qemu or scan. Empty or auto: QEMU where there is
	// a monitor and the disks can keep bitmaps, else scan.
	Driver string
	Disks  []cbt.Disk
	Listen cbt.Listen
	// Fuzzy lets the scan driver read raw disks that are being written.
	Fuzzy bool
}

// A Host carries out orders for the machines that it has.
type Host struct {
	dir      string
	keep     string // backups; empty: none
	roots    cbt.Roots
	machines map[string]Machine
	qemu     *qemu.Driver
	scan     *scan.Driver
	volumes  *volume.Server
	log      *slog.Logger
}

// New makes the directories and checks what can be checked without the machines. The
// error names the setting that is wrong.
func New(s Settings) (*Host, error) {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("worker.cbt.dir: %w", err)
	}
	if s.Backups != "" {
		if err := os.MkdirAll(s.Backups, 0o700); err != nil {
			return nil, fmt.Errorf("worker.cbt.backups: %w", err)
		}
	}
	// The operator named it, so it is allowed wherever it is.
	roots := append(slices.Clone(cbt.Roots(s.Roots)), filepath.Clean(s.Dir))
	h := &Host{
		dir: s.Dir, keep: s.Backups, roots: s.Roots, machines: map[string]Machine{}, log: s.Log,
		qemu: &qemu.Driver{Roots: roots}, scan: &scan.Driver{Roots: roots}, volumes: &volume.Server{Roots: roots},
	}
	for _, m := range s.Machines {
		if err := h.add(m, roots); err != nil {
			return nil, fmt.Errorf("worker.cbt: machine %s: %w", m.UUID, err)
		}
	}
	return h, nil
}

// noTask stands for a task where a target is checked without one.
const noTask = "000000000000"

func (h *Host) add(m Machine, roots cbt.Roots) error {
	if err := h.target(m, cbt.Order{Task: noTask}, cbt.Record{}).Check(); err != nil {
		return err
	}
	paths := []string{h.machineDir(m)}
	for _, path := range []string{m.QMP, m.Listen.Certs} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	for _, disk := range m.Disks {
		paths = append(paths, disk.Path)
	}
	for _, path := range paths {
		// What is not there yet may come: a machine that was not started, a disk that is
		// not attached. What is there has to be allowed.
		if err := roots.Check(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	h.machines[m.UUID] = m
	return nil
}

// Resources are the uuids of the machines and their volumes, sorted.
func (h *Host) Resources() []string {
	var out []string
	for uuid, m := range h.machines {
		out = append(out, uuid)
		for _, disk := range m.Disks {
			out = append(out, disk.Volume)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Spec describes the job type.
func Spec() executor.Spec {
	return executor.Spec{
		Type:       Type,
		Parameters: []executor.Parameter{{Name: Parameter, Kind: executor.String, Required: true}},
	}
}

// Type gives the job type.
func (h *Host) Type() executor.Type {
	return executor.Type{Spec: Spec(), Executor: h, MaxOutput: MaxOutput}
}

// Close ends what this process serves itself: the sessions of the scan driver. The
// process that follows opens them again when they are probed.
func (h *Host) Close() error { return h.scan.Shutdown() }

func (h *Host) machineDir(m Machine) string { return filepath.Join(h.dir, m.UUID) }

func (h *Host) target(m Machine, o cbt.Order, r cbt.Record) cbt.Target {
	return cbt.Target{
		Task: o.Task, QMP: m.QMP, Dir: h.machineDir(m), Disks: m.Disks, Listen: m.Listen,
		Granularity: r.Block, Chain: bridged(r), AllowFuzzy: m.Fuzzy,
	}
}

// orderWait is how long an order waits for another one to leave the machine.
const orderWait = 5 * time.Second

// hold lets one order at a time change a machine, whichever process carries it out:
// drivers lock single calls, and an order is several.
func (h *Host) hold(ctx context.Context, m Machine) (release func(), err error) {
	return cbt.Lock(ctx, cbt.Target{Dir: filepath.Join(h.machineDir(m), "order")}, orderWait)
}
