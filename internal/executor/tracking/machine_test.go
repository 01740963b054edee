package tracking

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/cbt/volume"
)

// attached has its disks in use by a guest's devices: without any, a QEMU that has a raw
// image open does not write to it.
var attached = func(*cbttest.Machine) []string {
	return []string{"-machine", "pc,accel=tcg", "-device", "virtio-blk-pci,drive=drive0", "-device", "virtio-blk-pci,drive=drive1"}
}

func TestChoiceOfDriver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		shape           cbttest.Shape
		task, machine   string
		fuzzy           bool
		wantDriver, why string
	}{
		{name: "bitmaps", wantDriver: cbt.DriverQEMU},
		{name: "the machine's own", machine: cbt.DriverScan, why: "in use"},
		{name: "the task's own", machine: cbt.DriverScan, task: cbt.DriverQEMU, wantDriver: cbt.DriverQEMU},
		{name: "raw disks in use", shape: cbttest.Shape{Format: cbt.FormatRaw, Arguments: attached}, why: "in use"},
		{name: "raw disks in use, fuzzy allowed", shape: cbttest.Shape{Format: cbt.FormatRaw, Arguments: attached}, fuzzy: true, wantDriver: cbt.DriverScan},
		{name: "raw disks by qemu", shape: cbttest.Shape{Format: cbt.FormatRaw, Arguments: attached}, task: cbt.DriverQEMU, why: "cannot keep a bitmap"},
		{name: "qcow2 of version 2", shape: cbttest.Shape{Create: []string{"-o", "compat=0.10"}}, task: cbt.DriverQEMU, why: "cannot keep a bitmap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, _ := newQEMU(t, c.shape)
			b.set.Machines[0].Driver, b.set.Machines[0].Fuzzy = c.machine, c.fuzzy
			b.start()
			o := b.openOrder(1, 0)
			if c.task != "" {
				o.Driver = c.task
			}
			if c.why != "" {
				b.fail(o, true, c.why)
				return
			}
			b.do(o, nil)
			if b.record.Driver != c.wantDriver || b.record.Open.Fuzzy != c.fuzzy {
				t.Errorf("got driver %s, fuzzy %v; want %s, %v", b.record.Driver, b.record.Open.Fuzzy, c.wantDriver, c.fuzzy)
			}
			o = b.order(cbt.OpClose)
			o.Driver = cbt.DriverScan // the chain's driver stays
			b.do(o, nil)
			if c.wantDriver == cbt.DriverQEMU {
				o = b.openOrder(2, 1)
				o.Driver = cbt.DriverScan
				b.do(o, nil)
				b.wantChain(1, 2)
			}
		})
	}
}

// What is read of a full session is what was allocated at its moment.
func TestAllocatedAtTheMoment(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	b.put(0, 3, 1)
	b.open(1, 0)
	q.Zero(0, 3*block, block)
	b.want(b.changed(0, cbt.Span{}), 3)
	b.close()
	b.want(b.changed(0, cbt.Span{}))
}

func TestMachineIsOff(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	b.open(1, 0)
	b.close()
	b.put(0, 7, 1)
	q.Quit()
	b.fail(b.openOrder(2, 1), false, "does not answer")
	b.want(b.changed(0, cbt.Span{From: 1}), 7)
	var e cbt.Estimate
	b.do(b.order(cbt.OpProbe), &e)
	if e.Running || e.Session || e.Broken != "" || len(e.Volumes) != 2 || e.Volumes[0].Size != size {
		t.Errorf("got estimate %+v", e)
	}
	b.close()
	b.do(b.order(cbt.OpDrop), nil) // its images keep the checkpoints for now
	q.Boot()
	if !b.swept(t, func(string) bool { return false }) {
		t.Error("the sweeper found nothing of a task that went while its machine was off")
	}
}

// A session ends with its QEMU. The chain does not, if QEMU had the time to store it.
func TestSessionIsGone(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	b.open(1, 0)
	b.close()
	b.open(2, 1)
	b.put(0, 7, 1)
	check := func(what string, wantSession bool, wantLog string) {
		t.Helper()
		var e cbt.Estimate
		o := b.order(cbt.OpProbe)
		o.Check = true
		b.do(o, &e)
		if e.Session != wantSession || !strings.Contains(b.log.String(), wantLog) {
			t.Errorf("%s: the session lives: %v, want %v; log: %s", what, e.Session, wantSession, b.log.String())
		}
	}
	check("while it lives", true, "")
	q.Quit()
	check("machine off", false, "the machine does not run")
	q.Boot()
	check("machine started again", false, "cannot be read any more")
	var e cbt.Estimate
	b.do(b.order(cbt.OpProbe), &e)
	if e.Session || e.Broken != "" || e.Volumes[0].Changed != block || !e.Volumes[0].Known {
		t.Errorf("got estimate %+v, want no session, a whole chain and one block", e)
	}
	b.open(3, 1)
	b.want(b.changed(0, cbt.Span{From: 1, To: 3}), 7)
	q.Kill()
	q.Boot()
	check("machine killed", false, "is inconsistent")
}

// The scan driver's exports are served by the worker. The next one serves them again,
// unless they were closed meanwhile.
func TestNextWorkerServesAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		by   func(*bench, cbt.Order)
	}{
		{"when it starts", func(b *bench, _ cbt.Order) { b.Resume(b.t.Context()) }},
		{"when it is checked", func(b *bench, o cbt.Order) { b.do(o, nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newRaw(t)
			b.put(0, 3, 9)
			b.open(1, 0)
			check := b.order(cbt.OpProbe)
			check.Check = true
			next := func() {
				_ = b.Close()
				b.start()
				c.by(b, check)
			}
			next()
			export := b.record.Open.Exports[0]
			client, err := nbd.Dial(t.Context(), export.Network, export.Address, export.Name, nbd.Options{})
			if err != nil {
				t.Fatalf("the export is not served: %v", err)
			}
			got := make([]byte, block)
			if err := client.Read(t.Context(), got, 3*block); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{9}, block)) {
				t.Errorf("it reads otherwise than the disk, error %v", err)
			}
			_ = client.Close()
			b.close()
			next()
			if client, err := nbd.Dial(t.Context(), export.Network, export.Address, export.Name, nbd.Options{}); err == nil {
				_ = client.Close()
				t.Error("a session that was closed is served")
			}
			b.open(2, 1)
			b.put(0, 4, 9)
			check = b.order(cbt.OpProbe)
			check.Check = true
			next()
			var e cbt.Estimate
			b.do(check, &e)
			if e.Session {
				t.Errorf("got estimate %+v of a session whose disk was written", e)
			}
		})
	}
}

func TestExportForARestore(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-storage-daemon", "nbdinfo")
	b, q := newQEMU(t, cbttest.Shape{})
	t.Cleanup(func() { // if the test fails half way
		_, _ = b.volumes.Unexport(context.WithoutCancel(t.Context()), b.target(b.set.Machines[0], cbt.Order{Task: task}, cbt.Record{}), volume.Ask{Force: true})
	})
	o := b.order(cbt.OpExport)
	o.Token, o.Volumes = token, []string{"volume1"}
	b.fail(o, true, "the machine runs")
	q.Quit()
	b.do(o, nil)
	if len(b.record.Restore) != 1 || b.record.Restore[0].Volume != "volume1" {
		t.Fatalf("got restore %+v", b.record.Restore)
	}
	cbttest.Command(t, "nbdinfo", b.record.Restore[0].URI())
	first := b.record.Restore[0]
	_ = b.Close() // the daemon outlives the worker
	b.start()
	o = b.order(cbt.OpExport)
	o.Token, o.Volumes = token, []string{"volume0"}
	b.do(o, nil)
	if len(b.record.Restore) != 2 || !cmp.Equal(b.record.Restore[1], first) {
		t.Errorf("got restore %+v, want both", b.record.Restore)
	}
	o = b.order(cbt.OpUnexport)
	o.Volumes = []string{"volume1"}
	b.do(o, nil)
	if len(b.record.Restore) != 1 {
		t.Errorf("got restore %+v, want one", b.record.Restore)
	}
	o = b.order(cbt.OpDrop) // of the task, with what it exports
	b.do(o, nil)
	q.Boot()
}

func TestOverTCPWithTLS(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		certs := cbttest.Certs(t)
		b.set.Roots = append(b.set.Roots, filepath.Dir(certs))
		b.set.Machines[0].Listen = cbt.Listen{Host: "127.0.0.1", Port: cbttest.Port(t), Certs: certs}
		b.start()
		b.open(1, 0)
		b.close()
		b.put(1, 7, 1)
		d := b.open(2, 1)
		b.want(blocks(unpack(t, d[1].Bitmap)), 7)
		e := b.record.Open.Exports[1]
		if e.Network != "tcp" || !strings.HasPrefix(e.URI(), "nbds://127.0.0.1:") {
			t.Errorf("got export %+v, want one over TCP with TLS", e)
		}
	})
}
