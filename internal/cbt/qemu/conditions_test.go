package qemu

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qmp"
)

const (
	block = cbt.DefaultGranularity
	token = "00112233445566778899aabbccddeeff"
)

// mark makes a checkpoint and returns the target with it in the chain.
func mark(t *testing.T, d *Driver, target cbt.Target, seq int) cbt.Target {
	t.Helper()
	p, err := d.Checkpoint(t.Context(), target, seq)
	if err != nil {
		t.Fatalf("checkpoint %d: %v", seq, err)
	}
	target.Chain = append(slices.Clone(target.Chain), p)
	return target
}

// changed lists the blocks of the first disk that a span has, by index.
func changed(t *testing.T, d *Driver, target cbt.Target, span cbt.Span) (found []uint64) {
	t.Helper()
	err := d.Changes(t.Context(), target, span, cbt.Cursor{}, func(disk int, e cbt.Extent) error {
		for at := e.Offset; disk == 0 && at < e.End(); at += block {
			found = append(found, at/block)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("changes of %+v: %v", span, err)
	}
	return found
}

func wantBlocks(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed blocks (-want +got):\n%s", diff)
	}
}

func wantBroken(t *testing.T, d *Driver, target cbt.Target, why cbt.Why) {
	t.Helper()
	report, err := d.Probe(t.Context(), target)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if report.Broken == nil || report.Broken.Why != why {
		t.Errorf("Probe says the chain is broken as %v, want %s", report.Broken, why)
	}
	walk := d.Changes(t.Context(), target, cbt.Span{From: target.Chain[0].Seq}, cbt.Cursor{}, func(int, cbt.Extent) error { return nil })
	_, checkpoint := d.Checkpoint(t.Context(), target, target.Chain.Last()+1)
	for name, err := range map[string]error{"changes": walk, "checkpoint": checkpoint} {
		got := (*cbt.ChainBroken)(nil)
		if name == "checkpoint" && errors.Is(err, cbt.ErrUnreachable) && !report.Running {
			continue
		}
		if !errors.As(err, &got) || got.Why != why {
			t.Errorf("%s: got error %v, want a chain broken as %s", name, err, why)
		}
	}
}

func TestChainBreaks(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		do   func(b *bench)
		why  cbt.Why
	}{
		{"QEMU is killed in the run that made it", func(b *bench) { b.Lose() }, cbt.WhyAbsent},
		{"QEMU is killed after it loaded it", func(b *bench) { b.Quit(); b.Boot(); b.Lose() }, cbt.WhyInconsistent},
		{"it is removed by hand", func(b *bench) {
			b.Do("block-dirty-bitmap-remove", object{"node": "disk0", "name": "cbt-0123456789ab-1"}, nil)
		}, cbt.WhyAbsent},
		{"the one that records is removed by hand", func(b *bench) {
			b.Do("block-dirty-bitmap-remove", object{"node": "disk0", "name": "cbt-0123456789ab-2"}, nil)
		}, cbt.WhyDisabled},
		{"it is disabled by hand", func(b *bench) {
			b.Do("block-dirty-bitmap-disable", object{"node": "disk0", "name": "cbt-0123456789ab-2"}, nil)
		}, cbt.WhyDisabled},
		{"the disk gets a snapshot", func(b *bench) {
			over := b.Machine.Target.Disks[0].Path + "-over"
			b.Do("blockdev-snapshot-sync", object{"device": "drive0", "snapshot-file": over, "format": "qcow2"}, nil)
		}, cbt.WhySnapshot},
		{"the disk shrinks", func(b *bench) {
			b.Do("block_resize", object{"node-name": "disk0", "size": 16 << 20}, nil)
		}, cbt.WhyResized},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cbttest.Shape{})
			target := mark(t, b.driver, mark(t, b.driver, b.Target(), 1), 2)
			b.Write(0, 0, block, 1)
			c.do(b)
			wantBroken(t, b.driver, target, c.why)
		})
	}
}

func TestChainSurvivesARestartInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	b.Write(0, 2*block, 1, 1)
	b.Quit()
	b.Boot()
	b.Write(0, 5*block, 1, 1)
	target = mark(t, b.driver, target, 2)
	b.Write(0, 9*block, 1, 1)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1, To: 2}), 2, 5)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 2}), 9)
}

func TestSessionDoesNotSurviveARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	b.Write(0, 2*block, 1, 1)
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	p, _, err := b.driver.Open(t.Context(), target, s)
	if err != nil {
		t.Fatal(err)
	}
	target.Chain = append(target.Chain, p)
	b.Quit()
	b.Boot()
	if _, _, err := b.driver.Open(t.Context(), target, s); !errors.Is(err, cbt.ErrSessionGone) {
		t.Errorf("got error %v, want ErrSessionGone", err)
	}
	if err := b.driver.Close(t.Context(), target, s); err != nil {
		t.Errorf("close: %v", err)
	}
	s = cbt.Session{Seq: 3, From: 1, Token: token} // the client enables with the same bitmapName
	if _, _, err := b.driver.Open(t.Context(), target, s); err != nil {
		t.Fatalf("open again: %v", err)
	}
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1}), 2)
}

func TestGrowthCountsAsChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{Size: 2 * block})
	target := mark(t, b.driver, b.Target(), 1)
	b.Write(0, 0, 1, 1)
	b.Do("block_resize", object{"node-name": "disk0", "size": 4 * block}, nil)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1}), 0, 2, 3)
	b.Quit()
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1}), 0, 2, 3)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	edit := func(f func(*cbt.Target)) func(*bench, *cbt.Target) { return func(_ *bench, t *cbt.Target) { f(t) } }
	cases := []struct {
		name  string
		shape cbttest.Shape
		do    func(b *bench, target *cbt.Target)
		want  error
	}{
		{"a raw image", cbttest.Shape{Format: cbt.FormatRaw}, nil, cbt.ErrNotPersistent},
		{"qcow2 of version 2", cbttest.Shape{Create: []string{"-o", "compat=0.10"}}, nil, cbt.ErrNotPersistent},
		{"a disk that is not there", cbttest.Shape{}, edit(func(t *cbt.Target) { t.Disks[0].Path += "x" }), cbt.ErrNoDisk},
		{"a disk of another format", cbttest.Shape{}, edit(func(t *cbt.Target) { t.Disks[0].Format = cbt.FormatRaw }), cbt.ErrNoDisk},
		{"no monitor", cbttest.Shape{}, edit(func(t *cbt.Target) { t.QMP = "" }), cbt.ErrUnreachable},
		{"a monitor that is not there", cbttest.Shape{}, edit(func(t *cbt.Target) { t.QMP += "x" }), cbt.ErrUnreachable},
		{"a machine that was killed", cbttest.Shape{}, func(b *bench, _ *cbt.Target) { b.Kill() }, cbt.ErrUnreachable},
		{"a monitor outside of the roots", cbttest.Shape{}, edit(func(t *cbt.Target) { t.QMP = "/etc/passwd" }), cbt.ErrNotAllowed},
		{"a disk outside of the roots", cbttest.Shape{}, edit(func(t *cbt.Target) { t.Disks[0].Path = "/etc/passwd" }), cbt.ErrNotAllowed},
		{"a directory outside of the roots", cbttest.Shape{}, edit(func(t *cbt.Target) { t.Dir = "/etc" }), cbt.ErrNotAllowed},
		{"a taken monitor", cbttest.Shape{}, func(b *bench, target *cbt.Target) {
			other, err := qmp.Dial(b.Context(), "unix", target.QMP)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { other.Close() })
		}, cbt.ErrBusy},
		{"a lock that is held", cbttest.Shape{}, func(b *bench, target *cbt.Target) {
			b.driver.lockWait = 1
			unlock, err := cbt.Lock(b.Context(), *target, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(unlock)
		}, cbt.ErrBusy},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.shape)
			target := b.Target()
			target.Disks = slices.Clone(target.Disks)
			if c.do != nil {
				c.do(b, &target)
			}
			if _, err := b.driver.Checkpoint(t.Context(), target, 1); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if _, _, err := b.driver.Open(t.Context(), target, cbt.Session{Seq: 1, Token: token}); !errors.Is(err, c.want) {
				t.Errorf("open: got error %v, want %v", err, c.want)
			}
		})
	}
}

func TestNoRoomForASession(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	b.Do("block_resize", object{"node-name": "disk0", "size": uint64(512) << 40}, nil)
	target := b.Target()
	target.Granularity = 64 << 20 // the bitmaps have room
	s := cbt.Session{Seq: 1, Token: token}
	if _, _, err := b.driver.Open(t.Context(), target, s); !errors.Is(err, cbt.ErrNoSpace) {
		t.Errorf("got error %v, want ErrNoSpace", err)
	}
	report, err := b.driver.Probe(t.Context(), target)
	if err != nil || report.Session || len(report.Disks[0].Checkpoints) > 0 {
		t.Errorf("after the refusal got %+v, error %v", report, err)
	}
}

func TestForeignObjectsStay(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	b.Do("block-dirty-bitmap-add", object{"node": "disk0", "name": "foreign", "persistent": true}, nil)
	b.Do("block-dirty-bitmap-add", object{"node": "disk0", "name": "cbt-foreign", "persistent": true}, nil)
	target := mark(t, b.driver, b.Target(), 1)
	if _, _, err := b.driver.Open(t.Context(), target, cbt.Session{Seq: 2, From: 1, Token: token}); err != nil {
		t.Fatal(err)
	}
	if err := b.driver.Drop(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if _, err := b.driver.Sweep(t.Context(), target, func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	b.Quit()
	info := cbttest.Command(t, "qemu-img", "info", target.Disks[0].Path)
	if !strings.Contains(info, "name: foreign") || !strings.Contains(info, "name: cbt-foreign") || strings.Contains(info, "cbt-0") {
		t.Errorf("the image has other bitmaps than the foreign ones:\n%s", info)
	}
	if left, _ := filepath.Glob(filepath.Join(target.Dir, "*"+scratchSuffix)); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestForeignServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	b.Do("nbd-server-start", object{"addr": object{"type": "unix", "data": object{"path": target.QMP + "-nbd"}}}, nil)
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	if _, _, err := b.driver.Open(t.Context(), target, s); !errors.Is(err, cbt.ErrBusy) {
		t.Errorf("got error %v, want ErrBusy", err)
	}
	b.Do("nbd-server-stop", nil, nil) // refused if the driver had stopped it
	b.Write(0, block, 1, 1)
	if _, _, err := b.driver.Open(t.Context(), target, s); err != nil {
		t.Errorf("open when the server is free: %v", err)
	}
}

// A QEMU that hangs is one to try again, and nothing is lost when it comes back.
func TestFrozenMachine(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	b.Write(0, block, 1, 1)
	b.Freeze()
	if _, err := b.driver.Checkpoint(t.Context(), target, 2); !cbt.Retryable(err) {
		t.Errorf("got error %v, want one to try again after", err)
	}
	b.Thaw()
	ctx, cancel := context.WithCancel(t.Context())
	b.Hook(func(string) { // in the middle, and its caller is told to stop
		b.Freeze()
		time.AfterFunc(50*time.Millisecond, cancel)
	})
	if _, err := b.driver.Checkpoint(ctx, target, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	b.Revive()
	b.Thaw()
	target = mark(t, b.driver, target, 2)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1, To: 2}), 1)
}
