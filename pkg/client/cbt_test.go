package client_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/client"
)

const machine = "89878e17496030ba9c062cbb18924335"

// tracking serves an API whose worker reaches the machine.
func tracking(t *testing.T) (*client.Client, *understudy.Worker) {
	t.Helper()
	s := serve(t, nil)
	s.host = understudy.New(t, s.eng, "host1")
	if _, err := s.store.Beat(t.Context(), core.Heartbeat{Worker: "host1"}, s.host.Card(machine)); err != nil {
		t.Fatalf("announce worker: %v", err)
	}
	return signedIn(t, s), s.host
}

// A backup product's night: a full copy, and the next night what has changed.
func TestBackupOfChangedBlocks(t *testing.T) {
	c, _ := tracking(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	task, err := c.CreateCBTTask(ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "nightly"}, Machines: []string{machine}})
	if err != nil {
		t.Fatal(err)
	}
	since, modes := "", []string{}
	for _, night := range []string{"first", "second"} {
		if _, err := c.EnableCBTTask(ctx, task.UUID, since, night); err != nil {
			t.Fatalf("enable: %v", err)
		}
		open, err := c.WaitCBTTask(ctx, task.UUID)
		if err != nil || open.Status != client.CBTRunning {
			t.Fatalf("wait: %s %s, %v; want Running", open.Status, open.Reason, err)
		}
		session := open.Machines[0].Session
		for _, e := range session.Exports {
			modes = append(modes, e.Mode)
		}
		if _, err := c.DisableCBTTask(ctx, task.UUID, false, night); err != nil {
			t.Fatalf("disable: %v", err)
		}
		if closed, err := c.WaitCBTTask(ctx, task.UUID); err != nil || closed.Status != client.CBTStopped {
			t.Fatalf("wait: %s %s, %v; want Stopped", closed.Status, closed.Reason, err)
		}
		since = session.Checkpoint
	}
	if diff := cmp.Diff([]string{"full", "full", "incremental", "incremental"}, modes); diff != "" {
		t.Errorf("modes of the exports (-want +got):\n%s", diff)
	}

	checkpoints, err := c.Checkpoints(ctx, task.UUID)
	if err != nil || len(checkpoints) != 2 || checkpoints[1].Name != since {
		t.Fatalf("checkpoints = %+v, %v; want two", checkpoints, err)
	}
	var extents []client.Extent
	for e, err := range c.Changes(ctx, task.UUID, client.ChangesOf{Volume: understudy.Volume(machine, 0), From: checkpoints[0].Name, To: since, Page: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		extents = append(extents, e)
	}
	want := []client.Extent{{Offset: 0, Length: understudy.Block}, {Offset: 2 * understudy.Block, Length: understudy.Block, Zero: true}}
	if diff := cmp.Diff(want, extents); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	estimate, err := c.EstimateCBT(ctx, task.UUID)
	if err != nil || len(estimate) != 1 || *estimate[0].Volumes[0].Changed != understudy.Changed {
		t.Errorf("estimate = %+v, %v", estimate, err)
	}

	if _, err := c.ForgetCheckpoint(ctx, task.UUID, checkpoints[0].Name); err != nil {
		t.Fatalf("forget: %v", err)
	}
	if _, err := c.WaitCBTTask(ctx, task.UUID); err != nil {
		t.Fatal(err)
	}
	if left, err := c.Checkpoints(ctx, task.UUID); err != nil || len(left) != 1 {
		t.Errorf("checkpoints = %+v, %v; want one", left, err)
	}
	if done, err := c.DeleteCBTTask(ctx, task.UUID, false); err != nil || done {
		t.Fatalf("delete: done %v, %v; want it to be under way", done, err)
	}
	if _, err := c.WaitCBTTask(ctx, task.UUID); !client.IsStatus(err, 404) {
		t.Errorf("wait for what is deleted: %v, want a 404", err)
	}
}

func TestCBTTasksArePaged(t *testing.T) {
	c, _ := tracking(t)
	ctx := t.Context()
	machines := []string{machine, "00000000000000000000000000000001", "00000000000000000000000000000002"}
	for _, m := range machines {
		if _, err := c.CreateCBTTask(ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "of " + m}, Machines: []string{m}}); err != nil {
			t.Fatal(err)
		}
	}
	names := func(f client.CBTFilter) []string {
		t.Helper()
		out := []string{}
		for task, err := range c.CBTTasks(ctx, f) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, task.Machines[0].UUID)
		}
		return out
	}
	newest := slices.Clone(machines)
	slices.Reverse(newest)
	if diff := cmp.Diff(newest, names(client.CBTFilter{})); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(machines[:1], names(client.CBTFilter{Machine: machine, Status: client.CBTCreated, Name: "OF"})); diff != "" {
		t.Errorf("filtered (-want +got):\n%s", diff)
	}
	for _, err := range c.CBTTasks(ctx, client.CBTFilter{Status: "Sleeping"}) {
		if !client.IsStatus(err, 400) {
			t.Errorf("unknown status: %v, want a 400", err)
		}
	}
}

func TestCBTPatchAndErrors(t *testing.T) {
	c, host := tracking(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	task, err := c.CreateCBTTask(ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "t"}, Machines: []string{machine}})
	if err != nil {
		t.Fatal(err)
	}
	if patched, err := c.PatchCBTTask(ctx, task.UUID, task.Version, map[string]any{"name": "renamed"}); err != nil || patched.Name != "renamed" {
		t.Errorf("patch: %+v, %v", patched, err)
	}
	if _, err := c.PatchCBTTask(ctx, task.UUID, task.Version, map[string]any{"name": "late"}); !client.IsStatus(err, 412) {
		t.Errorf("patch of an older version: %v, want a 412", err)
	}
	if _, err := c.CreateCBTTask(ctx, client.NewCBTTask{CBTFields: client.CBTFields{Name: "u"}, Machines: []string{machine}}); !client.IsStatus(err, 409) {
		t.Errorf("a machine of another task: %v, want a 409", err)
	}
	host.Fail(cbt.OpOpen, "the disk is gone")
	if _, err := c.EnableCBTTask(ctx, task.UUID, "", ""); err != nil {
		t.Fatal(err)
	}
	if failed, err := c.WaitCBTTask(ctx, task.UUID); err != nil || failed.Status != client.CBTFailed || failed.Reason != "the disk is gone" {
		t.Errorf("wait: %s %q, %v; want Failed and why", failed.Status, failed.Reason, err)
	}
	for _, err := range c.Changes(ctx, task.UUID, client.ChangesOf{Volume: understudy.Volume(machine, 0)}) {
		if !client.IsStatus(err, 404) {
			t.Errorf("changes of a volume that is not known yet: %v, want a 404", err)
		}
	}
}
