package zstack_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

func TestCreateJob(t *testing.T) {
	r := newReplica(t, setting{})
	target, uuid := id.New(), id.New()
	got := r.do("POST", "/scheduler/jobs", `{"params":{"name":" j ","type":"volumeSnapshot","targetResourceUuid":"`+target+`","resourceUuid":"`+uuid+`",
		"parameters":{"snapshotMaxNumber":3,"share":0.50,"full":true,"none":null,"list":["a",1],"map":{"b":null},"text":"<x>"},"systemTags":["a::b"]}}`).inventory()
	data, _ := got["jobData"].(string)
	for _, part := range []string{`"snapshotMaxNumber":"3"`, `"share":"0.50"`, `"full":"true"`, `"list":"[\"a\",1]"`, `"map":"{\"b\":null}"`, `"text":"<x>"`, `"name":"j"`, `"targetResourceUuid":"` + target + `"`} {
		if !strings.Contains(data, part) {
			t.Errorf("jobData = %s, want %s in it", data, part)
		}
	}
	for _, f := range []string{"jobData", "createDate", "lastOpDate"} {
		delete(got, f)
	}
	equal(t, "inventory", got, map[string]any{
		"uuid": uuid, "name": "j", "description": nil, "targetResourceUuid": target, "state": "Enabled", "jobClassName": "volumeSnapshot",
		"triggersUuid": []any{}, "schedulerJobGroupUuids": []any{},
	})
	j, err := r.engine.Job(r.ctx(), uuid)
	if err != nil || j.Dialect != core.ZStack || j.Target != target || len(j.Parameters) != 6 {
		t.Errorf("stored job = %+v, %v", j, err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	r := newReplica(t, setting{})
	got := r.do("POST", "/scheduler/jobs", `{"params":{"name":"j","type":"guarded","targetResourceUuid":"`+id.New()+`","parameters":{"token":"hush"}}}`).inventory()
	for _, raw := range []string{fmt.Sprint(got), r.do("GET", "/scheduler/jobs", "").raw} {
		if strings.Contains(raw, "hush") || !strings.Contains(raw, "***") {
			t.Errorf("%s shows the secret, want ***", raw)
		}
	}
}

func TestCreateRefused(t *testing.T) {
	r := newReplica(t, setting{})
	taken := r.group("taken")
	target := id.New()
	for _, row := range []struct{ name, path, params, code, text string }{
		{"group without type", "jobgroups", `{"name":"g"}`, "SYS.1007", "field[type] of message[APICreateSchedulerJobGroupMsg] is mandatory"},
		{"group of blanks", "jobgroups", `{"name":"  ","type":"startVm"}`, "SYS.1007", "field[name]"},
		{"group of unknown type", "jobgroups", `{"name":"g","type":"StartVM"}`, "SYS.1007", "No SchedulerJobFactory of type[StartVM] found"},
		{"group with unknown parameter", "jobgroups", `{"name":"g","type":"guarded","parameters":{"x":1}}`, "SYS.1007", `parameter "x"`},
		{"group, uuid taken", "jobgroups", `{"name":"g","type":"startVm","resourceUuid":"` + taken + `"}`, "SYS.1000", taken},
		{"group, uuid of version 7", "jobgroups", `{"name":"g","type":"startVm","resourceUuid":"0198c0de000070008000000000000000"}`, "SYS.1007", "resourceUuid[0198c0de000070008000000000000000] is not a valid uuid"},
		{"group, uuid in upper case", "jobgroups", `{"name":"g","type":"startVm","resourceUuid":"` + strings.ToUpper(id.New()) + `"}`, "SYS.1007", "is not a valid uuid"},
		{"job without target", "jobs", `{"name":"j","type":"startVm"}`, "SYS.1007", "field[targetResourceUuid]"},
		{"job with odd target", "jobs", `{"name":"j","type":"startVm","targetResourceUuid":"vm"}`, "SYS.1007", "field[targetResourceUuid] of message[APICreateSchedulerJobMsg] is not a valid uuid: [vm]"},
		{"job with bad parameter", "jobs", `{"name":"j","type":"guarded","targetResourceUuid":"` + target + `","parameters":{"count":"many"}}`, "SYS.1007", "count"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("POST", "/scheduler/"+row.path, `{"params":`+row.params+`}`).fails(http.StatusServiceUnavailable, row.code, row.text)
		})
	}
}

// Fields at the top of a body are not looked at; the first that is missed says so,
// behind the vendor's words.
func TestFieldsOutsideParams(t *testing.T) {
	r := newReplica(t, setting{})
	const missing = "field[name] of message[APICreateSchedulerJobGroupMsg] is mandatory, can not be null or empty"
	const hint = `; the fields of this call belong inside "params" of the body`
	r.do("POST", "/scheduler/jobgroups", `{"name":"g","type":"startVm"}`).fails(503, "SYS.1007", missing+hint)
	for _, body := range []string{``, `{}`, `{"params":{}}`, `{"params":{"type":"startVm"},"systemTags":[]}`} {
		got := r.do("POST", "/scheduler/jobgroups", body)
		got.fails(503, "SYS.1007", missing)
		if strings.Contains(got.raw, "belong inside") {
			t.Errorf("%s: got %s, want no hint", body, got.raw)
		}
	}
}

func TestGroupMembers(t *testing.T) {
	r := newReplica(t, setting{})
	a, b, c := r.job("a", id.New()), r.job("b", id.New()), r.job("c", id.New())
	other := r.do("POST", "/scheduler/jobs", `{"params":{"name":"o","type":"volumeSnapshot","targetResourceUuid":"`+id.New()+`"}}`).inventory()["uuid"].(string)
	g := r.group("g")
	path := "/scheduler/jobgroups/" + g + "/job"

	rows := r.do("POST", path, `{"params":{"schedulerJobUuids":["`+a+`","`+b+`","`+a+`"],"priorities":{}}}`).inventories()
	equal(t, "added", column(rows, "schedulerJobUuid"), []string{a, b})
	if rows[0]["schedulerJobGroupUuid"] != g || !wireStamp.MatchString(fmt.Sprint(rows[1]["createDate"])) {
		t.Errorf("ref = %v", rows[0])
	}
	rows = r.do("POST", path+"/["+c+","+a+"]", "").inventories() // as old documentation has it
	equal(t, "added by path", column(rows, "schedulerJobUuid"), []string{c, a})
	inv := r.do("GET", "/scheduler/jobgroups/"+g, "").inventories()[0]
	equal(t, "jobsUuid", texts(inv["jobsUuid"]), []string{a, b, c})
	equal(t, "groups of a job", texts(r.do("GET", "/scheduler/jobs/"+c, "").inventories()[0]["schedulerJobGroupUuids"]), []string{g})

	unknown := id.New()
	r.do("POST", path, `{"params":{"schedulerJobUuids":["`+other+`"]}}`).fails(503, "SYS.1007", "1 jobs have different job type with job group")
	r.do("POST", path, `{"params":{"schedulerJobUuids":["`+a+`","`+unknown+`"]}}`).fails(503, "SYS.1003", "invalid field[schedulerJobUuids], resource[uuids:["+unknown+"], type:SchedulerJobVO] not found")
	r.do("POST", path, `{"params":{"schedulerJobUuids":[]}}`).fails(503, "SYS.1007", "field[schedulerJobUuids]")
	r.do("POST", "/scheduler/jobgroups/"+unknown+"/job", `{"params":{"schedulerJobUuids":["`+a+`"]}}`).fails(503, "SYS.1003", "invalid field[schedulerJobGroupUuid], resource[uuid:"+unknown+", type:SchedulerJobGroupVO] not found")
	r.do("POST", "/scheduler/jobgroups/"+r.group("g2")+"/job", `{"params":{"schedulerJobUuids":["`+a+`"]}}`).fails(503, "SYS.1007", "one group at most")

	equal(t, "remove", r.do("DELETE", path+"?schedulerJobUuids="+a+"&schedulerJobUuids="+b+"&deleteMode=Permissive", "").ok(), map[string]any{})
	r.do("DELETE", path+"?schedulerJobUuids="+a, "").ok() // again
	r.do("DELETE", path+"/["+c+"]", "").ok()
	r.do("DELETE", path, "").fails(503, "SYS.1007", "field[schedulerJobUuids]")
	inv = r.do("GET", "/scheduler/jobgroups/"+g, "").inventories()[0]
	equal(t, "jobsUuid after removal", texts(inv["jobsUuid"]), []string{})

	r.do("POST", path, `{"params":{"schedulerJobUuids":["`+a+`"]}}`).ok()
	r.do("DELETE", path, `{"params":{"schedulerJobUuids":["`+a+`"]}}`).ok() // in the body
	equal(t, "groups of a freed job", texts(r.do("GET", "/scheduler/jobs/"+a, "").inventories()[0]["schedulerJobGroupUuids"]), []string{})
}

func TestBindAndUnbind(t *testing.T) {
	r := newReplica(t, setting{})
	j := r.job("j", id.New())
	g, trigger := r.groupOf("g", j), r.trigger("t")
	r.bindGroup(g, trigger, false).ok()
	jobTie := "/scheduler/jobs/" + j + "/scheduler/triggers/" + trigger
	tie := r.do("POST", jobTie, "").inventory() // documented without a body
	if ref, _ := tie["uuid"].(string); !id.Valid(ref) || tie["schedulerJobUuid"] != j || tie["schedulerTriggerUuid"] != trigger {
		t.Errorf("job tie = %v", tie)
	}
	if !slices.Contains(r.queue.rang, trigger) {
		t.Errorf("triggers rung = %v, want %s among them", r.queue.rang, trigger)
	}
	inv := r.do("GET", "/scheduler/triggers/"+trigger, "").inventories()[0]
	equal(t, "jobsUuid", texts(inv["jobsUuid"]), []string{j})
	equal(t, "jobGroupsUuid", texts(inv["jobGroupsUuid"]), []string{g})
	equal(t, "triggersUuid of the group", texts(r.do("GET", "/scheduler/jobgroups/"+g, "").inventories()[0]["triggersUuid"]), []string{trigger})
	equal(t, "triggersUuid of the job", texts(r.do("GET", "/scheduler/jobs/"+j, "").inventories()[0]["triggersUuid"]), []string{trigger})

	r.bindGroup(g, trigger, true).fails(503, "SYS.1007", "Can not add job group[uuid:"+g+"] twice to the same trigger[uuid:"+trigger+"]")
	r.do("POST", jobTie, "").fails(503, "SYS.1007", "Can not add job[uuid:"+j+"] twice")
	if rows := r.do("GET", "/scheduler/job/history", "").inventories(); len(rows) != 0 {
		t.Errorf("history = %v, want none: nothing was to be triggered now", rows)
	}

	unknown := id.New()
	r.bindGroup(unknown, trigger, false).fails(503, "SYS.1003", "invalid field[schedulerJobGroupUuid], resource[uuid:"+unknown+", type:SchedulerJobGroupVO] not found")
	r.bindGroup(g, unknown, false).fails(503, "SYS.1003", "invalid field[schedulerTriggerUuid], resource[uuid:"+unknown+", type:SchedulerTriggerVO] not found")
	r.do("DELETE", "/scheduler/jobgroups/"+unknown+"/scheduler/triggers/"+trigger, "").fails(503, "SYS.1003", "SchedulerJobGroupVO")
	r.do("DELETE", "/scheduler/jobs/"+unknown+"/scheduler/triggers/"+trigger, "").fails(503, "SYS.1003", "SchedulerJobVO")

	groupTie := "/scheduler/jobgroups/" + g + "/scheduler/triggers/" + trigger
	for range 2 { // the second time it is not bound
		equal(t, "unbind group", r.do("DELETE", groupTie+"?deleteMode=Permissive", "").ok(), map[string]any{})
		equal(t, "unbind job", r.do("DELETE", jobTie, "").ok(), map[string]any{})
	}
	inv = r.do("GET", "/scheduler/triggers/"+trigger, "").inventories()[0]
	equal(t, "jobs after unbinding", append(texts(inv["jobsUuid"]), texts(inv["jobGroupsUuid"])...), []string{})
}

func TestTriggersOfAGroupAreLimited(t *testing.T) {
	r := newReplica(t, setting{})
	g := r.group("g")
	for i := range core.MaxTargetTriggers {
		r.bindGroup(g, r.trigger(fmt.Sprint("t", i)), false).ok()
	}
	r.bindGroup(g, r.trigger("more"), false).fails(503, "SYS.1007", "There are [10] triggers added to job group[uuid:"+g+"], cannot add any more.")
}

func TestDeletesAreIdempotent(t *testing.T) {
	r := newReplica(t, setting{})
	j := r.job("j", id.New())
	g, trigger := r.groupOf("g", j), r.trigger("t")
	r.bindGroup(g, trigger, false).ok()
	for _, row := range []struct{ path, kind string }{
		{"/scheduler/jobgroups/" + g, "SchedulerJobGroupVO"}, {"/scheduler/triggers/" + trigger, "SchedulerTriggerVO"}, {"/scheduler/jobs/" + j, "SchedulerJobVO"},
	} {
		if n := len(r.do("GET", row.path, "").inventories()); n != 1 {
			t.Fatalf("GET %s before its deletion = %d things, want 1", row.path, n)
		}
		for range 2 {
			equal(t, "delete", r.do("DELETE", row.path+"?deleteMode=Permissive", `{"deleteMode":"Enforcing"}`).ok(), map[string]any{})
		}
		gone := r.do("GET", row.path, "")
		equal(t, "GET of what is gone", gone.inventories(), []map[string]any{})
		malformed := row.path[:strings.LastIndex(row.path, "/")] + "/no-uuid"
		r.do("DELETE", malformed, "").fails(503, "SYS.1003", "invalid field[uuid], resource[uuid:no-uuid, type:"+row.kind+"] not found")
		if row.kind == "SchedulerJobGroupVO" {
			inv := r.do("GET", "/scheduler/triggers/"+trigger, "").inventories()[0]
			equal(t, "groups of the trigger", texts(inv["jobGroupsUuid"]), []string{})
			equal(t, "groups of the job", texts(r.do("GET", "/scheduler/jobs/"+j, "").inventories()[0]["schedulerJobGroupUuids"]), []string{})
		}
	}
}

func TestCreateTrigger(t *testing.T) {
	zone, err := schedule.Location("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	r := newReplica(t, setting{opts: zstack.Options{Zone: zone}})
	type want struct {
		inv     map[string]any
		misfire schedule.MisfirePolicy
	}
	num := func(n string) any { return jsonNumber(n) }
	for _, row := range []struct {
		name, params string
		want         want
	}{
		{"simple", `"schedulerType":"simple","schedulerInterval":3600.0,"repeatCount":10,"startTime":2000000000`,
			want{map[string]any{"schedulerType": "simple", "cron": nil, "schedulerInterval": num("3600"), "repeatCount": num("10"), "startTime": "May 18, 2033 11:33:20 AM", "stopTime": "May 18, 2033 8:33:20 PM"}, schedule.Skip}},
		{"simple for ever, milliseconds", `"schedulerType":"simple","schedulerInterval":60,"repeatCount":0,"startTime":1.510669257141E12`,
			want{map[string]any{"schedulerType": "simple", "cron": nil, "schedulerInterval": num("60"), "repeatCount": num("0"), "startTime": "Nov 14, 2017 10:20:57 PM", "stopTime": nil}, schedule.Skip}},
		{"simple with a stop", `"schedulerType":"simple","schedulerInterval":60,"startTime":2000000000,"stopTime":2000000100`,
			want{map[string]any{"schedulerType": "simple", "cron": nil, "schedulerInterval": num("60"), "repeatCount": num("0"), "startTime": "May 18, 2033 11:33:20 AM", "stopTime": "May 18, 2033 11:35:00 AM"}, schedule.Skip}},
		{"once", `"schedulerType":"simple","repeatCount":1,"startTime":2000000000`,
			want{map[string]any{"schedulerType": "simple", "cron": nil, "schedulerInterval": num("1"), "repeatCount": num("1"), "startTime": "May 18, 2033 11:33:20 AM", "stopTime": "May 18, 2033 11:33:20 AM"}, schedule.Skip}},
		{"cron", `"schedulerType":"cron","cron":" 0 0/3 17-23 * * ? ","repeatCount":0`,
			want{map[string]any{"schedulerType": "cron", "cron": "0 0/3 17-23 * * ?", "schedulerInterval": nil, "repeatCount": nil, "startTime": nil, "stopTime": nil}, schedule.FireOnceNow}},
		{"cron from a time on", `"schedulerType":"cron","cron":"0 0 1 * * ?","startTime":2000000000`,
			want{map[string]any{"schedulerType": "cron", "cron": "0 0 1 * * ?", "schedulerInterval": nil, "repeatCount": nil, "startTime": "May 18, 2033 11:33:20 AM", "stopTime": nil}, schedule.FireOnceNow}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			got := r.do("POST", "/scheduler/triggers", `{"params":{"name":"t","description":"d",`+row.params+`}}`).inventory()
			uuid := got["uuid"].(string)
			for _, f := range []string{"uuid", "createDate", "lastOpDate"} {
				delete(got, f)
			}
			full := map[string]any{"name": "t", "description": "d", "jobsUuid": []any{}, "jobGroupsUuid": []any{}}
			for k, v := range row.want.inv {
				full[k] = v
			}
			equal(t, "inventory", got, full)

			stored, err := r.engine.Trigger(r.ctx(), uuid)
			if err != nil {
				t.Fatal(err)
			}
			if stored.Overlap.Policy != core.OverlapSkipSteps || stored.Misfire.Policy != row.want.misfire || stored.Schedule.Zone != "Asia/Shanghai" || !stored.Enabled || stored.Dialect != core.ZStack {
				t.Errorf("stored trigger = %+v", stored)
			}
		})
	}
	stored, _ := r.engine.Triggers(r.ctx())
	for _, s := range stored {
		if s.Schedule.Expression == "0 0 1 * * ?" && s.Next.Before(time.Unix(2000000000, 0)) {
			t.Errorf("cron with a start fires next at %v, want not before it", s.Next)
		}
	}
}

// The full table of checks is TestTiming; these are what only the engine knows.
func TestTriggerIsOutOfTime(t *testing.T) {
	r := newReplica(t, setting{})
	r.do("POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"cron","cron":"0 0 0 1 1 ? 2020"}}`).fails(503, "SYS.1007", "stopTime has been passed")
	r.do("POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"simple","schedulerInterval":60,"repeatCount":5,"startTime":1.510669257141E12}}`).fails(503, "SYS.1007", "stopTime has been passed")
	r.do("POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"cron","cron":"every day"}}`).fails(503, "SYS.1007", `cron task must follow format like this : "0 0/3 17-23 * * ?" `)
}

func TestRunTrigger(t *testing.T) {
	r := newReplica(t, setting{})
	a, b, loose := r.job("a", id.New()), r.job("b", id.New()), r.job("loose", id.New())
	g, trigger := r.groupOf("g", a), r.trigger("t")
	r.bindGroup(g, trigger, false).ok()
	r.do("POST", "/scheduler/jobs/"+b+"/scheduler/triggers/"+trigger, "{}").ok()
	path := "/scheduler/triggers/" + trigger + "/actions"

	equal(t, "run", r.do("PUT", path, `{"runSchedulerTrigger":{}}`).ok(), map[string]any{})
	rows := r.do("GET", "/scheduler/job/history?sort=schedulerJobGroupUuid", "").inventories()
	equal(t, "jobs run", column(rows, "schedulerJobUuid"), []string{b, a})
	equal(t, "their groups", column(rows, "schedulerJobGroupUuid"), []string{"", g})

	r.do("PUT", path, `{"runSchedulerTrigger":{"jobUuids":["`+b+`"]}}`).ok()
	rows = r.do("GET", "/scheduler/job/history?limit=1", "").inventories()
	equal(t, "job of the second run", column(rows, "schedulerJobUuid"), []string{b})
	if n := textNumber(r.do("GET", "/scheduler/job/history?count=true", "").ok()["total"]); n != "3" {
		t.Errorf("rows = %s, want 3", n)
	}
	r.do("PUT", path, `{"runSchedulerTrigger":{"jobUuids":["`+loose+`"]}}`).fails(503, "SYS.1007", "not bound")
	r.do("PUT", "/scheduler/triggers/"+loose+"/actions", `{"runSchedulerTrigger":{}}`).fails(503, "SYS.1003", "invalid field[uuid]")
}

func TestOtherAccountsSeeNothing(t *testing.T) {
	r := newReplica(t, setting{})
	g, trigger := r.group("g"), r.trigger("t")
	viewer := r.signIn("viewer", core.Viewer)
	as := []string{"Authorization", "OAuth " + viewer}
	equal(t, "groups of another", r.do("GET", "/scheduler/jobgroups", "", as...).inventories(), []map[string]any{})
	r.do("POST", "/scheduler/jobgroups/"+g+"/scheduler/triggers/"+trigger, "", as...).fails(503, "ID.1002", "SchedulerJobGroupVO")
	r.do("POST", "/scheduler/jobgroups", createGroup, as...).fails(503, "ID.1002", "may not make a job group")
	r.do("DELETE", "/scheduler/jobgroups/"+g, "", as...).fails(503, "ID.1002", "SchedulerJobGroupVO")
	r.do("PUT", "/scheduler/jobgroups/"+g+"/actions", put("updateSchedulerJobGroup", `"name":"mine"`), as...).fails(503, "ID.1002", "SchedulerJobGroupVO")
	r.do("PUT", "/scheduler/triggers/"+trigger+"/actions", put("updateSchedulerTrigger", `"name":"mine"`), as...).fails(503, "ID.1002", "SchedulerTriggerVO")
	equal(t, "group after that", len(r.do("GET", "/scheduler/jobgroups/"+g, "").inventories()), 1)
}

func TestHEAD(t *testing.T) {
	r := newReplica(t, setting{})
	req, _ := http.NewRequest("HEAD", r.url+"/v1/scheduler/jobs", nil)
	req.Header.Set("Authorization", "OAuth "+r.session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD: %v %v, want 200", resp, err)
	}
	resp.Body.Close()
}

func q(conditions ...string) string {
	v := url.Values{}
	for _, c := range conditions {
		name, value, _ := strings.Cut(c, "→")
		v.Add(name, value)
	}
	return "?" + v.Encode()
}
