package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// Chain is a backup with all that it is based on, youngest first. ErrDamaged: one of
// them is not recorded.
func Chain(all []cbt.Backup, seq int) ([]cbt.Backup, error) {
	var chain []cbt.Backup
	for below := seq + 1; seq > 0; {
		i := slices.IndexFunc(all, func(b cbt.Backup) bool { return b.Seq == seq && seq < below })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no backup of checkpoint %d", ErrDamaged, seq)
		}
		chain = append(chain, all[i])
		below, seq = seq, all[i].Base
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: there is no backup of checkpoint %d", ErrDamaged, seq)
	}
	return chain, nil
}

// fileOf is a volume's file of a backup.
func fileOf(b cbt.Backup, volume string) (cbt.BackupFile, bool) {
	i := slices.IndexFunc(b.Files, func(f cbt.BackupFile) bool { return f.Volume == volume })
	if i < 0 {
		return cbt.BackupFile{}, false
	}
	return b.Files[i], true
}

// layers are the images of one disk, those above in front of those behind them.
type layers struct {
	size   uint64 // of the disk at the youngest
	images []*qcow2.Image
	files  []*os.File
}

func (l *layers) close() {
	for _, f := range l.files {
		_ = f.Close() // only read
	}
}

// open opens the images of a volume. Each has to have the next behind it: a name in a
// header is data, and is compared, never followed.
func (s Set) open(chain []cbt.Backup, volume string) (*layers, error) {
	f, ok := fileOf(chain[0], volume)
	if !ok {
		return nil, fmt.Errorf("%w: backup %s has no volume %s", cbt.ErrNoDisk, s.name(chain[0].Seq), volume)
	}
	l := &layers{size: f.Size}
	for _, b := range chain {
		f, _ := fileOf(b, volume)
		backing, err := l.add(filepath.Join(s.Dir(b.Seq), volume+imageSuffix), f.Size)
		if err == nil && backing != "" && backing != s.behind(b.Base, volume) {
			err = fmt.Errorf("%w: it has %q behind it", ErrDamaged, backing)
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("open volume %s of backup %s: %w", volume, s.name(b.Seq), err)
		}
		if backing == "" {
			return l, nil
		}
	}
	l.close()
	return nil, fmt.Errorf("%w: the first image of volume %s has another behind it", ErrDamaged, volume)
}

func (l *layers) add(path string, size uint64) (backing string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", damaged(err)
	}
	l.files = append(l.files, f)
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	im, err := qcow2.Open(f, info.Size())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if im.Size()-size >= sector { // where it is smaller, too: that wraps
		return "", fmt.Errorf("%w: it is of a disk of %d bytes, not %d", ErrDamaged, im.Size(), size)
	}
	im.Keep(1)
	l.images = append(l.images, im)
	backing, _ = im.Backing()
	return backing, nil
}

// sector is what an image's size is a multiple of, in bytes.
const sector = 512

// damaged says of a file that is missing what that means.
func damaged(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// none is the layer of what no image has.
const none = -1

// stretch is a part of the disk that one image has, or none.
type stretch struct {
	offset, length uint64
	layer          int
}

// walk calls each with the stretches of the disk, by rising offset and without gaps,
// none of data longer than a piece.
func (l *layers) walk(each func(stretch) error) error {
	var held stretch
	err := l.down(0, 0, l.size, func(x stretch) error {
		if held.length > 0 && held.layer == x.layer && (x.layer == none || held.length+x.length <= piece) {
			held.length += x.length
			return nil
		}
		last := held
		if held = x; last.length == 0 {
			return nil
		}
		return each(last)
	})
	if err == nil && held.length > 0 {
		err = each(held)
	}
	return err
}

// down finds who has [from, to): a layer, those behind it, or none.
func (l *layers) down(layer int, from, to uint64, each func(stretch) error) error {
	for from < to {
		if layer == len(l.images) || from >= l.images[layer].Size() {
			return each(stretch{from, to - from, none})
		}
		run, err := l.images[layer].RunAt(from)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		end := min(run.Offset+run.Length, to)
		switch run.Kind {
		case qcow2.Unallocated:
			err = l.down(layer+1, from, end, each)
		case qcow2.Zero:
			err = each(stretch{from, end - from, none})
		default:
			err = each(stretch{from, end - from, layer})
		}
		if err != nil {
			return err
		}
		from = end
	}
	return nil
}

// read fills p with data of a stretch.
func (l *layers) read(x stretch, p []byte) error {
	n, err := l.images[x.layer].ReadAt(p, int64(x.offset)) //nolint:gosec // within the disk
	if n < len(p) {
		return fmt.Errorf("%w: read at %d: %w", ErrDamaged, x.offset, err)
	}
	return nil
}
