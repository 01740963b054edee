package cbttest_test

import (
	"math/rand/v2"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qemu"
	"github.com/takt-dev/takt/internal/cbt/scan"
)

// A bitmap and a comparison of digests see the same writes: all that differs is in the
// bitmap, though not all that was written differs. The comparison finds what was
// written after a crash has taken the bitmaps, too.
func TestDriversAgree(t *testing.T) {
	t.Parallel()
	m := cbttest.Start(t, cbttest.Shape{Disks: 2})
	bitmaps, digests := &qemu.Driver{Roots: m.Roots}, &scan.Driver{Roots: m.Roots}
	random := rand.New(rand.NewPCG(5, 6))
	scribble := func(n int) {
		for range n {
			length := 512 * (1 + random.Uint64N(300))
			offset := 512 * random.Uint64N(32<<11-length/512)
			disk := random.IntN(2)
			if random.IntN(4) == 0 {
				m.Zero(disk, offset, length)
			} else {
				m.Write(disk, offset, length, byte(random.Uint32()))
			}
		}
	}
	byBitmap, byDigest := m.Target, m.Target
	scribble(40)
	mark(t, bitmaps, &byBitmap, 1)
	m.Quit()
	mark(t, digests, &byDigest, 1)
	m.Boot()
	scribble(40)
	mark(t, bitmaps, &byBitmap, 2)
	written := blocks(t, bitmaps, byBitmap, cbt.Span{From: 1, To: 2})
	scribble(10)
	for at := range blocks(t, bitmaps, byBitmap, cbt.Span{From: 2}) {
		written[at] = true
	}
	m.Kill()
	different := blocks(t, digests, byDigest, cbt.Span{From: 1})
	for at := range different {
		if !written[at] {
			t.Errorf("block %d of disk %d differs and is in no bitmap", at[1], at[0])
		}
	}
	want := 0
	for at := range written {
		if !different[at] {
			want++
		}
	}
	if len(different) < 50 || want > len(written)/3 {
		t.Errorf("%d blocks were written, %d of them differ: that is too few", len(written), len(different))
	}
}

func mark(t *testing.T, d cbt.Driver, target *cbt.Target, seq int) {
	t.Helper()
	p, err := d.Checkpoint(t.Context(), *target, seq)
	if err != nil {
		t.Fatalf("%s: checkpoint %d: %v", d.Name(), seq, err)
	}
	target.Chain = append(target.Chain, p)
}

func blocks(t *testing.T, d cbt.Driver, target cbt.Target, span cbt.Span) map[[2]uint64]bool {
	t.Helper()
	found := map[[2]uint64]bool{}
	err := d.Changes(t.Context(), target, span, cbt.Cursor{}, func(disk int, e cbt.Extent) error {
		for at := e.Offset; at < e.End(); at += target.Block() {
			found[[2]uint64{uint64(disk), at / target.Block()}] = true
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: changes: %v", d.Name(), err)
	}
	return found
}
