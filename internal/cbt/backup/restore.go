package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/takt-dev/takt/internal/cbt"
)

// A Target takes what is restored; a *nbd.Client of a writable export is one.
type Target interface {
	Write(ctx context.Context, p []byte, offset uint64) error
	WriteZeroes(ctx context.Context, offset, length uint64) error
	Flush(ctx context.Context) error
}

// A Restore is one volume of a backup on its way back.
type Restore struct {
	Chain  []cbt.Backup // the backup and all that it is based on; see Chain
	Volume string
	// Pace bounds the bytes a second; see NewPace. nil: no bound.
	Pace *Pace
	// Progress, if set, is told how many more bytes of the disk are done.
	Progress func(more uint64)
}

// Pace keeps several restores to one rate. One goroutine at a time uses it.
type Pace struct{ pace }

// NewPace keeps to rate bytes a second; 0: no bound.
func NewPace(rate uint64) *Pace { return &Pace{pace{rate: rate}} }

// Size of the volume as the backup has it, in bytes.
func (r Restore) Size() (uint64, error) {
	f, ok := fileOf(r.Chain[0], r.Volume)
	if !ok {
		return 0, fmt.Errorf("%w: the backup has no volume %s", cbt.ErrNoDisk, r.Volume)
	}
	return f.Size, nil
}

// Restore writes a volume to a target from its beginning to its end, zeros too, and
// flushes it. ErrDamaged: files of the backup are missing or cannot be read. Only Verify
// tells whether they are what they were.
func (s Set) Restore(ctx context.Context, r Restore, to Target) error {
	err := s.each(r, func(zero bool, p []byte, offset, length uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if zero {
			return to.WriteZeroes(ctx, offset, length)
		}
		if r.Pace != nil {
			if err := r.Pace.wait(ctx, length); err != nil {
				return err
			}
		}
		return to.Write(ctx, p, offset)
	})
	if err != nil {
		return fmt.Errorf("restore volume %s: %w", r.Volume, full(err))
	}
	if err := to.Flush(ctx); err != nil {
		return fmt.Errorf("restore volume %s: %w", r.Volume, full(err))
	}
	return nil
}

// each calls do with all of a volume, in order: p is nil for zeros.
func (s Set) each(r Restore, do func(zero bool, p []byte, offset, length uint64) error) error {
	l, err := s.open(r.Chain, r.Volume)
	if err != nil {
		return err
	}
	defer l.close()
	buffer := make([]byte, piece)
	return l.walk(func(x stretch) error {
		if r.Progress != nil {
			defer r.Progress(x.length)
		}
		if x.layer == none {
			return do(true, nil, x.offset, x.length)
		}
		for x.length > 0 {
			p := buffer[:min(piece, x.length)]
			if err := l.read(x, p); err != nil {
				return err
			}
			err := stretches(p, func(zero bool, part []byte, at int) error {
				if zero {
					return do(true, nil, x.offset+uint64(at), uint64(len(part)))
				}
				return do(false, part, x.offset+uint64(at), uint64(len(part)))
			})
			if err != nil {
				return err
			}
			x.offset, x.length = x.offset+uint64(len(p)), x.length-uint64(len(p))
		}
		return nil
	})
}

// A File is a Target that is a new file, as large as the disk: zeros are left out of it.
type File struct {
	f    *os.File
	back writeback
}

// NewFile gives a new file as a target.
func NewFile(f *os.File) *File { return &File{f: f} }

// Write writes what is not zeros.
func (t *File) Write(_ context.Context, p []byte, offset uint64) error {
	_, err := t.f.WriteAt(p, int64(offset))       //nolint:gosec // within the disk
	t.back.upTo(t.f, int64(offset)+int64(len(p))) //nolint:gosec // within the disk
	return err
}

// WriteZeroes leaves a hole.
func (t *File) WriteZeroes(context.Context, uint64, uint64) error { return nil }

// Flush has the file on the disk.
func (t *File) Flush(context.Context) error { return t.f.Sync() }

// errDiffers ends a comparison.
var errDiffers = errors.New("it differs")

// Same says whether r reads as a volume of a backup.
func (s Set) Same(ctx context.Context, r Restore, file io.ReaderAt) (bool, error) {
	buffer := make([]byte, piece)
	err := s.each(r, func(_ bool, p []byte, offset, length uint64) error {
		for ; length > 0; p = p[min(len(p), piece):] {
			if err := ctx.Err(); err != nil {
				return err
			}
			got := buffer[:min(piece, length)]
			if _, err := file.ReadAt(got, int64(offset)); err != nil { //nolint:gosec // within the disk
				return errDiffers
			}
			if !equal(got, p) {
				return errDiffers
			}
			offset, length = offset+uint64(len(got)), length-uint64(len(got))
		}
		return nil
	})
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// equal compares with p, or with zeros where that is nil.
func equal(got, p []byte) bool {
	if p != nil {
		return bytes.Equal(got, p[:len(got)])
	}
	for len(got) > 0 {
		n := min(len(got), hole)
		if !bytes.Equal(got[:n], zeros[:n]) {
			return false
		}
		got = got[n:]
	}
	return true
}
