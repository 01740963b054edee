package tracking

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// driver chooses who tracks the machine: who made the chain, else whom the task or the
// configuration names, else QEMU if it can.
func (w *work) driver(ctx context.Context) (cbt.Driver, error) {
	if w.record.Driver != "" && len(w.record.Chain) > 0 {
		return w.named(w.record.Driver)
	}
	for _, name := range []string{w.o.Driver, w.m.Driver} {
		if name != "" && name != cbt.DriverAuto {
			return w.named(name)
		}
	}
	if w.m.QMP == "" {
		return w.scan, nil
	}
	report, err := w.qemu.Probe(ctx, w.target())
	if err != nil {
		return nil, err
	}
	if !report.Persistent {
		w.say("the disks cannot keep bitmaps: they are scanned")
		return w.scan, nil
	}
	return w.qemu, nil
}

func (w *work) named(name string) (cbt.Driver, error) {
	switch {
	case name == cbt.DriverScan:
		return w.scan, nil
	case name == cbt.DriverQEMU && w.m.QMP == "":
		return nil, fmt.Errorf("%w: the driver qemu needs qmp in worker.cbt.machines", cbt.ErrUnsupported)
	case name == cbt.DriverQEMU:
		return w.qemu, nil
	}
	return nil, fmt.Errorf("%w: driver %q", cbt.ErrUnsupported, name)
}

// arranged are the machine's disks in the order that the record has: what is kept of a
// disk is found by its index.
func (w *work) arranged() []cbt.Disk {
	if len(w.record.Volumes) == 0 || w.stray() != "" {
		return w.m.Disks
	}
	disks := slices.Clone(w.m.Disks)
	place := func(d cbt.Disk) int {
		return slices.IndexFunc(w.record.Volumes, func(v cbt.Volume) bool { return v.UUID == d.Volume })
	}
	slices.SortStableFunc(disks, func(a, b cbt.Disk) int { return place(a) - place(b) })
	return disks
}

// stray is a volume that the machine or its record has alone, "" if there is none.
func (w *work) stray() string {
	var was, is []string
	for _, v := range w.record.Volumes {
		was = append(was, v.UUID)
	}
	for _, d := range w.m.Disks {
		is = append(is, d.Volume)
	}
	for _, uuid := range append(slices.Clone(is), was...) {
		if !slices.Contains(was, uuid) || !slices.Contains(is, uuid) {
			return uuid
		}
	}
	return ""
}

// without breaks the chain of a machine that has other disks than it had.
func without(volume string) cbt.Why { return cbt.Why("without volume " + volume) }

// matches is a *cbt.ChainBroken if the machine has other disks than its chain.
func (w *work) matches() error {
	if len(w.record.Chain) == 0 || len(w.record.Volumes) == 0 {
		return nil
	}
	if uuid := w.stray(); uuid != "" {
		return &cbt.ChainBroken{Seq: w.record.Chain.Last(), Why: without(uuid)}
	}
	return nil
}

// progressEvery is the time between two lines that tell how far long work is.
const progressEvery = time.Second

// progress writes lines such as "1048576 of 4194304 bytes", one a second at most, and
// the last one.
func progress(log io.Writer, tell func(done, total int64)) func(done, total uint64) {
	var last time.Time
	return func(done, total uint64) {
		if tell != nil {
			tell(int64(done), int64(total)) //nolint:gosec // bytes of disks
		}
		if now := time.Now(); now.Sub(last) >= progressEvery || done == total {
			last = now
			fmt.Fprintf(log, "%d of %d bytes\n", done, total)
		}
	}
}
