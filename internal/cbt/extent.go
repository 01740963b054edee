package cbt

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// An Extent is a stretch of a disk, in bytes.
type Extent struct {
	Offset, Length uint64
	// Zero: it is known to read as zeros, and need not be copied.
	Zero bool
}

// End is the first byte behind the extent.
func (e Extent) End() uint64 { return e.Offset + e.Length }

// A Joiner hands on extents that come in rising order, neighbors joined. Flush
// hands on the last.
type Joiner struct {
	Each func(Extent) error
	held Extent
}

// Add takes the next extent; it may overlap the last one.
func (j *Joiner) Add(e Extent) error {
	if e.Length == 0 {
		return nil
	}
	if j.held.Length > 0 && j.held.Zero == e.Zero && e.Offset <= j.held.End() {
		j.held.Length = max(j.held.End(), e.End()) - j.held.Offset
		return nil
	}
	if err := j.Flush(); err != nil {
		return err
	}
	j.held = e
	return nil
}

// Flush hands on what is held.
func (j *Joiner) Flush() error {
	e := j.held
	j.held = Extent{}
	if e.Length == 0 {
		return nil
	}
	return j.Each(e)
}

// Bytes is the sum of lengths.
func Bytes(extents []Extent) (n uint64) {
	for _, e := range extents {
		n += e.Length
	}
	return n
}

// Encode packs extents that are whole blocks (the last may be shorter) as pairs of
// varints: blocks left out, then blocks taken, its lowest bit telling of zeros.
// 1,600 scattered blocks take 3 KB.
func Encode(extents []Extent, block uint64) []byte {
	var out []byte
	at := uint64(0)
	for _, e := range extents {
		first, n := e.Offset/block, (e.Length+block-1)/block
		run := n << 1
		if e.Zero {
			run |= 1
		}
		out = binary.AppendUvarint(out, first-at)
		out = binary.AppendUvarint(out, run)
		at = first + n
	}
	return out
}

// Decode unpacks what Encode made, for a disk of size bytes.
func Decode(data []byte, block, size uint64, each func(Extent) error) error {
	blocks := (size + block - 1) / block
	for at := uint64(0); len(data) > 0; {
		gap, n := binary.Uvarint(data)
		if n <= 0 {
			return fmt.Errorf("decode extents: a number is cut off")
		}
		data = data[n:]
		run, n := binary.Uvarint(data)
		if n <= 0 {
			return fmt.Errorf("decode extents: a number is cut off")
		}
		data = data[n:]
		if count := run >> 1; gap > blocks-at || count > blocks-at-gap || count == 0 {
			return fmt.Errorf("decode extents: behind the end of the disk")
		}
		first := at + gap
		at = first + run>>1
		e := Extent{Offset: first * block, Length: min(at*block, size) - first*block, Zero: run&1 != 0}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// Union joins lists of extents, each in rising order, into one. What one list says is
// zeros and another does not is not.
func Union(lists ...[]Extent) []Extent {
	if len(lists) == 1 {
		return lists[0]
	}
	var edges []edge
	for _, list := range lists {
		for _, e := range list {
			edges = append(edges, edge{e.Offset, e.Zero, 1}, edge{e.End(), e.Zero, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	var out []Extent
	join := Joiner{Each: func(e Extent) error {
		out = append(out, e)
		return nil
	}}
	data, zeros, from := 0, 0, uint64(0)
	for _, x := range edges {
		if data+zeros > 0 && x.at > from {
			_ = join.Add(Extent{Offset: from, Length: x.at - from, Zero: data == 0}) // Each returns nil
		}
		if from = x.at; x.zero {
			zeros += x.step
		} else {
			data += x.step
		}
	}
	_ = join.Flush()
	return out
}

// edge is the begin (step 1) or the end (step -1) of an extent.
type edge struct {
	at   uint64
	zero bool
	step int
}

// Intersect is what two lists of extents, each in rising order, have in common.
func Intersect(a, b []Extent) []Extent {
	var out []Extent
	for len(a) > 0 && len(b) > 0 {
		from, to := max(a[0].Offset, b[0].Offset), min(a[0].End(), b[0].End())
		if from < to {
			out = append(out, Extent{Offset: from, Length: to - from, Zero: a[0].Zero || b[0].Zero})
		}
		if a[0].End() < b[0].End() {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}
