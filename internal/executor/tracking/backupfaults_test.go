package tracking

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/nbd"
	"github.com/takt-dev/takt/internal/cbt/qmp"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// hooks are called in the middle of an order, in its goroutine.
type hooks struct {
	line func(string)            // of the log
	copy func(done, total int64) // each piece that was copied
	ctx  context.Context         // nil: the test's
}

type lines func(string)

func (l lines) Write(p []byte) (int, error) {
	l(string(p))
	return len(p), nil
}

// run carries out an order, which may die on the way, and keeps the record if there is
// one.
func (k *keeper) run(o cbt.Order, h hooks) (detail string, err error) {
	k.t.Helper()
	text, failed := json.Marshal(o)
	if failed != nil {
		k.t.Fatal(failed)
	}
	if h.ctx == nil {
		h.ctx = k.t.Context()
	}
	k.log.Reset()
	copying := false // before that a scan tells its progress
	a := executor.Attempt{Type: Type, Parameters: map[string]string{Parameter: string(text)}, Log: lines(func(line string) {
		k.log.WriteString(line)
		copying = copying || strings.HasPrefix(line, "copy ")
		if h.line != nil {
			h.line(line)
		}
	}), Progress: func(done, total int64) {
		if h.copy != nil && copying {
			h.copy(done, total)
		}
	}}
	var res executor.Result
	err = errDied
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		res, err = k.Execute(h.ctx, a)
	}()
	<-ended
	line, detail, _ := strings.Cut(res.Output, "\n")
	if line != "" {
		k.record = cbt.Record{}
		if err := json.Unmarshal([]byte(line), &k.record); err != nil {
			k.t.Fatal(err)
		}
	}
	return detail, err
}

var errDied = errors.New("the worker died")

// revive starts the worker that follows one that died.
func (k *keeper) revive() {
	k.t.Helper()
	_ = k.Host.Close()
	k.start()
}

// files in the machine's directory of backups.
func (k *keeper) files() (names []string) {
	k.t.Helper()
	entries, err := os.ReadDir(filepath.Join(k.set.Backups, machine))
	if err != nil && !os.IsNotExist(err) {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (k *keeper) wantFiles(want ...string) {
	k.t.Helper()
	got := k.files()
	for i := range want {
		want[i] = "cbt-" + task[:12] + "-" + want[i]
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		k.t.Errorf("got backups %v, want %v", got, want)
	}
}

// slow is a rate at which the pieces of the test's disks are read one after another.
const slow = 32 << 20

// A copy shows one moment, however much is written while it is made.
func TestBackupIsOneMoment(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	k := keeping(b)
	k.write(0, 0, 4<<20, 1)
	k.write(1, 0, size, 2)
	k.now(1)
	o := k.backupOrder(1, 0)
	o.Rate = slow
	writes := 0
	_, err := k.run(o, hooks{copy: func(done, total int64) {
		for ; writes < 100 && done < total; writes++ {
			at := uint64(writes) * 70 * 1024
			q.Monitor(fmt.Sprintf(`qemu-io drive%d "aio_write -q -P %d %d 4096"`, writes%2, writes, at))
			copy(k.model[writes%2][at:], bytes.Repeat([]byte{byte(writes)}, 4096))
		}
		for _, drive := range []string{"drive0", "drive1"} {
			q.Monitor("qemu-io " + drive + " aio_flush")
		}
	}})
	if err != nil || writes != 100 {
		t.Fatalf("got error %v after %d writes", err, writes)
	}
	k.wantBackup(1)
	k.backup(2, 1)
	k.wantBackup(2)
	k.verify(2)
}

// The worker dies at each piece that is copied, when all is, and when the backup is done.
func TestWorkerDiesInABackup(t *testing.T) {
	onBothKeeping(t, func(t *testing.T, k *keeper) {
		k.write(0, block, 1<<20, 1)
		k.backup(1, 0)
		seq := 2
		for _, c := range []struct {
			name string
			at   hooks
			done bool
		}{
			{"in the first piece", hooks{copy: func(int64, int64) { runtime.Goexit() }}, false},
			{"when all is copied", hooks{copy: func(done, total int64) {
				if done == total {
					runtime.Goexit()
				}
			}}, false},
			{"before the copy", hooks{line: func(line string) {
				if strings.HasPrefix(line, "copy ") {
					runtime.Goexit()
				}
			}}, false},
			{"when it is done", hooks{line: func(line string) {
				if strings.HasSuffix(line, "is done\n") {
					runtime.Goexit()
				}
			}}, true},
		} {
			k.put(0, uint64(seq), byte(seq)+100)
			k.write(1, uint64(seq)*block, 2<<20, byte(seq))
			k.now(seq)
			o := k.backupOrder(seq, seq-1)
			copied := false
			if _, err := k.run(o, c.at); !errors.Is(err, errDied) {
				t.Fatalf("%s: got error %v, want none of a worker that died", c.name, err)
			}
			k.revive()
			_, err := k.run(o, hooks{copy: func(int64, int64) { copied = true }})
			if err != nil {
				t.Fatalf("%s: the next attempt got error %v", c.name, err)
			}
			if record := k.record.Backups; len(record) != seq || record[seq-1].Base != seq-1 {
				t.Errorf("%s: got backups %+v", c.name, record)
			}
			if copied == c.done {
				t.Errorf("%s: the next attempt copied: %v", c.name, copied)
			}
			k.wantBackup(seq)
			k.verify(seq)
			k.wantNoSession()
			seq++
		}
		k.wantChain(1, 2, 3, 4, 5)
		k.wantFiles("1", "2", "3", "4", "5")
	})
}

// A copy that is stopped leaves no half of a backup, and a whole chain.
func TestBackupIsStopped(t *testing.T) {
	for _, cause := range []error{executor.ErrCanceled, executor.ErrReleased} {
		t.Run(cause.Error(), func(t *testing.T) {
			onBothKeeping(t, func(t *testing.T, k *keeper) {
				k.put(0, 0, 1)
				k.backup(1, 0)
				k.write(0, 0, 4<<20, 2)
				ctx, cancel := context.WithCancelCause(t.Context())
				o := k.backupOrder(2, 1)
				o.Rate = slow
				_, err := k.run(o, hooks{ctx: ctx, copy: func(done, total int64) {
					if done < total {
						cancel(cause)
					}
				}})
				if !errors.Is(err, cause) || executor.IsPermanent(err) {
					t.Fatalf("got error %v, want %v", err, cause)
				}
				k.wantChain(1)
				if cause == executor.ErrReleased {
					k.wantFiles("1", "2.partial")
					k.backup(2, 1)
					k.wantBackup(2)
					k.wantFiles("1", "2")
					return
				}
				k.wantFiles("1")
				k.put(0, 100, 3)
				b := k.backup(3, 1)
				if b.Base != 1 || b.Files[0].Bytes != 4<<20+block {
					t.Errorf("got backup %+v, want what was written before and after", b)
				}
				k.wantChain(1, 3)
				k.wantBackup(3)
			})
		})
	}
}

// QEMU is killed while its disks are copied.
func TestMachineDiesInABackup(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	k := keeping(b)
	k.put(0, 0, 1)
	k.backup(1, 0)
	k.write(0, 0, size/2, 2)
	o := k.backupOrder(2, 1)
	o.Rate = slow
	var once sync.Once
	_, err := k.run(o, hooks{copy: func(int64, int64) { once.Do(q.Kill) }})
	if err == nil || executor.IsPermanent(err) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got error %v of a machine that was killed, want one that may pass", err)
	}
	k.wantFiles("1", "2.partial")
	k.close() // its checkpoint goes, and what was copied
	k.wantFiles("1")
	q.Boot()
	k.now(2)
	if _, err := k.run(o, hooks{}); err != nil {
		t.Fatal(err)
	}
	if b := k.record.Backups[1]; b.Base != 0 || k.record.Broken == "" {
		t.Errorf("got backup %+v, want a full one", b)
	}
	k.wantBackup(1)
	k.wantBackup(2)
}

// fill writes to a directory until nothing more goes in, and returns how to undo that.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 512))
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// The disk of the backups is full from the beginning, or gets full.
func TestNoRoomForABackup(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		k := keeping(b)
		k.set.Backups = cbttest.SmallDisk(t, 12<<20)
		k.start()
		k.write(0, 0, 4<<20, 1)
		k.backup(1, 0)
		k.write(0, 0, 3<<20, 2)
		free := func() {}
		o := k.backupOrder(2, 1)
		o.Rate = slow
		_, err := k.run(o, hooks{copy: func(done, total int64) {
			if done < total && done > 0 {
				free()
				free = fill(t, k.set.Backups)
			}
		}})
		if !errors.Is(err, cbt.ErrNoSpace) || !executor.IsPermanent(err) {
			t.Errorf("got error %v of a disk that filled up, want ErrNoSpace", err)
		}
		k.wantFiles("1")
		k.wantChain(1)
		k.write(0, 5<<20, 1<<20, 3)
		free()
		free = fill(t, k.set.Backups)
		if _, err := k.run(k.backupOrder(3, 1), hooks{}); !errors.Is(err, cbt.ErrNoSpace) {
			t.Errorf("got error %v of a full disk, want ErrNoSpace", err)
		}
		k.wantFiles("1")
		free()
		b4 := k.backup(4, 1)
		if b4.Base != 1 || b4.Files[0].Bytes != 4<<20 {
			t.Errorf("got backup %+v, want all that was written since the first", b4)
		}
		k.wantChain(1, 4)
		k.wantBackup(4)
	})
}

// The disk of the scratch images gets full while a session is open.
func TestNoRoomForTheScratchImage(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	k := keeping(b)
	b.set.Dir = cbttest.SmallDisk(t, 4<<20)
	k.start()
	k.write(0, 0, size, 1)
	k.write(1, 0, size, 2)
	k.open(1, 0)
	moment := bytes.Clone(k.model[0])
	e := k.record.Open.Exports[0]
	for at := uint64(0); at < size; at += block { // much more than there is room for
		q.Monitor(fmt.Sprintf(`qemu-io drive0 "aio_write -q -P 3 %d %d"`, at, block))
	}
	q.Monitor(`qemu-io drive0 "aio_flush"`)
	for at := uint64(0); at < size; at += block {
		if got, err := readExport(t, e, at); err == nil && !bytes.Equal(got, moment[at:at+block]) {
			t.Fatalf("block %d of the export is neither an error nor as it was", at/block)
		}
	}
	k.do(k.order(cbt.OpClose), nil)
	var estimate cbt.Estimate
	k.do(k.order(cbt.OpProbe), &estimate)
	if estimate.Session {
		t.Errorf("after close got estimate %+v", estimate)
	}
	k.put(1, 5, 9)
	k.now(2)
	if _, err := k.run(k.backupOrder(2, 0), hooks{}); err != nil {
		t.Fatal(err)
	}
	k.write(0, 0, block, 7)
	if _, err := k.run(k.backupOrder(3, 2), hooks{}); err != nil {
		t.Fatal(err)
	}
	restored := k.restored(3)
	q.Quit()
	for i, disk := range k.set.Machines[0].Disks {
		raw := filepath.Join(k.fresh(), "raw")
		cbttest.Command(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk.Path, raw)
		want, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(restored[i], want[:size]) {
			t.Errorf("volume%d of the next backup is not as the disk", i)
		}
		if i == 0 && bytes.IndexByte(want, 1) < 0 {
			t.Error("the scratch image had room for all that was written")
		}
	}
}

func readExport(t *testing.T, e cbt.Export, at uint64) ([]byte, error) {
	t.Helper()
	client, err := nbd.Dial(t.Context(), e.Network, e.Address, e.Name, nbd.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	p := make([]byte, block)
	return p, client.Read(t.Context(), p, at)
}

// A scratch image that fills up while a backup is copied.
func TestScratchImageFillsUpInABackup(t *testing.T) {
	t.Parallel()
	b, q := newQEMU(t, cbttest.Shape{})
	k := keeping(b)
	b.set.Dir = cbttest.SmallDisk(t, 4<<20)
	k.start()
	k.write(0, 0, size, 1)
	k.now(1)
	o := k.backupOrder(1, 0)
	o.Rate = slow
	var once sync.Once
	_, err := k.run(o, hooks{copy: func(int64, int64) {
		once.Do(func() {
			for at := uint64(0); at < size; at += block {
				q.Monitor(fmt.Sprintf(`qemu-io drive0 "aio_write -q -P 3 %d %d"`, at, block))
			}
			q.Monitor(`qemu-io drive0 "aio_flush"`)
		})
	}})
	if err != nil { // what QEMU 7.2 does is to refuse the guest's writes
		k.wantFiles()
		return
	}
	k.wantBackup(1)
}

// The moment gives way under the copy: what was copied after that may be anything. A scan
// refuses to be read from then on; of QEMU only a look at the session tells.
func TestMomentIsLostInABackup(t *testing.T) {
	onBothKeeping(t, func(t *testing.T, k *keeper) {
		k.put(0, 0, 1)
		k.backup(1, 0)
		k.write(0, 0, 3<<20, 2)
		lost := false
		o := k.backupOrder(2, 1)
		o.Rate = slow
		_, err := k.run(o, hooks{copy: func(done, total int64) {
			qemu := k.record.Driver == cbt.DriverQEMU
			if lost || qemu && done < total {
				return
			}
			if lost = true; qemu {
				k.cancelJob("cbt-" + task[:12] + "-2j0")
			}
			k.write(0, 3<<20, block, 3)
		}})
		if !errors.Is(err, cbt.ErrSessionGone) || !executor.IsPermanent(err) {
			t.Errorf("got error %v of a moment that was lost, want ErrSessionGone", err)
		}
		k.wantFiles("1")
		k.wantChain(1)
		if b := k.backup(3, 1); b.Base != 1 || b.Files[0].Bytes != 3<<20+block {
			t.Errorf("got backup %+v, want all that was written since the first", b)
		}
		k.wantBackup(3)
	})
}

// cancelJob ends a job of the machine's QEMU by hand.
func (k *keeper) cancelJob(id string) {
	k.t.Helper()
	side, err := qmp.Dial(k.t.Context(), "unix", k.set.Machines[0].QMP)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = side.Close() }()
	if err := side.Do(k.t.Context(), "block-job-cancel", map[string]any{"device": id, "force": true}, nil); err != nil {
		k.t.Fatal(err)
	}
	testenv.Eventually(k.t, 10*time.Second, func() error {
		var jobs []struct{ ID, Status string }
		if err := side.Do(k.t.Context(), "query-jobs", nil, &jobs); err != nil {
			return err
		}
		for _, j := range jobs {
			if j.ID == id && j.Status != "concluded" {
				return fmt.Errorf("job %s is %s", id, j.Status)
			}
		}
		return nil
	})
}
