package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

const (
	block = cbt.DefaultGranularity
	token = "00112233445566778899aabbccddeeff"
)

// mark makes a checkpoint and records it in the bench's target.
func (b *bench) mark(seq int) cbt.Point {
	b.t.Helper()
	p, err := b.driver.Checkpoint(b.t.Context(), b.target, seq)
	if err != nil {
		b.t.Fatalf("checkpoint %d: %v", seq, err)
	}
	b.target.Chain = append(slices.Clone(b.target.Chain), p)
	return p
}

// changes lists the extents of the first disk.
func (b *bench) changes(span cbt.Span) (found []cbt.Extent, err error) {
	err = b.driver.Changes(b.t.Context(), b.target, span, cbt.Cursor{}, func(disk int, e cbt.Extent) error {
		if disk == 0 {
			found = append(found, e)
		}
		return nil
	})
	return found, err
}

func (b *bench) want(span cbt.Span, want ...cbt.Extent) {
	b.t.Helper()
	got, err := b.changes(span)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		b.t.Errorf("changes of %+v: error %v (-want +got):\n%s", span, err, diff)
	}
}

// Whatever happens to a file that is kept: either it is told, or the answer is right.
func TestDamageIsTold(t *testing.T) {
	t.Parallel()
	damages := map[string]func(data []byte) []byte{
		"gone":      nil,
		"empty":     func([]byte) []byte { return nil },
		"cut":       func(data []byte) []byte { return data[:len(data)-1] },
		"flipped":   func(data []byte) []byte { data[len(data)/2] ^= 1; return data },
		"elsewhere": func(data []byte) []byte { data[0] ^= 1; return data },
		"longer":    func(data []byte) []byte { return append(data, 0) },
	}
	for _, file := range []string{"key", "point-1", "point-2", "base-1-0", "delta-1-2-0", "delta-2-3-0"} {
		for name, damage := range damages {
			t.Run(file+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 1, 1<<20, cbt.FormatRaw)
				b.mark(1)
				b.Write(0, 0, block, 1)
				b.mark(2)
				b.Write(0, 3*block, block, 2)
				b.mark(3)
				b.Write(0, 5*block, block, 3)
				spoil(t, filepath.Join(shelfPath(b.target), file), damage)
				b.wantToldOrRight()
				b.target.Chain = nil
				if err := b.driver.Trim(t.Context(), b.target); err != nil {
					t.Fatalf("a chain that was given up cannot be cleared: %v", err)
				}
				b.mark(4)
				b.Write(0, 7*block, block, 4)
				b.want(cbt.Span{From: 4}, cbt.Extent{Offset: 7 * block, Length: block})
			})
		}
	}
}

func spoil(t *testing.T, path string, damage func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil && damage == nil {
		err = os.Remove(path)
	} else if err == nil {
		err = os.WriteFile(path, damage(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) wantToldOrRight() {
	b.t.Helper()
	dirty := func(at ...uint64) (all []cbt.Extent) {
		for _, k := range at {
			all = append(all, cbt.Extent{Offset: k * block, Length: block})
		}
		return all
	}
	for span, right := range map[cbt.Span][]cbt.Extent{
		{From: 1, To: 2}: dirty(0), {From: 1, To: 3}: dirty(0, 3), {From: 2}: dirty(3, 5), {From: 3}: dirty(5),
	} {
		got, err := b.changes(span)
		broken := (*cbt.ChainBroken)(nil)
		if err != nil && !errors.As(err, &broken) || err == nil && !slices.Equal(got, right) {
			b.t.Errorf("span %+v: got %v, error %v", span, got, err)
		}
	}
	p, err := b.driver.Checkpoint(b.t.Context(), b.target, 4)
	broken := (*cbt.ChainBroken)(nil)
	if err != nil && !errors.As(err, &broken) || err == nil && p.Changed != block {
		b.t.Errorf("got point %+v, error %v", p, err)
	}
}

func TestImagesInUse(t *testing.T) {
	t.Parallel()
	t.Run("raw", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, 1, 1<<20, cbt.FormatRaw)
		writer, err := os.OpenFile(b.target.Disks[0].Path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.driver.Checkpoint(t.Context(), b.target, 1); !errors.Is(err, cbt.ErrInUse) {
			t.Errorf("got error %v of a file that is open for writing, want ErrInUse", err)
		}
		report, err := b.driver.Probe(t.Context(), b.target)
		if err != nil || !report.InUse {
			t.Errorf("got report %+v, error %v", report, err)
		}
		b.target.AllowFuzzy = true
		if p := b.mark(1); !p.Fuzzy {
			t.Error("the point of a file in use is not fuzzy")
		}
		writer.Close()
		if p := b.mark(2); p.Fuzzy {
			t.Error("the point of a file that nobody writes is fuzzy")
		}
	})
	t.Run("raw, written in the middle", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, 1, 1<<20, cbt.FormatRaw)
		b.Write(0, 0, 1<<20, 1)
		wrote := false
		b.target.Progress = func(uint64, uint64) {
			if !wrote {
				wrote = true
				b.Write(0, 0, block, 2)
			}
		}
		if _, err := b.driver.Checkpoint(t.Context(), b.target, 1); !errors.Is(err, cbt.ErrInUse) {
			t.Errorf("got error %v, want ErrInUse", err)
		}
		wrote, b.target.AllowFuzzy = false, true
		if p := b.mark(1); !p.Fuzzy {
			t.Error("the point is not fuzzy")
		}
	})
	t.Run("qcow2", func(t *testing.T) {
		t.Parallel()
		m := cbttest.Start(t, cbttest.Shape{})
		m.Target.AllowFuzzy = true
		d := &Driver{Roots: m.Roots}
		if _, err := d.Checkpoint(t.Context(), m.Target, 1); !errors.Is(err, cbt.ErrInUse) {
			t.Errorf("got error %v of an image that QEMU has, want ErrInUse", err)
		}
		err := d.Changes(t.Context(), m.Target, cbt.Span{}, cbt.Cursor{}, func(int, cbt.Extent) error { return nil })
		if !errors.Is(err, cbt.ErrInUse) {
			t.Errorf("got error %v, want ErrInUse", err)
		}
	})
}

// A disk that is never left alone is refused, or read as it is where that is allowed:
// nobody waits for it to come to rest.
func TestADiskThatIsWrittenAllTheTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, format string
		fuzzy        bool
	}{
		{"raw", cbt.FormatRaw, false}, {"raw, fuzzy allowed", cbt.FormatRaw, true}, {"qcow2, fuzzy allowed", cbt.FormatQcow2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, 1<<20, c.format)
			b.target.AllowFuzzy = c.fuzzy
			guest(t, b.target.Disks[0].Path)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			p, err := b.driver.Checkpoint(ctx, b.target, 1)
			if c.format == cbt.FormatRaw && c.fuzzy {
				if err != nil || !p.Fuzzy {
					t.Errorf("got point %+v, error %v; want a fuzzy point", p, err)
				}
			} else if !errors.Is(err, cbt.ErrInUse) {
				t.Errorf("got error %v, want ErrInUse", err)
			}
		})
	}
}

// guest writes to a file, more often than every tick of its file system's clock, until the
// test ends. What the file holds stays as it is.
func guest(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := f.ReadAt(first, 0); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(clockTick / 20)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := f.WriteAt(first, 0); err != nil {
				t.Errorf("the guest cannot write: %v", err)
			}
			<-tick.C
		}
	})
	t.Cleanup(func() {
		stop()
		writing.Wait()
		f.Close()
	})
}

func TestImagesBehindOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 4<<20, cbt.FormatQcow2)
	b.Write(0, 2*block, 3*block, 1)
	b.Write(0, 20*block, block, 2)
	base, top := b.target.Disks[0].Path, b.target.Disks[0].Path+"-top"
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
	b.target.Disks[0].Path = top
	b.mark(1)
	b.Write(0, 3*block, block, 0)
	b.Write(0, 40*block, 512, 3)
	b.want(cbt.Span{From: 1}, cbt.Extent{Offset: 3 * block, Length: block, Zero: true}, cbt.Extent{Offset: 40 * block, Length: block})
	got, err := b.changes(cbt.Span{})
	if err != nil || cbt.Bytes(got) != 5*block {
		t.Errorf("got %v allocated, error %v; want 5 blocks", got, err)
	}
	b.wantServed(2)

	outside := filepath.Join(cbttest.Dir(t), "outside")
	cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", outside, "4M")
	cbttest.Command(t, "qemu-img", "rebase", "-u", "-F", "qcow2", "-b", outside, top)
	if _, err := b.changes(cbt.Span{}); !errors.Is(err, cbt.ErrNotAllowed) {
		t.Errorf("got error %v for an image behind outside of the roots, want ErrNotAllowed", err)
	}
	cbttest.Command(t, "qemu-img", "rebase", "-u", "-F", "raw", "-b", "/dev/zero", top)
	if _, err := b.changes(cbt.Span{}); !errors.Is(err, cbt.ErrNotAllowed) {
		t.Errorf("got error %v for a device behind, want ErrNotAllowed", err)
	}
	cbttest.Command(t, "qemu-img", "rebase", "-u", "-F", "qcow2", "-b", top, top)
	if _, err := b.changes(cbt.Span{}); !errors.Is(err, cbt.ErrUnsupported) {
		t.Errorf("got error %v for an image behind itself, want ErrUnsupported", err)
	}
}

// An image behind another is where QEMU would look for it, also where links lead to the
// other one.
func TestImagesBehindOthersByLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, link, to, opened, backing string }{
		{"the image is a link", "link", "far/top", "link", "disk0"},
		{"its directory is a link", "near/link", "far", "near/link/top", "../disk0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, 1<<20, cbt.FormatQcow2)
			b.Write(0, 2*block, block, 1)
			dir := filepath.Dir(b.target.Dir)
			for _, name := range []string{"near", "far"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(filepath.Join(dir, c.to), filepath.Join(dir, c.link)); err != nil {
				t.Fatal(err)
			}
			cbttest.Command(t, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(dir, "far/top"), "1M")
			b.target.Disks[0].Path = dir + "/" + c.opened
			cbttest.Command(t, "qemu-img", "rebase", "-u", "-F", "qcow2", "-b", c.backing, b.target.Disks[0].Path)
			cbttest.Command(t, "qemu-img", "map", b.target.Disks[0].Path) // QEMU finds it
			got, err := b.changes(cbt.Span{})
			if want := []cbt.Extent{{Offset: 2 * block, Length: block}}; err != nil || !cmp.Equal(got, want) {
				t.Errorf("got %v allocated, error %v; want %v", got, err, want)
			}
		})
	}
}

// wantServed opens a session and reads it, with tools that are not ours too.
func (b *bench) wantServed(seq int) cbt.Export {
	b.t.Helper()
	cbttest.Need(b.t, "nbdcopy", "nbdinfo")
	p, exports, err := b.driver.Open(b.t.Context(), b.target, cbt.Session{Seq: seq, From: seq - 1, Token: token})
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	b.target.Chain = append(slices.Clone(b.target.Chain), p)
	uri := exports[0].URI()
	if b.target.Listen.TCP() {
		uri += "?tls-certificates=" + b.target.Listen.Certs
	}
	out := filepath.Join(cbttest.Dir(b.t), "copy")
	cbttest.Command(b.t, "nbdcopy", uri, out)
	if data, err := os.ReadFile(out); err != nil || !bytes.Equal(data, b.model[0]) {
		b.t.Errorf("nbdcopy does not read the disk (error %v)", err)
	}
	info := cbttest.Command(b.t, "nbdinfo", "--map="+exports[0].Context, uri)
	marked := 0
	for line := range strings.Lines(info) {
		var offset, length, flags uint64
		if n, _ := fmt.Sscan(line, &offset, &length, &flags); n == 3 && flags&nbd.Dirty != 0 {
			marked += int(length)
		}
	}
	extents, err := b.changes(cbt.Span{From: seq - 1, To: seq})
	if err != nil || uint64(marked) != cbt.Bytes(extents) {
		b.t.Errorf("nbdinfo sees %d bytes marked, want %d (error %v)\n%s", marked, cbt.Bytes(extents), err, info)
	}
	return exports[0]
}

func TestSessionOverTLS(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 1<<20, cbt.FormatRaw)
	b.target.Listen = cbt.Listen{Host: "127.0.0.1", Port: cbttest.Port(t), Certs: cbttest.Certs(t)}
	b.mark(1)
	b.Write(0, 3*block, 2*block, 1)
	e := b.wantServed(2)
	if _, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{}); err == nil {
		t.Error("a client without TLS is let in")
	}
	strangers, err := nbd.ClientTLS(cbttest.Certs(t), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	strangers.InsecureSkipVerify = true // the server has to refuse, not the client
	if _, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{TLS: strangers}); err == nil {
		t.Error("a client of another authority is let in")
	}
}

func TestAWrittenDiskEndsTheSession(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 1<<20, cbt.FormatRaw)
	b.mark(1)
	_, exports, err := b.driver.Open(t.Context(), b.target, cbt.Session{Seq: 2, From: 1, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	client, err := nbd.Dial(t.Context(), exports[0].Network, exports[0].Address, exports[0].Name, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Read(t.Context(), make([]byte, block), 0); err != nil {
		t.Fatal(err)
	}
	b.Write(0, 5*block, 1, 1)
	if err := client.Read(t.Context(), make([]byte, block), 0); err == nil {
		t.Error("a read succeeds after the disk was written")
	}
}

func TestAnotherProcessServes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 1<<20, cbt.FormatRaw)
	s := cbt.Session{Seq: 1, Token: token}
	if _, _, err := b.driver.Open(t.Context(), b.target, s); err != nil {
		t.Fatal(err)
	}
	other := &Driver{Roots: b.driver.Roots}
	if _, _, err := other.Open(t.Context(), b.target, s); !errors.Is(err, cbt.ErrBusy) {
		t.Errorf("got error %v, want ErrBusy", err)
	}
}

func TestSizesChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 4*block, cbt.FormatRaw)
	b.Write(0, 0, 4*block, 1)
	b.mark(1)
	resize := func(size int64) {
		t.Helper()
		if err := os.Truncate(b.target.Disks[0].Path, size); err != nil {
			t.Fatal(err)
		}
	}
	resize(2*block + 100)
	b.want(cbt.Span{From: 1}, cbt.Extent{Offset: 2 * block, Length: 100})
	b.mark(2)
	resize(6 * block)
	grown := []cbt.Extent{{Offset: 2 * block, Length: block}, {Offset: 3 * block, Length: 3 * block, Zero: true}}
	b.want(cbt.Span{From: 2}, grown...)
	b.mark(3)
	b.want(cbt.Span{From: 1, To: 3}, grown...) // block 3 held data at 1
}

func TestProgress(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, 8<<20, cbt.FormatRaw)
	b.Write(0, 0, 3<<20, 1)
	b.Write(1, 5<<20, 1<<20, 1)
	var last, of uint64
	b.target.Progress = func(done, total uint64) {
		if done < last || done > total {
			t.Errorf("told %d of %d after %d", done, total, last)
		}
		last, of = done, total
	}
	b.mark(1)
	if last != 16<<20 || of != 16<<20 {
		t.Errorf("told at last %d of %d, want all of 16 MiB", last, of)
	}
}

func TestModesOfFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 1<<20, cbt.FormatRaw)
	b.mark(1)
	if _, _, err := b.driver.Open(t.Context(), b.target, cbt.Session{Seq: 2, From: 1, Token: token}); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(b.target.Dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		do   func(t *cbt.Target)
		want error
	}{
		{"a disk that is not there", func(t *cbt.Target) { t.Disks[0].Path += "x" }, cbt.ErrNoDisk},
		{"a disk outside of the roots", func(t *cbt.Target) { t.Disks[0].Path = "/etc/passwd" }, cbt.ErrNotAllowed},
		{"a directory outside of the roots", func(t *cbt.Target) { t.Dir = "/etc" }, cbt.ErrNotAllowed},
		{"a way out by a link", func(t *cbt.Target) {
			t.Disks[0].Path += "-link"
			_ = os.Symlink("/etc/passwd", t.Disks[0].Path)
		}, cbt.ErrNotAllowed},
		{"a directory for a disk", func(t *cbt.Target) {
			t.Disks[0].Path = filepath.Dir(t.Disks[0].Path) + "/d"
			_ = os.Mkdir(t.Disks[0].Path, 0o700)
		}, cbt.ErrUnsupported},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, 1<<20, cbt.FormatRaw)
			c.do(&b.target)
			if _, err := b.driver.Checkpoint(t.Context(), b.target, 1); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if _, err := b.changes(cbt.Span{}); !errors.Is(err, c.want) {
				t.Errorf("changes: got error %v, want %v", err, c.want)
			}
		})
	}
}
