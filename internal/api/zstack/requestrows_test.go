package zstack_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/id"
)

// The rows of 1.1, requests, and of 1.2, the session's header, by their words.

func TestRequestBodyRows(t *testing.T) {
	r := newReplica(t, setting{})
	const nameless = "field[name] of message[APICreateSchedulerJobGroupMsg] is mandatory"
	for _, row := range []struct{ row, body, contentType string }{
		{"POST body: missing body = empty params", "", "application/json"},
		{"POST body: missing params = empty params", `{"systemTags":["a::b"],"userTags":[]}`, "application/json"},
		{"POST body: params null = empty params", `{"params":null,"systemTags":null}`, "application/json"},
		{"POST body: blank", " \r\n", "application/json"},
		{"Content type: as Java sends it", `{}`, "application/json; charset=utf-8"},
		{"Content type: none", `{}`, ""},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("POST", "/scheduler/jobgroups", row.body, "Content-Type", row.contentType).fails(business, argument, nameless)
		})
	}
	got := r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"`+"äöü 夜間 😀"+`","type":"startVm"}}`, "Content-Type", "application/json; charset=utf-8").inventory()
	equal(t, "JSON UTF-8", got["name"], any("äöü 夜間 😀"))

	trigger := r.trigger("t")
	path := "/scheduler/triggers/" + trigger + "/actions"
	equal(t, "PUT body: several actions share one path, told apart by the key: run", r.do("PUT", path, put("runSchedulerTrigger", "")).ok(), map[string]any{})
	equal(t, "PUT body: ... update", r.do("PUT", path, put("updateSchedulerTrigger", `"name":"u"`)).inventory()["name"], any("u"))
	equal(t, "PUT body: the action is null", r.do("PUT", path, `{"updateSchedulerTrigger":null}`).inventory()["name"], any("u"))
	r.do("PUT", path, `{"params":{"name":"x"}}`).fails(shape, argument, "the body doesn't contain action mapping")
}

// GET/DELETE parameters: lists, maps, unknown ones, and bodies of DELETE.
func TestQueryParameterRows(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct {
		row, query, body string // $a and $b are jobs of the group
		left             string // in the group afterwards
	}{
		{"lists = repeated keys", "?schedulerJobUuids=$a&schedulerJobUuids=$b", "", ""},
		{"lists = numbered keys", "?schedulerJobUuids.0=$a&schedulerJobUuids.1=$b", "", ""},
		{"a list of one", "?schedulerJobUuids=$a", "", "b"},
		{"a list of one, numbered", "?schedulerJobUuids.0=$b", "", "a"},
		{"numbers with a gap end there", "?schedulerJobUuids.0=$a&schedulerJobUuids.2=$b", "", "b"},
		{"DELETE body, params", "", `{"params":{"schedulerJobUuids":["$a"]}}`, "b"},
		{"DELETE body, without params", "", `{"schedulerJobUuids":["$a"]}`, "b"},
		{"DELETE body and query: the query wins", "?schedulerJobUuids=$b", `{"schedulerJobUuids":["$a"]}`, "a"},
		{"unknown ones are ignored", "?schedulerJobUuids=$a&color=red&x.y=z", `{"schedulerJobUuids":["$b"],"shape":7}`, "b"},
		{"Go sends deleteMode on removals", "?schedulerJobUuids=$a&deleteMode=Permissive", "", "b"},
		{"Go sends it empty", "?schedulerJobUuids=$a&deleteMode=", "", "b"},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			a, b := r.job("a", id.New()), r.job("b", id.New())
			g := r.groupOf("g", a, b)
			fill := strings.NewReplacer("$a", a, "$b", b)
			equal(t, "answer", r.do("DELETE", "/scheduler/jobgroups/"+g+"/job"+fill.Replace(row.query), fill.Replace(row.body)).ok(), map[string]any{})
			left := ""
			for _, job := range texts(r.do("GET", "/scheduler/jobgroups/"+g, "").inventories()[0]["jobsUuid"]) {
				left += map[string]string{a: "a", b: "b"}[job]
			}
			equal(t, "jobs left", left, row.left)
		})
	}
	session := "/accounts/sessions/" + newJobUUID()
	equal(t, "maps = k.sub=v", r.do("DELETE", session+"?clientInfo.clientIp=1.2.3.4&clientInfo.clientBrowser=x", "", "Authorization", "").ok(), map[string]any{})
	r.do("DELETE", session+"?clientInfo.clientIp=1&clientInfo.clientIp=2", "", "Authorization", "").fails(shape, argument, "duplicate map key[clientInfo.clientIp]")
	for _, query := range []string{"?%zz=1", "?a;b=1"} {
		r.do("GET", "/scheduler/jobs"+query, "").fails(shape, argument, "the query string cannot be read")
		r.do("DELETE", "/scheduler/jobs/"+id.New()+query, "").fails(shape, argument, "the query string cannot be read")
	}
}

func TestFieldRows(t *testing.T) {
	r := newReplica(t, setting{})
	for text, want := range map[string]string{`3600`: "3600", `3600.0`: "3600", `3.6E3`: "3600", `"3600"`: "3600", `" 3600.0 "`: "3600", `2147483647.0`: "2147483647"} {
		got := r.do("POST", "/scheduler/triggers", params(`"name":"t","schedulerType":"simple","startTime":2.0E9,"schedulerInterval":`+text)).inventory()
		equal(t, "Number fields: whole-valued floats for Integer and Long, "+text, got["schedulerInterval"], jsonNumber(want))
		equal(t, "Number fields: Long, 2.0E9", got["startTime"], any("May 18, 2033 3:33:20 AM"))
	}
	for text, rows := range map[string]int{`true`: 1, `"true"`: 1, `false`: 0, `"false"`: 0, `null`: 0} {
		j, tr := r.job("j", id.New()), r.trigger("t")
		r.do("POST", "/scheduler/jobs/"+j+"/scheduler/triggers/"+tr, params(`"triggerNow":`+text)).inventory()
		equal(t, "booleans, also as texts, triggerNow "+text, r.count("/scheduler/job/history?q=triggerUuid="+tr), rows)
	}
	target := id.New()
	got := r.do("POST", "/scheduler/jobs", params(`"name":" \t j \n","description":"  ","type":" startVm ","targetResourceUuid":" `+target+` "`)).inventory()
	equal(t, "Strings: trimmed before validation", []any{got["name"], got["description"], got["jobClassName"], got["targetResourceUuid"]}, []any{"j", nil, "startVm", target})
}

// Headers in. Each is sent with a query and with a change, and accepted.
func TestHeaderRows(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct{ row, name, value string }{
		{"X-Request-Ip", "X-Request-Ip", "10.1.2.3"},
		{"x-session-id (Go, redundant)", "x-session-id", r.session},
		{"X-JSON-Schema", "X-JSON-Schema", "true"},
		{"X-JSON-Schema, not asked", "X-JSON-Schema", "false"},
		{"X-API-Timeout", "X-API-Timeout", "30"},
		{"Date, of a request with a session", "Date", "yesterday"},
		{"Accept-Encoding, of the Go SDK", "Accept-Encoding", "*"},
		{"Authorization: OAuth without a space", "Authorization", "OAuth" + r.session},
		{"Authorization: OAuth, then trim", "Authorization", "OAuth   " + r.session + "  "},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			schema := row.value == "true"
			if got := r.do("POST", "/scheduler/jobgroups", createGroup, row.name, row.value); got.inventory() == nil || (got.body["schema"] != nil) != schema {
				t.Errorf("change: got %s, want a schema: %v", got.raw, schema)
			}
			if got := r.do("GET", "/scheduler/jobgroups?limit=1", "", row.name, row.value); len(got.inventories()) != 1 || got.body["schema"] == nil {
				t.Errorf("query: got %s, want one group and a schema", got.raw)
			}
		})
	}
	job := newJobUUID()
	r.do("GET", "/scheduler/jobs", "", "X-Job-UUID", job).ok()
	r.do("GET", "/api-jobs/"+job, "").fails(http.StatusNotFound, notFound, "the job has been expired") // a query makes none
	for _, row := range []struct{ row, job string }{
		{"X-Job-UUID: 31 characters", job[1:]}, {"X-Job-UUID: 33 characters", job + "0"}, {"X-Job-UUID: with dashes", "5c0f1e6a-d1a0-4bb2-b9a7-c6f1e2d3"},
	} {
		for _, method := range []string{"GET", "POST"} {
			r.do(method, "/scheduler/jobs", "", "X-Job-UUID", row.job).fails(shape, argument, "Invalid header X-Job-UUID["+row.job+"]")
		}
	}
}

// 1.6, identifiers.
func TestResourceUuidRows(t *testing.T) {
	r := newReplica(t, setting{})
	const head, tail = "0123456789ab", "0123456789abcde"
	create := func(uuid string) reply {
		text, _ := json.Marshal(uuid)
		return r.do("POST", "/scheduler/jobgroups", params(`"name":"g","type":"startVm","resourceUuid":`+string(text)))
	}
	for _, middle := range []string{"1000" + "8", "2fff" + "9", "3abc" + "a", "4000" + "b", "5123" + "8"} { // version, then variant
		equal(t, "resourceUuid of "+middle, create(head + middle + tail).inventory()["uuid"], any(head+middle+tail))
		create(head+middle+tail).fails(business, taken, `uuid "`+head+middle+tail+`" is taken`)
	}
	for _, uuid := range []string{
		head + "0000" + "8" + tail, head + "6000" + "8" + tail, head + "f000" + "8" + tail, // versions
		head + "4000" + "7" + tail, head + "4000" + "c" + tail, // variants
		head + "4000" + "8" + tail[1:], head + "4000" + "8" + tail + "0", "01234567-89ab-4000-8012-3456789abcde", "g123456789ab" + "40008" + tail, "0",
	} {
		create(uuid).fails(business, argument, "resourceUuid["+uuid+"] is not a valid uuid")
	}
	if made, _ := create("").inventory()["uuid"].(string); !id.ValidResource(made) {
		t.Errorf("uuid made = %q, want one that could be given", made)
	}
	equal(t, "tagUuids: ignored", r.do("POST", "/scheduler/jobgroups", params(`"name":"g","type":"startVm","tagUuids":["`+id.New()+`"]`)).inventory()["state"], any("Enabled"))
}

// What was deleted may be made again, with its uuid.
func TestResourceUuidOfWhatIsDeleted(t *testing.T) {
	r := newReplica(t, setting{})
	for path, fields := range map[string]string{
		"jobs": `"type":"startVm","targetResourceUuid":"` + id.New() + `"`, "jobgroups": `"type":"startVm"`, "triggers": `"schedulerType":"cron","cron":"0 0 3 1 1 ?"`,
	} {
		uuid := id.New()
		for _, name := range []string{"first", "second", "third"} {
			body := params(`"name":"` + name + `","resourceUuid":"` + uuid + `",` + fields)
			equal(t, path+" made", r.do("POST", "/scheduler/"+path, body).inventory()["name"], any(name))
			r.do("POST", "/scheduler/"+path, body).fails(business, taken, uuid)
			equal(t, path+" found", column(r.do("GET", "/scheduler/"+path+"/"+uuid, "").inventories(), "name"), []string{name})
			r.do("DELETE", "/scheduler/"+path+"/"+uuid, "").ok()
			equal(t, path+" gone", r.do("GET", "/scheduler/"+path+"/"+uuid, "").inventories(), []map[string]any{})
		}
	}
}
