package zstack_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// What is refused of sections 3.2 to 3.4 and 4 of the wire contract. A case is
// named after its row. Each is sent twice, once for a direct answer and once with
// X-Job-UUID, where a business failure comes through the receipt.

// A refusal is a request and the error that it is answered with.
type refusal struct {
	row          string
	method, path string
	body         string
	status       int
	code, text   string
}

func (r *replica) refuses(rows []refusal) {
	r.t.Helper()
	for _, row := range rows {
		r.t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			r.do(row.method, row.path, row.body).fails(row.status, row.code, row.text)
			job := newJobUUID()
			a := r.do(row.method, row.path, row.body, "X-Job-UUID", job)
			if row.status == http.StatusBadRequest { // of the wrong shape: it never becomes a job
				a.fails(row.status, row.code, row.text)
				return
			}
			r.accepted(job, a).fails(row.status, row.code, row.text)
		})
	}
}

const (
	argument = "SYS.1007"
	notFound = "SYS.1003"
	taken    = "SYS.1000"
	business = http.StatusServiceUnavailable
	shape    = http.StatusBadRequest
)

func put(key, fields string) string { return `{"` + key + `":{` + fields + `}}` }

func params(fields string) string { return put("params", fields) }

// missing is the text for a field that names no resource.
func missing(field, uuid, kind string) string {
	return "invalid field[" + field + "], resource[uuid:" + uuid + ", type:" + kind + "] not found"
}

func TestGroupsRefused(t *testing.T) {
	r := newReplica(t, setting{groupJobs: 3, targetTriggers: 2})
	nobody := id.New()
	j, free := r.job("j", id.New()), r.job("free", id.New())
	snap := r.do("POST", "/scheduler/jobs", params(`"name":"s","type":"volumeSnapshot","targetResourceUuid":"`+nobody+`"`)).inventory()["uuid"].(string)
	g, other := r.groupOf("g", j), r.group("other")
	full := r.groupOf("full", r.job("1", id.New()), r.job("2", id.New()))
	busy := r.group("busy")
	for _, name := range []string{"1", "2"} {
		r.bindGroup(busy, r.trigger(name), false).ok()
	}
	tr, long := r.trigger("t"), strings.Repeat("x", 256)
	const create = "/scheduler/jobgroups"
	one := create + "/" + g
	update, members := one+"/actions", one+"/job"
	ties := func(group, trigger string) string { return create + "/" + group + "/scheduler/triggers/" + trigger }
	edit := func(fields string) string { return put("updateSchedulerJobGroup", fields) }
	r.refuses([]refusal{
		{"CreateSchedulerJobGroup: name req", "POST", create, params(`"type":"startVm"`), business, argument, "field[name] of message[APICreateSchedulerJobGroupMsg] is mandatory"},
		{"CreateSchedulerJobGroup: name req<=255", "POST", create, params(`"type":"startVm","name":"` + long + `"`), business, argument, "name has 256 characters"},
		{"CreateSchedulerJobGroup: name with NUL", "POST", create, params(`"type":"startVm","name":"a\u0000b"`), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+0000"},
		{"CreateSchedulerJobGroup: description<=2048", "POST", create, params(`"type":"startVm","name":"g","description":"` + strings.Repeat("x", 2049) + `"`), business, argument, "description has 2049 characters"},
		{"CreateSchedulerJobGroup: type req", "POST", create, params(`"name":"g"`), business, argument, "field[type] of message[APICreateSchedulerJobGroupMsg] is mandatory"},
		{"CreateSchedulerJobGroup: unknown type", "POST", create, params(`"name":"g","type":"x"`), business, argument, "No SchedulerJobFactory of type[x] found"},
		{"CreateSchedulerJobGroup: parameters Map", "POST", create, params(`"name":"g","type":"startVm","parameters":["a"]`), shape, argument, `[parameters] field is excepted a map, but was [["a"]].`},
		{"CreateSchedulerJobGroup: resourceUuid not a uuid", "POST", create, params(`"name":"g","type":"startVm","resourceUuid":"1"`), business, argument, "resourceUuid[1] is not a valid uuid"},
		{"CreateSchedulerJobGroup: resourceUuid exists", "POST", create, params(`"name":"g","type":"startVm","resourceUuid":"` + g + `"`), business, taken, g},
		{"CreateSchedulerJobGroup: tagUuids List", "POST", create, params(`"name":"g","type":"startVm","tagUuids":{}`), shape, argument, "[tagUuids] field is excepted a list of strings, but was [{}]."},
		{"systemTags List, beside params", "POST", create, `{"params":{"name":"g","type":"startVm"},"systemTags":[1]}`, shape, argument, "[systemTags] field is excepted a list of strings, but was [[1]]."},
		{"userTags List, inside params", "POST", create, params(`"name":"g","type":"startVm","userTags":[null]`), shape, argument, "[userTags] field is excepted a list of strings"},
		{"userTags List, inside the action", "PUT", update, edit(`"userTags":{}`), shape, argument, "[userTags] field"},
		{"systemTags List, beside the action", "PUT", update, `{"updateSchedulerJobGroup":{},"systemTags":[[]]}`, shape, argument, "[systemTags] field"},
		{"systemTags List, of a delete", "DELETE", create + "/" + nobody, `{"systemTags":[{}]}`, shape, argument, "[systemTags] field"},

		{"UpdateSchedulerJobGroup: name not empty", "PUT", update, edit(`"name":"  "`), business, argument, "field[name] of message[APIUpdateSchedulerJobGroupMsg] cannot be an empty string"},
		{"UpdateSchedulerJobGroup: name<=255", "PUT", update, edit(`"name":"` + long + `"`), business, argument, "name has 256 characters"},
		{"UpdateSchedulerJobGroup: name with an override", "PUT", update, edit(`"name":"a\u202eb"`), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+202E"},
		{"UpdateSchedulerJobGroup: name of another type", "PUT", update, edit(`"name":[]`), shape, argument, "[name] field is excepted a string, but was [[]]."},
		{"UpdateSchedulerJobGroup: state", "PUT", update, edit(`"state":"paused"`), business, argument, "valid value for field[state] of message[APIUpdateSchedulerJobGroupMsg] are [Enabled, Disabled, enable, disable], but paused found"},
		{"UpdateSchedulerJobGroup: parameters", "PUT", update, edit(`"parameters":1`), shape, argument, "[parameters] field is excepted a map, but was [1]."},
		{"UpdateSchedulerJobGroup: unknown uuid", "PUT", create + "/" + nobody + "/actions", edit(``), business, notFound, missing("uuid", nobody, "SchedulerJobGroupVO")},
		{"UpdateSchedulerJobGroup: malformed uuid", "PUT", create + "/g1/actions", edit(``), business, notFound, missing("uuid", "g1", "SchedulerJobGroupVO")},
		{"UpdateSchedulerJobGroup: path with a literal {uuid}", "PUT", create + "/%7Buuid%7D/actions", edit(``), business, argument, "field[uuid] of message[APIUpdateSchedulerJobGroupMsg] is not a valid uuid: [{uuid}]"},
		{"UpdateSchedulerJobGroup: unknown PUT action", "PUT", update, put("updateSchedulerTrigger", ``), shape, argument, "the body doesn't contain action mapping to the URL"},
		{"UpdateSchedulerJobGroup: action in another case", "PUT", update, put("UpdateSchedulerJobGroup", ``), shape, argument, "the body doesn't contain action mapping to the URL"},
		{"UpdateSchedulerJobGroup: action of another shape", "PUT", update, `{"updateSchedulerJobGroup":"x"}`, shape, argument, "[updateSchedulerJobGroup] field is excepted an object, but was [x]."},

		{"DeleteSchedulerJobGroup: malformed uuid", "DELETE", create + "/g1", "", business, notFound, missing("uuid", "g1", "SchedulerJobGroupVO")},
		{"DeleteSchedulerJobGroup: deleteMode in the query", "DELETE", create + "/" + nobody + "?deleteMode=x", "", business, argument, "valid value for field[deleteMode] of message[APIDeleteSchedulerJobGroupMsg] are [Permissive, Enforcing], but x found"},
		{"DeleteSchedulerJobGroup: deleteMode in the body", "DELETE", create + "/" + nobody, `{"deleteMode":"x"}`, business, argument, "but x found"},
		{"DeleteSchedulerJobGroup: deleteMode in params", "DELETE", create + "/" + nobody, params(`"deleteMode":"x"`), business, argument, "but x found"},
		{"DeleteSchedulerJobGroup: deleteMode, the query wins", "DELETE", create + "/" + nobody + "?deleteMode=x", `{"deleteMode":"Permissive"}`, business, argument, "but x found"},

		{"AddSchedulerJobsToSchedulerJobGroup: schedulerJobUuids req", "POST", members, "", business, argument, "field[schedulerJobUuids] of message[APIAddSchedulerJobsToSchedulerJobGroupMsg] is mandatory"},
		{"AddSchedulerJobsToSchedulerJobGroup: schedulerJobUuids non-empty List", "POST", members, params(`"schedulerJobUuids":[]`), business, argument, "field[schedulerJobUuids] of message[APIAddSchedulerJobsToSchedulerJobGroupMsg] must be a nonempty list"},
		{"AddSchedulerJobsToSchedulerJobGroup: schedulerJobUuids of another type", "POST", members, params(`"schedulerJobUuids":[7]`), shape, argument, "[schedulerJobUuids] field is excepted a list of strings"},
		{"AddSchedulerJobsToSchedulerJobGroup: priorities Map", "POST", members, params(`"schedulerJobUuids":["` + free + `"],"priorities":[1]`), shape, argument, "[priorities] field is excepted a map"},
		{"AddSchedulerJobsToSchedulerJobGroup: unknown jobs", "POST", members, params(`"schedulerJobUuids":["` + free + `","` + nobody + `"]`), business, notFound, "invalid field[schedulerJobUuids], resource[uuids:[" + nobody + "], type:SchedulerJobVO] not found"},
		{"AddSchedulerJobsToSchedulerJobGroup: malformed job", "POST", members, params(`"schedulerJobUuids":["j1"]`), business, notFound, missing("schedulerJobUuids", "j1", "SchedulerJobVO")},
		{"AddSchedulerJobsToSchedulerJobGroup: old path form with a literal {uuids}", "POST", members + "/%7Buuids%7D", "", business, argument, "is not a valid uuid: [{uuids}]"},
		{"AddSchedulerJobsToSchedulerJobGroup: unknown group", "POST", create + "/" + nobody + "/job", params(`"schedulerJobUuids":["` + free + `"]`), business, notFound, missing("schedulerJobGroupUuid", nobody, "SchedulerJobGroupVO")},
		{"Job group: one type", "POST", members, params(`"schedulerJobUuids":["` + snap + `","` + free + `"]`), business, argument, "1 jobs have different job type with job group"},
		{"Job group: a job is in at most one group", "POST", create + "/" + other + "/job", params(`"schedulerJobUuids":["` + j + `"]`), business, argument, "in job group \"" + g + "\" already"},
		{"Job group: cap on jobs per group", "POST", create + "/" + full + "/job", params(`"schedulerJobUuids":["` + free + `","` + r.job("more", nobody) + `"]`), business, argument, "job group has contained 2 job, only 1 seats left"},
		{"Job group: cap on triggers per group", "POST", ties(busy, tr), "", business, argument, "There are [2] triggers added to job group[uuid:" + busy + "], cannot add any more."},

		{"RemoveSchedulerJobsFromSchedulerJobGroup: schedulerJobUuids req", "DELETE", members, "", business, argument, "field[schedulerJobUuids] of message[APIRemoveSchedulerJobsFromSchedulerJobGroupMsg] is mandatory"},
		{"RemoveSchedulerJobsFromSchedulerJobGroup: unknown group", "DELETE", create + "/" + nobody + "/job?schedulerJobUuids=" + j, "", business, notFound, missing("schedulerJobGroupUuid", nobody, "SchedulerJobGroupVO")},
		{"AddSchedulerJobGroupToSchedulerTrigger: unknown group", "POST", ties(nobody, tr), "", business, notFound, missing("schedulerJobGroupUuid", nobody, "SchedulerJobGroupVO")},
		{"AddSchedulerJobGroupToSchedulerTrigger: unknown trigger", "POST", ties(g, nobody), "", business, notFound, missing("schedulerTriggerUuid", nobody, "SchedulerTriggerVO")},
		{"AddSchedulerJobGroupToSchedulerTrigger: triggerNow boolean", "POST", ties(g, tr), params(`"triggerNow":1`), shape, argument, "[triggerNow] field is excepted a boolean, but was [1]."},
		{"RemoveSchedulerJobGroupFromSchedulerTrigger: unknown group", "DELETE", ties(nobody, tr), "", business, notFound, missing("schedulerJobGroupUuid", nobody, "SchedulerJobGroupVO")},
		{"RemoveSchedulerJobGroupFromSchedulerTrigger: unknown trigger", "DELETE", ties(g, nobody), "", business, notFound, missing("schedulerTriggerUuid", nobody, "SchedulerTriggerVO")},
	})
	inv := r.do("GET", one, "").inventories()[0]
	equal(t, "members after refused requests", texts(inv["jobsUuid"]), []string{j})
	if inv["name"] != "g" || inv["state"] != "Enabled" {
		t.Errorf("group after refused requests = %v", inv)
	}
}

func TestJobsRefused(t *testing.T) {
	r := newReplica(t, setting{targetTriggers: 1})
	nobody := id.New()
	j, bound, tr := r.job("j", id.New()), r.job("bound", id.New()), r.trigger("t")
	const create = "/scheduler/jobs"
	tie := func(job, trigger string) string { return create + "/" + job + "/scheduler/triggers/" + trigger }
	r.do("POST", tie(bound, tr), "").ok()
	update, state := create+"/"+j+"/actions", "/schedulers/"+j
	target := `"targetResourceUuid":"` + nobody + `"`
	edit := func(fields string) string { return put("updateSchedulerJob", fields) }
	change := func(fields string) string { return put("changeSchedulerState", fields) }
	r.refuses([]refusal{
		{"CreateSchedulerJob: name req", "POST", create, params(`"type":"startVm",` + target), business, argument, "field[name] of message[APICreateSchedulerJobMsg] is mandatory"},
		{"CreateSchedulerJob: name with an escape", "POST", create, params(`"name":"a\u001b[1mb","type":"startVm",` + target), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+001B"},
		{"CreateSchedulerJob: targetResourceUuid req", "POST", create, params(`"name":"j","type":"startVm"`), business, argument, "field[targetResourceUuid] of message[APICreateSchedulerJobMsg] is mandatory"},
		{"CreateSchedulerJob: type req", "POST", create, params(`"name":"j",` + target), business, argument, "field[type] of message[APICreateSchedulerJobMsg] is mandatory"},
		{"CreateSchedulerJob: unknown type", "POST", create, params(`"name":"j","type":"x",` + target), business, argument, "No SchedulerJobFactory of type[x] found"},
		{"CreateSchedulerJob: resourceUuid of version 7", "POST", create, params(`"name":"j","type":"startVm","resourceUuid":"0198c0de000070008000000000000000",` + target), business, argument, "resourceUuid[0198c0de000070008000000000000000] is not a valid uuid"},
		{"CreateSchedulerJob: resourceUuid exists", "POST", create, params(`"name":"j","type":"startVm","resourceUuid":"` + j + `",` + target), business, taken, j},

		{"UpdateSchedulerJob: name not empty", "PUT", update, edit(`"name":""`), business, argument, "field[name] of message[APIUpdateSchedulerJobMsg] cannot be an empty string"},
		{"UpdateSchedulerJob: name with an end of line", "PUT", update, edit(`"name":"a\nb"`), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+000A"},
		{"UpdateSchedulerJob: description<=2048", "PUT", update, edit(`"description":"` + strings.Repeat("x", 2049) + `"`), business, argument, "description has 2049 characters"},
		{"UpdateSchedulerJob: parameters", "PUT", update, edit(`"parameters":"x"`), shape, argument, "[parameters] field is excepted a map"},
		{"UpdateSchedulerJob: unknown uuid", "PUT", create + "/" + nobody + "/actions", edit(``), business, notFound, missing("uuid", nobody, "SchedulerJobVO")},
		{"UpdateSchedulerJob: malformed uuid", "PUT", create + "/j1/actions", edit(``), business, notFound, missing("uuid", "j1", "SchedulerJobVO")},
		{"UpdateSchedulerJob: path with a literal {uuid}", "PUT", create + "/%7Buuid%7D/actions", edit(``), business, argument, "[{uuid}]"},
		{"UpdateSchedulerJob: unknown PUT action", "PUT", update, put("updateSchedulerJobGroup", ``), shape, argument, "the body doesn't contain action mapping to the URL"},

		{"DeleteSchedulerJob: malformed uuid", "DELETE", create + "/j1", "", business, notFound, missing("uuid", "j1", "SchedulerJobVO")},
		{"DeleteSchedulerJob: deleteMode", "DELETE", create + "/" + nobody + "?deleteMode=enforcing", "", business, argument, "but enforcing found"},

		{"ChangeSchedulerState: stateEvent req", "PUT", state, change(``), business, argument, "field[stateEvent] of message[APIChangeSchedulerStateMsg] is mandatory"},
		{"ChangeSchedulerState: stateEvent enable/disable", "PUT", state, change(`"stateEvent":"Enabled"`), business, argument, "valid value for field[stateEvent] of message[APIChangeSchedulerStateMsg] are [enable, disable], but Enabled found"},
		{"ChangeSchedulerState: uuid is a job", "PUT", "/schedulers/" + tr, change(`"stateEvent":"disable"`), business, notFound, missing("uuid", tr, "SchedulerJobVO")},
		{"ChangeSchedulerState: unknown PUT action", "PUT", state, put("changeState", `"stateEvent":"disable"`), shape, argument, "the body doesn't contain action mapping to the URL"},
		{"ChangeSchedulerState: path with a literal {uuid}", "PUT", "/schedulers/%7Buuid%7D", change(`"stateEvent":"disable"`), business, argument, "[{uuid}]"},

		{"AddSchedulerJobToSchedulerTrigger: unknown job", "POST", tie(nobody, tr), "", business, notFound, missing("schedulerJobUuid", nobody, "SchedulerJobVO")},
		{"AddSchedulerJobToSchedulerTrigger: unknown trigger", "POST", tie(j, nobody), "", business, notFound, missing("schedulerTriggerUuid", nobody, "SchedulerTriggerVO")},
		{"AddSchedulerJobToSchedulerTrigger: cap on triggers per job", "POST", tie(bound, r.trigger("u")), "", business, argument, "There are [1] triggers added to job[uuid:" + bound + "], cannot add any more."},
		{"Binding job to trigger: twice", "POST", tie(bound, tr), "", business, argument, "Can not add job[uuid:" + bound + "] twice to the same trigger[uuid:" + tr + "]"},
		{"RemoveSchedulerJobFromSchedulerTrigger: unknown job", "DELETE", tie(nobody, tr), "", business, notFound, missing("schedulerJobUuid", nobody, "SchedulerJobVO")},
		{"RemoveSchedulerJobFromSchedulerTrigger: unknown trigger", "DELETE", tie(j, nobody), "", business, notFound, missing("schedulerTriggerUuid", nobody, "SchedulerTriggerVO")},
	})
	if inv := r.do("GET", create+"/"+j, "").inventories()[0]; inv["name"] != "j" || inv["state"] != "Enabled" {
		t.Errorf("job after refused requests = %v", inv)
	}
}

func TestTriggersRefused(t *testing.T) {
	r := newReplica(t, setting{})
	const create = "/scheduler/triggers"
	nobody, tr := id.New(), r.trigger("t")
	simple := r.do("POST", create, params(`"name":"s","schedulerType":"simple","schedulerInterval":60,"startTime":2000000000`)).inventory()["uuid"].(string)
	loose := r.job("loose", id.New())
	actions := create + "/" + tr + "/actions"
	wide := `0 0 3 ` + strings.Repeat("1,", 130) + `1 1 ?`
	cron := func(rest string) string { return params(`"name":"t","schedulerType":"cron"` + rest) }
	update := func(fields string) string { return put("updateSchedulerTrigger", fields) }
	run := func(fields string) string { return put("runSchedulerTrigger", fields) }
	rows := []refusal{
		{"CreateSchedulerTrigger: name req", "POST", create, params(`"schedulerType":"cron","cron":"0 0 3 1 1 ?"`), business, argument, "field[name] of message[APICreateSchedulerTriggerMsg] is mandatory"},
		{"CreateSchedulerTrigger: name with an isolate", "POST", create, params(`"name":"a\u2066b","schedulerType":"cron","cron":"0 0 3 1 1 ?"`), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+2066"},
		{"CreateSchedulerTrigger: schedulerType req", "POST", create, params(`"name":"t"`), business, argument, "field[schedulerType] of message[APICreateSchedulerTriggerMsg] is mandatory"},
		{"CreateSchedulerTrigger: schedulerType simple/cron", "POST", create, params(`"name":"t","schedulerType":"daily"`), business, argument, "valid value for field[schedulerType] of message[APICreateSchedulerTriggerMsg] are [simple, cron], but daily found"},
		{"CreateSchedulerTrigger: cron<=255", "POST", create, cron(`,"cron":"` + wide + `"`), business, argument, "characters, at most 255 are allowed"},
		{"CreateSchedulerTrigger: resourceUuid exists", "POST", create, cron(`,"cron":"0 0 3 1 1 ?","resourceUuid":"` + tr + `"`), business, taken, tr},
		{"CreateSchedulerTrigger: resourceUuid in upper case", "POST", create, cron(`,"cron":"0 0 3 1 1 ?","resourceUuid":"` + strings.ToUpper(id.New()) + `"`), business, argument, "is not a valid uuid"},

		{"UpdateSchedulerTrigger: name not empty", "PUT", actions, update(`"name":""`), business, argument, "field[name] of message[APIUpdateSchedulerTriggerMsg] cannot be an empty string"},
		{"UpdateSchedulerTrigger: name with NUL", "PUT", actions, update(`"name":"a\u0000b"`), business, argument, "name must not hold control characters, nor any that change the direction of text; it has U+0000"},
		{"UpdateSchedulerTrigger: schedulerInterval 1..2147483647", "PUT", create + "/" + simple + "/actions", update(`"schedulerInterval":0`), business, argument, "field[schedulerInterval] of message[APIUpdateSchedulerTriggerMsg] must be in the range of [1, 2147483647], but was 0"},
		{"UpdateSchedulerTrigger: repeatCount 0..2147483647", "PUT", create + "/" + simple + "/actions", update(`"repeatCount":-1`), business, argument, "field[repeatCount] of message[APIUpdateSchedulerTriggerMsg] must be in the range of [0, 2147483647], but was -1"},
		{"UpdateSchedulerTrigger: schedulerType", "PUT", actions, update(`"schedulerType":"daily"`), business, argument, "valid value for field[schedulerType] of message[APIUpdateSchedulerTriggerMsg] are [simple, cron], but daily found"},
		{"UpdateSchedulerTrigger: cron", "PUT", actions, update(`"cron":"daily"`), business, argument, `cron task must follow format like this : "0 0/3 17-23 * * ?" `},
		{"UpdateSchedulerTrigger: cron<=255", "PUT", actions, update(`"cron":"` + wide + `"`), business, argument, "characters, at most 255 are allowed"},
		{"UpdateSchedulerTrigger: cron of a simple one", "PUT", create + "/" + simple + "/actions", update(`"cron":"0 0 3 1 1 ?"`), business, argument, "set schedulerType to cron"},
		{"UpdateSchedulerTrigger: unknown uuid", "PUT", create + "/" + nobody + "/actions", update(``), business, notFound, missing("uuid", nobody, "SchedulerTriggerVO")},
		{"UpdateSchedulerTrigger: malformed uuid", "PUT", create + "/t1/actions", update(``), business, notFound, missing("uuid", "t1", "SchedulerTriggerVO")},
		{"UpdateSchedulerTrigger: path with a literal {uuid}", "PUT", create + "/%7Buuid%7D/actions", update(``), business, argument, "[{uuid}]"},
		{"UpdateSchedulerTrigger: unknown PUT action", "PUT", actions, put("stopSchedulerTrigger", ``), shape, argument, "the body doesn't contain action mapping to the URL"},

		{"RunSchedulerTrigger: jobUuids List", "PUT", actions, run(`"jobUuids":{}`), shape, argument, "[jobUuids] field is excepted a list of strings"},
		{"RunSchedulerTrigger: job of another trigger", "PUT", actions, run(`"jobUuids":["` + loose + `"]`), business, argument, `"` + loose + `" is not bound to trigger "` + tr + `"`},
		{"RunSchedulerTrigger: unknown job", "PUT", actions, run(`"jobUuids":["` + loose + `","` + nobody + `"]`), business, notFound, "invalid field[jobUuids], resource[uuids:[" + nobody + "], type:SchedulerJobVO] not found"},
		{"RunSchedulerTrigger: malformed job", "PUT", actions, run(`"jobUuids":["j1"]`), business, notFound, missing("jobUuids", "j1", "SchedulerJobVO")},
		{"RunSchedulerTrigger: unknown uuid", "PUT", create + "/" + nobody + "/actions", run(``), business, notFound, missing("uuid", nobody, "SchedulerTriggerVO")},

		{"DeleteSchedulerTrigger: malformed uuid", "DELETE", create + "/t1", "", business, notFound, missing("uuid", "t1", "SchedulerTriggerVO")},
		{"DeleteSchedulerTrigger: deleteMode", "DELETE", create + "/" + nobody + "?deleteMode=x", "", business, argument, "but x found"},
	}
	for _, field := range []string{"schedulerInterval", "repeatCount", "startTime", "stopTime"} {
		for _, value := range []string{`1.5`, `"often"`, `true`, `[1]`, `1e400`} {
			text := "[" + field + "] field is excepted an int or long, but was [" + strings.Trim(value, `"`) + "]."
			rows = append(rows,
				refusal{"CreateSchedulerTrigger: " + field + " " + value, "POST", create, cron(`,"` + field + `":` + value), shape, argument, text},
				refusal{"UpdateSchedulerTrigger: " + field + " " + value, "PUT", actions, update(`"` + field + `":` + value), shape, argument, text})
		}
	}
	r.refuses(rows)
	if inv := r.do("GET", create+"/"+tr, "").inventories()[0]; inv["name"] != "t" || inv["cron"] != "0 0 3 1 1 ?" {
		t.Errorf("trigger after refused requests = %v", inv)
	}
}

// The row "Checks (all SYS.1007)" of section 4, by its texts, through Create and,
// of a trigger that has everything else, through Update.
func TestChecksRefused(t *testing.T) {
	r := newReplica(t, setting{})
	simple := r.do("POST", "/scheduler/triggers", params(`"name":"s","schedulerType":"simple","schedulerInterval":60,"repeatCount":10,"startTime":2000000000`)).inventory()["uuid"].(string)
	cron := r.trigger("c")
	var rows []refusal
	for _, row := range []struct{ text, create, of, update string }{
		{"startTime must be set for simple scheduler", `"schedulerType":"simple","schedulerInterval":60`, cron, `"schedulerType":"simple","schedulerInterval":60`},
		{"startTime must be positive integer or 0", `"schedulerType":"simple","schedulerInterval":60,"startTime":-1`, simple, `"startTime":-1`},
		{"startTime out of range", `"schedulerType":"simple","schedulerInterval":60,"startTime":2147454848`, simple, `"startTime":2147454848`},
		{"schedulerInterval must be set for simple scheduler", `"schedulerType":"simple","startTime":0`, cron, `"schedulerType":"simple","startTime":0`},
		{"interval must be set when use simple scheduler when repeat more than once", `"schedulerType":"simple","startTime":0,"repeatCount":2`, cron, `"schedulerType":"simple","startTime":0,"repeatCount":2`},
		{"duration time out of range", `"schedulerType":"simple","startTime":0,"repeatCount":2147483647,"schedulerInterval":2147483647`, simple, `"repeatCount":2147483647,"schedulerInterval":2147483647`},
		{"stopTime out of mysql timestamp range", `"schedulerType":"simple","startTime":2147454847,"repeatCount":2,"schedulerInterval":1`, simple, `"startTime":2147454847`},
		{"stopTime has been passed", `"schedulerType":"simple","startTime":1,"repeatCount":2,"schedulerInterval":1`, simple, `"startTime":1`},
		{"stopTime has been passed", `"schedulerType":"simple","startTime":0,"stopTime":1,"schedulerInterval":1`, simple, `"stopTime":1`},
		{"stopTime has been passed", `"schedulerType":"cron","cron":"0 0 0 1 1 ? 2020"`, cron, `"cron":"0 0 0 1 1 ? 2020"`},
		{"cron must be set when use cron scheduler", `"schedulerType":"cron"`, simple, `"schedulerType":"cron"`},
		{`cron task must follow format like this : "0 0/3 17-23 * * ?" `, `"schedulerType":"cron","cron":"0 17 * * *"`, cron, `"cron":"0 17 * * *"`},
		{"cron scheduler only need to specify cron task", `"schedulerType":"cron","cron":"0 0 3 1 1 ?","schedulerInterval":1`, cron, `"schedulerInterval":1`},
		{"cron scheduler only need to specify cron task", `"schedulerType":"cron","cron":"0 0 3 1 1 ?","repeatCount":1`, cron, `"repeatCount":1`},
		// The examples of the documentation are in milliseconds by accident.
		{"startTime out of range", `"schedulerType":"simple","schedulerInterval":60,"startTime":2.147454848E12`, simple, `"startTime":2.147454848E12`},
	} {
		rows = append(rows,
			refusal{"Checks: " + row.text, "POST", "/scheduler/triggers", params(`"name":"t",` + row.create), business, argument, row.text},
			refusal{"Checks: " + row.text + ", of an update", "PUT", "/scheduler/triggers/" + row.of + "/actions", put("updateSchedulerTrigger", row.update), business, argument, row.text})
	}
	r.refuses(rows)
	equal(t, "triggers after refused requests", len(r.do("GET", "/scheduler/triggers", "").inventories()), 2)
}

// Who may only look is denied every change of what their account has.
func TestChangesDenied(t *testing.T) {
	r := newReplica(t, setting{})
	viewer := []string{"Authorization", "OAuth " + r.signIn("viewer", core.Viewer)}
	for _, row := range []struct{ row, path, body string }{
		{"CreateSchedulerJobGroup", "/scheduler/jobgroups", params(`"name":"g","type":"startVm"`)},
		{"CreateSchedulerJob", "/scheduler/jobs", params(`"name":"j","type":"startVm","targetResourceUuid":"` + id.New() + `"`)},
		{"CreateSchedulerTrigger", "/scheduler/triggers", params(`"name":"t","schedulerType":"cron","cron":"0 0 3 1 1 ?"`)},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("POST", row.path, row.body, viewer...).fails(business, "ID.1002", "")
		})
	}
}
