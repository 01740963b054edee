package scan

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/cbt"
)

// shelf is what is kept of a task on this host, under the machine's lock.
type shelf struct {
	dir    string
	t      cbt.Target
	key    Key
	points map[int]entry
	at     func(step string)
}

// entry is a checkpoint as its file has it.
type entry struct {
	Point  cbt.Point `json:"point"`
	Stamps [][]stamp `json:"stamps"` // of the files of each disk
}

// shelfSuffix ends the names of the directories of tasks.
const shelfSuffix = "scan"

func shelfPath(t cbt.Target) string {
	name, _ := cbt.TaskName(t.Task) // checked before
	return filepath.Join(t.Dir, cbt.Prefix+name+"-"+shelfSuffix)
}

func openShelf(t cbt.Target) (*shelf, error) {
	s := &shelf{dir: shelfPath(t), t: t, points: map[int]entry{}}
	names, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read directory of the task: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "key"))
	if err != nil || len(key) != len(s.key) {
		return s, nil // nothing can be read without it: all is lost
	}
	copy(s.key[:], key)
	for _, f := range names {
		if seq, ok := strings.CutPrefix(f.Name(), "point-"); ok {
			s.load(f.Name(), seq)
		}
	}
	return s, nil
}

// load reads a checkpoint. One that cannot be read is as one that is not there.
func (s *shelf) load(name, number string) {
	seq, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return
	}
	var e entry
	if json.Unmarshal(data, &e) == nil && e.Point.Seq == seq && len(e.Point.Sizes) == len(s.t.Disks) {
		s.points[seq] = e
	}
}

// create makes the directory and the key of a task that has none.
func (s *shelf) create() error {
	if len(s.points) > 0 {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("clear directory of the task: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the task: %w", err)
	}
	rand.Read(s.key[:])
	if err := write(filepath.Join(s.dir, "key"), s.key[:]); err != nil {
		return err
	}
	return syncDir(s.t.Dir)
}

// seqs are the checkpoints that are kept, rising.
func (s *shelf) seqs() []int {
	var out []int
	for seq := range s.points {
		out = append(out, seq)
	}
	slices.Sort(out)
	return out
}

func (s *shelf) last() int {
	if all := s.seqs(); len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

// around are the neighbors of a checkpoint that is kept, 0 where there is none.
func (s *shelf) around(seq int) (before, after int) {
	all := s.seqs()
	i := slices.Index(all, seq)
	if i > 0 {
		before = all[i-1]
	}
	if i+1 < len(all) {
		after = all[i+1]
	}
	return before, after
}

func (s *shelf) pointPath(seq int) string { return filepath.Join(s.dir, fmt.Sprintf("point-%d", seq)) }

func baseName(seq, disk int) string           { return fmt.Sprintf("base-%d-%d", seq, disk) }
func deltaName(from, to, disk int) string     { return fmt.Sprintf("delta-%d-%d-%d", from, to, disk) }
func (s *shelf) path(name string) string      { return filepath.Join(s.dir, name) }
func (s *shelf) block() uint64                { return s.t.Block() }
func (s *shelf) put(n string, x *delta) error { return write(s.path(n), x.encode(s.key, s.block())) }

func (s *shelf) get(name string) (*delta, error) {
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, fmt.Errorf("read digests: %w", err)
	}
	x, err := decode(s.key, s.block(), data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return x, nil
}

// record makes a checkpoint exist.
func (s *shelf) record(e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	if err := write(s.pointPath(e.Point.Seq), data); err != nil {
		return err
	}
	s.points[e.Point.Seq] = e
	return nil
}

// whole says whether all checkpoints of a chain are kept.
func (s *shelf) whole(chain cbt.Chain) error {
	for _, p := range chain {
		if _, ok := s.points[p.Seq]; !ok {
			return &cbt.ChainBroken{Seq: p.Seq, Why: cbt.WhyAbsent}
		}
	}
	for i, seq := range s.seqs() {
		for disk := range s.t.Disks {
			name := baseName(seq, disk)
			if i > 0 {
				before, _ := s.around(seq)
				name = deltaName(before, seq, disk)
			}
			if _, err := os.Stat(s.path(name)); err != nil && len(chain) > 0 {
				return s.lost(disk, seq)
			}
		}
	}
	return nil
}

// lost says that the digests of a checkpoint are not there, or damaged.
func (s *shelf) lost(disk, seq int) error {
	return &cbt.ChainBroken{Volume: s.t.Disks[disk].Volume, Seq: seq, Why: cbt.WhyAbsent}
}

// manifest is what a disk was at the youngest checkpoint.
func (s *shelf) manifest(disk int) (*Manifest, error) {
	m := newManifest(s.block(), 0)
	before := 0
	for _, seq := range s.seqs() {
		name := baseName(seq, disk)
		if before > 0 {
			name = deltaName(before, seq, disk)
		}
		x, err := s.get(name)
		if err != nil {
			return nil, s.lost(disk, seq)
		}
		x.onto(m)
		before = seq
	}
	return m, nil
}

// fold removes the checkpoints that are not recorded and joins their intervals to the
// ones before, youngest first: what nobody relies on any more need not be joined. keep
// is spared. What is joined is written first; then the checkpoint goes, which makes
// that count; then what has no neighbors any more.
func (s *shelf) fold(chain cbt.Chain, keep int) error {
	for _, seq := range slices.Backward(s.seqs()) {
		if seq == keep || chain.Has(seq) {
			continue
		}
		before, after := s.around(seq)
		if after > 0 {
			if err := s.join(before, seq, after); err != nil {
				return err
			}
		}
		s.at("joined")
		if err := os.Remove(s.pointPath(seq)); err != nil {
			return fmt.Errorf("remove checkpoint: %w", err)
		}
		delete(s.points, seq)
		s.at("removed")
	}
	return s.tidy()
}

func (s *shelf) join(before, seq, after int) error {
	for disk := range s.t.Disks {
		first, joined := baseName(seq, disk), baseName(after, disk)
		if before > 0 {
			first, joined = deltaName(before, seq, disk), deltaName(before, after, disk)
		}
		x, err := s.get(first)
		if err != nil {
			return s.lost(disk, seq)
		}
		y, err := s.get(deltaName(seq, after, disk))
		if err != nil {
			return s.lost(disk, after)
		}
		if err := s.put(joined, x.then(y, s.block())); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes what does not lie between neighbors.
func (s *shelf) tidy() error {
	wanted := map[string]bool{"key": true}
	before := 0
	for _, seq := range s.seqs() {
		wanted[filepath.Base(s.pointPath(seq))] = true
		for disk := range s.t.Disks {
			if before == 0 {
				wanted[baseName(seq, disk)] = true
			} else {
				wanted[deltaName(before, seq, disk)] = true
			}
		}
		before = seq
	}
	files, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		if !wanted[f.Name()] {
			err = errors.Join(err, os.Remove(s.path(f.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("tidy directory of the task: %w", err)
	}
	return syncDir(s.dir)
}
