// Package qcow2 reads images in QEMU's format, version 2 and 3, without QEMU: what
// the guest sees, which parts of it are allocated, and the dirty bitmaps that QEMU
// stored when it closed the image.
//
// A guest offset is looked up in two tables: the first (L1, in memory) says where
// the second (L2, one cluster) lies, and that where the data lies in the file, or
// that it is zeros, compressed, or not in this image but in the one that backs it.
//
// Only images that nobody has open for writing can be read: a running QEMU keeps
// parts of the tables in memory. Sizes in an image are checked against the file
// before memory is taken, so that a made-up image costs an error and no more.
// Encrypted images, external data files, extended L2 entries and zstd are refused.
package qcow2

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a stretch of the disk is in this image.
type Kind uint8

// Kinds of stretches.
const (
	Unallocated Kind = iota // the backing image's, or zeros if there is none
	Zero
	Data
	Compressed
)

// An Image is an open image. Many goroutines may read it.
type Image struct {
	file file
	head *header

	mu     sync.Mutex // guards what follows
	tables map[uint64][]uint64
	most   int // of tables
}

// tablesKept bounds the memory for second tables: 16 MiB at the usual cluster size.
const tablesKept = 256

// Keep bounds the second tables that are kept in memory, where many images are open at
// once. Who reads by rising offset needs one.
func (im *Image) Keep(tables int) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.most = tables
}

// Entries of the tables.
const (
	offsetMask     = 0x00ff_ffff_ffff_fe00
	flagCompressed = 1 << 62
	flagZero       = 1 << 0
	sectorSize     = 512
)

// Open reads the header of an image in a file of size bytes.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	f := file{r: r, size: uint64(max(size, 0))}
	head, err := f.header()
	if err != nil {
		return nil, err
	}
	return &Image{file: f, head: head, tables: map[uint64][]uint64{}, most: tablesKept}, nil
}

// Size of the disk in bytes.
func (im *Image) Size() uint64 { return im.head.size }

// Backing is the name of the image behind this one, as the header has it, and its
// format; empty if there is none.
func (im *Image) Backing() (name, format string) { return im.head.backing, im.head.backingKind }

// A Run is a stretch of the disk of one kind.
type Run struct {
	Offset, Length uint64 // on the disk
	Kind           Kind
}

// Walk calls each with the runs of the whole disk from an offset, in order, without
// gaps, neighbors joined.
func (im *Image) Walk(from uint64, each func(Run) error) error {
	var held Run
	for at := from &^ (im.head.cluster() - 1); at < im.head.size; {
		run, err := im.run(at)
		if err != nil {
			return err
		}
		at += run.Length
		if held.Length > 0 && held.Kind == run.Kind {
			held.Length += run.Length
			continue
		}
		if err := give(held, each); err != nil {
			return err
		}
		held = run
	}
	return give(held, each)
}

func give(run Run, each func(Run) error) error {
	if run.Length == 0 {
		return nil
	}
	return each(run)
}

// run is what one cluster is, or all that an empty entry of the first table covers.
func (im *Image) run(at uint64) (Run, error) {
	table, err := im.table(at)
	if err != nil {
		return Run{}, err
	}
	if table == nil {
		end := at - at%im.head.reach() + im.head.reach()
		return Run{Offset: at, Length: min(end, im.head.size) - at}, nil
	}
	kind := im.kind(table[im.slot(at)])
	return Run{Offset: at, Length: min(im.head.cluster(), im.head.size-at), Kind: kind}, nil
}

func (im *Image) kind(entry uint64) Kind {
	switch {
	case entry&flagCompressed != 0:
		return Compressed
	case im.head.version >= 3 && entry&flagZero != 0:
		return Zero
	case entry&offsetMask != 0:
		return Data
	}
	return Unallocated
}

// slot is the index of an offset in its second table.
func (im *Image) slot(at uint64) uint64 {
	return at % im.head.reach() >> im.head.clusterBits
}

// table is the second table that covers an offset of the disk; nil if there is none.
func (im *Image) table(at uint64) ([]uint64, error) {
	offset := im.head.l1[at/im.head.reach()] & offsetMask
	if offset == 0 {
		return nil, nil
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if table := im.tables[offset]; table != nil {
		return table, nil
	}
	table, err := im.file.words("second table", offset, im.head.cluster()/8)
	if err != nil {
		return nil, err
	}
	if len(im.tables) >= im.most {
		clear(im.tables)
	}
	im.tables[offset] = table
	return table, nil
}

// ReadAt reads what the guest sees. Stretches that are Unallocated read as zeros.
func (im *Image) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("qcow2: a negative offset")
	}
	done := 0
	for done < len(p) {
		at := uint64(offset) + uint64(done)
		if at >= im.head.size {
			return done, io.EOF
		}
		in := at % im.head.cluster()
		n := int(min(im.head.cluster()-in, im.head.size-at, uint64(len(p)-done)))
		if err := im.readCluster(p[done:done+n], at-in, in); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readCluster fills p from byte in of the cluster at a disk offset.
func (im *Image) readCluster(p []byte, at, in uint64) error {
	table, err := im.table(at)
	if err != nil {
		return err
	}
	entry := uint64(0)
	if table != nil {
		entry = table[im.slot(at)]
	}
	switch im.kind(entry) {
	case Data:
		return im.readData(p, entry&offsetMask+in)
	case Compressed:
		cluster, err := im.inflate(entry)
		if err != nil {
			return err
		}
		copy(p, cluster[in:])
		return nil
	}
	clear(p)
	return nil
}

// readData reads from the file. The last cluster may be cut off: the rest is zeros.
func (im *Image) readData(p []byte, offset uint64) error {
	if offset > im.file.size {
		return errors.New("qcow2: data is behind the end of the file")
	}
	n, err := im.file.r.ReadAt(p, int64(offset))
	if n < len(p) && err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("qcow2: read data: %w", err)
	}
	clear(p[n:])
	return nil
}

// inflate reads a compressed cluster. The lower bits of its entry are a byte offset,
// the upper ones the number of further sectors it takes.
func (im *Image) inflate(entry uint64) ([]byte, error) {
	bits := 62 - (im.head.clusterBits - 8)
	offset := entry & (1<<bits - 1)
	sectors := entry>>bits&(1<<(im.head.clusterBits-8)-1) + 1
	if offset >= im.file.size {
		return nil, errors.New("qcow2: a compressed cluster is behind the end of the file")
	}
	length := min(sectors*sectorSize-offset%sectorSize, im.file.size-offset)
	packed, err := im.file.bytes("compressed cluster", offset, length)
	if err != nil {
		return nil, err
	}
	cluster := make([]byte, im.head.cluster())
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(packed)), cluster); err != nil {
		return nil, fmt.Errorf("qcow2: unpack a cluster: %w", err)
	}
	return cluster, nil
}

// RunAt is the run that holds an offset: one cluster, or more where a whole second
// table is absent.
func (im *Image) RunAt(offset uint64) (Run, error) {
	if offset >= im.head.size {
		return Run{}, io.EOF
	}
	return im.run(offset &^ (im.head.cluster() - 1))
}
