package qemu

import (
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// bench is a real QEMU under the driver.
type bench struct {
	testing.TB
	*cbttest.Machine
	driver *Driver
}

func newBench(t *testing.T, shape cbttest.Shape) *bench {
	t.Helper()
	m := cbttest.Start(t, shape)
	return &bench{t, m, &Driver{Roots: m.Roots}}
}

func (b *bench) Driver() cbt.Driver  { return b.driver }
func (b *bench) Target() cbt.Target  { return b.Machine.Target }
func (b *bench) Revive()             { b.driver = &Driver{Roots: b.Roots} }
func (b *bench) Hook(f func(string)) { b.driver.step = f }
func (b *bench) Freezes() bool       { return true }

// Lose kills QEMU: bitmaps made in its run were never stored.
func (b *bench) Lose() {
	b.Kill()
	b.Boot()
}

func TestDriver(t *testing.T) {
	t.Parallel()
	cbttest.Run(t, func(t *testing.T, disks int, size uint64) cbttest.Bench {
		return newBench(t, cbttest.Shape{Disks: disks, Size: size})
	})
}

func TestKills(t *testing.T) {
	t.Parallel()
	cbttest.RunKills(t, func(t *testing.T, disks int, size uint64) cbttest.Bench {
		return newBench(t, cbttest.Shape{Disks: disks, Size: size})
	})
}
