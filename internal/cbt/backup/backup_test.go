package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/backup"
)

const (
	task    = "0123456789abcdef0123456789abcdef"
	machine = "4d1c2b0e7c2a4b579a620d3d7a1b9f01"
)

// disk reads from memory.
type disk []byte

func (d disk) Close() error { return nil }

func (d disk) Read(ctx context.Context, p []byte, offset uint64) error {
	copy(p, d[offset:])
	return ctx.Err()
}

func (d disk) open(context.Context) (backup.Reader, error) { return d, nil }

// of is the disk for a backup.
func (d disk) of(extents []cbt.Extent, based bool) backup.Disk {
	return backup.Disk{Volume: "v", Size: uint64(len(d)), Extents: extents, Based: based, Open: d.open}
}

// keep makes a backup and returns it.
func keep(t *testing.T, s backup.Set, c backup.Copy) cbt.Backup {
	t.Helper()
	files, err := s.Write(t.Context(), c)
	if err != nil {
		t.Fatalf("write backup %d: %v", c.Seq, err)
	}
	b := cbt.Backup{Seq: c.Seq, Base: c.Base, Dir: s.Dir(c.Seq), Files: files}
	if err := s.Seal(backup.Sheet{Backup: b}); err != nil {
		t.Fatalf("seal backup %d: %v", c.Seq, err)
	}
	return b
}

// change writes stretches of data and of zeros to a disk, of any length, and tells which.
func change(rnd *rand.Rand, was disk, size uint64, n int) (is disk, extents []cbt.Extent) {
	is = make(disk, size)
	copy(is, was)
	for at, i := rnd.Uint64N(size/uint64(n)), 0; i < n && at < size; i++ {
		e := cbt.Extent{Offset: at, Length: min(1+rnd.Uint64N(3<<16), size-at), Zero: rnd.IntN(3) == 0}
		part := is[e.Offset:e.End()]
		clear(part)
		for k := range part {
			if !e.Zero {
				part[k] = byte(rnd.Uint32())
			}
		}
		extents = append(extents, e)
		at = e.End() + rnd.Uint64N(2*size/uint64(n))
	}
	return is, extents
}

// Whatever was written, each backup of a chain restores to what was there.
func TestAnyChainRestores(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			s := backup.Of(t.TempDir(), machine, task)
			now, size := disk{}, 2<<20+rnd.Uint64N(1<<20)
			var disks []disk
			var all []cbt.Backup
			for seq := 1; seq <= 4; seq++ {
				var extents []cbt.Extent
				now, extents = change(rnd, now, size, 1+rnd.IntN(20))
				c := backup.Copy{Seq: seq, Base: seq - 1, Disks: []backup.Disk{now.of(extents, seq > 1)}}
				all, disks = append(all, keep(t, s, c)), append(disks, now)
				size += rnd.Uint64N(200_000)
			}
			for i, want := range disks {
				wantRestored(t, s, all, i+1, want)
			}
		})
	}
}

func wantRestored(t *testing.T, s backup.Set, all []cbt.Backup, seq int, want disk) {
	t.Helper()
	chain, err := backup.Chain(all, seq)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), chain, nil); err != nil {
		t.Errorf("verify backup %d: %v", seq, err)
	}
	r, path := backup.Restore{Chain: chain, Volume: "v"}, filepath.Join(t.TempDir(), "raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), r, backup.NewFile(f)); err != nil {
		t.Fatalf("restore backup %d: %v", seq, err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("backup %d does not restore to its moment, error %v", seq, err)
	}
	for _, c := range []struct {
		name string
		data []byte
		want bool
	}{
		{"as it was", got, true},
		{"short", got[:len(got)-1], false},
		{"another", append(bytes.Clone(got[:len(got)-1]), got[len(got)-1]^1), false},
	} {
		if same, err := s.Same(t.Context(), r, bytes.NewReader(c.data)); err != nil || same != c.want {
			t.Errorf("%s: got same %v, error %v, want %v", c.name, same, err, c.want)
		}
	}
}

// failing reads some bytes and then no more.
type failing struct {
	disk
	left *atomic.Int64
	err  error
}

func (f failing) Read(ctx context.Context, p []byte, offset uint64) error {
	if f.left.Add(-int64(len(p))) < 0 {
		return f.err
	}
	return f.disk.Read(ctx, p, offset)
}

func TestCopiesThatFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	data := disk(bytes.Repeat([]byte{1}, 10<<20))
	whole := []cbt.Extent{{Length: 10 << 20}}
	opened := 0
	left := new(atomic.Int64) // of all connections: which of them reads how much is not known
	left.Store(3 << 20)
	for _, c := range []struct {
		name string
		disk backup.Disk
		want error
	}{
		{"a read", backup.Disk{Volume: "v", Size: 10 << 20, Extents: whole, Open: func(context.Context) (backup.Reader, error) {
			return failing{data, left, broken}, nil
		}}, broken},
		{"the third connection", backup.Disk{Volume: "v", Size: 10 << 20, Extents: whole, Open: func(context.Context) (backup.Reader, error) {
			if opened++; opened == 3 {
				return nil, broken
			}
			return data, nil
		}}, broken},
		{"a name that leads away", backup.Disk{Volume: "../v", Size: 10 << 20, Extents: whole, Open: data.open}, cbt.ErrUnsupported},
		{"more than there is room for", backup.Disk{Volume: "v", Size: 1 << 50, Extents: []cbt.Extent{{Length: 1 << 50}}, Open: data.open}, cbt.ErrNoSpace},
	} {
		s := backup.Of(t.TempDir(), machine, task)
		if _, err := s.Write(t.Context(), backup.Copy{Seq: 1, Disks: []backup.Disk{c.disk}}); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
		if _, err := s.Read(1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: reading the backup got error %v, want that it is not there", c.name, err)
		}
		if err := s.Clear(); err != nil || s.Has(cbt.Backup{Seq: 1}) || len(s.Strays(nil)) > 0 {
			t.Errorf("%s: something is left, error %v", c.name, err)
		}
	}
}

// A copy takes the time that its rate allows, and not much memory ahead of it.
func TestRate(t *testing.T) {
	t.Parallel()
	data := disk(bytes.Repeat([]byte{1}, 4<<20))
	s := backup.Of(t.TempDir(), machine, task)
	begin := time.Now()
	c := backup.Copy{Seq: 1, Rate: 10 << 20, Disks: []backup.Disk{data.of([]cbt.Extent{{Length: 4 << 20}}, false)}}
	if _, err := s.Write(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond { // the first piece of four goes at once
		t.Errorf("4 MiB at 10 MiB/s took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Rate, c.Seq = 1, 2
	c.Progress = func(uint64, uint64) { cancel() }
	if _, err := s.Write(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v of a copy that was canceled while it waited", err)
	}
}

// Progress comes to its end, disks together.
func TestProgress(t *testing.T) {
	t.Parallel()
	data := disk(bytes.Repeat([]byte{1}, 3<<20))
	extents := []cbt.Extent{{Length: 100}, {Offset: 2 << 20, Length: 1 << 20}}
	two := data.of(extents, false)
	two.Volume = "w"
	var told [][2]uint64
	c := backup.Copy{Seq: 1, Disks: []backup.Disk{data.of(extents, false), two}, Progress: func(done, total uint64) {
		told = append(told, [2]uint64{done, total})
	}}
	s := backup.Of(t.TempDir(), machine, task)
	b := keep(t, s, c)
	const each = 64<<10 + 1<<20
	want := [][2]uint64{{64 << 10, 2 * each}, {each, 2 * each}, {each + 64<<10, 2 * each}, {2 * each, 2 * each}}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if b.Files[0].Bytes != each || b.Files[1].Name != "w.qcow2" {
		t.Errorf("got files %+v", b.Files)
	}
}

// What is known to be zeros is not read, and hides what the base has there.
func TestZerosAreNotRead(t *testing.T) {
	t.Parallel()
	s := backup.Of(t.TempDir(), machine, task)
	data := disk(bytes.Repeat([]byte{1}, 2<<20))
	all := []cbt.Backup{keep(t, s, backup.Copy{Seq: 1, Disks: []backup.Disk{data.of([]cbt.Extent{{Length: 2 << 20}}, false)}})}
	clear(data[1<<20:])
	over := data.of([]cbt.Extent{{Offset: 1 << 20, Length: 1 << 20, Zero: true}}, true)
	over.Open = func(context.Context) (backup.Reader, error) {
		return failing{data, new(atomic.Int64), errors.New("it was read")}, nil
	}
	all = append(all, keep(t, s, backup.Copy{Seq: 2, Base: 1, Disks: []backup.Disk{over}}))
	if n := all[1].Files[0].Bytes; n != 0 {
		t.Errorf("got %d bytes copied, want none", n)
	}
	wantRestored(t, s, all, 2, data)
}

// A chain is believed as far as its record goes, and files as far as they agree with it.
func TestChainsThatAreWrong(t *testing.T) {
	t.Parallel()
	for _, all := range [][]cbt.Backup{
		nil, {{Seq: 2, Base: 1}}, {{Seq: 1, Base: 2}, {Seq: 2, Base: 1}}, {{Seq: 2, Base: 2}},
	} {
		if chain, err := backup.Chain(all, 2); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("of %+v: got chain %+v, error %v, want ErrDamaged", all, chain, err)
		}
	}
	s := backup.Of(t.TempDir(), machine, task)
	data := disk(bytes.Repeat([]byte{1}, 1<<20))
	extents := []cbt.Extent{{Length: 1 << 20}}
	all := []cbt.Backup{
		keep(t, s, backup.Copy{Seq: 1, Disks: []backup.Disk{data.of(extents, false)}}),
		keep(t, s, backup.Copy{Seq: 2, Base: 1, Disks: []backup.Disk{data.of(extents[:0], true)}}),
		keep(t, s, backup.Copy{Seq: 3, Base: 2, Disks: []backup.Disk{data.of(extents[:0], true)}}),
	}
	chain, err := backup.Chain(all, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		from, to int // a file is put in another's place
		chain    []cbt.Backup
		want     string
	}{
		{"another image behind it", 2, 3, chain, "behind it"},
		{"the first one has one behind it", 3, 1, chain, "behind it"},
		{"none behind the last", 1, 1, chain[:2], "has another behind it"},
	} {
		path := func(seq int) string { return filepath.Join(s.Dir(seq), "v.qcow2") }
		was, err := os.ReadFile(path(c.to))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(path(c.from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(c.to), other, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = s.Same(t.Context(), backup.Restore{Chain: c.chain, Volume: "v"}, bytes.NewReader(data))
		if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want ErrDamaged with %q", c.name, err, c.want)
		}
		if err := os.WriteFile(path(c.to), was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chain[0].Files[0].Size = 2 << 20
	if _, err := s.Same(t.Context(), backup.Restore{Chain: chain, Volume: "v"}, bytes.NewReader(data)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("got error %v of an image of another size, want ErrDamaged", err)
	}
}
