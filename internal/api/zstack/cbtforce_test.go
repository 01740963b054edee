package zstack_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
)

// "disable force = do not wait for the agent": the result is delivered while the agent
// closes, and what is left open is in nobody's way.
func TestCBTDisableByForceDoesNotWait(t *testing.T) {
	r, host := attended(t, zstack.Options{SyncWait: 20 * time.Second})
	for _, row := range []struct{ call, to string }{
		{"POST enable", "Running"}, {"POST disable", "Stopped"}, {"POST disable force", "Stopped"}, {"DELETE", "gone"}, {"DELETE force", "gone"},
	} {
		for _, way := range []string{"direct", "polled"} {
			t.Run(row.call+", "+way, func(t *testing.T) {
				r := *r
				r.t = t
				task := comeTo["Running"](&r, host)
				t.Cleanup(host.Hold(cbt.OpClose))
				begun := len(host.Orders(cbt.OpClose))
				ask := func(call string) reply {
					method, path, body := cbtCall(call, task)
					if way == "direct" {
						return r.do(method, path, body)
					}
					job := newJobUUID()
					return r.accepted(job, r.do(method, path, body, "X-Job-UUID", job))
				}
				equal(t, "status by force", ask("POST disable force").inventory()["status"], any("Stopped"))
				equal(t, "status", r.cbtStatus(task), "Stopped")
				testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpClose)) == begun+1 })
				ask(row.call).ok()
				equal(t, "status after "+row.call, r.cbtStatus(task), row.to)
			})
		}
	}
}

// A close that fails for good leaves the task Stopped, and lastError tells.
func TestCBTForcedCloseThatFails(t *testing.T) {
	r, host := attended(t, zstack.Options{})
	task := comeTo["Running"](r, host)
	host.Fail(cbt.OpClose, "the disk is gone")
	r.do("POST", "/cbt-task/disable/"+task, params(`"force":true`)).ok()
	testenv.Eventually(t, 5*time.Second, func() bool {
		inv := r.do("GET", "/cbt-task/"+task, "").inventories()[0]
		return inv["status"] == "Stopped" && fmt.Sprint(inv["lastError"]) == "the disk is gone"
	})
}

// A backup into files, which ZStack's dialect has no call for, shows as Starting, refuses
// what a task that is Starting refuses, and is canceled by what cancels that.
func TestCBTWhileABackupIsMade(t *testing.T) {
	r, host := attended(t, zstack.Options{})
	for _, row := range []struct{ call, code, text, to string }{
		{"POST enable", "SYS.1006", "its backup has not ended", "Starting"},
		{"POST disable", "", "", "Stopped"},
		{"POST disable force", "", "", "Stopped"},
		{"DELETE", "SYS.1006", "its backup has not ended", "Starting"},
		{"DELETE force", "", "", "gone"},
	} {
		t.Run(row.call, func(t *testing.T) {
			r := *r
			r.t = t
			task := backingUp(&r, host)
			inv := r.do("GET", "/cbt-task/"+task, "").inventories()[0]
			if inv["status"] != "Starting" || inv["bitmapName"] != nil || inv["lastError"] != nil {
				t.Errorf("inventory = %v, want it Starting", inv)
			}
			got := r.do(cbtCall(row.call, task))
			if row.code != "" {
				got.fails(business, row.code, row.text)
			} else {
				got.ok()
			}
			equal(t, "status", r.cbtStatus(task), row.to)
		})
	}
}

// backingUp gives a task of which a backup is being made.
func backingUp(r *replica, host *understudy.Worker) string {
	r.t.Helper()
	task := r.cbtTask(id.New())
	r.t.Cleanup(host.Hold(cbt.OpBackup))
	begun := len(host.Orders(cbt.OpBackup))
	if _, err := r.engine.BackupCBTTask(r.ctx(), task, engine.BackupRequest{}); err != nil {
		r.t.Fatalf("backup: %v", err)
	}
	testenv.Eventually(r.t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpBackup)) > begun })
	return task
}
