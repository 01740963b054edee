package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/pkg/client"
)

// Two nights' backups, of which the first is restored, and all go with the task.
func TestBackupsIntoFiles(t *testing.T) {
	c, host := tracking(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	task, err := c.CreateCBTTask(ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "nightly"}, Machines: []string{machine}})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(begun client.CBTTask, err error, operation string) client.CBTTask {
		t.Helper()
		if err != nil || begun.Operation != operation {
			t.Fatalf("begin %s: %q under way, %v", operation, begun.Operation, err)
		}
		ended, err := c.WaitCBTTask(ctx, task.UUID)
		if err != nil || ended.Status != client.CBTStopped {
			t.Fatalf("wait for %s: %s %s, %v; want Stopped", operation, ended.Status, ended.Reason, err)
		}
		return ended
	}
	for _, night := range []string{"first", "second", "second"} {
		begun, err := c.CreateBackup(ctx, task.UUID, client.NewBackup{BytesPerSecond: 100 << 20}, night)
		if begun.Operation == "" { // a repeated request
			continue
		}
		wait(begun, err, "backup")
	}
	backups, err := c.Backups(ctx, task.UUID)
	if err != nil || len(backups) != 2 || !backups[0].Full || backups[1].Full || backups[1].Base != backups[0].Name {
		t.Fatalf("backups = %+v, %v; want a full one and one based on it", backups, err)
	}
	one, err := c.Backup(ctx, task.UUID, backups[1].Name)
	if diff := cmp.Diff(backups[1], one); err != nil || diff != "" {
		t.Errorf("one backup: %v (-want +got):\n%s", err, diff)
	}
	begun, err := c.VerifyBackup(ctx, task.UUID, backups[1].Name, "")
	wait(begun, err, "verify")
	begun, err = c.RestoreBackup(ctx, task.UUID, backups[0].Name, client.RestoreOf{Directory: "/srv/restored"}, "")
	wait(begun, err, "restore")
	if got := host.Orders(cbt.OpRestore); len(got) != 1 || got[0].Seq != 1 || got[0].Into != "/srv/restored" || got[0].Machine != machine {
		t.Errorf("orders to restore = %+v", got)
	}
	if _, err := c.DeleteBackup(ctx, task.UUID, backups[0].Name); !client.IsStatus(err, 409) {
		t.Errorf("delete of a base: %v, want a 409", err)
	}
	begun, err = c.DeleteBackup(ctx, task.UUID, backups[1].Name)
	wait(begun, err, "discard")
	if _, err := c.Backup(ctx, task.UUID, backups[1].Name); !client.IsStatus(err, 404) {
		t.Errorf("what is deleted: %v, want a 404", err)
	}
	if done, err := c.DeleteCBTTaskAndBackups(ctx, task.UUID, false); err != nil || done {
		t.Fatalf("delete: done %v, %v; want it to be under way", done, err)
	}
	if _, err := c.WaitCBTTask(ctx, task.UUID); !client.IsStatus(err, 404) {
		t.Errorf("wait for what is deleted: %v, want a 404", err)
	}
	if got := host.Orders(cbt.OpDrop); len(got) != 1 || !got[0].Backups {
		t.Errorf("orders to drop = %+v, want one with the backups", got)
	}
	if got := host.Orders(cbt.OpBackup); len(got) != 2 || got[1].Session.From != 1 || got[0].Rate != 100<<20 || understudy.Volume(machine, 0) != one.Machines[0].Files[0].Volume {
		t.Errorf("orders to back up = %+v", got)
	}
}
