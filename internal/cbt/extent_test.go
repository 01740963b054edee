package cbt

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testDisk = 300 // bytes; properties are checked byte by byte

// picture says of each byte of a disk what a list of extents says: nothing, data or
// zeros.
type picture [testDisk]byte

const (
	nothing = iota
	data
	zeros
)

func paint(t *testing.T, extents []Extent) (p picture) {
	t.Helper()
	end := uint64(0)
	for _, e := range extents {
		if e.Length == 0 || e.Offset < end || e.End() > testDisk {
			t.Fatalf("bad list of extents %v", extents)
		}
		end = e.End()
		for at := e.Offset; at < e.End(); at++ {
			p[at] = data
			if e.Zero {
				p[at] = zeros
			}
		}
	}
	return p
}

func randomExtents(random *rand.Rand, block uint64) (out []Extent) {
	at := block * random.Uint64N(5)
	for at < testDisk && random.IntN(12) > 0 {
		length := min(block*(1+random.Uint64N(6)), testDisk-at)
		out = append(out, Extent{at, length, random.IntN(3) == 0})
		at += length + block*random.Uint64N(8)
	}
	return out
}

func TestUnion(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		lists := [][]Extent{randomExtents(random, 1), randomExtents(random, 1), randomExtents(random, 1)}[:1+random.IntN(3)]
		var want picture
		for _, list := range lists {
			for at, is := range paint(t, list) {
				if is == data || want[at] == nothing {
					want[at] = is
				}
			}
		}
		if got := paint(t, Union(lists...)); got != want {
			t.Fatalf("Union(%v) = %v", lists, Union(lists...))
		}
	}
}

func TestIntersect(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		a, b := randomExtents(random, 1), randomExtents(random, 1)
		var want picture
		inB := paint(t, b)
		for at, is := range paint(t, a) {
			if is != nothing && inB[at] != nothing {
				want[at] = max(is, inB[at])
			}
		}
		if got := paint(t, Intersect(a, b)); got != want {
			t.Fatalf("Intersect(%v, %v) = %v", a, b, Intersect(a, b))
		}
	}
}

func decodeAll(packed []byte, block, size uint64) (out []Extent, err error) {
	err = Decode(packed, block, size, func(e Extent) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

func TestEncodeAndDecode(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		block := uint64(1) << random.IntN(5)
		want := randomExtents(random, block)
		packed := Encode(want, block)
		got, err := decodeAll(packed, block, testDisk)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("block %d: error %v (-want +got):\n%s", block, err, diff)
		}
		if len(packed) > 0 {
			if _, err := decodeAll(packed, block, want[len(want)-1].Offset); err == nil {
				t.Fatalf("%v is decoded for a disk that ends before the last of it", want)
			}
		}
	}
}

func TestEncodedSize(t *testing.T) {
	t.Parallel()
	var extents []Extent
	for i := range uint64(1600) {
		extents = append(extents, Extent{Offset: i * 41 * DefaultGranularity, Length: DefaultGranularity})
	}
	if n := len(Encode(extents, DefaultGranularity)); n > 4000 {
		t.Errorf("1600 scattered blocks take %d bytes, want under 4000", n)
	}
}

func TestJoiner(t *testing.T) {
	t.Parallel()
	var got []Extent
	join := Joiner{Each: func(e Extent) error {
		got = append(got, e)
		return nil
	}}
	for _, e := range []Extent{{0, 10, false}, {10, 0, true}, {10, 5, false}, {12, 8, false}, {20, 5, true}, {30, 5, true}} {
		if err := join.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := join.Flush(); err != nil {
		t.Fatal(err)
	}
	want := []Extent{{0, 20, false}, {20, 5, true}, {30, 5, true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		from Cursor
		disk int
		e    Extent
		want Extent
		ok   bool
	}{
		{"an earlier disk", Cursor{1, 0}, 0, Extent{0, 10, false}, Extent{}, false},
		{"a later disk", Cursor{1, 100}, 2, Extent{0, 10, true}, Extent{0, 10, true}, true},
		{"ahead of it", Cursor{1, 10}, 1, Extent{0, 10, false}, Extent{}, false},
		{"across it", Cursor{1, 4}, 1, Extent{0, 10, true}, Extent{4, 6, true}, true},
		{"at it", Cursor{1, 4}, 1, Extent{4, 10, false}, Extent{4, 10, false}, true},
	}
	for _, c := range cases {
		got, ok := c.from.Cut(c.disk, c.e)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: got %v, %v; want %v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode([]Extent{{0, 512, false}, {1024, 1024, true}}, 512), uint64(512), uint64(4096))
	f.Add([]byte{0x80}, uint64(1), uint64(1))
	f.Add(bytes.Repeat([]byte{0xff}, 20), uint64(1<<16), ^uint64(0))
	f.Fuzz(func(t *testing.T, packed []byte, block, size uint64) {
		if block == 0 || size > 1<<62 || block > 1<<32 {
			t.Skip()
		}
		got, err := decodeAll(packed, block, size)
		end := uint64(0)
		for _, e := range got {
			if e.Length == 0 || e.Offset < end || e.End() > size {
				t.Fatalf("decoded %v for a disk of %d bytes", got, size)
			}
			end = e.End()
		}
		if err != nil {
			return
		}
		again, err := decodeAll(Encode(got, block), block, size)
		if err != nil || !slices.Equal(got, again) {
			t.Fatalf("%v is encoded and decoded as %v, error %v", got, again, err)
		}
	})
}
