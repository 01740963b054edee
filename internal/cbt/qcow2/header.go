package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits that QEMU keeps as well; what is beyond them is no image but an attack.
const (
	minClusterBits    = 9
	maxClusterBits    = 21
	l1Limit           = 32 << 20 // bytes
	sizeLimit         = 1 << 62
	directoryLimit    = 64 << 20
	bitmapsLimit      = 65535
	backingLimit      = 1023
	headerRead        = 64 << 10
	versionTwoLength  = 72
	versionThreeLeast = 104
)

// Feature bits.
const (
	incompatDirty    = 1 << 0 // reference counts may be wrong, which a reader does not need
	autoclearBitmaps = 1 << 0
)

// Header extensions.
const (
	extensionEnd           = 0
	extensionBackingFormat = 0xe2792aca
	extensionBitmaps       = 0x23852875
)

type header struct {
	version      uint32
	clusterBits  uint32
	size         uint64
	backing      string
	backingKind  string
	autoclear    uint64
	l1           []uint64
	bitmapCount  uint32
	bitmapLength uint64
	bitmapOffset uint64
}

// file reads a file of a known size, and nothing beyond its end.
type file struct {
	r    io.ReaderAt
	size uint64
}

// bytes reads a stretch of the file. It is checked to lie within before memory is
// taken for it.
func (f file) bytes(what string, offset, length uint64) ([]byte, error) {
	if offset > f.size || length > f.size-offset {
		return nil, fmt.Errorf("qcow2: %s is behind the end of the file", what)
	}
	data := make([]byte, length)
	if n, err := f.r.ReadAt(data, int64(offset)); n < len(data) {
		return nil, fmt.Errorf("qcow2: read %s: %w", what, err)
	}
	return data, nil
}

func (f file) words(what string, offset, count uint64) ([]uint64, error) {
	data, err := f.bytes(what, offset, count*8)
	if err != nil {
		return nil, err
	}
	words := make([]uint64, count)
	for i := range words {
		words[i] = binary.BigEndian.Uint64(data[i*8:])
	}
	return words, nil
}

func (f file) header() (*header, error) {
	data, err := f.bytes("header", 0, min(headerRead, f.size))
	if err != nil {
		return nil, err
	}
	if len(data) < versionTwoLength || string(data[:4]) != "QFI\xfb" {
		return nil, errors.New("qcow2: this is no qcow2 image")
	}
	h := &header{version: be32(data, 4), clusterBits: be32(data, 20), size: be64(data, 24)}
	length, err := h.features(data)
	if err != nil {
		return nil, err
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits || h.size > sizeLimit {
		return nil, fmt.Errorf("qcow2: a disk of %d bytes in clusters of 2^%d", h.size, h.clusterBits)
	}
	if be32(data, 32) != 0 {
		return nil, errors.New("qcow2: encrypted images are not supported")
	}
	if err := h.readBacking(f, be64(data, 8), be32(data, 16)); err != nil {
		return nil, err
	}
	if err := h.extensions(data, length); err != nil {
		return nil, err
	}
	return h, h.readL1(f, be64(data, 40), be32(data, 36))
}

// features reads what differs between the versions, and returns the header's length.
func (h *header) features(data []byte) (int, error) {
	switch h.version {
	case 2:
		return versionTwoLength, nil
	case 3:
	default:
		return 0, fmt.Errorf("qcow2: version %d is not supported", h.version)
	}
	if len(data) < versionThreeLeast {
		return 0, errors.New("qcow2: the header is cut off")
	}
	if unknown := be64(data, 72) &^ incompatDirty; unknown != 0 {
		return 0, fmt.Errorf("qcow2: features %#x are not supported (corrupt, external data file, zstd or extended L2)", unknown)
	}
	h.autoclear = be64(data, 88)
	length := be32(data, 100)
	if length < versionThreeLeast || length > uint32(len(data)) {
		return 0, errors.New("qcow2: the header is cut off")
	}
	return int(length), nil
}

func (h *header) readBacking(f file, offset uint64, length uint32) error {
	if offset == 0 || length == 0 {
		return nil
	}
	if length > backingLimit {
		return errors.New("qcow2: the backing file's name is too long")
	}
	name, err := f.bytes("backing file's name", offset, uint64(length))
	h.backing = string(name)
	return err
}

func (h *header) extensions(data []byte, at int) error {
	for at+8 <= len(data) {
		kind, length := be32(data, at), uint64(be32(data, at+4))
		at += 8
		if kind == extensionEnd {
			return nil
		}
		if length > uint64(len(data)-at) {
			return errors.New("qcow2: a header extension is cut off")
		}
		body := data[at : at+int(length)]
		switch {
		case kind == extensionBackingFormat:
			h.backingKind = string(body)
		case kind == extensionBitmaps && length >= 24:
			h.bitmapCount, h.bitmapLength, h.bitmapOffset = be32(body, 0), be64(body, 8), be64(body, 16)
		}
		at += int(length+7) &^ 7
	}
	return nil
}

func (h *header) readL1(f file, offset uint64, count uint32) error {
	needed := (h.size + h.reach() - 1) / h.reach()
	if uint64(count)*8 > l1Limit || uint64(count) < needed {
		return fmt.Errorf("qcow2: a first table of %d entries for %d bytes", count, h.size)
	}
	var err error
	if h.l1, err = f.words("first table", offset, needed); err != nil {
		return err
	}
	return f.distinct("first table", h.l1, h.cluster())
}

// distinct refuses a table that names more clusters than the file has: some are named
// twice, which no image has, and a small file could keep a reader busy for days.
func (f file) distinct(what string, table []uint64, cluster uint64) error {
	named := uint64(0)
	for _, entry := range table {
		if entry&offsetMask != 0 {
			named++
		}
	}
	if named > f.size/cluster {
		return fmt.Errorf("qcow2: the %s names more clusters than there are", what)
	}
	return nil
}

// cluster is the size of a cluster in bytes.
func (h *header) cluster() uint64 { return 1 << h.clusterBits }

// reach is how many bytes of the disk one entry of the first table covers.
func (h *header) reach() uint64 { return 1 << (2*h.clusterBits - 3) }

func be32(data []byte, at int) uint32 { return binary.BigEndian.Uint32(data[at:]) }
func be64(data []byte, at int) uint64 { return binary.BigEndian.Uint64(data[at:]) }
