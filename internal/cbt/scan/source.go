package scan

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// A Source is a disk to read: io.ReaderAt gives what the guest sees, from many
// goroutines.
type Source interface {
	io.ReaderAt
	Size() uint64
	// Data calls each, by rising offset, with what may be other than zeros.
	Data(each func(cbt.Extent) error) error
}

// backingDepth bounds a chain of images that back each other.
const backingDepth = 16

// images is a Source made of the files of one disk.
type images struct {
	Source
	format string
	files  []*os.File
}

// openSource opens a disk, with the images behind it. All have to be below the roots.
func openSource(roots cbt.Roots, disk cbt.Disk) (*images, error) {
	im := &images{format: disk.Format}
	source, err := im.open(roots, disk.Path, disk.Format, 0)
	if err != nil {
		im.Close()
		return nil, fmt.Errorf("open volume %s: %w", disk.Volume, err)
	}
	im.Source = source
	return im, nil
}

func (im *images) open(roots cbt.Roots, path, format string, depth int) (Source, error) {
	f, err := roots.Open(path, os.O_RDONLY|syscall.O_NONBLOCK) // a pipe would make us wait
	if err != nil {
		return nil, err
	}
	im.files = append(im.files, f)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() && info.Mode().Type() != os.ModeDevice {
		return nil, errors.Join(err, fmt.Errorf("%w: %s is neither a file nor a block device", cbt.ErrUnsupported, path))
	}
	size, err := f.Seek(0, io.SeekEnd) // right for block devices too
	if err != nil {
		return nil, fmt.Errorf("measure image: %w", err)
	}
	switch format {
	case cbt.FormatRaw:
		return &raw{f, uint64(size)}, nil
	case cbt.FormatQcow2:
		return im.openQcow2(roots, path, f, size, depth)
	}
	return nil, fmt.Errorf("%w: format %q of %s", cbt.ErrUnsupported, format, path)
}

// openQcow2 opens an image with those behind it.
func (im *images) openQcow2(roots cbt.Roots, path string, f *os.File, size int64, depth int) (Source, error) {
	top, err := qcow2.Open(f, size)
	if err != nil {
		return nil, err
	}
	name, format := top.Backing()
	switch {
	case name == "":
		return &layered{Image: top}, nil
	case format == "":
		return nil, fmt.Errorf("%w: the image does not say which format %s has", cbt.ErrUnsupported, name)
	case depth == backingDepth:
		return nil, fmt.Errorf("%w: more than %d images behind each other", cbt.ErrUnsupported, backingDepth)
	}
	below, err := im.open(roots, cbt.BackingPath(path, name), format, depth+1)
	return &layered{top, below}, err
}

// InUse says whether somebody writes to the disk.
func (im *images) InUse() bool { return cbt.InUse(im.files[0]) }

// Close closes the files.
func (im *images) Close() {
	for _, f := range im.files {
		f.Close()
	}
}

// stamp is what a file looked like: another one means that it was written.
type stamp struct {
	Size int64     `json:"size"`
	Time time.Time `json:"time"`
}

// clockTick is more than the time in which a file system gives two writes the same
// time.
const clockTick = 20 * time.Millisecond

func (im *images) stamps() ([]stamp, error) {
	var out []stamp
	for _, f := range im.files {
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("look at image: %w", err)
		}
		out = append(out, stamp{info.Size(), info.ModTime().UTC()})
	}
	return out, nil
}

// raw is a file or a block device that holds the disk as it is.
type raw struct {
	*os.File
	size uint64
}

func (r *raw) Size() uint64 { return r.size }

// Whence of the kernel that find data and holes.
const (
	seekData = 3
	seekHole = 4
)

// Data asks the file system for holes. Where that does not know (a block device) all
// is data.
func (r *raw) Data(each func(cbt.Extent) error) error {
	for at := uint64(0); at < r.size; {
		from, err := r.Seek(int64(at), seekData)
		if errors.Is(err, errNoData) {
			return nil
		}
		if err != nil {
			return each(cbt.Extent{Offset: at, Length: r.size - at})
		}
		to, err := r.Seek(from, seekHole)
		if err != nil {
			return fmt.Errorf("look for holes: %w", err)
		}
		if at = min(uint64(to), r.size); uint64(from) < at {
			if err := each(cbt.Extent{Offset: uint64(from), Length: at - uint64(from)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// layered is a qcow2 image over another, or over nothing.
type layered struct {
	*qcow2.Image
	below Source
}

// Data lists what this image has, and what the one below has where this has nothing.
func (l *layered) Data(each func(cbt.Extent) error) error {
	var own, through []cbt.Extent
	err := l.Walk(0, func(r qcow2.Run) error {
		e := cbt.Extent{Offset: r.Offset, Length: r.Length}
		switch r.Kind {
		case qcow2.Data, qcow2.Compressed:
			own = append(own, e)
		case qcow2.Unallocated:
			through = append(through, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if l.below != nil {
		var lower []cbt.Extent
		if err := l.below.Data(func(e cbt.Extent) error {
			lower = append(lower, e)
			return nil
		}); err != nil {
			return err
		}
		own = cbt.Union(own, cbt.Intersect(through, lower))
	}
	for _, e := range own {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func (l *layered) ReadAt(p []byte, offset int64) (int, error) {
	if l.below == nil {
		return l.Image.ReadAt(p, offset)
	}
	done := 0
	for done < len(p) {
		at := uint64(offset) + uint64(done)
		if at >= l.Size() {
			return done, io.EOF
		}
		run, err := l.RunAt(at)
		if err != nil {
			return done, err
		}
		part := p[done : done+int(min(run.Offset+run.Length-at, uint64(len(p)-done)))]
		if err := l.readRun(part, at, run.Kind); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

func (l *layered) readRun(p []byte, at uint64, kind qcow2.Kind) error {
	if kind != qcow2.Unallocated {
		_, err := l.Image.ReadAt(p, int64(at))
		return err
	}
	n, err := l.below.ReadAt(p, int64(at))
	if n < len(p) && !errors.Is(err, io.EOF) {
		return err
	}
	clear(p[n:]) // the image below may be the smaller one
	return nil
}
