package qemu

import (
	"os/exec"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// changedBlocks are scattered over the disk of the benchmarks, which is 4 GiB.
const (
	changedBlocks = 1600
	benchSize     = 4 << 30
)

// scattered makes a machine with a checkpoint and scattered writes since.
func scattered(b *testing.B) (*bench, cbt.Target) {
	b.Helper()
	m := cbttest.Start(b, cbttest.Shape{Size: benchSize})
	rig := &bench{b, m, &Driver{Roots: m.Roots}}
	p, err := rig.driver.Checkpoint(b.Context(), rig.Target(), 1)
	if err != nil {
		b.Fatal(err)
	}
	target := rig.Target()
	target.Chain = cbt.Chain{p}
	for i := range uint64(changedBlocks) {
		rig.Write(0, i*40*block, 4096, 1)
	}
	return rig, target
}

func count(b *testing.B, extents int) {
	b.Helper()
	if extents < changedBlocks/2 || extents > changedBlocks {
		b.Fatalf("got %d extents of %d scattered blocks", extents, changedBlocks)
	}
}

// What changed on 4 GiB, by the bitmap, as a caller gets it: connection, lock, merge,
// export and all.
func BenchmarkChanges(b *testing.B) {
	rig, target := scattered(b)
	for b.Loop() {
		extents := 0
		err := rig.driver.Changes(b.Context(), target, cbt.Span{From: 1}, cbt.Cursor{}, func(int, cbt.Extent) error {
			extents++
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		count(b, extents)
	}
}

// The same question to an export that is there already: our client against nbdinfo.
func BenchmarkExtents(b *testing.B) {
	rig, target := scattered(b)
	_, exports, err := rig.driver.Open(b.Context(), target, cbt.Session{Seq: 2, From: 1, Token: token})
	if err != nil {
		b.Fatal(err)
	}
	e := exports[0]
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			m := &machine{t: target}
			client, err := m.reach(b.Context(), e.Name, e.Context)
			if err != nil {
				b.Fatal(err)
			}
			extents, err := read(b.Context(), client, e.Context, 0)
			if err != nil {
				b.Fatal(err)
			}
			count(b, len(extents))
			_ = client.Close()
		}
	})
	b.Run("nbdinfo", func(b *testing.B) {
		cbttest.Need(b, "nbdinfo")
		for b.Loop() {
			if out, err := exec.Command("nbdinfo", "--json", "--map="+e.Context, e.URI()).Output(); err != nil || len(out) == 0 {
				b.Fatal(err)
			}
		}
	})
}

// The image of a machine that is off.
func BenchmarkStored(b *testing.B) {
	rig, target := scattered(b)
	rig.Do("quit", nil, nil)
	for {
		if _, err := rig.driver.probeStored(target); err == nil {
			break // QEMU has let go of the image
		}
	}
	for b.Loop() {
		extents, err := rig.driver.stored(target, question{cbt.Span{From: 1}, target.Chain}, 0)
		if err != nil {
			b.Fatal(err)
		}
		count(b, len(extents))
	}
}

// A session of two disks that gives way to its guest.
func BenchmarkRelieve(b *testing.B) {
	m := cbttest.Start(b, cbttest.Shape{Disks: 2})
	rig := &bench{b, m, &Driver{Roots: m.Roots}}
	for b.Loop() {
		b.StopTimer()
		target := rig.Target()
		if err := rig.driver.Drop(b.Context(), target); err != nil {
			b.Fatal(err)
		}
		if _, _, err := rig.driver.Open(b.Context(), target, cbt.Session{Seq: 1, Token: token}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := rig.driver.Relieve(b.Context(), target, 1, "room"); err != nil {
			b.Fatal(err)
		}
	}
}
