package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt/cbttest"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/client"
)

// What the issue is done by: create, enable, read, disable, write, enable with
// bitmapName gives exactly the blocks written since, for two disks of one machine.
func TestChangedBlocksOverREST(t *testing.T) {
	t.Parallel()
	b := newBackup(t, "")
	b.wantStatus("Created")
	b.scribble(20)

	atFull := b.images()
	infos := b.window("")
	for i, info := range infos {
		if len(infos) != 2 || info.Volume.UUID != b.volumes[i] {
			t.Fatalf("told of %d volumes, the %d. is %s; want %v", len(infos), i, info.Volume.UUID, b.volumes)
		}
	}
	b.wantStatus("Running")
	b.scribble(20) // after the moment
	if err := b.follow(infos); err != nil {
		t.Fatal(err)
	}
	b.wantCopies("full copy", atFull)
	if err := b.disable(false); err != nil {
		t.Fatal(err)
	}
	b.wantStatus("Stopped")
	atDisable := b.images()

	// What was written while the window was open, and since.
	written := b.scribble(20)
	want := make([][]uint64, 2)
	for d := range want {
		want[d] = append(want[d], written[d]...)
		want[d] = slices.Compact(slices.Sorted(slices.Values(append(want[d], different(atFull[d], atDisable[d])...))))
	}
	since := b.bitmap
	atSecond := b.images()
	infos = b.window(since)
	b.scribble(20)
	for d, info := range infos {
		got, err := b.dirty(info)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode != "incremental" || info.metadata.ChangedBytes != uint64(len(got))*cbtBlock {
			t.Errorf("disk %d: mode %s with %d bytes, want incremental with %d blocks", d, info.Mode, info.metadata.ChangedBytes, len(got))
		}
		if diff := cmp.Diff(want[d], got); diff != "" {
			t.Errorf("blocks of disk %d by NBD (-written +got):\n%s", d, diff)
		}
		if diff := cmp.Diff(want[d], unpacked(t, info.BitmapBase64)); diff != "" {
			t.Errorf("blocks of disk %d in bitmapBase64 (-written +got):\n%s", d, diff)
		}
		if diff := cmp.Diff(want[d], b.pages(b.volumes[d], since, info.BitmapName)); diff != "" {
			t.Errorf("blocks of disk %d by the native API (-written +got):\n%s", d, diff)
		}
	}
	if err := b.follow(infos); err != nil {
		t.Fatal(err)
	}
	b.wantCopies("incremental copy", atSecond)
	b.wantAtHost("one")

	_, err := b.enable(since)
	b.refused("SYS.1006", nil, err)
	_, err = b.remove("/cbt-task/" + b.task)
	b.refused("SYS.1006", nil, err)
	if err := b.disable(false); err != nil {
		t.Fatal(err)
	}
	b.must(b.remove("/cbt-task/" + b.task))
	if rows := b.list("/cbt-task/" + b.task); len(rows) != 0 {
		t.Errorf("after its deletion the task is %v", rows)
	}
	b.wantClean()
}

// The same for a volume that no machine has open, which is scanned, at the other host.
func TestChangedBlocksOfAVolume(t *testing.T) {
	t.Parallel()
	b := newBackup(t, "")
	b.task = b.uuid(b.must(b.create("/cbt-task/create", map[string]any{"name": "volume", "resourceUuids": []string{b.lonely[0]}})))
	infos := b.window("")
	if err := b.follow(infos); err != nil {
		t.Fatal(err)
	}
	if err := b.disable(false); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.lonely[1], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("written"), 5*cbtBlock)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	infos = b.window(b.bitmap)
	got, err := b.dirty(infos[0])
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(got, []uint64{5}) || infos[0].Mode != "incremental" {
		t.Errorf("got blocks %v of a %s copy, want block 5 of an incremental one", got, infos[0].Mode)
	}
	if err := b.follow(infos); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(b.lonely[1]); err != nil || !bytes.Equal(now, b.copies[0]) {
		t.Errorf("the copy differs from the volume, error %v", err)
	}
	b.wantAtHost("two")
	if err := b.disable(false); err != nil {
		t.Fatal(err)
	}
	b.must(b.remove("/cbt-task/" + b.task))
}

// A machine is restored: stopped, its volumes exported, written by nbdcopy and given
// back, also by a worker that was not there when they were exported.
func TestRestoreOverREST(t *testing.T) {
	t.Parallel()
	cbttest.Need(t, "qemu-storage-daemon")
	b := newBackup(t, "")
	b.scribble(20)
	saved := b.images()
	if err := b.follow(b.window("")); err != nil {
		t.Fatal(err)
	}
	if err := b.disable(false); err != nil {
		t.Fatal(err)
	}
	b.scribble(20) // the damage

	volumes := map[string]any{"vmInstanceUuid": b.vm, "volumeUuids": b.volumes}
	_, err := b.create("/cbt-task/exportvolume", volumes)
	b.refused("SYS.1006", nil, err) // it runs
	b.machine.Quit()
	t.Cleanup(b.endDaemon)
	exports := readInfos(t, b.must(b.create("/cbt-task/exportvolume", volumes))["volumeInfos"])
	if len(exports) != 2 {
		t.Fatalf("%d volumes are exported, want 2", len(exports))
	}
	for i, e := range exports {
		backup := filepath.Join(cbttest.Dir(t), "backup")
		if err := os.WriteFile(backup, b.copies[i], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := b.run("nbdcopy", "--flush", backup, e.metadata.URI); err != nil {
			t.Fatal(err)
		}
	}
	b.worker.kill()
	b.worker.restart()
	b.must(b.create("/cbt-task/unexportvolume", volumes))
	for i, disk := range b.machine.Target.Disks {
		raw := filepath.Join(cbttest.Dir(t), "raw")
		if _, err := b.run("qemu-img", "convert", "-f", disk.Format, "-O", "raw", disk.Path, raw); err != nil {
			t.Fatal(err)
		}
		if restored, err := os.ReadFile(raw); err != nil || !bytes.Equal(restored, saved[i]) {
			t.Errorf("disk %d is not as it was saved, error %v", i, err)
		}
	}
	b.machine.Boot() // nobody holds the images
}

// endDaemon kills what serves a restore, which outlives the worker, if the test has
// failed before it was told to end.
func (b *backup) endDaemon() {
	text, err := os.ReadFile(filepath.Join(b.machine.Roots[0], "one", b.vm, "restore.pid"))
	if err != nil {
		return // it ended, and took the file with it
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// window enables, which has to succeed.
func (b *backup) window(since string) []cbtInfo {
	b.house.t.Helper()
	infos, err := b.enable(since)
	if err != nil {
		b.house.t.Fatal(err)
	}
	return infos
}

// different are the blocks that differ.
func different(x, y []byte) (blocks []uint64) {
	for k := range uint64(cbtDisk / cbtBlock) {
		if !bytes.Equal(x[k*cbtBlock:(k+1)*cbtBlock], y[k*cbtBlock:(k+1)*cbtBlock]) {
			blocks = append(blocks, k)
		}
	}
	return blocks
}

// pages are the blocks that the native API tells, a few at a time.
func (b *backup) pages(volume, from, to string) (blocks []uint64) {
	b.house.t.Helper()
	for e, err := range b.native().Changes(b.ctx, b.task, client.ChangesOf{Volume: volume, From: from, To: to}) {
		if err != nil {
			b.house.t.Fatal(err)
		}
		for at := e.Offset; at < e.Offset+e.Length; at += cbtBlock {
			blocks = append(blocks, uint64(at)/cbtBlock)
		}
	}
	return blocks
}

// wantAtHost checks that each step of the task ran at a host.
func (b *backup) wantAtHost(host string) {
	b.house.t.Helper()
	page, err := b.eng.Runs(b.ctx, core.RunFilter{Target: b.task, Limit: 100})
	if err != nil {
		b.house.t.Fatal(err)
	}
	attempts := 0
	for _, r := range page.Runs {
		steps, err := b.eng.Steps(b.ctx, r.ID)
		if err != nil {
			b.house.t.Fatal(err)
		}
		for _, s := range steps {
			for _, a := range s.Attempts {
				attempts++
				if !strings.HasPrefix(a.Worker, host+".") {
					b.house.t.Errorf("%s was at worker %s, want one of host %s", s.Name, a.Worker, host)
				}
			}
		}
	}
	if attempts < 3 {
		b.house.t.Errorf("the task has %d attempts, want 3 at least", attempts)
	}
}

// wantClean checks that QEMU has nothing of ours.
func (b *backup) wantClean() {
	b.house.t.Helper()
	for _, command := range []string{"query-named-block-nodes", "query-jobs", "query-block-exports"} {
		var raw json.RawMessage
		b.machine.Do(command, nil, &raw)
		if strings.Contains(string(raw), `"cbt-`) {
			b.house.t.Errorf("after its deletion QEMU still has objects of the task: %s", raw)
		}
	}
}
