package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
)

// Checkpoint reads all disks; see cbt.Driver. Since nobody writes to them, when they
// are read does not matter: the checkpoint is one moment.
func (d *Driver) Checkpoint(ctx context.Context, t cbt.Target, seq int) (cbt.Point, error) {
	s, release, err := d.contact(ctx, t)
	if err != nil {
		return cbt.Point{}, err
	}
	defer release()
	if err := s.ready(seq); err != nil {
		return cbt.Point{}, err
	}
	if e, ok := s.points[seq]; ok {
		return e.Point, s.fold(t.Chain, seq)
	}
	e, err := d.begin(ctx, s, seq)
	return e.Point, err
}

// ready judges whether a checkpoint can be made or found.
func (s *shelf) ready(seq int) error {
	if youngest := max(s.last(), s.t.Chain.Last()); youngest > seq {
		return fmt.Errorf("%w: %d", cbt.ErrStale, youngest)
	}
	return s.whole(s.t.Chain)
}

// begin makes a checkpoint that does not exist.
func (d *Driver) begin(ctx context.Context, s *shelf, seq int) (entry, error) {
	if err := s.fold(s.t.Chain, 0); err != nil {
		return entry{}, err
	}
	if err := s.create(); err != nil {
		return entry{}, err
	}
	seen, err := d.read(ctx, s)
	if err != nil {
		return entry{}, err
	}
	e := entry{Point: cbt.Point{Seq: seq, At: time.Now().UTC(), Fuzzy: seen.fuzzy}, Stamps: seen.stamps}
	last := s.last()
	for disk, now := range seen.manifests {
		before, name := newManifest(s.block(), 0), baseName(seq, disk)
		if last > 0 {
			if before, err = s.manifest(disk); err != nil {
				return entry{}, err
			}
			name = deltaName(last, seq, disk)
		}
		x := difference(before, now)
		if err := s.put(name, x); err != nil {
			return entry{}, err
		}
		e.Point.Sizes = append(e.Point.Sizes, now.Size)
		if last > 0 {
			e.Point.Changed += wholeBlocks(x.extents, s.block())
		}
	}
	d.at("written")
	if err := s.record(e); err != nil {
		return entry{}, err
	}
	d.at("begun")
	return e, nil
}

func wholeBlocks(extents []cbt.Extent, block uint64) (bytes uint64) {
	for _, e := range extents {
		bytes += (e.Length + block - 1) / block * block
	}
	return bytes
}

// reading is what was seen of all disks.
type reading struct {
	manifests []*Manifest
	stamps    [][]stamp
	fuzzy     bool
}

// read computes the manifests of all disks, and makes sure that they were not written
// meanwhile.
func (d *Driver) read(ctx context.Context, s *shelf) (*reading, error) {
	disks, err := d.openDisks(s.t)
	if err != nil {
		return nil, err
	}
	defer closeDisks(disks)
	seen := &reading{}
	if seen.stamps, err = settle(ctx, disks); err != nil {
		return nil, err
	}
	m := &meter{tell: s.t.Progress}
	for _, disk := range disks {
		m.total += disk.Size()
	}
	fuzzy, err := written(s.t, disks, seen.stamps)
	if err != nil {
		return nil, err
	}
	for _, disk := range disks {
		manifest, err := d.readDisk(ctx, s, disk, m)
		if err != nil {
			return nil, err
		}
		seen.manifests = append(seen.manifests, manifest)
	}
	after, err := written(s.t, disks, seen.stamps)
	seen.fuzzy = fuzzy || after
	return seen, err
}

func (d *Driver) readDisk(ctx context.Context, s *shelf, disk *images, m *meter) (*Manifest, error) {
	told := m.done.Load()
	manifest, err := Take(ctx, disk, s.key, s.block(), d.workers(), m.add)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	if r, ok := disk.Source.(*raw); ok {
		forget(r.File, 0, r.size)
	}
	m.add(disk.Size() - (m.done.Load() - told)) // the holes
	return manifest, nil
}

func (d *Driver) openDisks(t cbt.Target) ([]*images, error) {
	var disks []*images
	for _, disk := range t.Disks {
		im, err := openSource(d.Roots, disk)
		if err != nil {
			closeDisks(disks)
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w: %w", cbt.ErrNoDisk, err)
			}
			return nil, err
		}
		disks = append(disks, im)
	}
	return disks, nil
}

func closeDisks(disks []*images) {
	for _, im := range disks {
		im.Close()
	}
}

// settle looks at the files, and waits, for one tick at most, until a write that comes
// now would give each another time. A file that was written meanwhile looks other than
// it says.
func settle(ctx context.Context, disks []*images) (all [][]stamp, err error) {
	var youngest time.Time
	for _, im := range disks {
		stamps, err := im.stamps()
		if err != nil {
			return nil, err
		}
		for _, x := range stamps {
			if x.Time.After(youngest) {
				youngest = x.Time
			}
		}
		all = append(all, stamps)
	}
	wait := clockTick - time.Since(youngest)
	if wait <= 0 || wait > clockTick { // old, or of another clock than ours
		return all, nil
	}
	select {
	case <-time.After(wait):
		return all, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// written says whether a disk is open for writing or looks other than before. ErrInUse
// unless that is a raw image and allowed.
func written(t cbt.Target, disks []*images, before [][]stamp) (bool, error) {
	fuzzy := false
	for i, im := range disks {
		now, err := im.stamps()
		if err != nil {
			return false, err
		}
		if !im.InUse() && slices.Equal(now, before[i]) {
			continue
		}
		if !t.AllowFuzzy || im.format != cbt.FormatRaw {
			return false, fmt.Errorf("%w: somebody writes to %s", cbt.ErrInUse, t.Disks[i].Path)
		}
		fuzzy = true
	}
	return fuzzy, nil
}

// Changes reads what was kept, or, up to now, scans; see cbt.Driver.
func (d *Driver) Changes(ctx context.Context, t cbt.Target, span cbt.Span, from cbt.Cursor, each func(int, cbt.Extent) error) error {
	all, err := d.changes(ctx, t, span)
	if err != nil {
		return err
	}
	for disk := from.Disk; disk < len(all); disk++ {
		for _, e := range all[disk] {
			part, ok := from.Cut(disk, e)
			if !ok {
				continue
			}
			if err := each(disk, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Driver) changes(ctx context.Context, t cbt.Target, span cbt.Span) ([][]cbt.Extent, error) {
	if span.From == 0 {
		return d.allocated(t)
	}
	points, err := t.Chain.Points(span)
	if err != nil || len(points) == 0 {
		return nil, err // from a checkpoint to itself nothing was written
	}
	s, release, err := d.contact(ctx, t)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.whole(t.Chain); err != nil {
		return nil, err
	}
	all := make([][]cbt.Extent, len(t.Disks))
	for disk := range t.Disks {
		if all[disk], err = s.kept(span, disk); err != nil {
			return nil, err
		}
	}
	if span.To == 0 {
		err = d.unkept(ctx, s, all)
	}
	return all, err
}

// kept joins the deltas of a span.
func (s *shelf) kept(span cbt.Span, disk int) ([]cbt.Extent, error) {
	var lists [][]cbt.Extent
	size := s.points[span.From].Point.Sizes[disk]
	before := 0
	for _, seq := range s.seqs() {
		if before >= span.From && (span.To == 0 || seq <= span.To) {
			x, err := s.get(deltaName(before, seq, disk))
			if err != nil {
				return nil, s.lost(disk, before)
			}
			lists, size = append(lists, x.extents), x.size
		}
		before = seq
	}
	return clip(cbt.Union(lists...), size), nil
}

// unkept adds what differs now from the youngest checkpoint.
func (d *Driver) unkept(ctx context.Context, s *shelf, all [][]cbt.Extent) error {
	seen, err := d.read(ctx, s)
	if err != nil {
		return err
	}
	for disk, now := range seen.manifests {
		before, err := s.manifest(disk)
		if err != nil {
			return err
		}
		all[disk] = clip(cbt.Union(all[disk], Compare(before, now)), now.Size)
	}
	return nil
}

func (d *Driver) allocated(t cbt.Target) ([][]cbt.Extent, error) {
	if err := d.check(t); err != nil {
		return nil, err
	}
	disks, err := d.openDisks(t)
	if err != nil {
		return nil, err
	}
	defer closeDisks(disks)
	all := make([][]cbt.Extent, len(disks))
	for i, im := range disks {
		if im.format == cbt.FormatQcow2 && im.InUse() {
			return nil, fmt.Errorf("%w: somebody writes to %s", cbt.ErrInUse, t.Disks[i].Path)
		}
		err := im.Data(func(e cbt.Extent) error {
			all[i] = append(all[i], e)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Trim removes checkpoints that are not recorded; see cbt.Driver.
func (d *Driver) Trim(ctx context.Context, t cbt.Target) error {
	s, release, err := d.contact(ctx, t)
	if err != nil {
		return err
	}
	defer release()
	return s.fold(t.Chain, 0)
}
