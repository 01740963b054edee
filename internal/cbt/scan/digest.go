package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"lukechampine.com/blake3"

	"github.com/takt-dev/takt/internal/cbt"
)

// digestSize of a block's digest, in bytes.
const digestSize = 16

// A Digest tells a block from all others. Its zero value stands for zeros.
type Digest [digestSize]byte

// Key of a task's digests.
type Key [32]byte

func (k *Key) hasher() hash.Hash { return blake3.New(digestSize, k[:]) }

// A Manifest has the digest of each block of a disk.
type Manifest struct {
	Block   uint64 // bytes
	Size    uint64 // of the disk, in bytes
	Digests []Digest
}

func newManifest(block, size uint64) *Manifest {
	return &Manifest{Block: block, Size: size, Digests: make([]Digest, (size+block-1)/block)}
}

// span is how much is read at once, in bytes, where blocks are not larger.
const span = 1 << 20

// Take reads a source and computes its manifest, with some reads at once. progress is
// told the bytes read since it was last told, from many goroutines.
func Take(ctx context.Context, source Source, key Key, block uint64, workers int, progress func(read uint64)) (*Manifest, error) {
	s := &scanner{source: source, key: key, m: newManifest(block, source.Size()), progress: progress}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	parts := make(chan part, workers)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			if err := s.work(ctx, parts); err != nil {
				stop(err)
			}
		})
	}
	err := s.divide(ctx, parts)
	close(parts)
	running.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return s.m, err
}

type scanner struct {
	source   Source
	key      Key
	m        *Manifest
	progress func(uint64)
}

// part is a range of blocks to read.
type part struct{ from, to uint64 }

// divide cuts the data of the source into parts of whole blocks, each block once.
func (s *scanner) divide(ctx context.Context, parts chan<- part) error {
	step, next := max(span/s.m.Block, 1), uint64(0)
	return s.source.Data(func(e cbt.Extent) error {
		from, to := max(e.Offset/s.m.Block, next), (min(e.End(), s.m.Size)+s.m.Block-1)/s.m.Block
		for ; from < to; from += step {
			select {
			case parts <- part{from, min(from+step, to)}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		next = max(next, to)
		return nil
	})
}

func (s *scanner) work(ctx context.Context, parts <-chan part) error {
	buffer, hasher := make([]byte, max(span, s.m.Block)), s.key.hasher()
	for p := range parts {
		if ctx.Err() != nil {
			continue
		}
		offset := p.from * s.m.Block
		data := buffer[:min(p.to*s.m.Block, s.m.Size)-offset]
		if n, err := s.source.ReadAt(data, int64(offset)); n < len(data) {
			return fmt.Errorf("read at %d: %w", offset, errors.Join(err, io.ErrUnexpectedEOF))
		}
		for b := p.from; b < p.to; b++ {
			s.m.Digests[b] = digest(hasher, data[:min(s.m.Block, uint64(len(data)))])
			data = data[min(s.m.Block, uint64(len(data))):]
		}
		if s.progress != nil {
			s.progress(min(p.to*s.m.Block, s.m.Size) - offset)
		}
	}
	return nil
}

var zeros [64 << 10]byte

func digest(hasher hash.Hash, block []byte) (d Digest) {
	rest := block
	for len(rest) > 0 && bytes.Equal(rest[:min(len(rest), len(zeros))], zeros[:min(len(rest), len(zeros))]) {
		rest = rest[min(len(rest), len(zeros)):]
	}
	if len(rest) == 0 {
		return d
	}
	hasher.Reset()
	hasher.Write(block)
	hasher.Sum(d[:0])
	return d
}

// Compare lists the blocks of now that differ from before, neighbors joined, and says
// of each stretch whether it is zeros now. What a disk grew by counts: it may have been
// larger before, and held data there.
func Compare(before, now *Manifest) []cbt.Extent {
	var out []cbt.Extent
	join := cbt.Joiner{Each: func(e cbt.Extent) error {
		out = append(out, e)
		return nil
	}}
	for i, d := range now.Digests {
		var old Digest
		if i < len(before.Digests) {
			old = before.Digests[i]
		}
		if d != old || i >= len(before.Digests) {
			offset := uint64(i) * now.Block
			_ = join.Add(cbt.Extent{Offset: offset, Length: min(now.Block, now.Size-offset), Zero: d == Digest{}}) // Each returns nil
		}
	}
	_ = join.Flush()
	return out
}

// meter adds up what workers read and tells it to one at a time.
type meter struct {
	total uint64
	done  atomic.Uint64
	mu    sync.Mutex // held while tell runs
	tell  func(done, total uint64)
}

func (m *meter) add(n uint64) {
	done := m.done.Add(n)
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(max(done, m.done.Load()), m.total)
}
