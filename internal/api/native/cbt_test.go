package native_test

import (
	"fmt"
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

const machine = "89878e17496030ba9c062cbb18924335"

// attend gives the API a worker that reaches a machine.
func (e *env) attend() *understudy.Worker {
	e.t.Helper()
	host := understudy.New(e.t, e.eng, "host1")
	if _, err := e.store.Beat(e.t.Context(), core.Heartbeat{Worker: "host1"}, host.Card(machine)); err != nil {
		e.t.Fatalf("announce worker: %v", err)
	}
	e.queue.host = host
	return host
}

// tracked makes a task of the machine under a uuid of its own.
func (e *env) tracked() string {
	e.t.Helper()
	e.admin().post("/cbt-tasks", native.NewCBTTask{UUID: chosen, CBTFields: native.CBTFields{Name: "nightly"}, Machines: []string{machine}}).want(201)
	return "/cbt-tasks/" + chosen
}

// settled waits until nothing is under way with a task, and gives it.
func (e *env) settled(path string) native.CBTTask {
	e.t.Helper()
	var task native.CBTTask
	testenv.Eventually(e.t, 10*time.Second, func() bool {
		e.admin().get(path).want(200).read(&task)
		return task.Operation == ""
	})
	return task
}

func checkpoint(seq int) string { return cbt.CheckpointName(chosen, seq) }

func TestCBTTaskLife(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	res := e.admin().post("/cbt-tasks", `{"uuid":"0F5B1F0C-8F2D-4B7E-9F0C-2D3E4F5A6B7C","name":" nightly ","machines":["`+strings.ToUpper(machine)+`"],"onBroken":"rescan"}`).want(201)
	path := "/cbt-tasks/" + chosen
	if res.header.Get("Location") != prefix+path || res.header.Get("ETag") != `"1"` {
		t.Errorf("Location %q, ETag %q", res.header.Get("Location"), res.header.Get("ETag"))
	}
	var task native.CBTTask
	res.read(&task)
	want := native.CBTTask{
		Meta: task.Meta, CBTFields: native.CBTFields{Name: "nightly"}, TaskType: "VM", Driver: "auto", OnBroken: "rescan", Status: core.CBTCreated,
		Machines: []native.CBTMachine{{UUID: machine, Volumes: []native.CBTVolume{}}},
	}
	if diff := cmp.Diff(want, task); diff != "" || task.Dialect != core.Native {
		t.Errorf("made (-want +got):\n%s", diff)
	}

	// A session for a full copy.
	e.admin().post(path+"/enable", nil).want(202).read(&task)
	if task.Status != core.CBTStarting || task.Operation != core.CBTEnable || len(task.Run) != 32 {
		t.Errorf("begun: status %s, operation %s, run %q", task.Status, task.Operation, task.Run)
	}
	run := task.Run
	task = e.settled(path)
	session := task.Machines[0].Session
	if task.Status != core.CBTRunning || task.Run != run || task.Checkpoint != checkpoint(1) || session == nil || len(session.Exports) != understudy.Disks {
		t.Fatalf("task = %+v, want it Running with two exports", task)
	}
	changed := int64(understudy.Size)
	first := native.CBTExport{
		Volume: understudy.Volume(machine, 0), URI: "nbd+unix:///" + checkpoint(1) + "-0?socket=%2Fvm%2F" + machine + "%2Fnbd.sock",
		Size: understudy.Size, Mode: "full", Changed: &changed, Bitmap: understudy.Bitmap,
	}
	if diff := cmp.Diff(first, session.Exports[0]); diff != "" || session.Checkpoint != checkpoint(1) || session.Since != "" || session.Fuzzy {
		t.Errorf("session %+v, export (-want +got):\n%s", session, diff)
	}
	var detail native.RunDetail
	e.admin().get("/runs/" + run).want(200).read(&detail)
	if detail.Type != core.CBTType || len(detail.Steps) != 1 || detail.Steps[0].Target != machine {
		t.Errorf("run = %+v, want one step at the machine", detail)
	}
	var runs native.RunList
	e.admin().get("/runs?kind=cbt").want(200).read(&runs)
	if len(runs.Items) != 1 || runs.Items[0].ID != run || runs.Items[0].Target.UUID != chosen {
		t.Errorf("runs of CBT tasks = %+v, want this one", runs.Items)
	}

	// The same again is as it is; another is refused.
	e.admin().post(path+"/enable", `{}`).want(200)
	if p := e.admin().post(path+"/enable", `{"since":"`+checkpoint(1)+`"}`).want(409).problem(); p.Type != "/problems/conflict" {
		t.Errorf("enable since another: %+v", p)
	}

	e.admin().post(path+"/disable", nil).want(202)
	if task = e.settled(path); task.Status != core.CBTStopped || task.Machines[0].Session != nil || task.Checkpoint != checkpoint(1) {
		t.Errorf("disabled: %+v", task)
	}
	e.admin().post(path+"/disable", `{"force":true}`).want(200)

	// What changed since.
	e.admin().post(path+"/enable", native.CBTEnable{Since: checkpoint(1)}).want(202)
	task = e.settled(path)
	session, changed = task.Machines[0].Session, understudy.Changed
	export := session.Exports[1]
	if session.Since != checkpoint(1) || session.Checkpoint != checkpoint(2) || export.Mode != "incremental" || *export.Changed != changed || export.Context != "qemu:dirty-bitmap:"+checkpoint(1) {
		t.Errorf("session = %+v, want what changed since checkpoint 1", session)
	}

	if p := e.admin().del(path).want(409).problem(); !strings.Contains(p.Detail, "still enabled") {
		t.Errorf("delete of what is enabled: %+v", p)
	}
	e.admin().del(path + "?force=true").want(202)
	testenv.Eventually(t, 10*time.Second, func() bool { return e.admin().get(path).status == 404 })
	e.admin().del(path).want(404)
	if n := len(host.Orders(cbt.OpDrop)); n != 1 {
		t.Errorf("%d orders to drop, want 1", n)
	}
}

// A task that was never enabled is deleted without a worker.
func TestCBTDeleteOfWhatWasNeverEnabled(t *testing.T) {
	e := start(t, native.Options{})
	path := e.tracked()
	e.admin().del(path).want(204)
	e.admin().get(path).want(404)
	e.tracked()
}

func TestCBTPatch(t *testing.T) {
	e := start(t, native.Options{})
	path := e.tracked()
	var task native.CBTTask
	res := e.admin().with("If-Match", `"1"`).patch(path, `{"name":"weekly","description":"all disks"}`).want(200)
	if res.read(&task); task.Name != "weekly" || task.Description != "all disks" || res.header.Get("ETag") != `"2"` {
		t.Errorf("patched: %+v, ETag %s", task, res.header.Get("ETag"))
	}
	e.admin().with("Content-Type", "application/merge-patch+json").patch(path, `{"description":null}`).want(200).read(&task)
	if task.Name != "weekly" || task.Description != "" {
		t.Errorf("patched again: %+v", task)
	}
	e.admin().with("If-Match", `"1"`).patch(path, `{"name":"late"}`).want(412)
	if p := e.admin().patch(path, `{"machines":[]}`).want(400).problem(); p.Field != "machines" {
		t.Errorf("patch of the machines: %+v", p)
	}
	if p := e.admin().patch(path, `{"name":" "}`).want(400).problem(); p.Field != "name" {
		t.Errorf("patch that takes the name away: %+v", p)
	}
}

// A request with an Idempotency-Key is carried out once.
func TestCBTIdempotencyKey(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	with := e.admin().with("Idempotency-Key", "night-1")
	var first, again native.CBTTask
	with.post(path+"/enable", nil).want(202).read(&first)
	e.settled(path)
	e.admin().post(path+"/disable", nil).want(202)
	e.settled(path)
	with.post(path+"/enable", nil).want(200).read(&again) // it was done, and is not done anew
	if again.Status != core.CBTStopped || len(host.Orders(cbt.OpOpen)) != 1 {
		t.Errorf("repeated: %s after %d orders to open, want Stopped after one", again.Status, len(host.Orders(cbt.OpOpen)))
	}
	with.post(path+"/disable", nil).want(200) // the key is another request's of another route
	e.admin().with("Idempotency-Key", "night-2").post(path+"/enable", nil).want(202)
	if p := e.admin().with("Idempotency-Key", "two words").post(path+"/enable", nil).want(400).problem(); p.Field != "Idempotency-Key" {
		t.Errorf("bad key: %+v", p)
	}
	e.settled(path)
}

func TestCBTEnableThatFails(t *testing.T) {
	e := start(t, native.Options{})
	host := e.attend()
	path := e.tracked()
	host.Fail(cbt.OpOpen, "the disk is gone")
	e.admin().post(path+"/enable", nil).want(202)
	task := e.settled(path)
	if task.Status != core.CBTFailed || task.Reason != "the disk is gone" {
		t.Errorf("status %s, reason %q, want Failed and why", task.Status, task.Reason)
	}
}

func TestCBTList(t *testing.T) {
	e := start(t, native.Options{})
	e.attend()
	e.tracked()
	for i := range 3 {
		e.admin().post("/cbt-tasks", fmt.Sprintf(`{"name":"extra %d","machines":["%032d"]}`, i, i)).want(201)
	}
	e.admin().post("/cbt-tasks/"+chosen+"/enable", nil).want(202)
	e.settled("/cbt-tasks/" + chosen)
	for _, row := range []struct {
		query string
		want  []string
	}{
		{"", []string{"extra 2", "extra 1", "extra 0", "nightly"}},
		{"?status=Running", []string{"nightly"}},
		{"?status=Created&name=EXTRA&limit=1000", []string{"extra 2", "extra 1", "extra 0"}},
		{"?machine=" + machine, []string{"nightly"}},
		{"?machine=00000000000000000000000000000001", []string{"extra 1"}},
		{"?limit=2", []string{"extra 2", "extra 1"}},
	} {
		var list native.CBTTaskList
		e.admin().get("/cbt-tasks" + row.query).want(200).read(&list)
		names := []string{}
		for _, task := range list.Items {
			names = append(names, task.Name)
			if s := task.Machines[0].Session; s != nil && len(s.Exports) > 0 {
				t.Errorf("a list shows exports: %+v", s)
			}
		}
		if diff := cmp.Diff(row.want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.query, diff)
		}
		if row.query == "?limit=2" {
			e.admin().get("/cbt-tasks?limit=2&cursor=" + list.Next).want(200).read(&list)
			if len(list.Items) != 2 || list.Items[1].Name != "nightly" {
				t.Errorf("second page = %+v", list.Items)
			}
		}
	}
	e.admin().get("/cbt-tasks?status=running").want(400)
}

// Another account does not see a task; a viewer of its own sees it, but not where it
// can be read, and changes nothing.
func TestCBTWhoMaySee(t *testing.T) {
	e := start(t, native.Options{})
	e.attend()
	ann, asAnn := e.account("ann", core.Operator)
	var viewer native.Account
	e.admin().post("/accounts", native.NewAccount{Name: "vic", Password: "pw of vic", Role: core.Viewer, Owner: ann.UUID}).want(201).read(&viewer)
	asVic := e.signIn("vic", "pw of vic")
	_, asBob := e.account("bob", core.Operator)
	e.as(asAnn).post("/cbt-tasks", `{"uuid":"`+chosen+`","name":"hers","machines":["`+machine+`"]}`).want(201)
	path := "/cbt-tasks/" + chosen
	e.as(asAnn).post(path+"/enable", nil).want(202)
	e.settled(path)
	var task native.CBTTask
	e.as(asAnn).get(path).want(200).read(&task)
	if s := task.Machines[0].Session; s == nil || len(s.Exports) != understudy.Disks {
		t.Errorf("its own account sees %+v, want the exports", s)
	}
	e.as(asVic).get(path).want(200).read(&task)
	if s := task.Machines[0].Session; s == nil || len(s.Exports) != 0 {
		t.Errorf("a viewer sees %+v, want a session without exports", s)
	}
	run := "/runs/" + task.Run
	for who, hidden := range map[string]bool{asVic: true, asAnn: false} {
		var detail native.RunDetail
		e.as(who).get(run).want(200).read(&detail)
		step := detail.Steps[0]
		if got := len(step.Parameters) == 0 && step.Attempts[0].Output == ""; got != hidden {
			t.Errorf("a step's order and answer are hidden: %v, want %v", got, hidden)
		}
	}
	e.as(asVic).post(path+"/disable", nil).want(403)
	e.as(asVic).del(path).want(403)
	for _, ask := range []string{"", "/checkpoints", "/estimate", "/changes?volume=" + understudy.Volume(machine, 0)} {
		e.as(asBob).get(path + ask).want(404)
	}
	e.as(asBob).post(path+"/enable", nil).want(404)
	e.as(asBob).post(path+"/disable", nil).want(404)
	e.as(asBob).patch(path, `{"name":"his"}`).want(404)
	e.as(asBob).del(path + "?force=true").want(404)
	e.as(asBob).del(path + "/checkpoints/" + checkpoint(1)).want(404)
	if got := e.settled(path).Status; got != core.CBTRunning {
		t.Errorf("status %s, want Running", got)
	}
}
