package tracking

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/pkg/executor"
)

// Of the disk that is copied: 1,600 blocks of 4 GiB are changed between two backups.
const (
	benchDisk    = 4 << 30
	benchChanged = 1600
)

// benchData is how much of the disk holds data, in bytes: 1 GiB, or what CBT_BENCH_MIB
// says.
func benchData() uint64 {
	mib := uint64(1 << 10)
	_, _ = fmt.Sscan(os.Getenv("CBT_BENCH_MIB"), &mib) // it stays as it is
	return mib << 20
}

// copying is a machine for benchmarks, and plays the engine.
type copying struct {
	*Host
	b      *testing.B
	q      *cbttest.Machine
	dir    string
	record cbt.Record
}

func newCopying(b *testing.B) *copying {
	b.Helper()
	q := cbttest.Start(b, cbttest.Shape{Size: benchDisk})
	dir := cbttest.Dir(b)
	h, err := New(Settings{
		Roots: append([]string{dir}, q.Roots...), Dir: filepath.Join(dir, "takt"), Backups: filepath.Join(dir, "backups"),
		Machines: []Machine{{UUID: machine, QMP: q.Target.QMP, Disks: q.Target.Disks}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Close() })
	c := &copying{Host: h, b: b, q: q, dir: dir}
	for at := uint64(0); at < benchData(); at += 32 << 20 {
		q.Write(0, at, 32<<20, byte(1+at>>25))
	}
	return c
}

func (c *copying) do(o cbt.Order) {
	c.b.Helper()
	o.Task, o.Machine, o.Driver, o.Record = task, machine, cbt.DriverAuto, c.record
	text, err := json.Marshal(o)
	if err != nil {
		c.b.Fatal(err)
	}
	res, err := c.Execute(context.WithoutCancel(c.b.Context()), executor.Attempt{Parameters: map[string]string{Parameter: string(text)}, Log: c.b.Output()})
	if err != nil {
		c.b.Fatal(err)
	}
	if c.record, _, err = cbt.ReadAnswer(res.Output); err != nil {
		c.b.Fatal(err)
	}
}

func (c *copying) backup(seq, from int) {
	c.b.Helper()
	c.do(cbt.Order{Op: cbt.OpBackup, Session: cbt.Session{Seq: seq, From: from, Token: token}})
}

// BenchmarkBackup copies by orders, all included, and by QEMU's and libnbd's programs
// from the export of an open session.
func BenchmarkBackup(b *testing.B) {
	cbttest.Need(b, "qemu-img", "nbdcopy")
	c := newCopying(b)
	seq := 0
	b.Run("full", func(b *testing.B) {
		b.SetBytes(int64(benchData()))
		for b.Loop() {
			if seq > 0 { // files of programs that are compared with are removed, too
				b.StopTimer()
				c.do(cbt.Order{Op: cbt.OpDiscard, Seq: seq})
				b.StartTimer()
			}
			seq++
			c.backup(seq, 0)
		}
	})
	b.Run("incremental", func(b *testing.B) {
		b.SetBytes(benchChanged * block)
		for b.Loop() {
			b.StopTimer()
			for i := range uint64(benchChanged) {
				c.q.Write(0, i*40*block, 4096, byte(seq))
			}
			b.StartTimer()
			seq++
			c.backup(seq, seq-1)
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(int64(benchData()))
		for b.Loop() {
			into, err := os.MkdirTemp(c.dir, "into-")
			if err != nil {
				b.Fatal(err)
			}
			c.do(cbt.Order{Op: cbt.OpRestore, Seq: seq, Into: into})
			if err := os.RemoveAll(into); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			c.do(cbt.Order{Op: cbt.OpVerify, Seq: seq})
		}
	})
	last := filepath.Join(c.dir, "backups", machine, cbt.CheckpointName(task, seq), "volume0.qcow2")
	seq++
	c.do(cbt.Order{Op: cbt.OpOpen, Session: cbt.Session{Seq: seq, Token: token}})
	uri := c.record.Open.Exports[0].URI()
	for _, other := range []struct {
		name    string
		command []string
	}{
		{"full by qemu-img", []string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, "@"}},
		{"full by qemu-img out of order", []string{"qemu-img", "convert", "-W", "-m", "8", "-f", "raw", "-O", "qcow2", uri, "@"}},
		{"full by nbdcopy", []string{"nbdcopy", "--flush", uri, "@"}},
		{"restore by qemu-img", []string{"qemu-img", "convert", "-O", "raw", last, "@"}},
	} {
		b.Run(other.name, func(b *testing.B) {
			b.SetBytes(int64(benchData()))
			path := filepath.Join(c.dir, "copy")
			for b.Loop() {
				arguments := append([]string(nil), other.command...)
				arguments[len(arguments)-1] = path
				if out, err := exec.Command(arguments[0], arguments[1:]...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				if err := exec.Command("sync", path).Run(); err != nil {
					b.Fatal(err)
				}
				if err := os.Remove(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
