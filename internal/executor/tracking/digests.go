package tracking

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/cbt/scan"
)

// digests are what is kept of the moments of a task for a rescan, in a directory of the
// machine's:
//
//	digests-<task>/key                 32 random bytes
//	               <seq>-<disk>        digest of each block as of a checkpoint
//	               changed-<seq>-<disk> what a rescan found to differ from the one before
//
// A file is gzip, whose sum tells one that is damaged; that is as one that is not there.
type digests struct{ dir string }

const digestsPrefix = "digests-"

func (w *work) digests() digests {
	name, _ := cbt.TaskName(w.o.Task) // checked when the order was read
	return digests{filepath.Join(w.machineDir(w.m), digestsPrefix+name)}
}

func (d digests) path(format string, args ...any) string {
	return filepath.Join(d.dir, fmt.Sprintf(format, args...))
}

// key of the digests, made if there is none. Without it a guest could look for contents
// of equal digest.
func (d digests) key() (key scan.Key, err error) {
	have, err := os.ReadFile(d.path("key"))
	if err == nil && copy(key[:], have) == len(key) {
		return key, nil
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return key, fmt.Errorf("clear digests: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return key, fmt.Errorf("make directory of digests: %w", err)
	}
	rand.Read(key[:])
	return key, replace(d.path("key"), key[:])
}

// replace writes a file whole or not at all.
func replace(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write digests: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write digests: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write digests: %w", err)
	}
	return nil
}

// head begins a file of digests, as a line of JSON.
type head struct {
	Volume string
	Block  uint64
	Size   uint64
}

func save(path string, h head, body []byte) error {
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{line, {'\n'}, body} {
		if _, err := zip.Write(part); err != nil {
			return err
		}
	}
	if err := zip.Close(); err != nil {
		return err
	}
	return replace(path, packed.Bytes())
}

func load(path string) (h head, body []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, nil, err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return h, nil, err
	}
	r := bufio.NewReader(zip)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, nil, err
	}
	body, err = io.ReadAll(r)
	return h, body, err
}

func (d digests) saveManifest(seq, disk int, volume string, m *scan.Manifest) error {
	body := make([]byte, 0, len(m.Digests)*len(scan.Digest{}))
	for i := range m.Digests {
		body = append(body, m.Digests[i][:]...)
	}
	return save(d.path("%d-%d", seq, disk), head{volume, m.Block, m.Size}, body)
}

// manifest is nil if there is none of the volume.
func (d digests) manifest(seq, disk int, volume string) *scan.Manifest {
	h, body, err := load(d.path("%d-%d", seq, disk))
	const each = uint64(len(scan.Digest{}))
	if err != nil || h.Volume != volume || h.Block == 0 || uint64(len(body)) != (h.Size+h.Block-1)/h.Block*each {
		return nil
	}
	m := &scan.Manifest{Block: h.Block, Size: h.Size, Digests: make([]scan.Digest, uint64(len(body))/each)}
	for i := range m.Digests {
		copy(m.Digests[i][:], body[uint64(i)*each:])
	}
	return m
}

func (d digests) saveChanged(seq, disk int, h head, extents []cbt.Extent) error {
	return save(d.path("changed-%d-%d", seq, disk), h, cbt.Encode(extents, h.Block))
}

func (d digests) changed(seq, disk int, volume string) (extents []cbt.Extent, err error) {
	h, body, err := load(d.path("changed-%d-%d", seq, disk))
	if err != nil {
		return nil, fmt.Errorf("read what a rescan found: %w", err)
	}
	if h.Volume != volume {
		return nil, fmt.Errorf("read what a rescan found: it is of volume %s", h.Volume)
	}
	err = cbt.Decode(body, h.Block, h.Size, func(e cbt.Extent) error {
		extents = append(extents, e)
		return nil
	})
	return extents, err
}

// keep removes the digests of all checkpoints but some.
func (d digests) keep(seqs ...int) error {
	files, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		number, _, _ := strings.Cut(strings.TrimPrefix(f.Name(), "changed-"), "-")
		if seq, no := strconv.Atoi(number); no == nil && !slices.Contains(seqs, seq) {
			err = errors.Join(err, os.Remove(filepath.Join(d.dir, f.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("remove digests: %w", err)
	}
	return nil
}

func (d digests) drop() error {
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("remove digests: %w", err)
	}
	return nil
}

// readers is how many connections read an export at once.
const readers = 4

// momentSource reads an export of a session, as package scan wants a disk.
type momentSource struct {
	size uint64
	data []cbt.Extent
	read func(p []byte, offset int64) (int, error)
}

func (m *momentSource) Size() uint64                               { return m.size }
func (m *momentSource) ReadAt(p []byte, offset int64) (int, error) { return m.read(p, offset) }

func (m *momentSource) Data(each func(cbt.Extent) error) error {
	for _, e := range m.data {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// openMoment connects to an export, of which it reads what that marks: what changed, or
// what is allocated.
func openMoment(ctx context.Context, l cbt.Listen, e cbt.Export) (m *momentSource, release func(), err error) {
	m = &momentSource{size: e.Size}
	err = walk(ctx, l, e, 0, func(x cbt.Extent) error {
		m.data = append(m.data, x)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var clients []*nbd.Client
	release = func() {
		for _, c := range clients {
			_ = c.Close() // nothing was written
		}
	}
	free := make(chan *nbd.Client, readers)
	for range readers {
		c, err := dial(ctx, l, e)
		if err != nil {
			release()
			return nil, nil, err
		}
		clients = append(clients, c)
		free <- c
	}
	m.read = func(p []byte, offset int64) (int, error) {
		c := <-free
		defer func() { free <- c }()
		if err := c.Read(ctx, p, uint64(offset)); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return m, release, nil
}
