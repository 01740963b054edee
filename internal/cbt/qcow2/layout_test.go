package qcow2_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// write makes an image of the runs of a disk, and returns its path.
func write(t testing.TB, path string, disk []byte, runs []qcow2.Run, backing string) {
	t.Helper()
	format := ""
	if backing != "" {
		format = "qcow2"
	}
	l, err := qcow2.Plan(uint64(len(disk)), runs, backing, format)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	var file bytes.Buffer
	if err := l.WriteTables(&file); err != nil {
		t.Fatal(err)
	}
	if uint64(file.Len()) != l.Start() {
		t.Errorf("the tables have %d bytes, told were %d", file.Len(), l.Start())
	}
	for _, r := range l.Runs() {
		if r.Kind == qcow2.Data {
			file.Write(disk[r.Offset : r.Offset+r.Length])
		}
	}
	file.Write(make([]byte, -file.Len()&(64<<10-1))) // of the disk's last cluster
	if uint64(file.Len()) != l.Length() {
		t.Errorf("the file has %d bytes, told were %d", file.Len(), l.Length())
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// random runs of a disk of size bytes, whole clusters or not.
func random(rnd *rand.Rand, size, step uint64) (runs []qcow2.Run) {
	for at := uint64(0); at < size; {
		length := min(step*(1+rnd.Uint64N(1+(4*64<<10)/step)), size-at)
		if kind := qcow2.Kind(rnd.IntN(3)); kind != qcow2.Unallocated {
			runs = append(runs, qcow2.Run{Offset: at, Length: length, Kind: kind})
		}
		at += length
	}
	return runs
}

// onto makes a disk what it is after some runs are written to it.
func onto(rnd *rand.Rand, disk []byte, runs []qcow2.Run) []byte {
	disk = bytes.Clone(disk)
	for _, r := range runs {
		part := disk[r.Offset : r.Offset+r.Length]
		clear(part)
		for i := range part {
			if r.Kind == qcow2.Data {
				part[i] = byte(rnd.Uint32())
			}
		}
	}
	return disk
}

// What is written is what QEMU reads, alone and on top of another image, and QEMU finds
// no fault in it.
func TestWritesWhatQEMUReads(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-img")
	for seed := range uint64(6) {
		for _, size := range []uint64{64 << 10, 3<<20 + 512, 5<<20 + 4096 + 512, 8 << 20} {
			t.Run(fmt.Sprintf("%d bytes %d", size, seed), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, size))
				step := []uint64{512, 4096, 64 << 10}[seed%3]
				dir := cbttest.Dir(t)
				full, over := filepath.Join(dir, "full"), filepath.Join(dir, "over")
				runs := random(rnd, size, step)
				before := onto(rnd, make([]byte, size), runs)
				write(t, full, before, runs, "")
				wantDisk(t, full, before)
				runs = random(rnd, size, step)
				after := onto(rnd, before, runs)
				write(t, over, after, runs, "full")
				wantDisk(t, over, after)
				if seed == 0 && size == 8<<20 {
					write(t, over, after, nil, "full")
					wantDisk(t, over, before)
				}
			})
		}
	}
}

func wantDisk(t *testing.T, path string, want []byte) {
	t.Helper()
	cbttest.Command(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
	cbttest.Command(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, path+"-raw")
	got, err := os.ReadFile(path + "-raw")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not read as what was written", path)
	}
}

// counted discards, and counts.
type counted struct{ n uint64 }

func (c *counted) Write(p []byte) (int, error) {
	c.n += uint64(len(p))
	return len(p), nil
}

// Tables of large disks keep to what was told, with counts of counts and all.
func TestLayoutOfLargeDisks(t *testing.T) {
	t.Parallel()
	const tib = 1 << 40
	for _, c := range []struct {
		name string
		size uint64
		runs []qcow2.Run
	}{
		{"nothing", 16 * tib, nil},
		{"the two ends", tib, []qcow2.Run{{Offset: 0, Length: 1, Kind: qcow2.Data}, {Offset: tib - 1, Length: 1, Kind: qcow2.Data}}},
		{"all of it", 64 << 30, []qcow2.Run{{Offset: 0, Length: 64 << 30, Kind: qcow2.Data}}},
		{"zeros over the edge of a table", tib, []qcow2.Run{{Offset: 512<<20 - 64<<10, Length: 128 << 10, Kind: qcow2.Zero}}},
	} {
		l, err := qcow2.Plan(c.size, c.runs, "base", "qcow2")
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got counted
		if err := l.WriteTables(&got); err != nil || got.n != l.Start() {
			t.Errorf("%s: the tables have %d bytes, error %v; told were %d", c.name, got.n, err, l.Start())
		}
	}
}

func TestPlansThatAreNone(t *testing.T) {
	t.Parallel()
	run := func(offset, length uint64) []qcow2.Run {
		return []qcow2.Run{{Offset: offset, Length: length, Kind: qcow2.Data}}
	}
	for _, c := range []struct {
		name            string
		size            uint64
		runs            []qcow2.Run
		backing, format string
	}{
		{"behind the end", 1 << 20, run(1<<20-1, 2), "", ""},
		{"an offset that wraps", 1 << 20, run(1<<64-1, 2), "", ""},
		{"back", 1 << 20, append(run(65536, 1), run(0, 1)...), "", ""},
		{"over each other", 1 << 20, append(run(0, 1024), run(512, 1024)...), "", ""},
		{"unallocated", 1 << 20, []qcow2.Run{{Length: 1}}, "", ""},
		{"a disk beyond the first table", 1 << 62, nil, "", ""},
		{"a backing file without format", 1 << 20, nil, "base", ""},
		{"a name that does not fit", 1 << 20, nil, string(make([]byte, 2000)), "qcow2"},
	} {
		if _, err := qcow2.Plan(c.size, c.runs, c.backing, c.format); err == nil {
			t.Errorf("%s: got no error", c.name)
		}
	}
}

// FuzzLayout has our reader find what the writer was told.
func FuzzLayout(f *testing.F) {
	f.Add(uint64(1), uint32(5<<20+512), uint16(512))
	f.Add(uint64(2), uint32(1), uint16(1))
	f.Add(uint64(3), uint32(64<<10), uint16(65535))
	f.Fuzz(func(t *testing.T, seed uint64, size uint32, step uint16) {
		if size == 0 || size > 16<<20 || step == 0 || size/uint32(step) > 1<<16 {
			t.Skip()
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		runs := random(rnd, uint64(size), uint64(step))
		disk := onto(rnd, make([]byte, size), runs)
		path := filepath.Join(t.TempDir(), "image")
		write(t, path, disk, runs, "base")
		im := open(t, path)
		got := make([]byte, size)
		if n, err := im.ReadAt(got, 0); n < len(got) && err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, disk) {
			t.Error("the image does not read as what was written")
		}
		if name, format := im.Backing(); name != "base" || format != "qcow2" {
			t.Errorf("got backing %q of format %q", name, format)
		}
		wantCovered(t, im, runs, uint64(size))
	})
}

// wantCovered checks that the image has the runs, and beyond them parts of clusters
// alone.
func wantCovered(t *testing.T, im *qcow2.Image, runs []qcow2.Run, size uint64) {
	t.Helper()
	for _, r := range runs {
		for at := r.Offset; at < r.Offset+r.Length; at += 64 << 10 {
			if found, err := im.RunAt(at); err != nil || found.Kind == qcow2.Unallocated {
				t.Fatalf("byte %d of a run is %v, error %v", at, found, err)
			}
		}
	}
	err := im.Walk(0, func(found qcow2.Run) error {
		touched := false
		for _, r := range runs {
			touched = touched || r.Offset < found.Offset+found.Length && found.Offset < r.Offset+r.Length
		}
		if found.Kind != qcow2.Unallocated && !touched {
			t.Errorf("%+v is in no run", found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
