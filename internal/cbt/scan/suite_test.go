package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// bench is a set of images that the test writes and nobody else.
type bench struct {
	t      *testing.T
	target cbt.Target
	driver *Driver
	model  [][]byte
}

func newBench(t *testing.T, disks int, size uint64, format string) *bench {
	t.Helper()
	dir := cbttest.Dir(t)
	b := &bench{t: t, target: cbt.Target{Task: "0123456789abcdef0123456789abcdef", Dir: filepath.Join(dir, "vm")}}
	for i := range disks {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		b.target.Disks = append(b.target.Disks, cbt.Disk{Volume: fmt.Sprintf("volume%d", i), Path: path, Format: format})
		b.model = append(b.model, make([]byte, size))
		if format == cbt.FormatQcow2 {
			cbttest.Need(t, "qemu-img", "qemu-io")
			cbttest.Command(t, "qemu-img", "create", "-q", "-f", format, path, fmt.Sprint(size))
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		} else if err := os.Truncate(path, int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	b.Revive()
	t.Cleanup(func() { b.driver.Shutdown() })
	return b
}

func (b *bench) Driver() cbt.Driver    { return b.driver }
func (b *bench) Target() cbt.Target    { return b.target }
func (b *bench) Hook(f func(string))   { b.driver.step = f }
func (b *bench) Freezes() bool         { return false }
func (b *bench) Image(disk int) []byte { return append([]byte(nil), b.model[disk]...) }

// Revive ends what a dead worker's process would not serve any more either.
func (b *bench) Revive() {
	if b.driver != nil {
		b.driver.Shutdown()
	}
	b.driver = &Driver{Roots: cbt.Roots{filepath.Dir(b.target.Dir)}}
}

// Lose removes what the driver keeps.
func (b *bench) Lose() {
	if err := os.RemoveAll(b.target.Dir); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) Write(disk int, offset, length uint64, value byte) {
	b.t.Helper()
	part := b.model[disk][offset : offset+length]
	for i := range part {
		part[i] = value
	}
	path := b.target.Disks[disk].Path
	if b.target.Disks[disk].Format == cbt.FormatQcow2 {
		cbttest.Command(b.t, "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d %d %d", value, offset, length), path)
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(part, int64(offset)); err != nil {
		b.t.Fatal(err)
	}
}

func TestDriverOnRawImages(t *testing.T) {
	t.Parallel()
	cbttest.Run(t, func(t *testing.T, disks int, size uint64) cbttest.Bench {
		return newBench(t, disks, size, cbt.FormatRaw)
	})
}

func TestDriverOnQcow2Images(t *testing.T) {
	t.Parallel()
	cbttest.Run(t, func(t *testing.T, disks int, size uint64) cbttest.Bench {
		return newBench(t, disks, size, cbt.FormatQcow2)
	})
}
