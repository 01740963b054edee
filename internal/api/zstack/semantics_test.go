package zstack_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/testenv"
)

// ran gives the names of the jobs in the history, oldest first, and forgets none.
func (r *replica) ran() []string {
	r.t.Helper()
	var names []string
	for _, row := range r.do("GET", "/scheduler/job/history?sort=id", "").inventories() {
		var dump struct{ Name string }
		text, _ := row["requestDump"].(string)
		if err := json.Unmarshal([]byte(text), &dump); err != nil {
			r.t.Fatalf("requestDump %q: %v", text, err)
		}
		names = append(names, dump.Name)
	}
	return names
}

func (r *replica) run(trigger, fields string) {
	r.t.Helper()
	equal(r.t, "answer of RunSchedulerTrigger", r.do("PUT", "/scheduler/triggers/"+trigger+"/actions", put("runSchedulerTrigger", fields)).ok(), map[string]any{})
}

func (r *replica) bindJob(job, trigger string) {
	r.t.Helper()
	r.do("POST", "/scheduler/jobs/"+job+"/scheduler/triggers/"+trigger, "").ok()
}

func TestRunSchedulerTrigger(t *testing.T) {
	for _, row := range []struct {
		row  string
		only []string // names of jobs
		want []string
	}{
		{"fires the trigger's jobs and groups once now", nil, []string{"direct", "in", "in too"}},
		{"an empty list is none", []string{}, []string{"direct", "in", "in too"}},
		{"jobUuids limits to these: a job of its own", []string{"direct"}, []string{"direct"}},
		{"jobUuids limits to these: a job of a group bound to it", []string{"in"}, []string{"in"}},
		{"jobUuids limits to these: one of either", []string{"in too", "direct"}, []string{"direct", "in too"}},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := newReplica(t, setting{})
			jobs := map[string]string{}
			for _, name := range []string{"direct", "in", "in too"} {
				jobs[name] = r.job(name, id.New())
			}
			tr := r.trigger("t")
			r.bindGroup(r.groupOf("g", jobs["in"], jobs["in too"]), tr, false).ok()
			r.bindJob(jobs["direct"], tr)
			fields := ""
			if row.only != nil {
				uuids := []string{}
				for _, name := range row.only {
					uuids = append(uuids, jobs[name])
				}
				list, _ := json.Marshal(uuids)
				fields = `"jobUuids":` + string(list)
			}
			r.run(tr, fields)
			got := r.ran()
			slices.Sort(got)
			equal(t, "jobs run", got, row.want)
		})
	}
}

// A repeated request, as of a client whose connection broke, is one fire.
func TestRunSchedulerTriggerOnceForAJobUUID(t *testing.T) {
	r := newReplica(t, setting{})
	j, tr := r.job("j", id.New()), r.trigger("t")
	r.bindJob(j, tr)
	job := newJobUUID()
	path, body := "/scheduler/triggers/"+tr+"/actions", put("runSchedulerTrigger", "")
	equal(t, "polled", r.accepted(job, r.do("PUT", path, body, "X-Job-UUID", job)).ok(), map[string]any{})
	r.do("PUT", path, body, "X-Job-UUID", job).fails(400, "SYS.1007", "Duplicate job uuid["+job+"]")
	equal(t, "jobs run", r.ran(), []string{"j"})
}

func TestJob(t *testing.T) {
	r := newReplica(t, setting{})
	a, b, tr := r.job("a", id.New()), r.job("b", id.New()), r.trigger("t")
	g := r.groupOf("g", a, b)
	r.bindGroup(g, tr, false).ok()
	r.bindJob(a, tr)
	state := func(event string) any {
		return r.do("PUT", "/schedulers/"+a, put("changeSchedulerState", `"stateEvent":"`+event+`"`)).inventory()["state"]
	}
	equal(t, "created", r.do("GET", "/scheduler/jobs/"+a, "").inventories()[0]["state"], any("Enabled"))
	equal(t, "disabled", state("disable"), any("Disabled"))
	equal(t, "disabled again", state("disable"), any("Disabled"))
	r.run(tr, "")
	equal(t, "disabling pauses its firing, alone and in its group", r.ran(), []string{"b"})
	equal(t, "enabled", state("enable"), any("Enabled"))
	r.run(tr, `"jobUuids":["`+a+`"]`)
	equal(t, "enabled it fires", r.ran(), []string{"b", "a"})
}

func TestGroupState(t *testing.T) {
	r := newReplica(t, setting{})
	tr := r.trigger("t")
	g := r.groupOf("g", r.job("a", id.New()))
	r.bindGroup(g, tr, false).ok()
	set := func(state string) any {
		return r.do("PUT", "/scheduler/jobgroups/"+g+"/actions", put("updateSchedulerJobGroup", `"state":"`+state+`"`)).inventory()["state"]
	}
	for _, word := range []string{"Disabled", "disable"} {
		equal(t, word, set(word), any("Disabled"))
		r.run(tr, "")
		equal(t, "Disabled groups do not fire", r.ran(), []string(nil))
	}
	for i, word := range []string{"Enabled", "enable"} {
		set("Disabled")
		equal(t, word, set(word), any("Enabled"))
		r.run(tr, "")
		equal(t, "Enabled groups fire", len(r.ran()), i+1)
	}
}

// Group parameters are shared by its jobs, from the next fire on.
func TestJobGroupSharesParameters(t *testing.T) {
	r := newReplica(t, setting{})
	tr := r.trigger("t")
	g := r.groupOf("g", r.job("a", id.New()))
	r.bindGroup(g, tr, false).ok()
	inv := r.do("PUT", "/scheduler/jobgroups/"+g+"/actions", put("updateSchedulerJobGroup", `"parameters":{"speed":7.0}`)).inventory()
	equal(t, "triggersUuid of the answer", texts(inv["triggersUuid"]), []string{tr})
	r.run(tr, "")
	row := r.do("GET", "/scheduler/job/history", "").inventories()[0]
	if dump, _ := row["requestDump"].(string); !strings.Contains(dump, `"speed":"7.0"`) {
		t.Errorf("requestDump = %s, want the group's parameters in it", dump)
	}
}

func TestTriggerNow(t *testing.T) {
	r := newReplica(t, setting{})
	j, g, tr := r.job("j", id.New()), r.groupOf("g", r.job("in", id.New())), r.trigger("t")
	r.bindGroup(g, tr, true).ok()
	r.do("POST", "/scheduler/jobs/"+j+"/scheduler/triggers/"+tr, params(`"triggerNow":"true"`)).ok()
	equal(t, "one extra immediate fire each, of what is bound", r.ran(), []string{"in", "j"})
	stored, err := r.engine.Trigger(r.ctx(), tr)
	if err != nil || stored.Next.IsZero() {
		t.Errorf("trigger = %+v, %v, want its schedule as it was", stored, err)
	}
}

func TestBindingToATriggerOutOfTime(t *testing.T) {
	r := newReplica(t, setting{})
	j, g := r.job("j", id.New()), r.group("g")
	tr := r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple","startTime":2000000000,"repeatCount":1`)).inventory()["uuid"].(string)
	over := func(t *core.Trigger) error {
		t.Schedule.Start = time.Now().Add(time.Second).Truncate(time.Millisecond)
		return nil
	}
	if _, err := r.engine.UpdateTrigger(r.ctx(), tr, 0, over); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2500 * time.Millisecond) // a binding within a second of the last slot stands
	testenv.Eventually(t, 10*time.Second, func() bool { return time.Now().After(end) })
	r.refuses([]refusal{
		{"Binding job to trigger: expired trigger", "POST", "/scheduler/jobs/" + j + "/scheduler/triggers/" + tr, "", business, argument, "Can not add job[uuid:" + j + "] to a out of time trigger[uuid:" + tr + "]"},
		{"Binding group to trigger: expired trigger", "POST", "/scheduler/jobgroups/" + g + "/scheduler/triggers/" + tr, "", business, argument, "Can not add job group[uuid:" + g + "] to a out of time trigger[uuid:" + tr + "]"},
	})
	// It can still be renamed, and brought back.
	if got := r.do("PUT", "/scheduler/triggers/"+tr+"/actions", put("updateSchedulerTrigger", `"name":"u"`)).inventory()["name"]; got != "u" {
		t.Errorf("name = %v, want u", got)
	}
	r.do("PUT", "/scheduler/triggers/"+tr+"/actions", put("updateSchedulerTrigger", `"startTime":2000000000`)).inventory()
	r.bindJob(j, tr)
}

func TestDelete(t *testing.T) {
	r := newReplica(t, setting{})
	j, in := r.job("j", id.New()), r.job("in", id.New())
	g, tr, keep := r.groupOf("g", in), r.trigger("t"), r.trigger("keep")
	for _, trigger := range []string{tr, keep} {
		r.bindGroup(g, trigger, false).ok()
		r.bindJob(j, trigger)
	}
	r.run(tr, "")
	of := func(path, field string) []string { return texts(r.do("GET", path, "").inventories()[0][field]) }

	r.do("DELETE", "/scheduler/triggers/"+tr+"?deleteMode=", "").ok() // as the Go SDK writes it
	equal(t, "a trigger with jobs: the job's refs are dropped", of("/scheduler/jobs/"+j, "triggersUuid"), []string{keep})
	equal(t, "a trigger with groups: the group's refs are dropped", of("/scheduler/jobgroups/"+g, "triggersUuid"), []string{keep})
	r.do("DELETE", "/scheduler/jobs/"+j, `{"deleteMode":"Enforcing"}`).ok()
	equal(t, "a job: its trigger refs are removed", of("/scheduler/triggers/"+keep, "jobsUuid"), []string{})
	r.do("DELETE", "/scheduler/jobgroups/"+g, params(`"deleteMode":"Permissive","force":true`)).ok()
	equal(t, "a group: its trigger refs cascade, the trigger stays", of("/scheduler/triggers/"+keep, "jobGroupsUuid"), []string{})
	equal(t, "a group: its jobs become free", of("/scheduler/jobs/"+in, "schedulerJobGroupUuids"), []string{})
	r.run(keep, "")
	equal(t, "a trigger without groups fires nothing; history rows stay", len(r.ran()), 2)
}

func TestMisfireAndStopTime(t *testing.T) {
	r := newReplica(t, setting{})
	tr := r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple","schedulerInterval":60,"repeatCount":3,"startTime":2000000000`)).inventory()
	uuid := tr["uuid"].(string)
	equal(t, "stopTime is startTime + (repeatCount-1)*interval", tr["stopTime"], any("May 18, 2033 3:35:20 AM"))
	policy := func() schedule.MisfirePolicy {
		stored, err := r.engine.Trigger(r.ctx(), uuid)
		if err != nil {
			t.Fatal(err)
		}
		return stored.Misfire.Policy
	}
	update := func(fields string) map[string]any {
		return r.do("PUT", "/scheduler/triggers/"+uuid+"/actions", put("updateSchedulerTrigger", fields)).inventory()
	}
	equal(t, "simple: skip", policy(), schedule.Skip)
	equal(t, "null when endless", update(`"repeatCount":0`)["stopTime"], any(nil))
	equal(t, "a stopTime is an end limit", update(`"stopTime":2000000060.0`)["stopTime"], any("May 18, 2033 3:34:20 AM"))
	equal(t, "null when cron", update(`"schedulerType":"cron","cron":"0 0 3 1 1 ?"`)["stopTime"], any(nil))
	equal(t, "cron: missed fires are run at once", policy(), schedule.FireOnceNow)
	update(`"schedulerType":"simple","schedulerInterval":60,"startTime":2000000000`)
	equal(t, "simple again: skip", policy(), schedule.Skip)
}

func TestOverlap(t *testing.T) {
	r := newReplica(t, setting{})
	j, tr := r.job("j", id.New()), r.trigger("t")
	r.bindJob(j, tr)
	r.run(tr, "")
	r.run(tr, "") // nobody has carried the first out
	rows := r.do("GET", "/scheduler/job/history?sort=-id", "").inventories()
	if dump, _ := rows[0]["resultDump"].(string); len(rows) != 2 || !strings.Contains(dump, "the last job is not completed. skip this job") || rows[0]["success"] != false {
		t.Errorf("history of the second fire = %v, want it skipped with ZStack's text", rows[0])
	}
}

// The zone of a cron expression is the server's, and the trigger's from then on.
func TestCron(t *testing.T) {
	r := newReplica(t, setting{})
	uuid := r.trigger("t")
	r.do("PUT", "/scheduler/triggers/"+uuid+"/actions", put("updateSchedulerTrigger", `"cron":" 0 0/3 17-23 * * ? "`)).inventory()
	stored, err := r.engine.Trigger(r.ctx(), uuid)
	if err != nil || stored.Schedule.Dialect != schedule.Quartz || stored.Schedule.Expression != "0 0/3 17-23 * * ?" || stored.Schedule.Zone != "UTC" {
		t.Errorf("schedule = %+v, %v", stored.Schedule, err)
	}
	if next := stored.Next.UTC(); next.Hour() < 17 || next.Minute()%3 != 0 || next.Second() != 0 {
		t.Errorf("next slot = %s, want one of the new expression", next)
	}
	if !slices.Contains(r.queue.rang, uuid) {
		t.Errorf("triggers rung = %v, want %s among them", r.queue.rang, uuid)
	}
}

// GetNoTriggerSchedulerJobs gives all of them, whatever a query would leave out.
func TestGetNoTriggerSchedulerJobs(t *testing.T) {
	r := newReplica(t, setting{})
	bound, grouped, free := r.job("bound", id.New()), r.job("grouped", id.New()), r.job("free", id.New())
	tr := r.trigger("t")
	r.bindJob(bound, tr)
	r.bindGroup(r.groupOf("g", grouped), tr, false).ok()
	for _, path := range []string{"candidates", "candidates?limit=1", "candidates?q=name=bound&start=1", "candidates?q=x"} {
		got := r.do("GET", "/scheduler/jobs/"+path, "")
		equal(t, path, column(got.inventories(), "uuid"), []string{grouped, free})
	}
	r.do("GET", "/scheduler/jobs/candidates", "", "Authorization", "OAuth "+id.New()).fails(business, "ID.1001", "Session expired")
}

// A secret is not shown by an update either, and its mask puts it back.
func TestUpdateKeepsSecrets(t *testing.T) {
	r := newReplica(t, setting{})
	uuid := r.do("POST", "/scheduler/jobs", params(`"name":"j","type":"guarded","targetResourceUuid":"`+id.New()+`","parameters":{"token":"hush"}`)).inventory()["uuid"].(string)
	got := r.do("PUT", "/scheduler/jobs/"+uuid+"/actions", put("updateSchedulerJob", `"parameters":{"token":"***","count":2}`))
	if strings.Contains(got.raw, "hush") || !strings.Contains(got.raw, "***") {
		t.Errorf("answer = %s, want the secret masked", got.raw)
	}
	j, err := r.engine.Job(r.ctx(), uuid)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "parameters", j.Parameters, map[string]string{"token": "hush", "count": "2"})
	r.do("PUT", "/scheduler/jobs/"+uuid+"/actions", put("updateSchedulerJob", `"parameters":{"count":"many"}`)).fails(business, argument, "count")
	caller := r.do("POST", "/scheduler/jobs", params(`"name":"j","type":"caller","targetResourceUuid":"`+id.New()+`","parameters":{"headers":{"Authorization":"Bearer hush","Accept":"x"}}`))
	if strings.Contains(caller.raw, "hush") {
		t.Errorf("answer = %s, want credentials in headers masked", caller.raw)
	}
}
