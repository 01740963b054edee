package qemu

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
)

const (
	crampedDisk = 8 << 20 // of each disk of a cramped machine
	crampedRoom = 6 << 20 // for scratch images
)

// cramped is a machine whose disks are full of data, and larger than the disk of its
// scratch images. Checkpoint 1 is made.
func cramped(t *testing.T) (*bench, cbt.Target) {
	t.Helper()
	b := newBench(t, cbttest.Shape{Disks: 2, Size: crampedDisk})
	target := b.Target()
	small := cbttest.SmallDisk(t, crampedRoom)
	target.Dir = filepath.Join(small, "vm")
	b.Machine.Roots = append(b.Roots, small)
	b.Revive()
	for disk := range target.Disks {
		b.Write(disk, 0, crampedDisk, byte(disk+1))
	}
	return b, mark(t, b.driver, target, 1)
}

// frozen opens a session since checkpoint 1 and records it.
func (b *bench) frozen(target cbt.Target, seq int) (cbt.Target, cbt.Session, []cbt.Export) {
	b.Helper()
	s := cbt.Session{Seq: seq, From: 1, Token: token}
	p, exports, err := b.driver.Open(b.Context(), target, s)
	if err != nil {
		b.Fatal(err)
	}
	target.Chain = append(append(cbt.Chain{}, target.Chain...), p)
	return target, s, exports
}

// overwrite writes all of the first disk, block by block, as a guest does, and each write
// has to succeed. It relieves the machine when room gets short, and says how often.
func (b *bench) overwrite(target cbt.Target, seq int, value byte) (relieved int) {
	b.Helper()
	for at := uint64(0); at < crampedDisk; at += block {
		b.Write(0, at, block, value)
		room, err := RoomOf(target.Dir)
		if err != nil {
			b.Fatal(err)
		}
		if !room.Short() {
			continue
		}
		relieved++
		if err := b.driver.Relieve(b.Context(), target, seq, room.String()); err != nil {
			b.Fatalf("relieve: %v", err)
		}
	}
	return relieved
}

// A guest goes on writing though there is no room for what it overwrites: the session
// gives way, says why, and the next one has every block.
func TestASessionGivesWayToItsGuest(t *testing.T) {
	t.Parallel()
	b, target := cramped(t)
	target, s, exports := b.frozen(target, 2)
	if relieved := b.overwrite(target, 2, 7); relieved != 1 {
		t.Fatalf("the session was ended %d times, want once", relieved)
	}
	for _, e := range exports {
		if client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{}); err == nil {
			_ = client.Close()
			t.Errorf("%s can still be read", e.Name)
		}
	}
	_, _, err := b.driver.Open(t.Context(), target, s)
	if !errors.Is(err, cbt.ErrSessionGone) || !strings.Contains(err.Error(), "for the guest to go on writing") || !strings.Contains(err.Error(), "bytes were free") {
		t.Errorf("got error %v of a session that was ended, want ErrSessionGone and why", err)
	}
	b.wantClean(target)
	if err := b.driver.Close(t.Context(), target, s); err != nil {
		t.Errorf("close: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(target.Dir, cbt.Prefix+"*")); len(left) > 0 {
		t.Errorf("after close %v are left", left)
	}
	var want []uint64
	for i := range uint64(crampedDisk / block) {
		want = append(want, i)
	}
	target, s, exports = b.frozen(target, 3)
	wantBlocks(t, changed(t, b.driver, target, cbt.Span{From: 1, To: 3}), want...)
	if !bytes.Equal(copied(t, exports[0].URI()), b.Image(0)) {
		t.Error("the next session does not show its moment")
	}
	if err := b.driver.Close(t.Context(), target, s); err != nil {
		t.Errorf("close the next: %v", err)
	}
}

// wantClean finds nothing of a session in QEMU, and no image.
func (b *bench) wantClean(target cbt.Target) {
	b.Helper()
	report, err := b.driver.Probe(b.Context(), target)
	if err != nil || report.Session || report.Broken != nil {
		b.Errorf("got report %+v, error %v; want no session and a whole chain", report, err)
	}
	var nodes []node
	b.Do("query-named-block-nodes", object{"flat": true}, &nodes)
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, cbt.Prefix) {
			b.Errorf("node %s is left", n.Name)
		}
	}
	if left := Scratches(target.Dir); len(left) > 0 {
		b.Errorf("scratch images are left: %+v", left)
	}
}

// Whoever relieves may die at any step; the next one finds the session by its files.
func TestDeathsOfWhoRelieves(t *testing.T) {
	t.Parallel()
	b, target := cramped(t)
	for at, died := 0, true; died; at++ {
		var s cbt.Session
		target, s, _ = b.frozen(target, at+2)
		died = false
		left := at
		b.Hook(func(string) {
			if left--; left == -1 {
				died = true
				runtime.Goexit()
			}
		})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.driver.Relieve(t.Context(), target, s.Seq, "first")
		}()
		<-ended
		b.Revive()
		if died != (len(Scratches(target.Dir)) > 0) {
			t.Errorf("step %d: died %v, and the scratch images are %+v", at, died, Scratches(target.Dir))
		}
		if err := b.driver.Relieve(t.Context(), target, s.Seq, "second"); err != nil {
			t.Fatalf("step %d: relieve again: %v", at, err)
		}
		b.wantClean(target)
		want := "first"
		if died {
			want = "second"
		}
		if _, _, err := b.driver.Open(t.Context(), target, s); !errors.Is(err, cbt.ErrSessionGone) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("step %d: got error %v, want ErrSessionGone and %q", at, err, want)
		}
	}
}

// A session is not begun where it would have to end at once.
func TestRoomThatIsSpared(t *testing.T) {
	t.Parallel()
	b, target := cramped(t)
	room, err := RoomOf(target.Dir) // the checkpoint has made it
	if err != nil {
		t.Fatal(err)
	}
	tenths := uint64(2 * crampedDisk / scratchReserve)
	filler := filepath.Join(target.Dir, "filler")
	if err := os.WriteFile(filler, make([]byte, room.Free-tenths-room.Spare/2), 0o600); err != nil {
		t.Fatal(err)
	}
	s := cbt.Session{Seq: 2, From: 1, Token: token}
	if _, _, err := b.driver.Open(t.Context(), target, s); !errors.Is(err, cbt.ErrNoSpace) {
		t.Errorf("got error %v, want ErrNoSpace", err)
	}
	b.wantClean(target)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.driver.Open(t.Context(), target, s); err != nil {
		t.Errorf("with room enough: %v", err)
	}
}

func TestScratches(t *testing.T) {
	t.Parallel()
	dir := cbttest.Dir(t)
	for name, bytes := range map[string]int{
		"cbt-0123456789ab-2s0.scratch": 100, "cbt-0123456789ab-2s1.scratch": 200, "cbt-ba9876543210-12s0.scratch": 350,
		"cbt-0123456789ab-2n.why": 1000, "cbt-0123456789ab-xs0.scratch": 1000, "other.scratch": 1000, "lock": 1000,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, bytes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []Scratch{{"ba9876543210", 12, 350}, {"0123456789ab", 2, 300}}
	if diff := cmp.Diff(want, Scratches(dir)); diff != "" {
		t.Errorf("scratches (-want +got):\n%s", diff)
	}
	if got := Scratches(filepath.Join(dir, "missing")); len(got) > 0 {
		t.Errorf("got %+v of a directory that is not there", got)
	}
}
