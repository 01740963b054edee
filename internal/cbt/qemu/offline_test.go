package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// walk lists the extents of all disks.
func walk(t *testing.T, d *Driver, target cbt.Target, span cbt.Span, from cbt.Cursor) [][]cbt.Extent {
	t.Helper()
	out := make([][]cbt.Extent, len(target.Disks))
	err := d.Changes(t.Context(), target, span, from, func(disk int, e cbt.Extent) error {
		out[disk] = append(out[disk], e)
		return nil
	})
	if err != nil {
		t.Fatalf("changes of %+v: %v", span, err)
	}
	return out
}

func TestAStoppedMachineSaysTheSame(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{Disks: 2})
	target := b.Target()
	for seq := 1; seq <= 3; seq++ {
		target = mark(t, b.driver, target, seq)
		b.Write(0, uint64(seq)*3*block, 2*block, byte(seq))
		b.Write(1, uint64(seq)*5*block, 10, byte(seq))
		b.Zero(0, uint64(20+seq)*block, block)
	}
	if _, err := b.driver.Checkpoint(t.Context(), target, 4); err != nil { // its worker dies
		t.Fatal(err)
	}
	b.Write(0, 400*block, block, 9)
	spans := []cbt.Span{{}, {From: 1}, {From: 1, To: 3}, {From: 2, To: 3}, {From: 3}}
	running := map[cbt.Span][][]cbt.Extent{}
	for _, span := range spans {
		running[span] = walk(t, b.driver, target, span, cbt.Cursor{})
	}
	b.Quit()
	for _, span := range spans {
		if diff := cmp.Diff(running[span], walk(t, b.driver, target, span, cbt.Cursor{})); diff != "" {
			t.Errorf("%+v (-running +stopped):\n%s", span, diff)
		}
	}
	report, err := b.driver.Probe(t.Context(), target)
	if err != nil || report.Running || report.Broken != nil || !report.Persistent {
		t.Errorf("got report %+v, error %v", report, err)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4}, report.Disks[0].Checkpoints); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}
	if _, err := b.driver.Checkpoint(t.Context(), target, 5); !cbt.Retryable(err) {
		t.Errorf("a checkpoint of a stopped machine: got error %v, want one to try again after", err)
	}
}

func TestAStoppedMachineTellsItsLoss(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	b.Quit()
	b.Boot()
	target = mark(t, b.driver, target, 2) // not stored
	b.Kill()
	wantBroken(t, b.driver, target, cbt.WhyInconsistent)
	target.Chain = target.Chain.Without(1)
	wantBroken(t, b.driver, target, cbt.WhyAbsent)
}

func TestAnImageThatIsWrittenIsNotRead(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	target.QMP += "-another" // a QEMU has the image that we cannot ask
	err := b.driver.Changes(t.Context(), target, cbt.Span{From: 1}, cbt.Cursor{}, func(int, cbt.Extent) error { return nil })
	if !errors.Is(err, cbt.ErrUnreachable) {
		t.Errorf("got error %v, want ErrUnreachable", err)
	}
}

func TestDropOfAStoppedMachine(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	if _, _, err := b.driver.Open(t.Context(), target, cbt.Session{Seq: 2, From: 1, Token: token}); err != nil {
		t.Fatal(err)
	}
	b.Quit()
	if err := b.driver.Drop(t.Context(), target); !errors.Is(err, cbt.ErrOff) {
		t.Errorf("got error %v while bitmaps are in the image, want ErrOff", err)
	}
	if files, _ := filepath.Glob(filepath.Join(target.Dir, cbt.Prefix+"*")); len(files) > 0 {
		t.Errorf("%v are left", files)
	}
	b.Boot()
	found, err := b.driver.Sweep(t.Context(), target, func(string) bool { return false })
	if diff := cmp.Diff([]string{"0123456789ab"}, found); err != nil || diff != "" {
		t.Errorf("error %v, swept (-want +got):\n%s", err, diff)
	}
	b.Quit()
	if err := b.driver.Drop(t.Context(), target); err != nil {
		t.Errorf("drop when nothing is left: %v", err)
	}
}

func TestSweepTakesFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, cbttest.Shape{})
	target := mark(t, b.driver, b.Target(), 1)
	orphan := filepath.Join(target.Dir, "cbt-ffffffffffff-2s0"+scratchSuffix)
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := b.driver.Sweep(t.Context(), target, func(task string) bool { return task == "0123456789ab" })
	if diff := cmp.Diff([]string{"ffffffffffff"}, found); err != nil || diff != "" {
		t.Errorf("error %v, swept (-want +got):\n%s", err, diff)
	}
	if _, err := os.Stat(orphan); err == nil {
		t.Errorf("%s is left", orphan)
	}
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1}))
}
