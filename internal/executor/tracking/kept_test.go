package tracking

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/cbt/volume"
	"github.com/takt-dev/takt/pkg/executor"
)

// seqOrder is an order about a backup that is kept.
func (k *keeper) seqOrder(op cbt.Op, seq int) cbt.Order {
	o := k.order(op)
	o.Seq = seq
	return o
}

// path of a file of a backup.
func (k *keeper) path(seq int, name string) string {
	return filepath.Join(k.set.Backups, machine, cbt.CheckpointName(task, seq), name)
}

// two backups, of which the second is based on the first.
func (k *keeper) two() {
	k.t.Helper()
	k.write(0, 0, 1<<20, 1)
	k.write(1, 0, 1<<20, 2)
	k.backup(1, 0)
	k.write(0, block, 4*block, 3)
	k.backup(2, 1)
}

func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	whole, err := os.ReadFile(k.path(1, "volume1.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := func(at int) []byte {
		data := bytes.Clone(whole)
		data[at] ^= 1
		return data
	}
	sheet, err := os.ReadFile(k.path(2, "backup.json"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := cbt.CheckpointName(task, 1), cbt.CheckpointName(task, 2)
	for _, c := range []struct {
		name string
		seq  int
		file string
		data []byte // nil: it is gone
		want string
	}{
		{"a byte of the data", 1, "volume1.qcow2", flipped(len(whole) - 1), "volume volume1 of backup " + first + ": volume1.qcow2 is other"},
		{"a byte of the tables", 1, "volume1.qcow2", flipped(0), "volume volume1 of backup " + first + ": volume1.qcow2 is other"},
		{"the end is missing", 1, "volume1.qcow2", whole[:len(whole)-1], "volume volume1 of backup " + first + ": volume1.qcow2 is other"},
		{"the file is missing", 1, "volume1.qcow2", nil, "volume volume1 of backup " + first + ": volume1.qcow2 is missing"},
		{"the sheet is missing", 2, "backup.json", nil, "backup.json of " + second + " is missing"},
		{"the sheet is no JSON", 2, "backup.json", sheet[:20], "backup.json of " + second + " cannot be read"},
		{"the sheet is of another", 2, "backup.json", bytes.Replace(sheet, []byte(`"seq": 2`), []byte(`"seq": 3`), 1), "backup.json of " + second + " is of another"},
	} {
		path := k.path(c.seq, c.file)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.data == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, c.data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Log(c.name)
		k.fail(k.seqOrder(cbt.OpVerify, 2), true, c.want)
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
		k.verify(2)
	}
	if err := os.RemoveAll(filepath.Dir(k.path(1, ""))); err != nil {
		t.Fatal(err)
	}
	k.fail(k.seqOrder(cbt.OpVerify, 2), true, first+" is missing; volume volume0 of backup "+first)
	o := k.seqOrder(cbt.OpRestore, 2)
	o.Into = k.fresh()
	k.fail(o, true, "damaged")
	k.fail(k.seqOrder(cbt.OpVerify, 7), true, "no backup of checkpoint 7")
	// Without the first, the next backup stands by itself.
	if b := k.backup(3, 2); b.Base != 0 || !strings.Contains(k.log.String(), "the backup will be full") {
		t.Errorf("got backup %+v; log: %s", b, k.log.String())
	}
	k.wantBackup(3)
}

func TestRestoreIntoFiles(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	o := k.seqOrder(cbt.OpRestore, 2)
	o.Into, o.Volumes = k.fresh(), []string{"volume0"}
	o.Rate = 1 << 30
	// Its worker dies in the middle; then the answer is lost.
	for range 2 {
		if err := os.WriteFile(filepath.Join(o.Into, "volume0.raw.partial"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		k.do(o, nil)
	}
	if _, err := os.Stat(filepath.Join(o.Into, "volume1.raw")); err == nil {
		t.Error("a volume was restored that was not asked for")
	}
	if k.told != [2]int64{size, size} {
		t.Errorf("after the restore the progress is %v", k.told)
	}
	file := filepath.Join(o.Into, "volume0.raw")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got file %v, error %v", info, err)
	}
	for _, c := range []struct {
		name string
		do   func(o *cbt.Order)
		want string
	}{
		{"a file that is there", func(*cbt.Order) {
			if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "volume0.raw is there already"},
		{"a directory outside the roots", func(o *cbt.Order) { o.Into = cbttest.Dir(t) }, "below none of the configured roots"},
		{"a link that leads out", func(o *cbt.Order) {
			o.Into = filepath.Join(k.set.Roots[0], "link")
			if err := os.Symlink(cbttest.Dir(t), o.Into); err != nil {
				t.Fatal(err)
			}
		}, "the directory to restore into"},
		{"a directory that is not there", func(o *cbt.Order) { o.Into = filepath.Join(k.set.Roots[0], "none") }, "no such file"},
		{"a volume that is not in the backup", func(o *cbt.Order) { o.Volumes = []string{"volume7"} }, "no volume volume7"},
		{"a backup that there is not", func(o *cbt.Order) { o.Seq = 9 }, "no backup of checkpoint 9"},
	} {
		again := o
		c.do(&again)
		t.Log(c.name)
		k.fail(again, true, c.want)
	}
	// Canceled, it leaves nothing.
	o.Into, o.Rate = k.fresh(), 1
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = k.run(o, hooks{ctx: ctx, line: func(line string) {
		if strings.HasPrefix(line, "restore volume") {
			cancel(executor.ErrCanceled)
		}
	}})
	left, failed := os.ReadDir(o.Into)
	if err == nil || failed != nil || len(left) > 0 {
		t.Errorf("after error %v of a canceled restore there is %v", err, left)
	}
}

// Restores write to the volumes of a machine that is off, whole.
func TestRestoreToVolumes(t *testing.T) {
	cbttest.Need(t, "qemu-storage-daemon")
	t.Parallel()
	for _, driver := range []string{cbt.DriverScan, cbt.DriverQEMU} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			var k *keeper
			off, on := func() {}, func() {}
			if driver == cbt.DriverScan {
				k = keeping(newRaw(t))
			} else {
				b, q := newQEMU(t, cbttest.Shape{})
				k, off, on = keeping(b), q.Quit, q.Boot
			}
			t.Cleanup(func() { // if the test fails half way
				_, _ = k.volumes.Unexport(context.WithoutCancel(t.Context()), k.target(k.set.Machines[0], cbt.Order{Task: task}, cbt.Record{}), volume.Ask{Force: true})
			})
			k.write(0, 0, 1<<20, 1)
			k.backup(1, 0)
			k.write(0, block, 2*block, 2)
			k.put(0, 10, 0)
			k.backup(2, 1)
			k.write(0, 0, size, 9)
			k.write(1, 0, size, 9)
			o := k.seqOrder(cbt.OpRestore, 2)
			if driver == cbt.DriverQEMU {
				k.fail(o, true, "the machine runs")
			}
			off()
			for range 2 { // the second time as after an answer that was lost
				k.do(o, nil)
			}
			on()
			copy(k.model[0], k.moments[2][0])
			copy(k.model[1], k.moments[2][1])
			k.backup(3, 2)
			k.wantBackup(3)
			if driver == cbt.DriverQEMU {
				return
			}
			for _, c := range []struct {
				name string
				size int64
				want string
			}{{"larger", size + 1<<20, ""}, {"smaller", size - 1<<20, "in the backup it has"}} {
				path := k.set.Machines[0].Disks[1].Path
				if err := os.WriteFile(path, bytes.Repeat([]byte{7}, int(c.size)), 0o600); err != nil {
					t.Fatal(err)
				}
				if c.want != "" {
					k.fail(o, true, c.want)
					continue
				}
				k.do(o, nil)
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, append(bytes.Clone(k.moments[2][1]), make([]byte, c.size-size)...)) {
					t.Errorf("%s: the volume is not as in the backup with zeros behind it, error %v", c.name, err)
				}
			}
		})
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	k.fail(k.seqOrder(cbt.OpDiscard, 1), true, "in use: backup "+cbt.CheckpointName(task, 2)+" is based on")
	o := k.seqOrder(cbt.OpDiscard, 2)
	k.do(o, nil)
	k.do(o, nil) // as after an answer that was lost
	if len(k.record.Backups) != 1 {
		t.Errorf("got backups %+v, want one", k.record.Backups)
	}
	k.wantFiles("1")
	k.wantChain(1, 2) // checkpoints are a matter of their own
	k.do(k.seqOrder(cbt.OpDiscard, 1), nil)
	k.wantFiles()
	k.do(k.seqOrder(cbt.OpDiscard, 5), nil)
	k.put(0, 20, 1)
	if b := k.backup(3, 2); b.Base != 0 {
		t.Errorf("got backup %+v, want a full one", b)
	}
	k.wantBackup(3)
}

func TestDropAndBackups(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	record := k.record
	if err := os.Mkdir(filepath.Clean(k.path(3, ""))+".partial", 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(k.set.Backups, machine, "cbt-ffffffffffff-1")
	if err := os.Mkdir(stranger, 0o700); err != nil {
		t.Fatal(err)
	}
	k.do(k.order(cbt.OpDrop), nil)
	if len(k.record.Backups) != 0 {
		t.Errorf("got record %+v after drop", k.record)
	}
	k.do(k.order(cbt.OpProbe), nil)
	if len(k.files()) != 3 {
		t.Errorf("got %v after drop, want the backups", k.files())
	}
	k.record = record
	o := k.order(cbt.OpDrop)
	o.Backups = true
	k.do(o, nil)
	if diff := cmp.Diff([]string{"cbt-ffffffffffff-1"}, k.files()); diff != "" {
		t.Errorf("after drop with backups (-want +got):\n%s", diff)
	}
}

// What a dead task has half made goes with the sweeper; what it has made stays.
func TestSweeperAndBackups(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	for _, name := range []string{"3.partial", "4.gone"} {
		if err := os.Mkdir(filepath.Join(k.set.Backups, machine, "cbt-"+task[:12]+"-"+name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k.swept(t, func(string) bool { return true })
	k.wantFiles("1", "2", "3.partial", "4.gone")
	k.swept(t, func(string) bool { return false })
	k.wantFiles("1", "2")
}

// The chain of checkpoints is lost.
func TestBackupOfABrokenChain(t *testing.T) {
	for _, c := range []struct {
		onBroken string
		base     int
	}{{cbt.OnBrokenFull, 0}, {cbt.OnBrokenRescan, 1}, {cbt.OnBrokenFail, 0}} {
		t.Run(c.onBroken, func(t *testing.T) {
			t.Parallel()
			b, _ := newQEMU(t, cbttest.Shape{})
			k := keeping(b)
			k.write(0, 0, 1<<20, 1)
			k.now(1)
			o := k.backupOrder(1, 0)
			o.OnBroken = c.onBroken
			k.do(o, nil)
			k.write(0, 3*block, 2*block, 2)
			k.put(1, 4, 3)
			k.lose()
			k.now(2)
			o = k.backupOrder(2, 1)
			o.OnBroken = c.onBroken
			if c.onBroken == cbt.OnBrokenFail {
				k.fail(o, true, "is absent")
				k.wantFiles("1")
				return
			}
			var made cbt.Backup
			k.do(o, &made)
			if made.Base != c.base || c.base > 0 && made.Files[0].Bytes != 2*block {
				t.Errorf("got backup %+v, want one based on %d", made, c.base)
			}
			k.wantBackup(2)
			k.put(0, 50, 5)
			k.now(3)
			o = k.backupOrder(3, 2)
			o.OnBroken = c.onBroken
			k.do(o, &made)
			if made.Base != 2 || made.Files[0].Bytes != block {
				t.Errorf("got backup %+v, want one based on 2", made)
			}
			k.wantImages(3)
		})
	}
}

// A disk grows, or the machine gets another one.
func TestBackupsOfOtherDisks(t *testing.T) {
	t.Parallel()
	k := keeping(newRaw(t))
	k.two()
	if err := os.Truncate(k.set.Machines[0].Disks[0].Path, size+3*block/2); err != nil {
		t.Fatal(err)
	}
	k.model[0] = append(k.model[0], make([]byte, 3*block/2)...)
	k.write(0, size+block, block/2, 5)
	if b := k.backup(3, 2); b.Base != 2 || b.Files[0].Size != size+3*block/2 {
		t.Errorf("got backup %+v", b)
	}
	k.wantBackup(3)
	k.put(0, 1, 6)
	k.backup(4, 3)
	k.wantImages(4)
	k.wantBackup(2)
	k.set.Machines[0].Disks = k.set.Machines[0].Disks[:1]
	k.start()
	k.model = k.model[:1]
	if b := k.backup(5, 4); b.Base != 0 || len(b.Files) != 1 {
		t.Errorf("got backup %+v, want a full one of one disk", b)
	}
	k.wantBackup(5)
}

func TestBackupsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := newRaw(t)
	for _, op := range []cbt.Op{cbt.OpBackup, cbt.OpRestore, cbt.OpVerify, cbt.OpDiscard} {
		b.fail(b.order(op), true, "worker.cbt.backups")
	}
	k := keeping(b)
	o := k.backupOrder(1, 0)
	o.Session.Token = "guess"
	k.fail(o, true, "token")
	o = k.backupOrder(cbt.MaxBackups+1, 0)
	for i := range cbt.MaxBackups {
		o.Record.Backups = append(o.Record.Backups, cbt.Backup{Seq: i + 1})
	}
	k.fail(o, true, "discard some")
	s := k.set
	s.Backups = k.set.Machines[0].Disks[0].Path + "/x"
	if _, err := New(s); err == nil || !strings.Contains(err.Error(), "worker.cbt.backups") {
		t.Errorf("got error %v of a directory that cannot be made", err)
	}
	k.backup(1, 0)
	o = k.backupOrder(1, 0)
	o.Session.Token, o.Record = strings.Repeat("f", 16), cbt.Record{}
	k.fail(o, true, "by another order")
	info, err := os.Stat(k.set.Backups)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, error %v", info, err)
	}
}
