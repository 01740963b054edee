package tracking

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/qemu"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// scratchRoom is less than the guest of a test overwrites.
const scratchRoom = 6 << 20

// short says whether the host has to end a session.
func (b *bench) short() bool {
	b.t.Helper()
	room, err := qemu.RoomOf(b.set.Dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return room.Short()
}

// overwrite writes all of the first disk as a guest does; each write has to succeed. It
// calls relief whenever room is short.
func (b *bench) overwrite(value byte, relief func()) {
	b.t.Helper()
	for at := uint64(0); at < size; at += block {
		b.write(0, at, block, value)
		if b.short() {
			relief()
		}
	}
}

// An open session whose scratch image would fill its disk is ended by the host's watch,
// and a look says so.
func TestSessionThatWouldFillItsDisk(t *testing.T) {
	t.Parallel()
	b, _ := newQEMU(t, cbttest.Shape{})
	b.set.Dir = cbttest.SmallDisk(t, scratchRoom)
	b.start()
	b.write(0, 0, size, 1)
	b.write(1, 0, size, 2)
	b.open(1, 0)
	b.close()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { b.Watch(ctx) })
	defer watching.Wait()
	defer cancel()
	b.open(2, 1)
	reliefs := 0
	b.overwrite(3, func() {
		reliefs++
		testenv.Eventually(t, 20*time.Second, func() error {
			if left := b.growing(); len(left) > 0 {
				return fmt.Errorf("the session lives: %+v", left)
			}
			return nil
		})
	})
	if reliefs != 1 {
		t.Errorf("room got short %d times, want once", reliefs)
	}
	if _, err := readExport(t, b.record.Open.Exports[0], 0); err == nil {
		t.Error("the session that was ended can still be read")
	}
	var e cbt.Estimate
	check := b.order(cbt.OpProbe)
	check.Check = true
	b.do(check, &e)
	if e.Session || e.Broken != "" || !strings.Contains(e.Gone, "ended for the guest to go on writing") || !strings.Contains(b.log.String(), e.Gone) {
		t.Errorf("got estimate %+v, want that the session was ended for its guest; log: %s", e, b.log.String())
	}
	b.open(3, 1) // with the same checkpoint as before
	var all []uint64
	for i := range uint64(size / block) {
		all = append(all, i)
	}
	b.want(b.changed(0, cbt.Span{From: 1, To: 3}), all...)
	b.close()
}

// A backup gives way too. It is not tried again, and the next one has every block.
func TestBackupThatWouldFillTheDiskOfScratchImages(t *testing.T) {
	t.Parallel()
	b, _ := newQEMU(t, cbttest.Shape{})
	k := keeping(b)
	b.set.Dir = cbttest.SmallDisk(t, scratchRoom)
	k.start()
	k.write(0, 0, size, 1)
	k.write(1, 0, size, 2)
	k.backup(1, 0)
	k.write(0, 0, 4<<20, 3)
	o := k.backupOrder(2, 1)
	o.Rate = slow
	var once sync.Once
	_, err := k.run(o, hooks{copy: func(int64, int64) {
		once.Do(func() {
			k.overwrite(4, func() {
				if err := k.relieve(t.Context()); err != nil {
					t.Errorf("relieve: %v", err)
				}
			})
		})
	}})
	if !errors.Is(err, cbt.ErrSessionGone) || !executor.IsPermanent(err) || !strings.Contains(err.Error(), "for the guest to go on writing") {
		t.Errorf("got error %v of a backup whose session was ended, want ErrSessionGone and why", err)
	}
	k.wantFiles("1")
	k.wantChain(1)
	k.wantNoSession()
	if b := k.backup(3, 1); b.Base != 1 || b.Files[0].Bytes != size {
		t.Errorf("got backup %+v, want all that was written since the first", b)
	}
	k.wantBackup(3)
}

// Of the sessions on one disk that which takes most ends, or, where its machine cannot be
// told, the next one. The others go on as long as there is room.
func TestWhichSessionEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		taken string // machine whose monitor somebody else has
		want  []string
	}{
		{"the largest", "", []string{"a", "c"}},
		{"the largest that can be told", "b", []string{"b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, path := offMachines(t, map[string]int{"a": 1 << 19, "b": 1 << 20, "c": 1 << 18})
			if c.taken != "" {
				silent, err := net.Listen("unix", h.machines[c.taken].QMP)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = silent.Close() })
			}
			if err := h.relieve(t.Context()); err != nil || len(h.growing()) != 3 {
				t.Fatalf("with room enough got error %v and sessions %+v", err, h.growing())
			}
			fill(t, h.dir)
			if err := h.relieve(t.Context()); err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, name := range []string{"a", "b", "c"} {
				if _, err := os.Stat(path(name)); err == nil {
					left = append(left, name)
				}
			}
			if diff := cmp.Diff(c.want, left); diff != "" {
				t.Errorf("sessions that go on (-want +got):\n%s", diff)
			}
			if err := h.relieve(t.Context()); err != nil || len(h.growing()) != 2 {
				t.Errorf("with room again got error %v and sessions %+v", err, h.growing())
			}
		})
	}
}

// offMachines has scratch images of machines that are off, on a disk of 4 MiB.
func offMachines(t *testing.T, scratch map[string]int) (h *Host, path func(name string) string) {
	t.Helper()
	root, dir := cbttest.Dir(t), cbttest.SmallDisk(t, 4<<20)
	path = func(name string) string {
		return filepath.Join(dir, name, cbt.CheckpointName(task, 1)+"s0.scratch")
	}
	set := Settings{Roots: []string{root}, Dir: dir}
	for name, bytes := range scratch {
		disk := cbt.Disk{Volume: "volume-" + name, Path: filepath.Join(root, name), Format: cbt.FormatQcow2}
		set.Machines = append(set.Machines, Machine{UUID: name, QMP: filepath.Join(root, name+".qmp"), Disks: []cbt.Disk{disk}})
		for file, data := range map[string][]byte{disk.Path: nil, path(name): make([]byte, bytes)} {
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	h, err := New(set)
	if err != nil {
		t.Fatal(err)
	}
	return h, path
}
