package native_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// backup makes a backup of a task.
func (e *env) backup(path string, in native.NewBackup) {
	e.t.Helper()
	e.admin().post(path+"/backups", in).want(202)
	if task := e.settled(path); task.Status != core.CBTStopped {
		e.t.Fatalf("backup: status %s, %s", task.Status, task.Reason)
	}
}

func TestCBTBackupLife(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	var list native.BackupList
	if e.admin().get(path + "/backups").want(200).read(&list); list.Items == nil || len(list.Items) != 0 {
		t.Errorf("before the first: %+v, want an empty list", list.Items)
	}
	release := host.Hold(cbt.OpBackup)
	var task native.CBTTask
	e.admin().post(path+"/backups", `{"bytesPerSecond":1048576}`).want(202).read(&task)
	if task.Status != core.CBTStarting || task.Operation != core.CBTBackup || len(task.Run) != 32 {
		t.Errorf("begun: status %s, operation %s, run %q", task.Status, task.Operation, task.Run)
	}
	release()
	if task = e.settled(path); task.Status != core.CBTStopped || task.Checkpoint != checkpoint(1) || task.Machines[0].Session != nil {
		t.Fatalf("made: %+v", task)
	}
	e.backup(path, native.NewBackup{})
	e.backup(path, native.NewBackup{Full: true})
	e.admin().get(path + "/backups").want(200).read(&list)
	if got := host.Orders(cbt.OpBackup); len(got) != 3 || got[0].Rate != 1<<20 || got[1].Rate != 0 {
		t.Errorf("orders = %+v, want three, the first with a bound", got)
	}
	file := func(seq, disk int, bytes int64) native.BackupFile {
		v := understudy.Volume(machine, disk)
		return native.BackupFile{Volume: v, Path: "/backups/" + machine + "/" + checkpoint(seq) + "/" + v + ".qcow2", Size: understudy.Size, Bytes: bytes}
	}
	of := func(seq int, base string, bytes int64) native.Backup {
		return native.Backup{
			Name: checkpoint(seq), At: time.Date(2026, 11, 21, 3, 0, seq, 0, time.UTC), Full: base == "", Base: base, Complete: true,
			Machines: []native.BackupMachine{{Machine: machine, Base: base, Files: []native.BackupFile{file(seq, 0, bytes), file(seq, 1, bytes)}}},
		}
	}
	want := []native.Backup{of(1, "", understudy.Size), of(2, checkpoint(1), understudy.Changed), of(3, "", understudy.Size)}
	if diff := cmp.Diff(want, list.Items); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
	var one native.Backup
	e.admin().get(path + "/backups/" + checkpoint(2)).want(200).read(&one)
	if diff := cmp.Diff(want[1], one); diff != "" {
		t.Errorf("backup 2 (-want +got):\n%s", diff)
	}
	e.admin().get(path + "/backups/" + checkpoint(9)).want(404)

	if p := e.admin().del(path + "/backups/" + checkpoint(1)).want(409).problem(); !strings.Contains(p.Detail, checkpoint(2)) {
		t.Errorf("delete of a base: %+v, want the backup named that is based on it", p)
	}
	e.admin().del(path + "/backups/" + checkpoint(2)).want(202).read(&task)
	if task.Operation != core.CBTDiscard || task.Status != core.CBTStopped {
		t.Errorf("deleting: %+v", task)
	}
	e.settled(path)
	e.admin().del(path + "/backups/" + checkpoint(2)).want(404)
	e.admin().get(path + "/backups").want(200).read(&list)
	if len(list.Items) != 2 {
		t.Errorf("%d backups are left, want 2", len(list.Items))
	}
	e.admin().del(path + "?backups=true").want(202)
	testenv.Eventually(t, 10*time.Second, func() bool { return e.admin().get(path).status == 404 })
	if got := host.Orders(cbt.OpDrop); len(got) != 1 || !got[0].Backups {
		t.Errorf("orders to drop = %+v, want one with the backups", got)
	}
}

func TestCBTRestoreAndVerify(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	e.backup(path, native.NewBackup{})
	backup := path + "/backups/" + checkpoint(1)
	volume := understudy.Volume(machine, 1)
	var task native.CBTTask
	e.admin().post(backup+"/restore", `{"machine":"`+strings.ToUpper(machine)+`","volumes":["`+volume+`"],"directory":"/srv/restored","bytesPerSecond":7}`).want(202).read(&task)
	if task.Operation != core.CBTRestore {
		t.Errorf("restoring: %+v", task)
	}
	e.settled(path)
	if got := host.Orders(cbt.OpRestore); len(got) != 1 || got[0].Into != "/srv/restored" || got[0].Rate != 7 || !cmp.Equal(got[0].Volumes, []string{volume}) {
		t.Errorf("orders = %+v", got)
	}
	e.admin().post(backup+"/restore", nil).want(202) // the volumes themselves
	e.settled(path)
	host.Fail(cbt.OpVerify, "backup is damaged")
	e.admin().post(backup+"/verify", nil).want(202).read(&task)
	run := task.Run
	if task = e.settled(path); task.Status != core.CBTStopped || task.Reason != "backup is damaged" || task.Run != run {
		t.Errorf("verified: %+v, want it Stopped and why", task)
	}
	for _, row := range []struct {
		name, path, body, field string
		status                  int
	}{
		{"a relative directory", backup + "/restore", `{"directory":"restored"}`, "directory", 400},
		{"a volume of no backup", backup + "/restore", `{"volumes":["` + chosen + `"]}`, "volumes", 400},
		{"no uuid", backup + "/restore", `{"volumes":["root"]}`, "volumes", 400},
		{"another machine", backup + "/restore", `{"machine":"` + chosen + `"}`, "machine", 400},
		{"a negative rate", backup + "/restore", `{"bytesPerSecond":-1}`, "bytesPerSecond", 400},
		{"a negative rate of a backup", path + "/backups", `{"bytesPerSecond":-1}`, "bytesPerSecond", 400},
		{"an unknown field", path + "/backups", `{"since":"x"}`, "since", 400},
		{"restore of no backup", path + "/backups/" + checkpoint(2) + "/restore", "", "", 404},
		{"verify of a checkpoint of another task", path + "/backups/cbt-000000000000-1/verify", "", "", 404},
		{"delete of what is no name", path + "/backups/newest/verify", "", "", 404},
	} {
		if p := e.admin().post(row.path, row.body).want(row.status).problem(); p.Field != row.field {
			t.Errorf("%s: %+v, want the field %q", row.name, p, row.field)
		}
	}
	// What failed before is not a backup's that starts.
	e.admin().post(path+"/backups", native.NewBackup{}).want(202).read(&task)
	if task.Operation != core.CBTBackup || task.Reason != "" {
		t.Errorf("a backup that starts: %+v, want no reason: that of before is not its", task)
	}
	if task = e.settled(path); task.Status != core.CBTStopped || task.Reason != "" {
		t.Errorf("a backup after a failure: %+v, want it Stopped, without a reason", task)
	}
	e.admin().with("If-Match", `"1"`).del(backup).want(400)
	e.admin().post(path+"/enable", nil).want(202)
	e.settled(path)
	e.admin().post(path+"/backups", nil).want(409)
	e.admin().post(backup+"/restore", nil).want(409)
}

// A repeated request is carried out once; the same key about another backup is another.
func TestCBTBackupIdempotencyKey(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	night := e.admin().with("Idempotency-Key", "night-1")
	night.post(path+"/backups", nil).want(202)
	e.settled(path)
	night.post(path+"/backups", nil).want(200)
	e.backup(path, native.NewBackup{})
	for _, seq := range []int{1, 2} {
		night.post(path+"/backups/"+checkpoint(seq)+"/verify", nil).want(202)
		e.settled(path)
		night.post(path+"/backups/"+checkpoint(seq)+"/verify", nil).want(200)
	}
	if b, v := len(host.Orders(cbt.OpBackup)), len(host.Orders(cbt.OpVerify)); b != 2 || v != 2 {
		t.Errorf("%d orders to back up and %d to verify, want two each", b, v)
	}
}

func TestCBTDisableCancelsABackup(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	defer host.Hold(cbt.OpBackup)()
	e.admin().post(path+"/backups", nil).want(202)
	testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpBackup)) == 1 })
	e.admin().post(path+"/enable", nil).want(409)
	e.admin().post(path+"/disable", nil).want(202)
	if task := e.settled(path); task.Status != core.CBTStopped || task.Checkpoint != "" {
		t.Errorf("disabled: %+v", task)
	}
	var list native.BackupList
	if e.admin().get(path + "/backups").want(200).read(&list); len(list.Items) != 0 {
		t.Errorf("backups = %+v, want none", list.Items)
	}
}

// Another account sees no backup; a viewer of its own sees them, but not where they are.
func TestCBTWhoMaySeeBackups(t *testing.T) {
	e := start(t, native.Options{})
	e.attend()
	ann, asAnn := e.account("ann", core.Operator)
	e.admin().post("/accounts", native.NewAccount{Name: "vic", Password: "pw of vic", Role: core.Viewer, Owner: ann.UUID}).want(201)
	asVic := e.signIn("vic", "pw of vic")
	_, asBob := e.account("bob", core.Operator)
	e.as(asAnn).post("/cbt-tasks", `{"uuid":"`+chosen+`","name":"hers","machines":["`+machine+`"]}`).want(201)
	path := "/cbt-tasks/" + chosen
	e.as(asAnn).post(path+"/backups", nil).want(202)
	e.settled(path)
	for who, shown := range map[string]bool{asAnn: true, asVic: false} {
		var list native.BackupList
		e.as(who).get(path + "/backups").want(200).read(&list)
		var one native.Backup
		e.as(who).get(path + "/backups/" + checkpoint(1)).want(200).read(&one)
		for _, b := range append(list.Items, one) {
			if got := b.Machines[0].Files[0].Path != ""; got != shown {
				t.Errorf("paths are shown: %v, want %v", got, shown)
			}
		}
	}
	backup := path + "/backups/" + checkpoint(1)
	for who, status := range map[string]int{asVic: 403, asBob: 404} {
		e.as(who).post(path+"/backups", nil).want(status)
		e.as(who).post(backup+"/restore", nil).want(status)
		e.as(who).post(backup+"/verify", nil).want(status)
		e.as(who).del(backup).want(status)
	}
	e.as(asBob).get(path + "/backups").want(404)
	e.as(asBob).get(backup).want(404)
}

// Force answers at once, with nobody there who could close; a later enable is not held up.
func TestCBTDisableByForce(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	e.admin().post(path+"/enable", nil).want(202)
	e.settled(path)
	release := host.Hold(cbt.OpClose)
	defer release()
	var task native.CBTTask
	for range 2 {
		e.admin().post(path+"/disable", `{"force":true}`).want(202).read(&task)
		if task.Status != core.CBTStopped || task.Operation != core.CBTDisable || task.Machines[0].Session == nil {
			t.Errorf("by force: %+v, want it Stopped, and what is left to be closed", task)
		}
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpClose)) == 1 })
	e.admin().post(path+"/enable", `{"since":"`+checkpoint(1)+`"}`).want(202)
	if task = e.settled(path); task.Status != core.CBTRunning || task.Machines[0].Session.Checkpoint != checkpoint(2) {
		t.Errorf("enabled meanwhile: %+v", task)
	}
	release()
	e.admin().post(path+"/disable", `{"force":true}`).want(202)
	if task = e.settled(path); task.Status != core.CBTStopped || task.Machines[0].Session != nil {
		t.Errorf("closed: %+v", task)
	}
}
