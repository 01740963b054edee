package zstack_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
)

// How a task comes into each status; gone is a uuid that was a task's.
var comeTo = map[string]func(r *replica, host *understudy.Worker) string{
	"Created": func(r *replica, _ *understudy.Worker) string { return r.cbtTask(id.New()) },
	"Starting": func(r *replica, host *understudy.Worker) string {
		task := r.cbtTask(id.New())
		r.t.Cleanup(host.Hold(cbt.OpOpen))
		begun := len(host.Orders(cbt.OpOpen))
		if _, err := r.engine.EnableCBTTask(r.ctx(), task, ""); err != nil {
			r.t.Fatalf("enable: %v", err)
		}
		testenv.Eventually(r.t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpOpen)) > begun })
		return task
	},
	"Running": func(r *replica, _ *understudy.Worker) string {
		task := r.cbtTask(id.New())
		r.do("POST", "/cbt-task/enable/"+task, "").ok()
		return task
	},
	"Failed": func(r *replica, host *understudy.Worker) string {
		task := r.cbtTask(id.New())
		host.Fail(cbt.OpOpen, "the disk is gone")
		defer host.Fail(cbt.OpOpen, "")
		r.do("POST", "/cbt-task/enable/"+task, "").fails(business, "SYS.1006", "enable of the CBT task failed")
		return task
	},
	"gone": func(r *replica, _ *understudy.Worker) string {
		task := r.cbtTask(id.New())
		r.do("DELETE", "/cbt-task/"+task, "").ok()
		return task
	},
}

func init() { // the table refers to itself
	comeTo["Stopped"] = func(r *replica, host *understudy.Worker) string {
		task := comeTo["Running"](r, host)
		r.do("POST", "/cbt-task/disable/"+task, "").ok()
		return task
	}
}

// The CBT machine of section 4 of the wire contract, cell by cell. Each is asked
// for directly and, on a task of its own, through a receipt.
func TestCBTMachine(t *testing.T) {
	r, host := attended(t, zstack.Options{})
	const enable, disable, forced = "POST enable", "POST disable", "POST disable force"
	const remove, removeForced, enforcing, inBody = "DELETE", "DELETE force", "DELETE Enforcing", "DELETE Enforcing in the body"
	for _, row := range []struct {
		from, call string
		code, text string // "" = success
		to         string
	}{
		{"Created", enable, "", "", "Running"},
		{"Created", disable, "SYS.1006", "never enabled", "Created"},
		{"Created", forced, "", "", "Stopped"},
		{"Created", remove, "", "", "gone"},
		{"Created", removeForced, "", "", "gone"},

		{"Starting", enable, "SYS.1006", "has already enabled", "Starting"},
		{"Starting", disable, "", "", "Stopped"},
		{"Starting", forced, "", "", "Stopped"},
		{"Starting", remove, "SYS.1006", "Starting", "Starting"},
		{"Starting", removeForced, "", "", "gone"},
		{"Starting", enforcing, "", "", "gone"},

		{"Running", enable, "SYS.1006", "has already enabled", "Running"},
		{"Running", disable, "", "", "Stopped"},
		{"Running", forced, "", "", "Stopped"},
		{"Running", remove, "SYS.1006", "CBT task is still enabled", "Running"},
		{"Running", removeForced, "", "", "gone"},
		{"Running", enforcing, "", "", "gone"},
		{"Running", inBody, "", "", "gone"},

		{"Stopped", enable, "", "", "Running"},
		{"Stopped", disable, "", "", "Stopped"},
		{"Stopped", forced, "", "", "Stopped"},
		{"Stopped", remove, "", "", "gone"},
		{"Stopped", removeForced, "", "", "gone"},

		{"Failed", enable, "", "", "Running"},
		{"Failed", disable, "", "", "Stopped"},
		{"Failed", forced, "", "", "Stopped"},
		{"Failed", remove, "", "", "gone"},
		{"Failed", removeForced, "", "", "gone"},

		{"gone", enable, "SYS.1003", "type:CbtTaskVO] not found", "gone"},
		{"gone", disable, "SYS.1003", "type:CbtTaskVO] not found", "gone"},
		{"gone", forced, "SYS.1003", "type:CbtTaskVO] not found", "gone"},
		{"gone", remove, "", "", "gone"},
		{"gone", removeForced, "", "", "gone"},
	} {
		for _, way := range []string{"direct", "polled"} {
			t.Run(row.from+" | "+row.call+", "+way, func(t *testing.T) {
				r := *r
				r.t = t
				task := comeTo[row.from](&r, host)
				if got := r.cbtStatus(task); got != row.from {
					t.Fatalf("the task is %s, want %s", got, row.from)
				}
				method, path, body := cbtCall(row.call, task)
				var got reply
				if way == "polled" {
					job := newJobUUID()
					got = r.accepted(job, r.do(method, path, body, "X-Job-UUID", job))
				} else {
					got = r.do(method, path, body)
				}
				if row.code != "" {
					got.fails(business, row.code, row.text)
				} else if inv, _ := got.ok()["inventory"].(map[string]any); method == "POST" && inv["status"] != row.to {
					t.Errorf("answer = %s, want the status %s", got.raw, row.to)
				}
				if got := r.cbtStatus(task); got != row.to {
					t.Errorf("the task is %s, want %s", got, row.to)
				}
			})
		}
	}
}

// cbtCall spells a call of the table.
func cbtCall(call, task string) (method, path, body string) {
	switch call {
	case "POST enable":
		return "POST", "/cbt-task/enable/" + task, params(`"bitmapName":""`)
	case "POST disable":
		return "POST", "/cbt-task/disable/" + task, params(`"force":false`)
	case "POST disable force":
		return "POST", "/cbt-task/disable/" + task, params(`"force":true`)
	case "DELETE force":
		return "DELETE", "/cbt-task/" + task + "?force=true&deleteMode=Permissive", ""
	case "DELETE Enforcing":
		return "DELETE", "/cbt-task/" + task + "?deleteMode=Enforcing", ""
	case "DELETE Enforcing in the body":
		return "DELETE", "/cbt-task/" + task, `{"deleteMode":"Enforcing"}`
	}
	return "DELETE", "/cbt-task/" + task, ""
}

// A disable that fails leaves the status; the task says why, and can be disabled
// again.
func TestCBTDisableThatFails(t *testing.T) {
	r, host := attended(t, zstack.Options{})
	task := comeTo["Running"](r, host)
	host.Fail(cbt.OpClose, "a reader is connected")
	r.do("POST", "/cbt-task/disable/"+task, "").fails(business, "SYS.1006", "disable of the CBT task failed: ")
	inv := r.do("GET", "/cbt-task/"+task, "").inventories()[0]
	if why := fmt.Sprint(inv["lastError"]); inv["status"] != "Running" || why != "a reader is connected" {
		t.Errorf("status %v, lastError %q, want Running and why", inv["status"], why)
	}
	host.Fail(cbt.OpClose, "")
	inv = r.do("POST", "/cbt-task/disable/"+task, params(`"force":true`)).inventory()
	if inv["status"] != "Stopped" || inv["lastError"] != nil {
		t.Errorf("inventory = %v, want Stopped and no error", inv)
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return len(host.Orders(cbt.OpClose)) == 2 })
	if orders := host.Orders(cbt.OpClose); orders[0].Force || !orders[1].Force {
		t.Errorf("orders to close: %+v, want a plain one and one with force", orders)
	}
}

// The result of EnableCbtTask is delivered when the task is Running, or Failed, and
// not before.
func TestCBTEnableIsDeliveredAtItsEnd(t *testing.T) {
	for _, row := range []struct{ name, fault, status string }{{"Running", "", "Running"}, {"Failed", "the disk is gone", "Failed"}} {
		t.Run(row.name, func(t *testing.T) {
			r, host := attended(t, zstack.Options{SyncWait: 100 * time.Millisecond})
			task, job := r.cbtTask(id.New()), newJobUUID()
			release := host.Hold(cbt.OpOpen)
			defer release()
			host.Fail(cbt.OpOpen, row.fault)
			a := r.do("POST", "/cbt-task/enable/"+task, params(""), "X-Job-UUID", job)
			if got := textNumber(a.body["apiTimeout"]); got != "10800000" {
				t.Errorf("apiTimeout = %s, want 3 h in ms", got)
			}
			for range 3 {
				if poll := r.accepted(job, a); poll.status != http.StatusAccepted {
					t.Fatalf("poll while Starting = %d %s, want 202", poll.status, poll.raw)
				}
				equal(t, "status", r.cbtStatus(task), "Starting")
			}
			release()
			got := r.ends(job, 10*time.Second)
			equal(t, "status", r.cbtStatus(task), row.status)
			if row.fault != "" {
				got.fails(business, "SYS.1006", row.fault)
				return
			}
			if infos, _ := got.ok()["volumeCbtBackupInfos"].([]any); len(infos) != understudy.Disks {
				t.Errorf("result = %s, want two volumes", got.raw)
			}
		})
	}
}

// A direct EnableCbtTask that takes longer than SyncWait is answered with the status
// Starting, and is not made a job.
func TestCBTSlowDirectEnable(t *testing.T) {
	r, host := attended(t, zstack.Options{SyncWait: 200 * time.Millisecond})
	task := r.cbtTask(id.New())
	release := host.Hold(cbt.OpOpen)
	defer release()
	a := r.do("POST", "/cbt-task/enable/"+task, params(`"bitmapName":""`))
	infos, ok := a.ok()["volumeCbtBackupInfos"].([]any)
	if a.inventory()["status"] != "Starting" || !ok || len(infos) != 0 || a.body["location"] != nil {
		t.Errorf("answer = %s, want the status Starting, no volumes and no location", a.raw)
	}
	release()
	testenv.Eventually(t, 5*time.Second, func() bool { return r.cbtStatus(task) == "Running" })
}

// What disables a task that is Starting cancels its enabling, whose job says so.
func TestCBTDisableCancelsEnable(t *testing.T) {
	r, host := attended(t, zstack.Options{SyncWait: time.Second})
	task, job := r.cbtTask(id.New()), newJobUUID()
	defer host.Hold(cbt.OpOpen)()
	r.do("POST", "/cbt-task/enable/"+task, "", "X-Job-UUID", job)
	equal(t, "status", r.do("POST", "/cbt-task/disable/"+task, "").inventory()["status"], any("Stopped"))
	r.ends(job, 5*time.Second).fails(business, "SYS.1017", "the CBT task was disabled")
}

// A job that takes longer than its client allows ends with a timeout; the task goes
// on.
func TestCBTEnableTimesOut(t *testing.T) {
	r, host := attended(t, zstack.Options{SyncWait: 50 * time.Millisecond})
	task, job := r.cbtTask(id.New()), newJobUUID()
	release := host.Hold(cbt.OpOpen)
	defer release()
	r.do("POST", "/cbt-task/enable/"+task, "", "X-Job-UUID", job, "X-API-Timeout", "1")
	r.ends(job, 10*time.Second).fails(business, "SYS.1001", "did not end in time")
	equal(t, "status", r.cbtStatus(task), "Starting")
	release()
	testenv.Eventually(t, 5*time.Second, func() bool { return r.cbtStatus(task) == "Running" })
}
