package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/id"
)

// backedUp gives a task with n backups, of which each is based on the one before.
func (h *house) backedUp(machines, n int) core.CBTTask {
	h.Helper()
	task := h.task(machines)
	for range n {
		task = h.copied(task, engine.BackupRequest{})
	}
	return task
}

// copied gives the task with one more backup.
func (h *house) copied(task core.CBTTask, r engine.BackupRequest) core.CBTTask {
	h.Helper()
	task = must(h.eng.BackupCBTTask(h.ctx, task.UUID, r))(h)
	h.work(obliging)
	task, how := h.ended(task)
	if task.Status != core.CBTStopped || how.Failed() {
		h.Fatalf("backup: got %s, %s", task.Status, how.Reason)
	}
	return task
}

// bases are those of the first machine's backups, oldest first.
func bases(task core.CBTTask) (out []string) {
	for _, b := range task.Records[0].Backups {
		out = append(out, fmt.Sprint(b.Base, "..", b.Seq))
	}
	return out
}

// Copies of whole disks may take longer than a backup window is kept.
func TestCopiesHaveADay(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(1, 1)
	task = must(h.eng.VerifyBackup(h.ctx, task.UUID, 1))(h)
	for _, run := range h.cbtRuns(task) {
		step := must(h.eng.Steps(h.ctx, run.ID))(h)[0]
		if step.Timeout < 24*time.Hour || run.Deadline.Sub(run.Created) < step.Timeout {
			t.Errorf("%s: an attempt has %s, the run until %s after its start", step.Name, step.Timeout, run.Deadline.Sub(run.Created))
		}
	}
	h.work(obliging)
}

// What the last enable asked for is told until the next enable, whatever is copied between.
func TestABackupIsNoEnable(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(1, 1)
	task = h.stopped(h.enabled(task, bitmap(task, 1)))
	begun := must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
	now := h.readTask(task)
	wantEqual(t, "since which checkpoint", []string{begun.Since, now.Since}, []string{bitmap(task, 1), bitmap(task, 1)})
	wantEqual(t, "run of the enable", []string{begun.Opened, now.Opened}, []string{task.Opened, task.Opened})
	h.work(obliging)
}

func TestBackupsAreBasedOnOneAnother(t *testing.T) {
	h := newHouse(t)
	task := h.task(2)
	task = must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{Rate: 1 << 20}))(h)
	if task.Status != core.CBTStarting || task.Pending.Op != core.CBTBackup || h.readTask(task).Status != core.CBTStarting {
		t.Errorf("while it is made: got %s, %q", task.Status, task.Pending.Op)
	}
	orders := h.work(obliging)
	if len(orders) != 2 || orders[0].Rate != 1<<20 || orders[0].Session.Check() != nil || orders[0].Session.Token == orders[1].Session.Token {
		t.Errorf("orders: got %+v", orders)
	}
	task, _ = h.ended(task)
	task = h.copied(task, engine.BackupRequest{})
	task = h.stopped(h.enabled(task, bitmap(task, 1))) // a session of somebody else's between
	task = h.copied(task, engine.BackupRequest{})
	task = h.copied(task, engine.BackupRequest{Full: true})
	task = h.copied(task, engine.BackupRequest{})
	wantEqual(t, "backups", bases(task), []string{"0..1", "1..2", "2..4", "0..5", "5..6"})

	// The newest backup that changes can be counted from is the base; if there is none the
	// next one is full.
	for _, row := range []struct {
		forget int
		want   string
	}{{6, "5..7"}, {7, "5..8"}} {
		must(h.eng.ForgetCheckpoint(h.ctx, task.UUID, row.forget))(h)
		h.work(obliging)
		task = h.copied(task, engine.BackupRequest{})
		if got := bases(task); got[len(got)-1] != row.want {
			t.Errorf("when checkpoint %d is forgotten: got %q, want %q", row.forget, got, row.want)
		}
	}
	for _, p := range task.Records[0].Chain {
		must(h.eng.ForgetCheckpoint(h.ctx, task.UUID, p.Seq))(h)
		h.work(obliging)
	}
	task = h.copied(task, engine.BackupRequest{})
	if got := bases(task); got[len(got)-1] != "0..9" || len(got) != 8 {
		t.Errorf("when all checkpoints are forgotten: got %q, want a full one and the others kept", got)
	}
}

// TestAMachineWithoutTheBaseIsCopiedWhole has one of two machines fail in the first backup.
func TestAMachineWithoutTheBaseIsCopiedWhole(t *testing.T) {
	h := newHouse(t)
	task := h.task(2)
	task = must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
	h.work(failing(task.Machines[1]))
	task, how := h.ended(task)
	if want := "machine " + task.Machines[1] + ": backup does not work"; task.Status != core.CBTFailed || task.Reason != want || !how.Failed() {
		t.Fatalf("got %s (%s), %+v", task.Status, task.Reason, how)
	}
	must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
	wantEqual(t, "sessions", sessions(h.work(obliging)), []string{"1..2", "0..2"})
	if task = h.readTask(task); task.Status != core.CBTStopped || task.Reason != "" {
		t.Errorf("got %s (%s)", task.Status, task.Reason)
	}
}

// TestABackupIsNoSession: neither is an enable with the same bitmap taken for one that is
// open, nor the other way round.
func TestABackupIsNoSession(t *testing.T) {
	h := newHouse(t)
	task := must(h.eng.BackupCBTTask(h.ctx, h.task(1).UUID, engine.BackupRequest{}))(h)
	_, err := h.eng.EnableCBTTask(h.ctx, task.UUID, "")
	wantKind(t, "enable while a backup is made", err, core.Conflict)
	h.work(obliging)
	task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
	if orders := h.work(obliging); task.Status != core.CBTStarting || len(orders) != 1 || orders[0].Session.Seq != 2 {
		t.Errorf("enable after a backup: got %s, %+v", task.Status, orders)
	}
	task, _ = h.ended(task)
	opened := task.Opened
	task = h.copied(h.stopped(task), engine.BackupRequest{})
	if task.Opened != opened || task.Since != "" || task.Seq != 3 {
		t.Errorf("after a backup: the last enable was %s since %q, checkpoint %d", task.Opened, task.Since, task.Seq)
	}
}

func TestEqualBackupsAreOne(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(1, 1)
	first := must(h.eng.BackupCBTTask(h.asking("night", false), task.UUID, engine.BackupRequest{Rate: 5}))(h)
	if same := must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{Rate: 5}))(h); same.Pending.Run != first.Pending.Run {
		t.Errorf("the same: got run %s, want %s", same.Pending.Run, first.Pending.Run)
	}
	for name, r := range map[string]engine.BackupRequest{"a full one": {Full: true, Rate: 5}, "a slower one": {Rate: 4}} {
		_, err := h.eng.BackupCBTTask(h.ctx, task.UUID, r)
		wantKind(t, name, err, core.Conflict)
	}
	h.work(obliging)
	again := must(h.engine().BackupCBTTask(h.asking("night", true), task.UUID, engine.BackupRequest{Rate: 5}))(h)
	if again.Pending.Run != first.Pending.Run || again.Status != core.CBTStopped || len(again.Records[0].Backups) != 2 {
		t.Errorf("carried out again: got %s, run %s, %q", again.Status, again.Pending.Run, bases(again))
	}
}

func TestDisableCancelsABackup(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(1, 1)
	first := must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
	copying := h.orders()[0]
	disabled := h.asked(func() (core.CBTTask, error) { return h.eng.DisableCBTTask(h.ctx, task.UUID, false) })
	soon(t, func() bool { return h.toldToStop() == 1 })
	undone := must(cbt.Answer{Record: copying.order.Record}.Encode())(h)
	must(h.eng.Finish(t.Context(), copying.Dispatch, "host", copying.Begun, core.Outcome{State: core.AttemptCanceled, Output: undone}, false))(h)
	if got := <-disabled; got.Pending.Op != core.CBTDisable {
		t.Errorf("got %q under way", got.Pending.Op)
	}
	h.work(obliging)
	if now := h.readTask(task); now.Status != core.CBTStopped || len(now.Records[0].Backups) != 1 {
		t.Errorf("got %s, %q", now.Status, bases(now))
	}
	if _, how := h.ended(first); how.State != core.RunCanceled || how.Op != core.CBTBackup {
		t.Errorf("how the backup ended: got %+v", how)
	}
}

// TestBackupStates has each verb about backups meet each status. The task has two backups,
// and those under way are of a worker that has not begun.
func TestBackupStates(t *testing.T) {
	verbs := map[string]func(h *house, task core.CBTTask) (core.CBTTask, error){
		"backup": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{})
		},
		"restore": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.RestoreCBT(h.ctx, task.UUID, 1, engine.RestoreRequest{})
		},
		"verify": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.VerifyBackup(h.ctx, task.UUID, 2)
		},
		"discard": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DiscardBackup(h.ctx, task.UUID, 2)
		},
		"enable": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.EnableCBTTask(h.ctx, task.UUID, "")
		},
		"disable": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DisableCBTTask(h.ctx, task.UUID, false)
		},
		"disable by force": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DisableCBTTask(h.ctx, task.UUID, true)
		},
		"delete": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DeleteCBTTask(h.ctx, task.UUID, false)
		},
		"delete by force": func(h *house, task core.CBTTask) (core.CBTTask, error) {
			return h.eng.DeleteCBTTask(h.ctx, task.UUID, true)
		},
	}
	// What a task is in: a status, or a status with a verb under way.
	bring := func(h *house, state string) core.CBTTask {
		task := h.backedUp(1, 2)
		switch state {
		case "Running":
			return h.enabled(task, "")
		case "Failed":
			task = must(h.eng.EnableCBTTask(h.ctx, task.UUID, ""))(h)
			h.work(failing(task.Machines...))
			return h.readTask(task)
		case "Stopped":
			return task
		}
		return must(verbs[state](h, task))(h)
	}
	const refused = "Conflict"
	for _, row := range []struct{ state, verb, want, ends string }{
		{"Stopped", "backup", "Starting backup", "Stopped"},
		{"Failed", "backup", "Starting backup", "Stopped"},
		{"Running", "backup", refused, ""},
		{"enable", "backup", refused, ""},
		{"backup", "backup", "Starting backup", "Stopped"},
		{"restore", "backup", refused, ""},
		{"verify", "backup", refused, ""},

		{"Stopped", "restore", "Stopped restore", "Stopped"},
		{"Failed", "restore", "Failed restore", "Failed"},
		{"Running", "restore", refused, ""},
		{"enable", "restore", refused, ""},
		{"backup", "restore", refused, ""},
		{"restore", "restore", "Stopped restore", "Stopped"},

		{"Stopped", "verify", "Stopped verify", "Stopped"},
		{"Failed", "verify", "Failed verify", "Failed"},
		{"Running", "verify", "Running verify", "Running"},
		{"backup", "verify", refused, ""},
		{"verify", "verify", "Stopped verify", "Stopped"},

		{"Stopped", "discard", "Stopped discard", "Stopped"},
		{"Failed", "discard", "Failed discard", "Failed"},
		{"Running", "discard", "Running discard", "Running"},
		{"backup", "discard", refused, ""},
		{"discard", "discard", "Stopped discard", "Stopped"},
		{"verify", "discard", refused, ""},

		{"backup", "enable", refused, ""},
		{"backup", "disable", "Failed disable", "Stopped"},
		{"backup", "disable by force", "Stopped disable", "Stopped"},
		{"backup", "delete", refused, ""},
		{"backup", "delete by force", "Failed delete", "gone"},
		{"restore", "enable", refused, ""},
		{"restore", "disable", refused, ""},
		{"restore", "delete by force", "Stopped delete", "gone"},
		{"verify", "enable", refused, ""},
		{"verify", "disable", "Stopped ", "Stopped"},
		{"verify", "delete", refused, ""},
		{"discard", "enable", refused, ""},
	} {
		t.Run(row.verb+" when "+row.state, func(t *testing.T) {
			h := newHouse(t)
			task := bring(h, row.state)
			got, err := verbs[row.verb](h, task)
			if row.want == refused {
				wantKind(t, row.verb, err, core.Conflict)
				if now := h.readTask(task); now.Status != task.Status || now.Pending.Run != task.Pending.Run {
					t.Errorf("a refused call left the task %s, %q", now.Status, now.Pending.Op)
				}
				return
			}
			h.ok(err)
			if is := fmt.Sprint(got.Status, " ", got.Pending.Op); is != row.want {
				t.Errorf("got %q, want %q", is, row.want)
			}
			h.work(obliging)
			if row.ends == "gone" {
				h.wantGone(row.verb, task)
			} else if now := h.readTask(task); string(now.Status) != row.ends || !now.Pending.Zero() {
				t.Errorf("in the end: got %s, %q, want %s", now.Status, now.Pending.Op, row.ends)
			}
		})
	}
}

// TestDisableEndsAVerify: a session is not kept open by somebody who reads old files.
func TestDisableEndsAVerify(t *testing.T) {
	h := newHouse(t)
	task := h.enabled(h.backedUp(1, 1), "")
	verify := must(h.eng.VerifyBackup(h.ctx, task.UUID, 1))(h)
	task = h.stopped(task)
	if _, how := h.ended(verify); how.State != core.RunCanceled || task.Status != core.CBTStopped {
		t.Errorf("got %s, and the verify %+v", task.Status, how)
	}
}

func TestFailedBackupVerbs(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(1, 2)
	for name, begin := range map[string]func() (core.CBTTask, error){
		"verify":  func() (core.CBTTask, error) { return h.eng.VerifyBackup(h.ctx, task.UUID, 1) },
		"discard": func() (core.CBTTask, error) { return h.eng.DiscardBackup(h.ctx, task.UUID, 2) },
		"restore": func() (core.CBTTask, error) {
			return h.eng.RestoreCBT(h.ctx, task.UUID, 2, engine.RestoreRequest{})
		},
	} {
		begun := must(begin())(h)
		h.work(failing(task.Machines...))
		now, how := h.ended(begun)
		if now.Status != core.CBTStopped || now.Reason != name+" does not work" || !how.Failed() || len(now.Records[0].Backups) != 2 {
			t.Errorf("%s: got %s (%s), %q", name, now.Status, now.Reason, bases(now))
		}
	}
}

func TestOrdersAboutBackups(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(2, 2)
	first, volume := task.Machines[0], volumeOf(task.Machines[0])
	verified := must(h.eng.VerifyBackup(h.ctx, task.UUID, 1))(h)
	if orders := h.work(obliging); len(orders) != 2 || orders[1].Op != cbt.OpVerify || orders[1].Seq != 1 {
		t.Errorf("verify: got %+v", orders)
	}
	if _, how := h.ended(verified); how.Failed() {
		t.Errorf("verify: got %+v", how)
	}
	ask := engine.RestoreRequest{Machine: first, Volumes: []string{volume, volume}, Into: "/srv/restore", Rate: 7}
	must(h.eng.RestoreCBT(h.ctx, task.UUID, 2, ask))(h)
	orders := h.work(obliging)
	if len(orders) != 1 || orders[0].Machine != first || orders[0].Seq != 2 || !slices.Equal(orders[0].Volumes, []string{volume}) || orders[0].Into != "/srv/restore" || orders[0].Rate != 7 {
		t.Errorf("restore: got %+v", orders)
	}
	_, err := h.eng.DiscardBackup(h.ctx, task.UUID, 1)
	wantKind(t, "discard of a base", err, core.Conflict)
	if want := "backup " + bitmap(task, 2) + " is based on it; delete that first"; !hasText(err, want) {
		t.Errorf("got %v, want %q", err, want)
	}
	for _, seq := range []int{2, 1} {
		must(h.eng.DiscardBackup(h.ctx, task.UUID, seq))(h)
		if orders := h.work(obliging); len(orders) != 2 || orders[0].Op != cbt.OpDiscard || orders[0].Seq != seq {
			t.Errorf("discard: got %+v", orders)
		}
	}
	if now := h.readTask(task); len(now.Records[0].Backups)+len(now.Records[1].Backups) != 0 {
		t.Errorf("left: got %q", bases(now))
	}
}

func TestWrongRequestsAboutBackups(t *testing.T) {
	h := newHouse(t)
	task := h.backedUp(2, 1)
	machine := task.Machines[0]
	for _, row := range []struct {
		name, field string
		r           engine.RestoreRequest
	}{
		{"no machine of two", "machine", engine.RestoreRequest{}},
		{"a machine of another task", "machine", engine.RestoreRequest{Machine: id.New()}},
		{"a volume of the other machine", "volumes", engine.RestoreRequest{Machine: machine, Volumes: []string{volumeOf(task.Machines[1])}}},
		{"a relative directory", "directory", engine.RestoreRequest{Machine: machine, Into: "restore"}},
		{"a directory with dots", "directory", engine.RestoreRequest{Machine: machine, Into: "/srv/../etc"}},
	} {
		_, err := h.eng.RestoreCBT(h.ctx, task.UUID, 1, row.r)
		wantInvalid(t, row.name, err, row.field)
	}
	_, err := h.eng.RestoreCBT(h.ctx, task.UUID, 9, engine.RestoreRequest{Machine: machine})
	wantKind(t, "restore of no backup", err, core.NotFound)
	_, err = h.eng.VerifyBackup(h.ctx, task.UUID, 9)
	wantKind(t, "verify of no backup", err, core.NotFound)
	_, err = h.eng.DiscardBackup(h.ctx, task.UUID, 9)
	wantKind(t, "discard of no backup", err, core.NotFound)
	for name, who := range map[core.Kind]core.Caller{core.Denied: viewer, core.NotFound: stranger} {
		ctx := core.WithCaller(t.Context(), who)
		_, err := h.eng.BackupCBTTask(ctx, task.UUID, engine.BackupRequest{})
		wantKind(t, who.Name+" makes a backup", err, name)
		_, err = h.eng.DiscardBackup(ctx, task.UUID, 1)
		wantKind(t, who.Name+" deletes a backup", err, name)
	}
}

func TestThereMayBeSoManyBackups(t *testing.T) {
	h := newHouse(t)
	task := h.task(1)
	must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
	h.work(func(o cbt.Order) (cbt.Answer, string) {
		a, _ := obliging(o)
		for seq := range cbt.MaxBackups - 1 {
			a.Record.Backups = append(a.Record.Backups, cbt.Backup{Seq: seq + 2})
		}
		return a, ""
	})
	_, err := h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{})
	wantKind(t, "one more backup", err, core.Conflict)
	must(h.eng.DiscardBackup(h.ctx, task.UUID, cbt.MaxBackups))(h)
	h.work(obliging)
	must(h.eng.BackupCBTTask(h.ctx, task.UUID, engine.BackupRequest{}))(h)
}

func TestDeleteKeepsBackupsUnlessAsked(t *testing.T) {
	h := newHouse(t)
	for _, backups := range []bool{false, true} {
		task := h.backedUp(1, 1)
		drop := h.eng.DeleteCBTTask
		if backups {
			must(drop(h.ctx, task.UUID, false))(h) // waits, without them
			drop = h.eng.DeleteCBTTaskAndBackups
			_, err := drop(h.ctx, task.UUID, false)
			wantKind(t, "another deletion than the one under way", err, core.Conflict)
		}
		must(drop(h.ctx, task.UUID, backups))(h)
		if orders := h.work(obliging); len(orders) != 1 || orders[0].Op != cbt.OpDrop || orders[0].Backups != backups {
			t.Errorf("backups %v: got %+v", backups, orders)
		}
		h.wantGone("deleted", task)
	}
}
