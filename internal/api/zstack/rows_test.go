package zstack_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

func zAt(ms int64, member string) redis.Z { return redis.Z{Score: float64(ms), Member: member} }

// Each row of 1.7 and 1.8 of the specification that speaks of queries, by its name,
// on all inventories. What a case asks is the same for all of them, since each has a
// field f (a text), and n things whose f are x, Y and null or another.
func TestQueryRows(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	x, y := r.job("x 1%", id.New()), r.job("Y,2", id.New())
	gx, gy := r.groupOf("x 1%", x), r.groupOf("Y,2", y)
	tx, ty := r.trigger("x 1%"), r.trigger("Y,2")
	r.bindGroup(gx, tx, true).ok()
	r.bindGroup(gy, ty, true).ok()
	r.do("POST", "/scheduler/jobs/"+x+"/scheduler/triggers/"+tx, "").ok()

	kinds := map[string]struct {
		x, y, key string
		names     bool // its rows are known by name, others by their job
	}{
		"jobs":        {x, y, "uuid", true},
		"jobgroups":   {gx, gy, "uuid", true},
		"triggers":    {tx, ty, "uuid", true},
		"job/history": {x, y, "schedulerJobUuid", false},
	}
	for _, row := range []struct {
		row  string // of the specification
		ask  []string
		want string // of x and y
		only string // kinds, "" = all that have names
	}{
		{"= equal, case-insensitive as MySQL compares", []string{"q→name=X 1%"}, "x", ""},
		{"!= not equal", []string{"q→name!=X 1%"}, "y", ""},
		{"> order", []string{"q→name>X 1%"}, "y", ""},
		{"< order", []string{"q→name<y"}, "x", ""},
		{">= order", []string{"q→name>=y,2"}, "y", ""},
		{"<= order", []string{"q→name<=x 1%"}, "x", ""},
		{"?= in, split at a comma", []string{"q→name?=a,X 1%,b"}, "x", ""},
		{"!?= not in", []string{"q→name!?=a,X 1%,b"}, "y", ""},
		{"~= like, % is any run", []string{"q→name~=X%"}, "x", ""},
		{"~= like, _ is one character", []string{"q→name~=__2"}, "y", ""},
		{"!~= not like", []string{"q→name!~=_,2"}, "x", ""},
		{"name is null", []string{"q→description is null"}, "x y", ""},
		{"name not null", []string{"q→description not null"}, "", ""},
		{"the earliest operator is meant", []string{"q→name=a!=b"}, "", ""},
		{"names are trimmed", []string{"q→ name =x 1%"}, "x", ""},
		{"values are not", []string{"q→name= x 1%"}, "", ""},
		{"conditions are joined by and", []string{"q→name~=%", "q→name=y,2"}, "y", ""},
		{"numbered q", []string{"q.0→name~=%", "q.1→name=y,2"}, "y", ""},
		{"uuid", []string{"q→uuid=$x"}, "x", ""},
		{"a list field, by membership", []string{"q→triggersUuid=" + tx}, "x", "jobs jobgroups"},
		{"a list field, by membership", []string{"q→jobsUuid=" + x}, "x", "jobgroups triggers"},
		{"one hop: job trigger.X, group trigger.X", []string{"q→trigger.name=X 1%"}, "x", "jobs jobgroups"},
		{"one hop: trigger job.X", []string{"q→job.name=X 1%"}, "x", "triggers"},
		{"__systemTag__", []string{"q→__systemTag__=a::b"}, "", "jobs jobgroups triggers job/history"},
		{"__userTag__", []string{"q→__userTag__ is null"}, "x y", "jobs jobgroups triggers job/history"},
		{"limit", []string{"sort→name", "limit→1"}, "x", ""},
		{"limit as a float", []string{"sort→name", "limit→1.0"}, "x", ""},
		{"start", []string{"sort→name", "start→1"}, "y", ""},
		{"sort +f", []string{"sort→+name"}, "x y", ""},
		{"sort -f", []string{"sort→-name"}, "y x", ""},
		{"sort f", []string{"sort→name"}, "x y", ""},
		{"sort, with a space for the plus", []string{"sort→ name"}, "x y", ""},
		{"sortDirection is ignored", []string{"sort→-name", "sortDirection→asc"}, "y x", ""},
		{"groupBy is accepted", []string{"groupBy→name", "sort→name"}, "x y", ""},
		{"filterName is accepted", []string{"filterName→a:b", "sort→name"}, "x y", ""},
		{"unknown parameters are ignored", []string{"color→red", "sort→name"}, "x y", ""},
		{"schedulerJobGroupUuid", []string{"q→schedulerJobGroupUuid=" + strings.ToUpper(gx), "sort→-startTime", "limit→50"}, "x", "job/history"},
		{"schedulerJobUuid", []string{"q→schedulerJobUuid=" + strings.ToUpper(x)}, "x", "job/history"},
		{"schedulerJobUuid, several", []string{"q→schedulerJobUuid?=" + y + "," + x, "sort→id"}, "x y", "job/history"},
		{"schedulerJobUuid, two that are not one", []string{"q→schedulerJobUuid=" + x, "q→schedulerJobUuid=" + y}, "", "job/history"},
		{"schedulerJobUuid and another group", []string{"q→schedulerJobUuid=" + x, "q→schedulerJobGroupUuid=" + gy}, "", "job/history"},
		{"schedulerJobUuid and a step's column", []string{"q→schedulerJobUuid=" + x, "q→success=false"}, "x", "job/history"},
		{"triggerUuid", []string{"q→triggerUuid=" + ty}, "y", "job/history"},
		{"triggerUuid, several", []string{"q→triggerUuid?=" + ty + "," + tx + "," + tx, "sort→startTime"}, "x y", "job/history"},
		{"triggerUuid and group", []string{"q→triggerUuid=" + ty, "q→schedulerJobGroupUuid=" + gx}, "", "job/history"},
		{"sort by startTime", []string{"sort→startTime", "limit→1"}, "x", "job/history"},
		{"sort by startTime, from the end", []string{"sort→-startTime", "limit→1"}, "y", "job/history"},
		{"a time of another form", []string{"q→startTime>=1510698057000"}, "y x", "job/history"},
		{"a time that lies before all times", []string{"q→startTime<0001-01-01"}, "", "job/history"},
		{"a second that has a fraction", []string{"q→startTime=1510698057123"}, "", "job/history"},
		{"a uuid that no row has", []string{"q→uuid=" + id.New()}, "", "job/history"},
	} {
		for path, kind := range kinds {
			if row.only == "" && !kind.names || row.only != "" && !strings.Contains(" "+row.only+" ", " "+path+" ") {
				continue
			}
			t.Run(row.row+" on "+path, func(t *testing.T) {
				r := *r
				r.t = t
				ask := make([]string, len(row.ask))
				for i, a := range row.ask {
					ask[i] = strings.ReplaceAll(a, "$x", kind.x)
				}
				want := []string{}
				for w := range strings.FieldsSeq(row.want) {
					want = append(want, map[string]string{"x": kind.x, "y": kind.y}[w])
				}
				got := r.do("GET", "/scheduler/"+path+q(ask...), "").inventories()
				if path == "job/history" && !strings.Contains(strings.Join(ask, " "), "sort") && len(want) == 2 {
					want = []string{kind.y, kind.x}
				}
				equal(t, "rows", column(got, kind.key), want)
				if strings.Contains(strings.Join(ask, " "), "limit") || strings.Contains(strings.Join(ask, " "), "start→") {
					return
				}
				// The same as a number.
				counted := r.do("GET", "/scheduler/"+path+q(append(ask, "count→true")...), "").ok()
				equal(t, "count", counted, map[string]any{"total": jsonNumber(fmt.Sprint(len(want)))})
				total := r.do("GET", "/scheduler/"+path+q(append(ask, "replyWithCount→true", "limit→1")...), "").ok()["total"]
				equal(t, "total", total, jsonNumber(fmt.Sprint(len(want))))
			})
		}
	}
	rows := r.do("GET", "/scheduler/job/history?sort=id", "").inventories()
	equal(t, "row by id", column(r.do("GET", "/scheduler/job/history"+q("q→id="+textNumber(rows[1]["id"])), "").inventories(), "schedulerJobUuid"), []string{y})
	equal(t, "row by its id as uuid", column(r.do("GET", "/scheduler/job/history"+q("q→uuid="+textNumber(rows[1]["id"])), "").inventories(), "schedulerJobUuid"), []string{y})
}

// The errors of 1.7: status, code and text of each.
func TestQueryErrorRows(t *testing.T) {
	r := newReplica(t, setting{})
	const prefix = "org.zstack.header.scheduler."
	for path, class := range map[string]string{
		"jobs": "SchedulerJobInventory", "jobgroups": "SchedulerJobGroupInventory", "triggers": "SchedulerTriggerInventory", "job/history": "SchedulerJobHistoryInventory",
	} {
		for _, row := range []struct {
			row, ask string
			status   int
			text     string
		}{
			{"no operator", "q→name", 400, "Invalid query string[name]"},
			{"unknown field", "q→nothing=1", 503, "condition name[nothing] is invalid, no such field on inventory class[" + prefix + class + "]"},
			{"unknown field of a null test", "q→nothing is null", 503, "condition name[nothing] is invalid, no such field on inventory class[" + prefix + class + "]"},
			{"unknown hop", "q→nothing.name=1", 503, "condition name[nothing.name] is invalid"},
			{"two hops", "q→trigger.job.name=1", 503, "condition name[trigger.job.name] is invalid"},
			{"limit no integer", "limit→many", 400, "[limit] field is excepted an int or long"},
			{"start no integer", "start→1.5", 400, "[start] field is excepted an int or long"},
			{"count no boolean", "count→1", 400, "[count] field is excepted a boolean"},
			{"replyWithCount no boolean", "replyWithCount→yes", 400, "[replyWithCount] field is excepted a boolean"},
			{"sort by no field", "sort→nothing", 503, "sort field[nothing] is invalid"},
			{"fields that are not there", "fields→nothing", 503, "field[nothing] is invalid"},
			{"filterName without a colon", "filterName→nothing", 503, "filterName[nothing] must be written type:condition"},
		} {
			t.Run(row.row+" on "+path, func(t *testing.T) {
				r := *r
				r.t = t
				r.do("GET", "/scheduler/"+path+q(row.ask), "").fails(row.status, "SYS.1007", row.text)
			})
		}
		// What is well written is refused after the session, what is not before it.
		wrong := []string{"Authorization", "OAuth " + id.New()}
		r.do("GET", "/scheduler/"+path+q("filterName→x"), "", wrong...).fails(503, "ID.1001", "Session expired")
		r.do("GET", "/scheduler/"+path+q("limit→x"), "", wrong...).fails(400, "SYS.1007", "[limit]")
	}
}

// The answers of 1.7 and 1.8: keys, fields, schema.
func TestQueryAnswerRows(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	g := r.groupOf("a", r.job("a", id.New()))
	trigger := r.trigger("a")
	r.bindGroup(g, trigger, true).ok()
	for path, row := range map[string]struct{ class, field string }{
		"jobs": {"SchedulerJobInventory", "name"}, "jobgroups": {"SchedulerJobGroupInventory", "name"},
		"triggers": {"SchedulerTriggerInventory", "name"}, "job/history": {"SchedulerJobHistoryInventory", "jobType"},
	} {
		schema := map[string]any{"inventories[0]": "org.zstack.header.scheduler." + row.class}
		one := func(ask ...string) map[string]any { return r.do("GET", "/scheduler/"+path+q(ask...), "").ok() }
		if got := one(); len(got) != 2 || got["inventories"] == nil {
			t.Errorf("%s: got %v, want inventories and schema and nothing else", path, got)
		}
		equal(t, path+", schema without X-JSON-Schema", one()["schema"], any(schema))
		first := one()["inventories"].([]any)[0].(map[string]any)
		value := first[row.field]
		for name, ask := range map[string][]string{"a comma list": {"fields→" + row.field + ",createDate"}, "a repeated key": {"fields→" + row.field, "fields→createDate"}} {
			if path == "job/history" {
				ask = []string{"fields→" + row.field}
			}
			got := one(ask...)["inventories"].([]any)[0].(map[string]any)
			if got[row.field] != value || path != "job/history" && (len(got) != 2 || got["createDate"] == nil) || path == "job/history" && len(got) != 1 {
				t.Errorf("%s, fields as %s: got %v", path, name, got)
			}
		}
		equal(t, path+", count=true", one("count→true"), map[string]any{"total": jsonNumber("1")})
		equal(t, path+", replyWithCount=true", one("replyWithCount→true", "limit→0"), map[string]any{"inventories": []any{}, "total": jsonNumber("1"), "schema": map[string]any{}})
		if _, ok := one("replyWithCount→false")["total"]; ok {
			t.Errorf("%s, replyWithCount=false: there is a total", path)
		}
		if path == "job/history" {
			r.do("GET", "/scheduler/job/history/"+id.New(), "").fails(404, "SYS.1003", "no api mapping")
			continue
		}
		equal(t, path+"/{uuid}", texts([]any{one("q→uuid=" + first["uuid"].(string))["inventories"].([]any)[0].(map[string]any)["uuid"]}), []string{first["uuid"].(string)})
		equal(t, path+"/{uuid} of nothing", r.do("GET", "/scheduler/"+path+"/"+id.New(), "").ok(), map[string]any{"inventories": []any{}, "schema": map[string]any{}})
		r.do("GET", "/scheduler/"+path+"/{uuid}", "").fails(503, "SYS.1007", "not a valid uuid")
	}
	// HEAD is served as GET is, without a body.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, r.url+"/zstack/v1/scheduler/job/history", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "OAuth "+r.session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// A job's history is in every group that it ever was in, and stays when the job goes.
func TestHistoryFollowsAJob(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	j, other := r.job("j", id.New()), r.job("other", id.New())
	trigger := r.trigger("t")
	first := r.groupOf("first", other, j)
	r.bindGroup(first, trigger, true).ok()
	r.do("DELETE", "/scheduler/jobgroups/"+first+"/job?schedulerJobUuids="+j, "").ok()
	second := r.groupOf("second", j)
	r.bindGroup(second, trigger, true).ok()
	r.do("POST", "/scheduler/jobs/"+j+"/scheduler/triggers/"+trigger, `{"params":{"triggerNow":true}}`).ok()
	r.do("PUT", "/scheduler/triggers/"+trigger+"/actions", `{"runSchedulerTrigger":{}}`).ok() // first has no j by now

	check := func(when string) {
		t.Helper()
		rows := r.do("GET", "/scheduler/job/history"+q("q→schedulerJobUuid="+j, "sort→id", "replyWithCount→true"), "")
		equal(t, when+": total", rows.body["total"], jsonNumber("5"))
		got := column(rows.inventories(), "schedulerJobGroupUuid")
		equal(t, when+": groups of the first three", got[:3], []string{first, second, ""})
		equal(t, when+": jobs", column(rows.inventories(), "schedulerJobUuid"), []string{j, j, j, j, j})
	}
	check("at first")
	for _, path := range []string{"jobs/" + j, "jobgroups/" + first, "jobgroups/" + second, "triggers/" + trigger} {
		r.do("DELETE", "/scheduler/"+path, "").ok()
	}
	check("when all is deleted")
}

// The row of section 2, SchedulerJobHistoryInventory: what a job that failed and one
// that was canceled before it began look like.
func TestHistoryOfOddEnds(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	jobs := []string{r.job("failed", id.New()), r.job("canceled", id.New())}
	g, trigger := r.groupOf("g", jobs...), r.trigger("t")
	r.bindGroup(g, trigger, true).ok()
	for _, d := range r.queue.take() {
		if d.Step == 0 {
			r.work(d, "w", core.Outcome{State: core.AttemptFailed, Reason: "it broke"})
		}
	}
	run := r.do("GET", "/scheduler/job/history?sort=id", "").inventories()[0]["fireInstanceId"].(string)
	if _, _, err := r.store.Cancel(r.ctx(), run, "enough of it", core.RunCanceled); err != nil {
		t.Fatal(err)
	}
	rows := r.do("GET", "/scheduler/job/history?sort=id", "").inventories()
	for i, row := range rows {
		var dump struct {
			Success bool
			APIID   string `json:"apiId"`
			ID      string
			Created int64                          `json:"createdTime"`
			Error   struct{ Code, Details string } `json:"error"`
		}
		text, _ := row["resultDump"].(string)
		if err := json.Unmarshal([]byte(text), &dump); err != nil {
			t.Fatalf("row %d: resultDump %q: %v", i, text, err)
		}
		if row["success"] != false || row["executeTime"] == nil || dump.Success || dump.APIID != run || dump.ID == "" ||
			time.Since(time.UnixMilli(dump.Created)).Abs() > time.Minute || dump.Error.Code != "SYS.1006" || dump.Error.Details != []string{"it broke", "enough of it"}[i] {
			t.Errorf("row %d = %v, want a failure that says why", i, row)
		}
	}
}
