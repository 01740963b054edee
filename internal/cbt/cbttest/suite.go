// Package cbttest holds drivers of changed block tracking to their contract, and
// gives tests real QEMUs.
//
//	func TestDriver(t *testing.T) {
//		cbttest.Run(t, func(t *testing.T, disks int, size uint64) cbttest.Bench { … })
//	}
package cbttest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

// A Bench is a machine under a driver.
type Bench interface {
	Driver() cbt.Driver
	// Target describes the machine; its chain is empty.
	Target() cbt.Target
	// Write fills a stretch of a disk with a byte.
	Write(disk int, offset, length uint64, value byte)
	// Image is what a disk has to read as.
	Image(disk int) []byte
	// Lose destroys what the driver keeps, as a kill -9 of the machine or the loss of
	// a directory does.
	Lose()
	// Revive makes a new driver, as the worker that follows a dead one has it.
	Revive()
	// Hook has the driver tell how far a method has come, until Revive.
	Hook(step func(name string))
	// Freezes says that a session shows its moment while the machine writes.
	Freezes() bool
}

// New makes a machine with some disks of size bytes each.
type New func(t *testing.T, disks int, size uint64) Bench

const (
	diskSize = 8 << 20
	token    = "00112233445566778899aabbccddeeff"
)

// Run runs the suite.
func Run(t *testing.T, new New) {
	cases := []struct {
		name  string
		disks int
		test  func(*testing.T, *chain)
	}{
		{"exact blocks of two disks", 2, exactBlocks},
		{"deltas between any two of four", 1, anyDelta},
		{"a copy that follows the changes is the disk", 1, followed},
		{"allocated covers all data", 2, allocatedCovers},
		{"a walk goes on at a cursor", 2, resumes},
		{"checkpoints twice are one", 2, twice},
		{"an unrecorded checkpoint is joined", 1, unrecorded},
		{"a forgotten checkpoint is joined", 1, forgotten},
		{"the youngest is forgotten", 1, forgetYoungest},
		{"a stale worker is refused", 1, stale},
		{"a session shows its moment and its changes", 2, session},
		{"a session is found again", 1, sessionAgain},
		{"a recorded session that is gone is told", 1, sessionGone},
		{"a reader keeps a session open", 1, reader},
		{"backups restore to their moments", 2, backedUp},
		{"loss is told", 2, loss},
		{"dropped twice, and nothing is left", 2, dropped},
		{"the sweeper leaves live tasks alone", 1, swept},
		{"a canceled call leaves the chain whole", 1, canceled},
		{"unknown checkpoints", 1, unknown},
		{"deaths while a checkpoint is made", 2, checkpointDeaths},
		{"deaths while a session is opened", 1, openDeaths},
		{"deaths while a session is ended", 1, closeDeaths},
		{"deaths while changes are read", 1, changesDeaths},
		{"deaths while a checkpoint is forgotten", 1, trimDeaths},
		{"deaths while all is dropped", 1, dropDeaths},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bench := new(t, c.disks, diskSize)
			c.test(t, &chain{t: t, Bench: bench, target: bench.Target(), random: rand.New(rand.NewPCG(1, 2))})
		})
	}
}

// chain plays the caller of a driver: it keeps the record.
type chain struct {
	Bench
	t      *testing.T
	target cbt.Target
	random *rand.Rand
}

// blocks of one disk, by index.
type blocks map[uint64]bool

func (b blocks) add(more ...blocks) blocks {
	out := blocks{}
	maps.Copy(out, b)
	for _, m := range more {
		maps.Copy(out, m)
	}
	return out
}

// scribble writes n times and returns the blocks of each disk that were touched. Every
// write changes all that it covers.
func (c *chain) scribble(n int) []blocks {
	c.t.Helper()
	touched, images := make([]blocks, len(c.target.Disks)), make([][]byte, len(c.target.Disks))
	for d := range touched {
		touched[d], images[d] = blocks{}, c.Image(d)
	}
	for range n {
		d := c.random.IntN(len(touched))
		length := 512 * (1 + c.random.Uint64N(300))
		offset := 512 * c.random.Uint64N((diskSize-length)/512)
		value := byte(1 + c.random.IntN(255))
		old := images[d][offset : offset+length]
		for bytes.IndexByte(old, value) >= 0 {
			value++ // wraps to 0 in the end, which is as good
		}
		c.Write(d, offset, length, value)
		fill(old, value)
		for k := offset / c.target.Block(); k <= (offset+length-1)/c.target.Block(); k++ {
			touched[d][k] = true
		}
	}
	return touched
}

func (c *chain) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("got error: %v", err)
	}
}

// mark makes a checkpoint and records it.
func (c *chain) mark(seq int) cbt.Point {
	c.t.Helper()
	p, err := c.Driver().Checkpoint(c.t.Context(), c.target, seq)
	c.must(err)
	c.record(p)
	return p
}

func (c *chain) record(p cbt.Point) {
	if !c.target.Chain.Has(p.Seq) {
		c.target.Chain = append(c.target.Chain, p)
	}
}

// changes collects a span, and checks order and overlap on the way.
func (c *chain) changes(span cbt.Span, from cbt.Cursor) ([][]cbt.Extent, error) {
	c.t.Helper()
	out := make([][]cbt.Extent, len(c.target.Disks))
	last, end := from.Disk, uint64(0)
	err := c.Driver().Changes(c.t.Context(), c.target, span, from, func(disk int, e cbt.Extent) error {
		if disk < last || disk == last && e.Offset < end || e.Length == 0 {
			c.t.Errorf("extent %+v of disk %d comes after byte %d of disk %d", e, disk, end, last)
		}
		last, end = disk, e.End()
		out[disk] = append(out[disk], e)
		return nil
	})
	return out, err
}

func (c *chain) want(span cbt.Span, want []blocks) {
	c.t.Helper()
	extents, err := c.changes(span, cbt.Cursor{})
	c.must(err)
	for d := range want {
		if diff := cmp.Diff(want[d], c.blocksOf(extents[d])); diff != "" {
			c.t.Errorf("span %+v of disk %d (-want +got):\n%s", span, d, diff)
		}
	}
}

func (c *chain) blocksOf(extents []cbt.Extent) blocks {
	found := blocks{}
	for _, e := range extents {
		for at := e.Offset; at < e.End(); at += c.target.Block() {
			found[at/c.target.Block()] = true
		}
	}
	return found
}

func (c *chain) broken(err error, why cbt.Why) {
	c.t.Helper()
	var got *cbt.ChainBroken
	if !errors.As(err, &got) {
		c.t.Fatalf("got error %v, want a broken chain", err)
	}
	if got.Why != why {
		c.t.Errorf("got %v, want %s", got, why)
	}
}

// open opens a session and records its checkpoint.
func (c *chain) open(s cbt.Session) []cbt.Export {
	c.t.Helper()
	p, exports, err := c.Driver().Open(c.t.Context(), c.target, s)
	c.must(err)
	c.record(p)
	if len(exports) != len(c.target.Disks) {
		c.t.Fatalf("got %d exports of %d disks", len(exports), len(c.target.Disks))
	}
	return exports
}

// dial connects to an export as a reader does.
func (c *chain) dial(e cbt.Export, contexts ...string) *nbd.Client {
	c.t.Helper()
	client, err := nbd.Dial(c.t.Context(), e.Network, e.Address, e.Name, nbd.Options{Contexts: contexts})
	c.must(err)
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// wantExport checks that an export reads as an image, and its context as blocks.
func (c *chain) wantExport(e cbt.Export, image []byte, changed blocks) {
	c.t.Helper()
	contexts := []string{nbd.Allocation}
	if e.Context != "" {
		contexts = append(contexts, e.Context)
	}
	client := c.dial(e, contexts...)
	defer func() { _ = client.Close() }()
	if client.Size != uint64(len(image)) || e.Size != client.Size {
		c.t.Errorf("got an export of %d bytes, told %d, want %d", client.Size, e.Size, len(image))
	}
	got := make([]byte, client.Size)
	c.must(client.Read(c.t.Context(), got, 0))
	if !bytes.Equal(got, image) {
		c.t.Errorf("export %s does not read as the disk did then", e.Name)
	}
	if e.Context == "" {
		return
	}
	var extents []cbt.Extent
	c.must(client.Status(c.t.Context(), e.Context, 0, client.Size, func(x nbd.Extent) error {
		if x.Flags&nbd.Dirty != 0 {
			extents = append(extents, cbt.Extent{Offset: x.Offset, Length: x.Length})
		}
		return nil
	}))
	if diff := cmp.Diff(changed, c.blocksOf(extents)); diff != "" {
		c.t.Errorf("changes of %s (-want +got):\n%s", e.Name, diff)
	}
}

func seqs(chain cbt.Chain) (out []int) {
	for _, p := range chain {
		out = append(out, p.Seq)
	}
	return out
}

// checkpoints that all disks have, by Probe.
func (c *chain) wantCheckpoints(want ...int) {
	c.t.Helper()
	report, err := c.Driver().Probe(c.t.Context(), c.target)
	c.must(err)
	for _, d := range report.Disks {
		if !slices.Equal(d.Checkpoints, want) {
			c.t.Errorf("volume %s has checkpoints %v, want %v (recorded %v)", d.Volume, d.Checkpoints, want, seqs(c.target.Chain))
		}
	}
}

// endedContext is a context that has ended.
func endedContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
