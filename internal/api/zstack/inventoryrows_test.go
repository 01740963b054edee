package zstack_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// A fieldKind is the type of a field as section 2 has it.
type fieldKind string

const (
	aText      fieldKind = "String"
	aTimestamp fieldKind = "Timestamp"
	aList      fieldKind = "List"
	aNumber    fieldKind = "Integer or Long"
	aBoolean   fieldKind = "boolean"
)

// is reports whether a value may stand where the kind is asked for; null may always.
func (k fieldKind) is(v any) bool {
	s, text := v.(string)
	switch v := v.(type) {
	case nil:
		return k != aList && k != aBoolean
	case []any:
		return k == aList && !slices.ContainsFunc(v, func(x any) bool { _, ok := x.(string); return !ok })
	case bool:
		return k == aBoolean
	case json.Number:
		_, err := v.Int64()
		return k == aNumber && err == nil
	}
	return text && (k == aText || k == aTimestamp && wireStamp.MatchString(s))
}

// fieldsOf reads a row of section 2: names, each followed by its kind unless it is a
// text.
func fieldsOf(row string) map[string]fieldKind {
	fields := map[string]fieldKind{}
	for field := range strings.SplitSeq(row, ", ") {
		name, mark, _ := strings.Cut(field, " ")
		fields[name] = map[string]fieldKind{"": aText, "L": aList, "T": aTimestamp, "N": aNumber, "B": aBoolean}[mark]
	}
	return fields
}

// Section 2: each class has exactly its fields, of their types, in every answer that
// shows it; the schema calls it by the server's name.
func TestInventoryClasses(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	schema := []string{"X-JSON-Schema", "true"}
	sent := func(method, path, body string) map[string]any { return r.do(method, path, body, schema...).ok() }

	group := sent("POST", "/scheduler/jobgroups", params(`"name":"g","description":"d","type":"startVm","parameters":{"a":"b"}`))
	job := sent("POST", "/scheduler/jobs", params(`"name":"j","type":"startVm","targetResourceUuid":"`+id.New()+`"`))
	simple := sent("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple","schedulerInterval":60,"repeatCount":3,"startTime":2000000000`))
	cron := sent("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"cron","cron":"0 0 3 1 1 ?"`))
	uuid := func(answer map[string]any) string { return answer["inventory"].(map[string]any)["uuid"].(string) }
	g, j, tr := uuid(group), uuid(job), uuid(cron)
	login := loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": string(auth.DigestOf("password"))})
	member := sent("POST", "/scheduler/jobgroups/"+g+"/job", params(`"schedulerJobUuids":["`+j+`"]`))
	groupTie := sent("POST", "/scheduler/jobgroups/"+g+"/scheduler/triggers/"+tr, params(`"triggerNow":true`))
	jobTie := sent("POST", "/scheduler/jobs/"+j+"/scheduler/triggers/"+tr, "")
	open := sent("GET", "/scheduler/job/history", "")
	for _, d := range r.queue.take() {
		r.work(d, "w", core.Outcome{State: core.AttemptSucceeded})
	}

	const (
		scheduler     = "org.zstack.header.scheduler."
		groupFields   = "uuid, name, description, state, jobType, jobData, triggersUuid L, jobsUuid L, createDate T, lastOpDate T"
		jobFields     = "uuid, name, description, targetResourceUuid, state, jobData, jobClassName, triggersUuid L, schedulerJobGroupUuids L, createDate T, lastOpDate T"
		triggerFields = "uuid, name, description, schedulerType, cron, schedulerInterval N, repeatCount N, startTime T, stopTime T, jobsUuid L, jobGroupsUuid L, createDate T, lastOpDate T"
		historyFields = "id N, triggerUuid, schedulerJobUuid, schedulerJobGroupUuid, jobType, startTime T, executeTime N, targetResourceUuid, requestDump, resultDump, success B, fireInstanceId"
		sessionFields = "uuid, accountUuid, userUuid, userType, expiredDate T, createDate T"
		keyFields     = "uuid, description, accountUuid, userUuid, AccessKeyID, AccessKeySecret, state, createDate T, lastOpDate T"
	)
	for _, row := range []struct {
		answer string
		class  string
		fields string
		body   map[string]any
	}{
		{"create group", scheduler + "SchedulerJobGroupInventory", groupFields + ", targetResourceUuid", group},
		{"query groups", scheduler + "SchedulerJobGroupInventory", groupFields, sent("GET", "/scheduler/jobgroups", "")},
		{"update group", scheduler + "SchedulerJobGroupInventory", groupFields, sent("PUT", "/scheduler/jobgroups/"+g+"/actions", put("updateSchedulerJobGroup", ""))},
		{"create job", scheduler + "SchedulerJobInventory", jobFields, job},
		{"query jobs", scheduler + "SchedulerJobInventory", jobFields, sent("GET", "/scheduler/jobs", "")},
		{"update job", scheduler + "SchedulerJobInventory", jobFields, sent("PUT", "/scheduler/jobs/"+j+"/actions", put("updateSchedulerJob", ""))},
		{"change the state of a job", scheduler + "SchedulerJobInventory", jobFields, sent("PUT", "/schedulers/"+j, put("changeSchedulerState", `"stateEvent":"enable"`))},
		{"create trigger, simple", scheduler + "SchedulerTriggerInventory", triggerFields, simple},
		{"create trigger, cron", scheduler + "SchedulerTriggerInventory", triggerFields, cron},
		{"query triggers", scheduler + "SchedulerTriggerInventory", triggerFields, sent("GET", "/scheduler/triggers", "")},
		{"update trigger", scheduler + "SchedulerTriggerInventory", triggerFields, sent("PUT", "/scheduler/triggers/"+tr+"/actions", put("updateSchedulerTrigger", ""))},
		{"add job to trigger", scheduler + "SchedulerJobSchedulerTriggerInventory", "uuid, schedulerJobUuid, schedulerTriggerUuid, createDate T, lastOpDate T", jobTie},
		{"add group to trigger", scheduler + "SchedulerJobGroupSchedulerTriggerRefInventory", "schedulerJobGroupUuid, schedulerTriggerUuid, createDate T, lastOpDate T", groupTie},
		{"add jobs to group", scheduler + "SchedulerJobGroupJobRefInventory", "schedulerJobGroupUuid, schedulerJobUuid, createDate T, lastOpDate T", member},
		{"history of what runs", scheduler + "SchedulerJobHistoryInventory", historyFields, open},
		{"history of what has ended", scheduler + "SchedulerJobHistoryInventory", historyFields, sent("GET", "/scheduler/job/history", "")},
		{"login", "org.zstack.header.identity.SessionInventory", sessionFields, sent("PUT", "/accounts/login", login)},
		{"create access key", "org.zstack.accessKey.AccessKeyInventory", keyFields, sent("POST", "/accesskeys", "")},
		{"query access keys", "org.zstack.accessKey.AccessKeyInventory", keyFields, sent("GET", "/accesskeys", "")},
	} {
		t.Run(row.answer, func(t *testing.T) {
			path, shown := "inventory", row.body["inventory"]
			if list, ok := row.body["inventories"].([]any); ok {
				path, shown = "inventories[0]", list[0]
			}
			if got := row.body["schema"].(map[string]any)[path]; got != row.class {
				t.Errorf("schema of %s = %v, want %s", path, got, row.class)
			}
			fields, want := shown.(map[string]any), fieldsOf(row.fields)
			equal(t, "fields", slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(want)))
			for name, kind := range want {
				if !kind.is(fields[name]) {
					t.Errorf("%s = %v, want a %s", name, fields[name], kind)
				}
			}
		})
	}
}

// Section 2, enums, and the defaults of 3.1.
func TestEnumsAndDefaults(t *testing.T) {
	r := newReplica(t, setting{})
	login := loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": string(auth.DigestOf("password"))})
	s := r.do("PUT", "/accounts/login", login, "Authorization", "").inventory()
	when := func(field string) time.Time {
		at, err := time.Parse("Jan 2, 2006 3:04:05 PM", s[field].(string))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if life := when("expiredDate").Sub(when("createDate")); life.Round(2*time.Second) != 7200*time.Second {
		t.Errorf("session life = %v, want 7200 s", life)
	}
	equal(t, "admin account, userUuid = accountUuid for account login", []any{s["accountUuid"], s["userUuid"], s["userType"]},
		[]any{"36c27e8ff05c4780bf6d2fa65700f22e", "36c27e8ff05c4780bf6d2fa65700f22e", "AccountVO"})

	j := r.job("j", id.New())
	for event, state := range map[string]string{"disable": "Disabled", "enable": "Enabled"} {
		got := r.do("PUT", "/schedulers/"+j, put("changeSchedulerState", `"stateEvent":"`+event+`"`)).inventory()["state"]
		equal(t, "stateEvent "+event, got, any(state))
	}
	for _, mode := range []string{"Permissive", "Enforcing", ""} {
		equal(t, "deleteMode "+mode, r.do("DELETE", "/scheduler/jobs/"+r.job("j", id.New())+"?deleteMode="+mode, "").ok(), map[string]any{})
	}
	for _, limit := range []struct {
		field string
		most  int
	}{{"name", 255}, {"description", 2048}} {
		text := strings.Repeat("語", limit.most)
		fields := `"type":"startVm","name":"g","` + limit.field + `":"`
		if limit.field == "name" {
			fields = `"type":"startVm","name":"`
		}
		equal(t, "Column limits: "+limit.field, r.do("POST", "/scheduler/jobgroups", params(fields+text+`"`)).inventory()[limit.field], any(text))
		r.do("POST", "/scheduler/jobgroups", params(fields+text+`語"`)).fails(business, argument, limit.field+" has")
	}
	wide := "0 0 3 " + strings.Repeat("1,", 122) + "1 1 ?" // 255
	equal(t, "Column limits: cron", len(r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"cron","cron":"`+wide+`"`)).inventory()["cron"].(string)), 255)
}

// 1.4 and 3.3: what is not served is no path at all.
func TestPathsThatAreNotThere(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct{ row, method, path string }{
		{"CreateAutoScalingRuleSchedulerJobTrigger: out of scope", "POST", "/scheduler/jobs/" + id.New() + "/autoscaling/rules/" + id.New()},
		{"QuerySchedulerJobHistory: no /{uuid}", "GET", "/scheduler/job/history/" + id.New()},
		{"404: no such path", "GET", "/scheduler/jobss"},
		{"404: no such path, any method", "DELETE", "/volumes/" + id.New()},
	} {
		r.do(row.method, row.path, "").fails(http.StatusNotFound, notFound, "no api mapping to /zstack/v1"+row.path)
		r.do(row.method, "/v1"+row.path, "", "Authorization", "").fails(http.StatusNotFound, notFound, "no api mapping to /v1"+row.path)
	}
	// Never for a missing resource.
	for _, path := range []string{"/scheduler/jobs/", "/scheduler/jobgroups/", "/scheduler/triggers/", "/accesskeys/"} {
		r.do("GET", path+id.New(), "").inventories()
		r.do("DELETE", path+id.New(), "").ok()
	}
}
