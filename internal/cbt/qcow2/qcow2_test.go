package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

// create makes an image of 8 MiB and has qemu-io write to it.
func create(t testing.TB, options string, commands ...string) string {
	t.Helper()
	cbttest.Need(t, "qemu-img", "qemu-io")
	path := filepath.Join(cbttest.Dir(t), "image")
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "8M")
	scribble(t, path, commands...)
	return path
}

func scribble(t testing.TB, path string, commands ...string) {
	t.Helper()
	for _, c := range commands {
		cbttest.Command(t, "qemu-io", "-f", "qcow2", "-c", c, path)
	}
}

var writes = []string{"write -P 7 0 100k", "write -P 9 1234567 4321", "write -z 3M 1M", "write -P 3 3500k 1k", "discard 64k 64k", "write -P 200 8388000 608"}

func open(t testing.TB, path string) *qcow2.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	im, err := qcow2.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestReadsAsQEMUDoes(t *testing.T) {
	t.Parallel()
	for _, options := range []string{
		"cluster_size=64k", "cluster_size=512", "cluster_size=4k", "cluster_size=2M", "compat=0.10", "compat=0.10,cluster_size=4k",
		"lazy_refcounts=on", "refcount_bits=1", "preallocation=metadata",
	} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			wantAsQEMU(t, create(t, options, writes...))
		})
	}
	t.Run("compressed", func(t *testing.T) {
		t.Parallel()
		path := create(t, "cluster_size=64k", writes...)
		packed := path + "-packed"
		cbttest.Command(t, "qemu-img", "convert", "-c", "-O", "qcow2", path, packed)
		wantAsQEMU(t, packed)
	})
}

func wantAsQEMU(t *testing.T, path string) {
	t.Helper()
	raw := path + "-raw"
	cbttest.Command(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	im := open(t, path)
	got := make([]byte, im.Size())
	if n, err := im.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, want) {
		t.Errorf("read %d of %d bytes, error %v, or other ones than QEMU", n, len(want), err)
	}
	odd := make([]byte, 5000)
	if _, err := im.ReadAt(odd, 1233333); err != nil || !bytes.Equal(odd, want[1233333:][:5000]) {
		t.Errorf("a read across clusters: error %v, or other bytes than QEMU", err)
	}
	if n, err := im.ReadAt(odd, int64(im.Size())-10); n != 10 || err == nil {
		t.Errorf("a read across the end gave %d bytes, error %v", n, err)
	}
	var theirs []struct {
		Start, Length uint64
		Data          bool
	}
	if err := json.Unmarshal([]byte(cbttest.Command(t, "qemu-img", "map", "-f", "qcow2", "--output=json", path)), &theirs); err != nil {
		t.Fatal(err)
	}
	ours, mapped := make([]bool, im.Size()/512), make([]bool, im.Size()/512)
	for _, e := range theirs {
		for at := e.Start; e.Data && at < e.Start+e.Length; at += 512 {
			mapped[at/512] = true
		}
	}
	end := uint64(0)
	err = im.Walk(0, func(r qcow2.Run) error {
		if r.Offset != end {
			t.Errorf("run %+v begins behind byte %d", r, end)
		}
		end = r.Offset + r.Length
		for at := r.Offset; (r.Kind == qcow2.Data || r.Kind == qcow2.Compressed) && at < end; at += 512 {
			ours[at/512] = true
		}
		return nil
	})
	if err != nil || end != im.Size() {
		t.Errorf("the walk ends at %d of %d, error %v", end, im.Size(), err)
	}
	if diff := cmp.Diff(mapped, ours); diff != "" {
		t.Errorf("sectors with data (-qemu-img +ours):\n%s", diff)
	}
}

func TestBacking(t *testing.T) {
	t.Parallel()
	base := create(t, "cluster_size=64k")
	top := base + "-top"
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
	if name, format := open(t, top).Backing(); name != base || format != "qcow2" {
		t.Errorf("got %q as %q, want %q as qcow2", name, format, base)
	}
	if name, _ := open(t, base).Backing(); name != "" {
		t.Errorf("got %q behind an image that has none", name)
	}
}

func TestStoredBitmaps(t *testing.T) {
	t.Parallel()
	path := create(t, "cluster_size=64k")
	cbttest.Command(t, "qemu-img", "bitmap", "--add", "-g", "65536", path, "recording")
	cbttest.Command(t, "qemu-img", "bitmap", "--add", "-g", "4096", path, "fine")
	scribble(t, path, "write 0 10", "write 640k 128k", "write 8184k 8k")
	cbttest.Command(t, "qemu-img", "bitmap", "--disable", path, "fine")
	scribble(t, path, "write 2M 1")
	im := open(t, path)
	bitmaps, err := im.Bitmaps()
	if err != nil || len(bitmaps) != 2 {
		t.Fatalf("got bitmaps %+v, error %v", bitmaps, err)
	}
	const k = 1 << 10
	want := map[string][][2]uint64{
		"recording": {{0, 64 * k}, {640 * k, 128 * k}, {2048 * k, 64 * k}, {8128 * k, 64 * k}},
		"fine":      {{0, 4 * k}, {640 * k, 128 * k}, {8184 * k, 8 * k}},
	}
	for _, b := range bitmaps {
		var got [][2]uint64
		err := im.Dirty(b, func(offset, length uint64) error {
			got = append(got, [2]uint64{offset, length})
			return nil
		})
		if diff := cmp.Diff(want[b.Name], got); err != nil || diff != "" {
			t.Errorf("%s: error %v (-want +got):\n%s", b.Name, err, diff)
		}
		if b.InUse || b.Recording != (b.Name == "recording") {
			t.Errorf("got %+v", b)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		"compression_type=zstd": "not supported",
		"extended_l2=on":        "not supported",
		"data_file=" + filepath.Join(cbttest.Dir(t), "data"): "not supported",
	} {
		path := create(t, options)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := qcow2.Open(bytes.NewReader(data), int64(len(data))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", options, err, want)
		}
	}
	path := create(t, "cluster_size=64k", writes...)
	cbttest.Command(t, "qemu-img", "bitmap", "--add", path, "b")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	directory := binary.BigEndian.Uint64(extension(t, good)[16:])
	cases := []struct {
		name string
		do   func(p []byte)
	}{
		{"no magic", func(p []byte) { p[0] = 0 }},
		{"version", func(p []byte) { p[7] = 9 }},
		{"cluster size", func(p []byte) { p[23] = 60 }},
		{"disk of exabytes", func(p []byte) { p[24] = 0xff }},
		{"first table of gigabytes", func(p []byte) { p[36] = 0xff }},
		{"first table behind the end", func(p []byte) { p[41] = 0xff }},
		{"first table too short", func(p []byte) { clear(p[36:40]) }},
		{"second table behind the end", func(p []byte) { p[binary.BigEndian.Uint64(p[40:])+2] = 0xff }},
		{"encrypted", func(p []byte) { p[35] = 1 }},
		{"long name behind", func(p []byte) { p[14], p[17] = 1, 1 }},
		{"header length", func(p []byte) { p[100] = 1 }},
		{"directory of gigabytes", func(p []byte) { extension(nil, p)[9] = 0xff }},
		{"directory behind the end", func(p []byte) { extension(nil, p)[17] = 0xff }},
		{"too many bitmaps", func(p []byte) { extension(nil, p)[1] = 0xff }},
		{"one bitmap too many", func(p []byte) { extension(nil, p)[3] = 2; clear(p[directory+32:][:64]) }},
		{"granularity", func(p []byte) { p[directory+17] = 63 }},
		{"long name", func(p []byte) { p[directory+18] = 0xff }},
		{"extra data", func(p []byte) { p[directory+23] = 8 }},
		{"table too short", func(p []byte) { clear(p[directory+8:][:4]) }},
		{"table behind the end", func(p []byte) { p[directory+1] = 0xff }},
	}
	for _, c := range cases {
		data := bytes.Clone(good)
		c.do(data)
		if err := readAll(data); err == nil {
			t.Errorf("%s: it is read", c.name)
		}
	}
	small := create(t, "cluster_size=512", "write 0 8M")
	packed, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	for at, table := binary.BigEndian.Uint64(packed[40:]), packed[binary.BigEndian.Uint64(packed[40:]):][:8]; at < 2000*8; at += 8 {
		copy(packed[at:], table) // all entries name one second table
	}
	if err := readAll(packed[:1<<16]); err == nil || !strings.Contains(err.Error(), "more clusters") {
		t.Errorf("a first table that names one cluster many times: got error %v", err)
	}
	if err := readAll(good); err != nil {
		t.Errorf("the image itself: %v", err)
	}
}

// extension is the header extension of bitmaps.
func extension(t testing.TB, data []byte) []byte {
	at := bytes.Index(data[:4096], []byte{0x23, 0x85, 0x28, 0x75})
	if at < 0 && t != nil {
		t.Fatal("the image has no bitmaps")
	}
	return data[at+8:]
}

// readAll reads all that an image has.
func readAll(data []byte) error {
	im, err := qcow2.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	runs := 0
	errFull := fmt.Errorf("enough")
	err = im.Walk(0, func(r qcow2.Run) error {
		if runs++; runs > 10_000 {
			return errFull
		}
		_, err := im.ReadAt(make([]byte, min(r.Length, 1<<16)), int64(r.Offset))
		return err
	})
	if err != nil && err != errFull {
		return err
	}
	bitmaps, err := im.Bitmaps()
	if err != nil {
		return err
	}
	for _, b := range bitmaps {
		if b.InUse {
			continue
		}
		if err := im.Dirty(b, func(_, length uint64) error {
			if length == 0 {
				return fmt.Errorf("an empty stretch")
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// FuzzImage reads images that nobody made: it costs an error, and no memory beyond the
// image's own size.
func FuzzImage(f *testing.F) {
	if _, err := exec.LookPath("qemu-img"); err == nil {
		path := create(f, "cluster_size=512", "write -P 7 0 3k", "write -z 8k 1k")
		cbttest.Command(f, "qemu-img", "bitmap", "--add", "-g", "65536", path, "b")
		scribble(f, path, "write 100k 1k")
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Fuzz(func(_ *testing.T, data []byte) { _ = readAll(data) })
}
