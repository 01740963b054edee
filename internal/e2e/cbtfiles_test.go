package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/client"
)

// slowly is a rate at which a backup of what these tests write takes seconds.
const slowly = 1 << 20

// A task keeps two backups, of which each gives the disks as they were: by a restore, and
// by a program that knows nothing of Takt.
func TestBackupsIntoFiles(t *testing.T) {
	t.Parallel()
	b := newBackup(t, "")
	c := b.native()
	var want [][][]byte
	for range 2 {
		b.scribble(20)
		want = append(want, b.images())
		b.keep(c, client.NewBackup{})
	}
	b.scribble(20) // in no backup
	backups := b.kept(c, 2)
	if !backups[0].Full || backups[1].Full || backups[1].Base != backups[0].Name || !backups[1].Complete {
		t.Errorf("backups: got %+v, want a full one and one based on it", backups)
	}
	for i, f := range backups[1].Machines[0].Files {
		if whole := backups[0].Machines[0].Files[i]; f.Volume != b.volumes[i] || f.Bytes == 0 || f.Bytes > whole.Bytes+20*4*cbtBlock {
			t.Errorf("disk %d: got %d bytes of volume %s, want what was written after the %d bytes of the first", i, f.Bytes, f.Volume, whole.Bytes)
		}
	}
	for i, backup := range backups {
		task, err := c.VerifyBackup(b.ctx, b.task, backup.Name, "")
		b.done(c, "verify", task, err)
		b.wantRestored(c, backup.Name, want[i])
		for d, f := range backup.Machines[0].Files {
			b.wantRead("backup "+backup.Name, f.Path, want[i][d])
		}
	}
	b.wantAtHost("one")

	if _, err := c.DeleteBackup(b.ctx, b.task, backups[0].Name); !client.IsStatus(err, 409) {
		t.Errorf("delete of a base: got %v, want a conflict", err)
	}
	task, err := c.DeleteBackup(b.ctx, b.task, backups[1].Name)
	b.done(c, "discard", task, err)
	b.kept(c, 1)
	b.wantFiles(1)
	if _, err := c.DeleteCBTTaskAndBackups(b.ctx, b.task, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitCBTTask(b.ctx, b.task); !client.IsStatus(err, 404) {
		t.Errorf("after the deletion: got %v, want that it is gone", err)
	}
	b.wantFiles(0)
	b.wantClean()
}

// A machine that is off gets its disks back as a backup has them, and when it runs again
// the next backup is of what they have become by that: nothing of the restore is missed.
func TestBackupAfterARestoreInPlace(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-storage-daemon")
	b := newBackup(t, "")
	c := b.native()
	b.scribble(20)
	first := b.images()
	b.keep(c, client.NewBackup{})
	b.scribble(20)
	b.keep(c, client.NewBackup{})
	b.scribble(20)

	name := b.kept(c, 2)[0].Name
	if _, err := c.RestoreBackup(b.ctx, b.task, name, client.RestoreOf{}, ""); err != nil {
		t.Fatal(err)
	}
	if task, err := c.WaitCBTTask(b.ctx, b.task); err != nil || !strings.Contains(task.Reason, "the machine runs") {
		t.Errorf("restore of a machine that runs: got %s (%s), %v; want it refused", task.Status, task.Reason, err)
	}
	b.machine.Quit()
	t.Cleanup(b.endDaemon)
	task, err := c.RestoreBackup(b.ctx, b.task, name, client.RestoreOf{}, "")
	b.done(c, "restore", task, err)
	for d, disk := range b.machine.Target.Disks {
		b.wantRead("the restored disk", disk.Path, first[d])
	}
	b.machine.Boot()
	b.keep(c, client.NewBackup{})
	b.wantRestored(c, b.kept(c, 3)[2].Name, first)
}

// A backup that is canceled leaves nothing, and one whose worker is killed is finished by
// the next: what both were to copy is in it.
func TestBackupsThatAreCutOff(t *testing.T) {
	t.Parallel()
	b := newBackup(t, "")
	c := b.native()
	b.scribble(20)
	b.keep(c, client.NewBackup{})

	b.scribble(8)
	b.midway(c)
	task, err := c.DisableCBTTask(b.ctx, b.task, false, "")
	b.done(c, "disable", task, err)
	b.kept(c, 1)
	b.wantFiles(1)

	b.scribble(5)
	want := b.images()
	b.midway(c)
	b.worker.kill()
	b.worker.restart()
	b.idle(c, "backup")
	backups := b.kept(c, 2)
	b.wantFiles(2)
	if backups[1].Base != backups[0].Name {
		t.Errorf("got %+v, want it based on the first: nothing took the chain away", backups[1])
	}
	page, err := b.eng.Steps(b.ctx, b.lastRun(c))
	if err != nil || len(page[0].Attempts) < 2 {
		t.Errorf("attempts of the backup: got %+v, %v; want one that was lost", page, err)
	}
	b.wantRestored(c, backups[1].Name, want)
}

// Force waits for nobody, be it a worker that is gone for good or one that was killed
// while it copied. What is open is closed when one is back.
func TestForcedDisableWithoutAWorker(t *testing.T) {
	t.Parallel()
	b := newBackup(t, "")
	c := b.native()
	b.scribble(20)
	b.window("")
	b.worker.kill()
	began := time.Now()
	if err := b.disable(true); err != nil {
		t.Fatal(err)
	}
	t.Logf("disabled by force while the worker was gone in %s", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s, want no waiting", took)
	}
	b.wantStatus("Stopped")
	if !b.exported() {
		t.Error("nobody could have closed the session, and it is")
	}
	b.worker.restart()
	b.idle(c, "disable")
	if b.exported() {
		t.Error("a worker is back and the session is open")
	}

	b.midway(c)
	b.worker.kill()
	began = time.Now()
	task, err := c.DisableCBTTask(b.ctx, b.task, true, "")
	if err != nil || task.Status != client.CBTStopped {
		t.Fatalf("got %s, %v; want Stopped", task.Status, err)
	}
	t.Logf("disabled by force while a killed worker copied in %s", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("it took %s, want no longer than it takes to know that a worker is lost", took)
	}
	b.worker.restart()
	b.idle(c, "disable")
	if b.exported() {
		t.Error("a worker is back and what it copied from is open")
	}
	want := b.images()
	b.keep(c, client.NewBackup{})
	b.wantFiles(1)
	b.wantRestored(c, b.kept(c, 1)[0].Name, want)
}

// done waits for the end of what was begun, which has to be good.
func (b *backup) done(c *client.Client, operation string, begun client.CBTTask, err error) {
	b.house.t.Helper()
	if err != nil {
		b.house.t.Fatalf("%s: %v", operation, err)
	}
	b.idle(c, operation)
}

// idle waits until nothing is under way with the task, which is Stopped then.
func (b *backup) idle(c *client.Client, operation string) {
	b.house.t.Helper()
	task, err := c.WaitCBTTask(b.ctx, b.task)
	if err != nil || task.Status != client.CBTStopped || task.Reason != "" || task.Machines[0].Session != nil {
		b.house.t.Fatalf("after %s: %s (%s), %+v, %v", operation, task.Status, task.Reason, task.Machines, err)
	}
}

func (b *backup) lastRun(c *client.Client) string {
	b.house.t.Helper()
	task, err := c.CBTTask(b.ctx, b.task)
	if err != nil {
		b.house.t.Fatal(err)
	}
	return task.Run
}

// keep makes a backup.
func (b *backup) keep(c *client.Client, n client.NewBackup) {
	b.house.t.Helper()
	task, err := c.CreateBackup(b.ctx, b.task, n, "")
	b.done(c, "backup", task, err)
}

// midway begins a slow backup, and waits until some of it is copied.
func (b *backup) midway(c *client.Client) {
	b.house.t.Helper()
	task, err := c.CreateBackup(b.ctx, b.task, client.NewBackup{BytesPerSecond: slowly}, "")
	if err != nil || task.Status != client.CBTStarting || task.Operation != "backup" {
		b.house.t.Fatalf("backup: %s, %q, %v", task.Status, task.Operation, err)
	}
	testenv.Eventually(b.house.t, 10*time.Second, func() bool {
		run, err := c.Run(b.ctx, task.Run)
		if err != nil {
			b.house.t.Fatal(err)
		}
		p := run.Steps[0].Progress
		return p.Done > 0 && p.Done < p.Total
	})
}

// kept are the backups of the task, of which there have to be n.
func (b *backup) kept(c *client.Client, n int) []client.Backup {
	b.house.t.Helper()
	backups, err := c.Backups(b.ctx, b.task)
	if err != nil || len(backups) != n {
		b.house.t.Fatalf("backups: got %+v, %v; want %d", backups, err, n)
	}
	return backups
}

// wantFiles checks that the worker keeps n backups of the machine, and nothing half made.
func (b *backup) wantFiles(n int) {
	b.house.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(b.machine.Roots[0], "backups", b.vm, "*"))
	if err != nil || len(dirs) != n {
		b.house.t.Errorf("directories of backups: got %v, %v; want %d", dirs, err, n)
	}
	for _, dir := range dirs {
		if images, err := filepath.Glob(filepath.Join(dir, "*.qcow2")); err != nil || len(images) != 2 || strings.Contains(filepath.Base(dir), ".") {
			b.house.t.Errorf("%s: got %v, %v; want an image of each disk", dir, images, err)
		}
	}
}

// wantRestored restores a backup into files and compares them.
func (b *backup) wantRestored(c *client.Client, name string, images [][]byte) {
	b.house.t.Helper()
	dir := filepath.Join(b.machine.Roots[0], "restored-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.house.t.Fatal(err)
	}
	task, err := c.RestoreBackup(b.ctx, b.task, name, client.RestoreOf{Directory: dir}, "")
	b.done(c, "restore", task, err)
	for d, want := range images {
		got, err := os.ReadFile(filepath.Join(dir, b.volumes[d]+".raw"))
		if err != nil || !bytes.Equal(got, want) {
			b.house.t.Errorf("disk %d of backup %s is not as it was, error %v", d, name, err)
		}
	}
}

// wantRead checks what qemu-img reads of an image that is not in use.
func (b *backup) wantRead(what, path string, want []byte) {
	b.house.t.Helper()
	raw := filepath.Join(cbttest.Dir(b.house.t), "raw")
	if _, err := b.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw); err != nil {
		b.house.t.Fatal(err)
	}
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, want) {
		b.house.t.Errorf("%s: qemu-img reads %s other than it was, error %v", what, path, err)
	}
}

// exported says whether QEMU serves a moment.
func (b *backup) exported() bool {
	b.house.t.Helper()
	var exports []json.RawMessage
	b.machine.Do("query-block-exports", nil, &exports)
	return len(exports) > 0
}
