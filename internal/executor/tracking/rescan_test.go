package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/pkg/executor"
)

func (b *bench) rescanOrder(seq, from int) cbt.Order {
	o := b.openOrder(seq, from)
	o.OnBroken = cbt.OnBrokenRescan
	return o
}

func (b *bench) reopen(seq, from int) cbt.Details {
	b.t.Helper()
	var d cbt.Details
	b.do(b.rescanOrder(seq, from), &d)
	return d
}

// newBroken makes a machine whose chain of two checkpoints was lost with its QEMU, after
// block 7 of the first disk and 9 of the second were written; 11 of the first came later.
func newBroken(t *testing.T) *bench {
	t.Helper()
	b, _ := newQEMU(t, cbttest.Shape{})
	for at := uint64(0); at < 20; at++ {
		b.put(0, at, 1)
	}
	b.reopen(1, 0)
	b.close()
	b.put(0, 5, 2)
	b.put(1, 5, 2)
	b.reopen(2, 1)
	b.put(0, 7, 3)
	b.close()
	b.put(1, 9, 3)
	b.lose()
	b.put(0, 11, 3)
	return b
}

func TestRescanFindsWhatWasWritten(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	o := b.rescanOrder(3, 2)
	for range 2 { // the second time by another process
		var d cbt.Details
		record := b.record
		b.do(o, &d)
		b.wantChain(2, 3)
		open := b.record.Open
		if open.From != 2 || open.Exports[0].Mode != cbt.ModeIncremental || open.Exports[0].Context != "" || !cmp.Equal(b.record.Rescan, &cbt.Rescan{From: 2, To: 3}) {
			t.Errorf("got record %+v", b.record)
		}
		b.want(blocks(unpack(t, d[0].Bitmap)), 7, 11)
		b.want(blocks(unpack(t, d[1].Bitmap)), 9)
		if d[0].Changed != 2*block {
			t.Errorf("got detail %+v", d[0])
		}
		b.want(b.changed(0, cbt.Span{From: 2, To: 3}), 7, 11)
		if !strings.Contains(b.record.Broken, "by comparing digests") {
			t.Errorf("the record says %q", b.record.Broken)
		}
		check := b.order(cbt.OpProbe)
		check.Check = true
		var e cbt.Estimate
		b.do(check, &e)
		if !e.Session || e.Broken != "" {
			t.Errorf("got estimate %+v, want a session and a whole chain", e)
		}
		kept := b.record
		b.record = record
		_ = b.Close()
		b.start()
		b.record = kept
	}
	b.close()
	b.put(0, 20, 4)
	b.want(b.changed(0, cbt.Span{From: 2}), 7, 11, 20)
	b.want(b.changed(0, cbt.Span{From: 3}), 20)

	// The chain goes on, and can be bridged again.
	d := b.reopen(4, 3)
	b.wantChain(2, 3, 4)
	b.want(blocks(unpack(t, d[0].Bitmap)), 20)
	if b.record.Open.Exports[0].Context == "" {
		t.Error("the next session has no context")
	}
	b.want(b.changed(0, cbt.Span{From: 2, To: 4}), 7, 11, 20)
	b.close()
	b.put(1, 30, 4)
	b.lose()
	d = b.reopen(5, 4)
	b.wantChain(4, 5)
	b.want(blocks(unpack(t, d[0].Bitmap)))
	b.want(blocks(unpack(t, d[1].Bitmap)), 30)
	b.close()

	o = b.order(cbt.OpForget)
	o.Seq = 5
	b.do(o, nil)
	b.wantChain()
	if b.record.Rescan != nil {
		t.Errorf("got record %+v, want no rescan", b.record)
	}
	b.do(b.order(cbt.OpDrop), nil)
	if _, err := os.Stat(filepath.Join(b.set.Dir, machine, "digests-"+task[:12])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("digests after drop: %v, want none", err)
	}
}

// A copy since the checkpoint that is known by a rescan alone would have no context.
func TestSinceACheckpointThatARescanStandsFor(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	b.reopen(3, 2)
	b.close()
	b.reopen(4, 2)
	b.wantChain(2, 3, 4)
	if b.record.Open.From != 0 || b.record.Open.Exports[0].Mode != cbt.ModeFull {
		t.Errorf("got session %+v, want a full one", b.record.Open)
	}
}

func TestRescanWithoutDigestsIsFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		harm func(t *testing.T, b *bench, dir string) (from int)
	}{
		{"lost", func(t *testing.T, _ *bench, dir string) int {
			if err := os.Remove(filepath.Join(dir, "2-1")); err != nil {
				t.Fatal(err)
			}
			return 2
		}},
		{"damaged", func(t *testing.T, _ *bench, dir string) int {
			text, err := os.ReadFile(filepath.Join(dir, "2-0"))
			if err != nil {
				t.Fatal(err)
			}
			text[len(text)/2] ^= 1
			if err := os.WriteFile(filepath.Join(dir, "2-0"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			return 2
		}},
		{"of a checkpoint too old", func(t *testing.T, b *bench, _ string) int {
			b.open(3, 0) // a full copy, and a new chain
			b.close()
			b.open(4, 3)
			b.close()
			b.lose()
			return 3
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBroken(t)
			from := c.harm(t, b, filepath.Join(b.set.Dir, machine, "digests-"+task[:12]))
			b.reopen(5, from)
			b.wantChain(5)
			if b.record.Open.From != 0 || b.record.Rescan != nil {
				t.Errorf("got record %+v, want a full session", b.record)
			}
		})
	}
}

func TestSweeperRemovesDigests(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	dir := filepath.Join(b.set.Dir, machine, "digests-"+task[:12])
	b.swept(t, func(string) bool { return true })
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("digests of a live task: %v", err)
	}
	b.swept(t, func(string) bool { return false })
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("digests of a dead task: %v, want none", err)
	}
}

// The moment was made, and its digests are being taken.
func TestStoppedWhileItDigests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cause error
		want  []uint64 // of the first disk, of the next attempt
	}{
		{executor.ErrCanceled, []uint64{7, 9}}, // it was undone: there is a new moment
		{executor.ErrTimedOut, []uint64{7, 9}},
		{executor.ErrReleased, []uint64{7}}, // the next attempt finds the moment
	} {
		t.Run(c.cause.Error(), func(t *testing.T) {
			t.Parallel()
			b, q := newQEMU(t, cbttest.Shape{})
			b.reopen(1, 0)
			b.close()
			b.put(0, 7, 1)
			ctx, cancel := context.WithCancelCause(t.Context())
			text, err := json.Marshal(b.rescanOrder(2, 1))
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Execute(ctx, executor.Attempt{Parameters: map[string]string{Parameter: string(text)}, Log: stopping{" bytes", func() { cancel(c.cause) }}})
			if !errors.Is(err, c.cause) || executor.IsPermanent(err) {
				t.Fatalf("got error %v, want %v", err, c.cause)
			}
			var nodes json.RawMessage
			q.Do("query-named-block-nodes", nil, &nodes)
			left := strings.Contains(string(nodes), cbt.CheckpointName(task, 2))
			if released := errors.Is(c.cause, executor.ErrReleased); left != released {
				t.Errorf("QEMU has objects of the session: %v, want %v", left, released)
			}
			b.put(0, 9, 1)
			b.reopen(2, 1)
			b.want(b.changed(0, cbt.Span{From: 1, To: 2}), c.want...)
			b.wantChain(1, 2)
		})
	}
}
