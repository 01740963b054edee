package scan

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/takt-dev/takt/internal/cbt"
)

// magic begins a file of digests; the last digit is the version.
const magic = "taktcbt1"

const fileHead = len(magic) + 3*8

// delta is what differed between two checkpoints of a disk.
type delta struct {
	extents []cbt.Extent
	size    uint64   // of the disk at the later one
	digests []Digest // of the blocks in extents that are not zeros, in order
}

// difference makes the delta from one manifest to the next.
func difference(before, now *Manifest) *delta {
	x := &delta{extents: Compare(before, now), size: now.Size}
	for _, e := range x.extents {
		if e.Zero {
			continue
		}
		for b := e.Offset / now.Block; b*now.Block < e.End(); b++ {
			x.digests = append(x.digests, now.Digests[b])
		}
	}
	return x
}

// onto makes a manifest what it was at the later checkpoint.
func (x *delta) onto(m *Manifest) {
	count := int((x.size + m.Block - 1) / m.Block)
	m.Size = x.size
	if count <= len(m.Digests) {
		m.Digests = m.Digests[:count]
	} else {
		m.Digests = append(m.Digests, make([]Digest, count-len(m.Digests))...)
	}
	next := x.digests
	for _, e := range x.extents {
		for b := e.Offset / m.Block; b*m.Block < e.End(); b++ {
			m.Digests[b] = Digest{}
			if !e.Zero {
				m.Digests[b], next = next[0], next[1:]
			}
		}
	}
}

// then joins two deltas that follow each other.
func (x *delta) then(y *delta, block uint64) *delta {
	scratch := newManifest(block, x.size)
	x.onto(scratch)
	y.onto(scratch)
	out := &delta{size: y.size}
	join := cbt.Joiner{Each: func(e cbt.Extent) error {
		out.extents = append(out.extents, e)
		return nil
	}}
	for _, e := range clip(cbt.Union(x.extents, y.extents), y.size) {
		for b := e.Offset / block; b*block < e.End(); b++ {
			d := scratch.Digests[b]
			offset := b * block
			_ = join.Add(cbt.Extent{Offset: offset, Length: min(block, y.size-offset), Zero: d == Digest{}}) // Each returns nil
			if (d != Digest{}) {
				out.digests = append(out.digests, d)
			}
		}
	}
	_ = join.Flush()
	return out
}

// clip cuts extents at the end of a disk.
func clip(extents []cbt.Extent, size uint64) []cbt.Extent {
	return cbt.Intersect(extents, []cbt.Extent{{Length: size}})
}

// encode writes magic, block size, size of the disk, length of the packed extents, the
// extents, the digests, and a digest of it all under the task's key.
func (x *delta) encode(key Key, block uint64) []byte {
	packed := cbt.Encode(x.extents, block)
	out := append([]byte(nil), magic...)
	for _, n := range []uint64{block, x.size, uint64(len(packed))} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	out = append(out, packed...)
	for _, d := range x.digests {
		out = append(out, d[:]...)
	}
	return append(out, sum(key, out)...)
}

func sum(key Key, data []byte) []byte {
	h := key.hasher()
	h.Write(data)
	return h.Sum(nil)
}

var errDamaged = errors.New("the file is damaged")

func decode(key Key, block uint64, data []byte) (*delta, error) {
	if len(data) < fileHead+digestSize || string(data[:len(magic)]) != magic {
		return nil, errDamaged
	}
	body, check := data[:len(data)-digestSize], data[len(data)-digestSize:]
	if !hmac.Equal(check, sum(key, body)) || binary.BigEndian.Uint64(body[8:]) != block {
		return nil, errDamaged
	}
	x := &delta{size: binary.BigEndian.Uint64(body[16:])}
	length, rest := binary.BigEndian.Uint64(body[24:]), body[fileHead:]
	if length > uint64(len(rest)) || (uint64(len(rest))-length)%digestSize != 0 {
		return nil, errDamaged
	}
	blocks := 0
	err := cbt.Decode(rest[:length], block, x.size, func(e cbt.Extent) error {
		x.extents = append(x.extents, e)
		if !e.Zero {
			blocks += int((e.Length + block - 1) / block)
		}
		return nil
	})
	rest = rest[length:]
	if err != nil || len(rest) != blocks*digestSize {
		return nil, errDamaged
	}
	for ; len(rest) > 0; rest = rest[digestSize:] {
		x.digests = append(x.digests, Digest(rest[:digestSize]))
	}
	return x, nil
}

// write makes a file appear as a whole and durable, or not at all.
func write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone by then, unless something failed
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
