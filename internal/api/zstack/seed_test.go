package zstack_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
)

// The example requests of ZStack's documentation, as printed.
const (
	exampleCreateGroup = `{"params":{"name":"<name>","description":"<description>","type":"<type>","parameters":{},"resourceUuid":"<resourceUuid>","tagUuids":["<tagUuids>"]},"systemTags":["<systemTags>"],"userTags":["<userTags>"]}`
	exampleBindPath    = "/scheduler/jobgroups/{schedulerJobGroupUuid}/scheduler/triggers/{schedulerTriggerUuid}"
	exampleBind        = `{"params":{"triggerNow":true},"systemTags":["<systemTags>"],"userTags":["<userTags>"]}`
	exampleSession     = "OAuth {sessionUuid}"
)

var wireStamp = regexp.MustCompile(`^(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [1-9][0-9]?, \d{4} (1[0-2]|[1-9]):\d\d:\d\d (AM|PM)$`)

func TestCreateGroupExample(t *testing.T) {
	r := newReplica(t, setting{})
	uuid := id.New()
	fill := strings.NewReplacer("<name>", "nightly <1>", "<description>", "all VMs", "<type>", "startVm", "<resourceUuid>", uuid)
	answer := r.do("POST", "/scheduler/jobgroups", fill.Replace(exampleCreateGroup))
	if v, there := answer.body["error"]; !there || v != nil {
		t.Errorf("error is %v (there: %v), want it there and null", v, there)
	}
	got := answer.inventory()

	for _, field := range []string{"createDate", "lastOpDate"} {
		if text, _ := got[field].(string); !wireStamp.MatchString(text) {
			t.Errorf("%s = %v, want the form Nov 14, 2017 10:20:57 PM", field, got[field])
		}
		delete(got, field)
	}
	equal(t, "inventory", got, map[string]any{
		"uuid": uuid, "targetResourceUuid": nil, "name": "nightly <1>", "description": "all VMs", "state": "Enabled",
		"triggersUuid": []any{}, "jobsUuid": []any{}, "jobType": "startVm", "jobData": "{}",
	})
}

func TestBindGroupExample(t *testing.T) {
	r := newReplica(t, setting{})
	group := r.groupOf("g", r.job("a", id.New()), r.job("b", id.New()))
	trigger := r.trigger("t")
	path := strings.NewReplacer("{schedulerJobGroupUuid}", group, "{schedulerTriggerUuid}", trigger).Replace(exampleBindPath)
	got := r.do("POST", path, exampleBind).inventory()

	for _, field := range []string{"createDate", "lastOpDate"} {
		if text, _ := got[field].(string); !wireStamp.MatchString(text) {
			t.Errorf("%s = %v, want the form Nov 14, 2017 10:20:57 PM", field, got[field])
		}
		delete(got, field)
	}
	equal(t, "inventory", got, map[string]any{"schedulerJobGroupUuid": group, "schedulerTriggerUuid": trigger})

	rows := r.do("GET", "/scheduler/job/history?q=schedulerJobGroupUuid="+group, "").inventories()
	if len(rows) != 2 || rows[0]["triggerUuid"] != trigger || rows[0]["fireInstanceId"] != rows[1]["fireInstanceId"] {
		t.Errorf("history after triggerNow = %v, want two jobs of one fire", rows)
	}
}

func TestExamplesSentLiterally(t *testing.T) {
	r := newReplica(t, setting{})
	group, trigger := r.group("g"), r.trigger("t")
	// Clients escape the braces of a path; the server sees them unescaped.
	escape := strings.NewReplacer("{", "%7B", "}", "%7D")
	for _, row := range []struct {
		name, method, path, body string
	}{
		{"create group", "POST", "/scheduler/jobgroups", exampleCreateGroup},
		{"create group, only the type", "POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"<type>"}}`},
		{"create group, only the uuid", "POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"startVm","resourceUuid":"<resourceUuid>"}}`},
		{"bind", "POST", exampleBindPath, exampleBind},
		{"bind, only the group", "POST", "/scheduler/jobgroups/{schedulerJobGroupUuid}/scheduler/triggers/" + trigger, exampleBind},
		{"bind, only the trigger", "POST", "/scheduler/jobgroups/" + group + "/scheduler/triggers/{schedulerTriggerUuid}", exampleBind},
		{"unbind", "DELETE", exampleBindPath, ""},
		{"delete group", "DELETE", "/scheduler/jobgroups/{uuid}", ""},
		{"query group", "GET", "/scheduler/jobgroups/{uuid}", ""},
		{"add jobs", "POST", "/scheduler/jobgroups/" + group + "/job", `{"params":{"schedulerJobUuids":["<schedulerJobUuids>"]}}`},
		{"create job", "POST", "/scheduler/jobs", `{"params":{"name":"<name>","type":"startVm","targetResourceUuid":"<targetResourceUuid>"}}`},
		{"create trigger", "POST", "/scheduler/triggers", `{"params":{"name":"<name>","schedulerType":"<schedulerType>"}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			path := escape.Replace(row.path)
			r.do(row.method, path, row.body).fails(http.StatusServiceUnavailable, "SYS.1007", "")
			// The session is looked at before the arguments, and a placeholder is told
			// from a session that has expired.
			r.do(row.method, path, row.body, "Authorization", exampleSession).fails(http.StatusServiceUnavailable, "SYS.1007", "placeholder")
			r.do(row.method, path, row.body, "Authorization", "OAuth "+id.New()).fails(http.StatusServiceUnavailable, "ID.1001", "Session expired")
			if row.method == "GET" {
				return
			}
			job := newJobUUID()
			r.accepted(job, r.do(row.method, path, row.body, "X-Job-UUID", job)).fails(http.StatusServiceUnavailable, "SYS.1007", "")
		})
	}
	if got := r.do("GET", "/scheduler/jobgroups?count=true", "").ok()["total"]; textNumber(got) != "1" {
		t.Errorf("groups after refused requests = %v, want 1", got)
	}
}

func TestBothPrefixes(t *testing.T) {
	r := join(t, testenv.Redis(t).Client(t), setting{})
	group := r.group("g")
	rows := r.do("GET", "/v1/scheduler/jobgroups/"+group, "").inventories()
	equal(t, "groups below /v1", column(rows, "uuid"), []string{group})
	r.do("GET", "/scheduler/nothing", "").fails(http.StatusNotFound, "SYS.1003", "no api mapping to /zstack/v1/scheduler/nothing")
}
