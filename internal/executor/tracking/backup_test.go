package tracking

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/cbttest"
)

// keeper is a bench that keeps backups, and knows what each has to read as.
type keeper struct {
	*bench
	model   [][]byte
	moments map[int][][]byte
}

// keeping has a bench keep backups.
func keeping(b *bench) *keeper {
	b.t.Helper()
	b.set.Backups = filepath.Join(cbttest.Dir(b.t), "backups")
	b.start()
	k := &keeper{bench: b, moments: map[int][][]byte{}}
	for range b.set.Machines[0].Disks {
		k.model = append(k.model, make([]byte, size))
	}
	write := b.write
	b.write = func(disk int, offset, length uint64, value byte) {
		write(disk, offset, length, value)
		copy(k.model[disk][offset:], bytes.Repeat([]byte{value}, int(length)))
	}
	return k
}

func onBothKeeping(t *testing.T, test func(*testing.T, *keeper)) {
	t.Helper()
	onBoth(t, func(t *testing.T, b *bench) { test(t, keeping(b)) })
}

// now notes the present as the moment of a backup.
func (k *keeper) now(seq int) {
	var images [][]byte
	for _, m := range k.model {
		images = append(images, bytes.Clone(m))
	}
	k.moments[seq] = images
}

func (k *keeper) backupOrder(seq, from int) cbt.Order {
	o := k.order(cbt.OpBackup)
	o.Session = cbt.Session{Seq: seq, From: from, Token: token}
	return o
}

// backup makes one that has to be of the present.
func (k *keeper) backup(seq, from int) cbt.Backup {
	k.t.Helper()
	k.now(seq)
	var b cbt.Backup
	k.do(k.backupOrder(seq, from), &b)
	if diff := cmp.Diff(b, k.record.Backups[len(k.record.Backups)-1]); diff != "" {
		k.t.Errorf("the record has another backup (-answer +record):\n%s", diff)
	}
	if k.record.Open != nil {
		k.t.Errorf("backup %d left session %+v in the record", seq, k.record.Open)
	}
	k.wantNoSession()
	return b
}

// wantNoSession asks the driver whether something is left of a session.
func (k *keeper) wantNoSession() {
	k.t.Helper()
	w := &work{Host: k.Host, m: k.machines[machine], o: k.order(cbt.OpProbe), record: k.record, log: &k.log}
	d, err := w.named(k.record.Driver)
	if err != nil {
		k.t.Fatal(err)
	}
	report, err := d.Probe(k.t.Context(), w.target())
	if err != nil || report.Session || report.Broken != nil {
		k.t.Errorf("behind a backup the machine is %+v, error %v", report, err)
	}
}

// restored is what a restore of a backup to files gives.
func (k *keeper) restored(seq int) [][]byte {
	k.t.Helper()
	o := k.order(cbt.OpRestore)
	o.Seq, o.Into = seq, k.fresh()
	k.do(o, nil)
	var images [][]byte
	for i := range k.model {
		image, err := os.ReadFile(filepath.Join(o.Into, fmt.Sprintf("volume%d.raw", i)))
		if err != nil {
			k.t.Fatal(err)
		}
		images = append(images, image)
	}
	return images
}

// fresh is a new directory below the roots.
func (k *keeper) fresh() string {
	k.t.Helper()
	dir, err := os.MkdirTemp(k.set.Roots[0], "into-")
	if err != nil {
		k.t.Fatal(err)
	}
	return dir
}

// wantBackup checks that a backup restores to its moment.
func (k *keeper) wantBackup(seq int) {
	k.t.Helper()
	for i, got := range k.restored(seq) {
		if !bytes.Equal(got, k.moments[seq][i]) {
			k.t.Errorf("volume%d of backup %d was not restored as it was", i, seq)
		}
	}
}

// wantImages checks that qemu-img alone reads a backup as its moment.
func (k *keeper) wantImages(seq int) {
	k.t.Helper()
	want := k.moments[seq]
	for i := range want {
		path := filepath.Join(k.set.Backups, machine, cbt.CheckpointName(task, seq), fmt.Sprintf("volume%d.qcow2", i))
		raw := filepath.Join(k.fresh(), "raw")
		cbttest.Command(k.t, "qemu-img", "check", "-q", path)
		cbttest.Command(k.t, "qemu-img", "convert", "-O", "raw", path, raw)
		got, err := os.ReadFile(raw)
		if err != nil {
			k.t.Fatal(err)
		}
		if !bytes.Equal(got, want[i]) {
			k.t.Errorf("qemu-img reads volume%d of backup %d otherwise", i, seq)
		}
	}
}

func (k *keeper) verify(seq int) {
	k.t.Helper()
	o := k.order(cbt.OpVerify)
	o.Seq = seq
	k.do(o, nil)
}

// A full backup and two that are based on each other, of two disks.
func TestBackupsOfAllMoments(t *testing.T) {
	onBothKeeping(t, func(t *testing.T, k *keeper) {
		k.write(0, 3*block, 5*block, 1)
		k.write(1, 100, 70000, 2)
		first := k.backup(1, 0)
		if first.Base != 0 || len(first.Files) != 2 || first.Files[0].Size != size || first.Files[0].Bytes == 0 || len(first.Files[0].Sum) != 64 {
			t.Errorf("got first backup %+v", first)
		}
		k.put(0, 4, 3)
		k.write(0, 4096, 512, 4)
		k.put(1, 1, 0) // to zeros, what the base has
		second := k.backup(2, 1)
		if second.Base != 1 || second.Files[0].Bytes != 2*block {
			t.Errorf("got second backup %+v, want 2 blocks of the first disk", second)
		}
		k.put(0, 5, 9)
		k.write(1, size-512, 512, 7)
		third := k.backup(3, 2)
		if third.Base != 2 || third.Files[0].Bytes != block || third.Files[1].Bytes != block {
			t.Errorf("got third backup %+v, want a block of each disk", third)
		}
		k.wantChain(1, 2, 3)
		for seq := 1; seq <= 3; seq++ {
			k.wantBackup(seq)
			k.wantImages(seq)
			k.verify(seq)
		}
		// Again, as after an answer that was lost: nothing is copied.
		record := k.record
		path := filepath.Join(third.Dir, "volume0.qcow2")
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		o := k.backupOrder(3, 2)
		o.Record.Backups, o.Record.Chain = record.Backups[:2], record.Chain[:2]
		_ = k.Host.Close()
		k.start()
		var again cbt.Backup
		k.do(o, &again)
		after, err := os.Stat(path)
		if err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the backup was copied again, error %v", err)
		}
		if diff := cmp.Diff(record, k.record, cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("again the record is (-first +again):\n%s", diff)
		}
		if diff := cmp.Diff(third, again); diff != "" {
			t.Errorf("again the answer is (-first +again):\n%s", diff)
		}
	})
}
