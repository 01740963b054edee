package tracking

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/pkg/executor"
)

const (
	task    = "0123456789abcdef0123456789abcdef"
	token   = "00112233445566778899aabbccddeeff"
	machine = "4d1c2b0e7c2a4b579a620d3d7a1b9f01"
	block   = cbt.DefaultGranularity
	size    = 8 << 20 // of each disk
)

// bench is a host with one machine of two disks, and plays the engine: it keeps the
// record.
type bench struct {
	*Host
	t      *testing.T
	set    Settings
	record cbt.Record
	log    bytes.Buffer
	told   [2]int64 // the progress that was told last

	write func(disk int, offset, length uint64, value byte)
	lose  func() // what the driver keeps
}

func (b *bench) start() {
	b.t.Helper()
	h, err := New(b.set)
	if err != nil {
		b.t.Fatalf("got error: %v", err)
	}
	b.Host = h
	b.t.Cleanup(func() { _ = h.Close() }) // may be closed before
}

// newRaw makes a machine of raw files that only the test writes.
func newRaw(t *testing.T) *bench {
	t.Helper()
	dir := cbttest.Dir(t)
	m := Machine{UUID: machine, Name: "vm"}
	for i := range 2 {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		m.Disks = append(m.Disks, cbt.Disk{Volume: fmt.Sprintf("volume%d", i), Path: path, Format: cbt.FormatRaw})
	}
	b := &bench{t: t, set: Settings{Roots: []string{dir}, Dir: filepath.Join(dir, "takt"), Machines: []Machine{m}}}
	b.write = func(disk int, offset, length uint64, value byte) {
		t.Helper()
		f, err := os.OpenFile(m.Disks[disk].Path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes.Repeat([]byte{value}, int(length)), int64(offset)); err != nil {
			t.Fatal(err)
		}
	}
	b.lose = func() {
		if err := os.RemoveAll(filepath.Join(b.set.Dir, machine, "cbt-"+task[:12]+"-scan")); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	return b
}

// newQEMU makes a machine that a real QEMU runs.
func newQEMU(t *testing.T, shape cbttest.Shape) (*bench, *cbttest.Machine) {
	t.Helper()
	shape.Disks, shape.Size = 2, size
	q := cbttest.Start(t, shape)
	m := Machine{UUID: machine, Name: "vm", QMP: q.Target.QMP, Disks: q.Target.Disks}
	b := &bench{t: t, set: Settings{Roots: q.Roots, Dir: filepath.Join(q.Roots[0], "takt"), Machines: []Machine{m}}, write: q.Write}
	b.lose = func() {
		q.Kill()
		q.Boot()
	}
	b.start()
	return b, q
}

// onBoth runs a case on both drivers.
func onBoth(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	t.Parallel()
	t.Run("scan", func(t *testing.T) {
		t.Parallel()
		test(t, newRaw(t))
	})
	t.Run("qemu", func(t *testing.T) {
		t.Parallel()
		b, _ := newQEMU(t, cbttest.Shape{})
		test(t, b)
	})
}

func (b *bench) order(op cbt.Op) cbt.Order {
	return cbt.Order{Op: op, Task: task, Machine: machine, Driver: cbt.DriverAuto, OnBroken: cbt.OnBrokenFull, Record: b.record}
}

func (b *bench) openOrder(seq, from int) cbt.Order {
	o := b.order(cbt.OpOpen)
	o.Session = cbt.Session{Seq: seq, From: from, Token: token}
	return o
}

// try carries out an order and returns the record and the detail of the answer.
func (b *bench) try(ctx context.Context, o cbt.Order) (record *cbt.Record, detail string, err error) {
	b.t.Helper()
	text, failed := json.Marshal(o)
	if failed != nil {
		b.t.Fatal(failed)
	}
	b.log.Reset()
	res, err := b.Execute(ctx, executor.Attempt{Type: Type, Parameters: map[string]string{Parameter: string(text)}, Log: &b.log, Progress: b.tell})
	if res.Output == "" {
		return nil, "", err
	}
	line, detail, _ := strings.Cut(res.Output, "\n")
	record = new(cbt.Record)
	if err := json.Unmarshal([]byte(line), record); err != nil {
		b.t.Fatalf("the answer is no record: %v\n%s", err, line)
	}
	return record, detail, err
}

func (b *bench) tell(done, total int64) { b.told = [2]int64{done, total} }

// do carries out an order that has to succeed, keeps the record and reads the detail.
func (b *bench) do(o cbt.Order, detail any) {
	b.t.Helper()
	record, text, err := b.try(b.t.Context(), o)
	if err != nil {
		b.t.Fatalf("%s: got error: %v\n%s", o.Op, err, b.log.String())
	}
	b.record = *record
	if detail == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), detail); err != nil {
		b.t.Fatalf("%s: the detail cannot be read: %v\n%s", o.Op, err, text)
	}
}

// fail carries out an order that has to fail, and keeps the record if there is one.
func (b *bench) fail(o cbt.Order, permanent bool, want string) {
	b.t.Helper()
	record, _, err := b.try(b.t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), want) {
		b.t.Fatalf("%s: got error %v, want one with %q", o.Op, err, want)
	}
	if executor.IsPermanent(err) != permanent {
		b.t.Errorf("%s: permanent is %v of error %v, want %v", o.Op, !permanent, err, permanent)
	}
	if record != nil {
		b.record = *record
	}
}

func (b *bench) open(seq, from int) cbt.Details {
	b.t.Helper()
	var d cbt.Details
	b.do(b.openOrder(seq, from), &d)
	return d
}

func (b *bench) close() {
	b.t.Helper()
	b.do(b.order(cbt.OpClose), nil)
}

// page reads changes of a volume.
func (b *bench) page(q cbt.PageOrder) cbt.Page {
	b.t.Helper()
	o := b.order(cbt.OpChanges)
	o.Changes = q
	var p cbt.Page
	b.do(o, &p)
	return p
}

// changed are the blocks that a span holds of a disk.
func (b *bench) changed(disk int, span cbt.Span) []uint64 {
	b.t.Helper()
	return blocks(b.page(cbt.PageOrder{Volume: fmt.Sprintf("volume%d", disk), Span: span}).Extents)
}

func blocks(extents []cbt.PageExtent) (out []uint64) {
	for _, e := range extents {
		for at := e.Offset; at < e.Offset+e.Length; at += block {
			out = append(out, at/block)
		}
	}
	return out
}

// put writes one whole block.
func (b *bench) put(disk int, at uint64, value byte) {
	b.t.Helper()
	b.write(disk, at*block, block, value)
}

func (b *bench) want(got []uint64, want ...uint64) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("got blocks %v, want %v", got, want)
	}
}

func (b *bench) wantChain(want ...int) {
	b.t.Helper()
	var got []int
	for _, p := range b.record.Chain {
		got = append(got, p.Seq)
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("the chain is %v, want %v", got, want)
	}
}

// unpack reads a bitmap as a backup product does.
func unpack(t *testing.T, text string) (out []cbt.PageExtent) {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]uint64
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	for start, length := range object {
		at, err := strconv.ParseUint(start, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cbt.PageExtent{Offset: at, Length: length})
	}
	slices.SortFunc(out, func(a, b cbt.PageExtent) int { return int(a.Offset) - int(b.Offset) })
	return out
}
