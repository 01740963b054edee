package volume

import (
	"fmt"
	"os"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// backingDepth bounds a chain of images that back each other.
const backingDepth = 16

// admitBacking refuses an image that would make the daemon open what lies elsewhere:
// a header is data, and the guest's owner may have written it. path is what f was opened
// by.
func (s *Server) admitBacking(path string, f *os.File, format string, depth int) error {
	if format != cbt.FormatQcow2 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at image: %w", err)
	}
	image, err := qcow2.Open(f, info.Size()) // refuses external data files
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	name, kind := image.Backing()
	switch {
	case name == "":
		return nil
	case kind != cbt.FormatRaw && kind != cbt.FormatQcow2:
		return fmt.Errorf("%w: the image does not say which format %s has", cbt.ErrUnsupported, name)
	case depth == backingDepth:
		return fmt.Errorf("%w: more than %d images behind each other", cbt.ErrUnsupported, backingDepth)
	}
	name = cbt.BackingPath(path, name)
	below, err := s.Roots.Open(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer below.Close()
	return s.admitBacking(name, below, kind, depth+1)
}
