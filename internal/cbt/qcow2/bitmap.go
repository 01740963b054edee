package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// A Bitmap is a stored dirty bitmap.
type Bitmap struct {
	Name string
	// InUse: QEMU had it loaded and did not store it again. What it holds is not
	// complete.
	InUse bool
	// Recording: QEMU will go on recording into it when it opens the image.
	Recording   bool
	Granularity uint64 // bytes a bit stands for

	tableOffset uint64
	tableLength uint64 // entries
}

// Flags of a bitmap, and the kind of bitmap that we know.
const (
	bitmapInUse     = 1 << 0
	bitmapAuto      = 1 << 1
	bitmapDirtyKind = 1
	bitmapHead      = 24
	minGranularity  = 9
	maxGranularity  = 31
	allOnes         = 1 << 0
	tableLimit      = 4 << 20 // entries: a petabyte in the finest blocks
)

// Bitmaps lists the stored dirty bitmaps. They count only while the image says that
// nobody wrote to it without knowing of them; otherwise there are none.
func (im *Image) Bitmaps() ([]Bitmap, error) {
	h := im.head
	if h.bitmapCount == 0 || h.autoclear&autoclearBitmaps == 0 {
		return nil, nil
	}
	if h.bitmapCount > bitmapsLimit || h.bitmapLength > directoryLimit {
		return nil, errors.New("qcow2: the directory of bitmaps is too large")
	}
	data, err := im.file.bytes("directory of bitmaps", h.bitmapOffset, h.bitmapLength)
	if err != nil {
		return nil, err
	}
	var found []Bitmap
	for range h.bitmapCount {
		b, kind, n, err := parseBitmap(data)
		if err != nil {
			return nil, err
		}
		data = data[n:]
		if kind == bitmapDirtyKind {
			found = append(found, b)
		}
	}
	return found, nil
}

func parseBitmap(data []byte) (b Bitmap, kind byte, length int, err error) {
	short := errors.New("qcow2: the directory of bitmaps is cut off")
	if len(data) < bitmapHead {
		return b, 0, 0, short
	}
	extra, name := uint64(be32(data, 20)), uint64(binary.BigEndian.Uint16(data[18:]))
	total := (bitmapHead + extra + name + 7) &^ 7
	if total > uint64(len(data)) {
		return b, 0, 0, short
	}
	if data[17] < minGranularity || data[17] > maxGranularity {
		return b, 0, 0, fmt.Errorf("qcow2: a bitmap of granularity 2^%d", data[17])
	}
	if extra > 0 {
		return b, 0, 0, errors.New("qcow2: a bitmap with data that this reader does not know")
	}
	flags := be32(data, 12)
	return Bitmap{
		Name: string(data[bitmapHead : bitmapHead+name]), InUse: flags&bitmapInUse != 0, Recording: flags&bitmapAuto != 0,
		Granularity: 1 << data[17], tableOffset: be64(data, 0), tableLength: uint64(be32(data, 8)),
	}, data[16], int(total), nil
}

// Dirty calls each with the stretches of the disk that a bitmap has marked, in bytes,
// in order, neighbors joined. A bitmap in use is refused.
func (im *Image) Dirty(b Bitmap, each func(offset, length uint64) error) error {
	if b.InUse {
		return fmt.Errorf("qcow2: bitmap %s is in use: it is not complete", b.Name)
	}
	covers := im.head.cluster() * 8 // bits in a cluster
	blocks := (im.head.size + b.Granularity - 1) / b.Granularity
	needed := (blocks + covers - 1) / covers
	if needed > tableLimit {
		return errors.New("qcow2: the table of a bitmap is too large")
	}
	if b.tableLength < needed {
		return fmt.Errorf("qcow2: the table of bitmap %s does not cover the disk", b.Name)
	}
	table, err := im.file.words("table of a bitmap", b.tableOffset, needed)
	if err != nil {
		return err
	}
	if err := im.file.distinct("table of a bitmap", table, im.head.cluster()); err != nil {
		return err
	}
	m := marks{block: b.Granularity, size: im.head.size, each: each}
	for i, entry := range table {
		first := uint64(i) * covers
		if err := im.dirtyCluster(&m, entry, first, covers); err != nil {
			return err
		}
	}
	return m.add(0, 0)
}

func (im *Image) dirtyCluster(m *marks, entry, first, covers uint64) error {
	if entry&offsetMask == 0 {
		if entry&allOnes != 0 {
			return m.add(first, covers)
		}
		return nil
	}
	data, err := im.file.bytes("a part of a bitmap", entry&offsetMask, im.head.cluster())
	if err != nil {
		return err
	}
	for at := 0; at < len(data); at += 8 {
		word := binary.LittleEndian.Uint64(data[at:])
		for base := first + uint64(at)*8; word != 0; {
			skip := bits.TrailingZeros64(word)
			run := bits.TrailingZeros64(^(word >> skip))
			if err := m.add(base+uint64(skip), uint64(run)); err != nil {
				return err
			}
			if skip+run >= 64 {
				break
			}
			word &^= 1<<(skip+run) - 1
		}
	}
	return nil
}

// marks joins runs of marked blocks.
type marks struct {
	block, size uint64
	each        func(offset, length uint64) error
	first, end  uint64 // blocks held
}

// add takes count blocks behind all earlier ones; 0 hands on what is held.
func (m *marks) add(first, count uint64) error {
	if count > 0 && first == m.end && m.end > m.first {
		m.end += count
		return nil
	}
	if m.end > m.first && m.first < (m.size+m.block-1)/m.block {
		offset := m.first * m.block
		end := m.size
		if m.end <= m.size/m.block {
			end = m.end * m.block
		}
		if err := m.each(offset, end-offset); err != nil {
			return err
		}
	}
	m.first, m.end = first, first+count
	return nil
}
