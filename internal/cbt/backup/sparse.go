package backup

import (
	"bytes"
	"hash"
	"os"

	"lukechampine.com/blake3"
)

// hole is the least stretch of zeros that is left out of a file, and what the clusters
// of images have.
const hole = 64 << 10

var zeros [hole]byte

// stretches calls each with the stretches of p that are zeros, and those that are not,
// neighbors joined. They are found in steps of hole bytes.
func stretches(p []byte, each func(zero bool, part []byte, at int) error) error {
	from, kind := 0, false
	for at := 0; at < len(p); at += hole {
		step := p[at:min(at+hole, len(p))]
		zero := bytes.Equal(step, zeros[:len(step)])
		if at > from && zero != kind {
			if err := each(kind, p[from:at], from); err != nil {
				return err
			}
			from = at
		}
		kind = zero
	}
	if from == len(p) {
		return nil
	}
	return each(kind, p[from:], from)
}

// sumSize is of the digest of a file, in bytes.
const sumSize = 32

func newSum() hash.Hash { return blake3.New(sumSize, nil) }

// summed writes a new file from its beginning on, leaves zeros out, and sums all.
type summed struct {
	f    *os.File
	at   int64
	back writeback
	hash hash.Hash
}

func newSummed(f *os.File) *summed { return &summed{f: f, hash: newSum()} }

func (s *summed) Write(p []byte) (int, error) {
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		_, _ = s.hash.Write(p) // never fails
	}()
	err := writeSparse(s.f, p, s.at)
	<-hashed
	s.at += int64(len(p))
	s.back.upTo(s.f, s.at)
	return len(p), err
}

func (s *summed) sum() []byte { return s.hash.Sum(nil) }

// writeSparse writes to a file that is zeros there so far.
func writeSparse(f *os.File, p []byte, offset int64) error {
	return stretches(p, func(zero bool, part []byte, at int) error {
		if zero {
			return nil
		}
		_, err := f.WriteAt(part, offset+int64(at))
		return err
	})
}

// writebackEach is how much is written between two starts of writing back.
const writebackEach = 16 << 20

// writeback is how far the system was told to write a file back that is written by
// rising offset.
type writeback struct{ from int64 }

func (b *writeback) upTo(f *os.File, end int64) {
	if end-b.from < writebackEach {
		return
	}
	startWriteback(f, b.from, end-b.from)
	b.from = end
}
