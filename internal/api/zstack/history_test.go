package zstack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

func upper(s string) string { return strings.ToUpper(s) }

// hire announces a worker that executes every type of the tests.
func (r *replica) hire(name string) {
	r.t.Helper()
	w := core.Worker{ID: name, Host: name, Slots: 4, Types: jobTypes, Queues: []string{"critical", "default", "low", core.HostQueue(name)}, Started: time.Now()}
	if _, err := r.store.Beat(r.t.Context(), core.Heartbeat{Worker: name}, &w); err != nil {
		r.t.Fatalf("announce worker: %v", err)
	}
}

// work begins a dispatch and ends it as told.
func (r *replica) work(d core.Dispatch, worker string, o core.Outcome) {
	r.t.Helper()
	b, err := r.engine.Begin(r.ctx(), d, worker)
	if err != nil {
		r.t.Fatalf("begin %s: %v", d.ID(), err)
	}
	if o.State == "" {
		return
	}
	if _, err := r.engine.Finish(r.ctx(), d, worker, b, o, true); err != nil {
		r.t.Fatalf("finish %s: %v", d.ID(), err)
	}
}

func TestHistoryOfOneFire(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	target := id.New()
	jobs := []string{r.job("good", target), r.job("bad", id.New()), r.job("slow", id.New())}
	g, trigger := r.groupOf("g", jobs...), r.trigger("t")
	r.bindGroup(g, trigger, true).ok()

	rows := r.do("GET", "/scheduler/job/history?sort=id", "").inventories()
	equal(t, "jobs", column(rows, "schedulerJobUuid"), jobs)
	for _, row := range rows {
		if row["success"] != false || row["executeTime"] != nil || row["resultDump"] != nil {
			t.Errorf("row before its end = %v, want success false and the rest null", row)
		}
	}

	sent := r.queue.take()
	slices.SortFunc(sent, func(a, b core.Dispatch) int { return a.Step - b.Step })
	r.work(sent[0], "w", core.Outcome{State: core.AttemptSucceeded, Output: `{"vm":"up"}`})
	r.work(sent[1], "w", core.Outcome{State: core.AttemptFailed, Reason: "no such host", ExitCode: 7})
	r.work(sent[2], "w", core.Outcome{})

	// The next fire finds the third job still running.
	r.do("PUT", "/scheduler/triggers/"+trigger+"/actions", `{"runSchedulerTrigger":{}}`).ok()
	rows = r.do("GET", "/scheduler/job/history?sort=id", "").inventories()
	if len(rows) != 6 {
		t.Fatalf("got %d rows, want 6", len(rows))
	}
	run := rows[0]["fireInstanceId"].(string)
	equal(t, "fires", column(rows, "fireInstanceId"), []string{run, run, run, rows[3]["fireInstanceId"].(string), rows[3]["fireInstanceId"].(string), rows[3]["fireInstanceId"].(string)})

	good := rows[0]
	created, _ := id.RunTime(run)
	if start, err := time.Parse("Jan 2, 2006 3:04:05 PM", fmt.Sprint(good["startTime"])); err != nil || start.Sub(created).Abs() > 2*time.Second {
		t.Errorf("startTime = %v, want about %v", good["startTime"], created)
	}
	var request, result map[string]any
	if err := json.Unmarshal([]byte(good["requestDump"].(string)), &request); err != nil {
		t.Fatalf("requestDump: %v", err)
	}
	equal(t, "requestDump", request, map[string]any{"schedulerJobUuid": jobs[0], "name": "good", "jobType": "startVm", "targetResourceUuid": target, "parameters": map[string]any{}})
	if err := json.Unmarshal([]byte(good["resultDump"].(string)), &result); err != nil {
		t.Fatalf("resultDump: %v", err)
	}
	if result["success"] != true || result["output"] != `{"vm":"up"}` || result["apiId"] != run || result["createdTime"].(float64) < 1.7e12 {
		t.Errorf("resultDump = %v", result)
	}
	for _, f := range []string{"id", "startTime", "requestDump", "resultDump"} {
		delete(good, f)
	}
	if n, _ := strconv.Atoi(textNumber(good["executeTime"])); n > 1 {
		t.Errorf("executeTime = %v s, want 0 or 1", good["executeTime"])
	}
	delete(good, "executeTime")
	equal(t, "row", good, map[string]any{
		"triggerUuid": trigger, "schedulerJobUuid": jobs[0], "schedulerJobGroupUuid": g, "jobType": "startVm",
		"targetResourceUuid": target, "success": true, "fireInstanceId": run,
	})

	for i, want := range map[int]string{1: `"details":"no such host"`, 5: core.SkipText} {
		dump, _ := rows[i]["resultDump"].(string)
		if rows[i]["success"] != false || !strings.Contains(dump, `"success":false`) || !strings.Contains(dump, want) || rows[i]["executeTime"] == nil {
			t.Errorf("row %d = %v, want a failure with %s", i, rows[i], want)
		}
	}
	if rows[2]["resultDump"] != nil || rows[2]["executeTime"] != nil {
		t.Errorf("row of the running job = %v, want no result", rows[2])
	}
}

// ids gives the ids of rows, checking that they ascend or descend.
func ids(t *testing.T, rows []map[string]any, ascending bool) []int64 {
	t.Helper()
	out := make([]int64, len(rows))
	for i, r := range rows {
		n, err := r["id"].(json.Number).Int64()
		if err != nil || n <= 0 {
			t.Fatalf("id %v is not a positive long", r["id"])
		}
		out[i] = n
	}
	sorted := slices.Clone(out)
	slices.Sort(sorted)
	if !ascending {
		slices.Reverse(sorted)
	}
	if !slices.Equal(out, sorted) || len(slices.Compact(sorted)) != len(out) {
		t.Errorf("ids = %d, want them distinct and in order", out)
	}
	return out
}

func TestQueryHistory(t *testing.T) {
	r := newReplica(t, setting{})
	r.hire("w")
	a, b, c := r.job("a", id.New()), r.job("b", id.New()), r.job("c", id.New())
	g, trigger, other := r.groupOf("g", a, b), r.trigger("t"), r.trigger("other")
	r.bindGroup(g, trigger, true).ok()                                                                       // a b
	r.do("POST", "/scheduler/jobs/"+c+"/scheduler/triggers/"+other, `{"params":{"triggerNow":"true"}}`).ok() // c
	for _, d := range r.queue.take() {
		state := core.AttemptSucceeded
		if d.Step == 1 {
			state = core.AttemptFailed
		}
		r.work(d, "w", core.Outcome{State: state, Reason: "as told"})
	}
	if _, err := r.engine.RunGroup(r.ctx(), g, "by hand", core.Overlap{}); err != nil { // a b
		t.Fatal(err)
	}
	// Runs of other dialects are not history.
	native, err := r.engine.CreateJob(r.ctx(), core.Job{Meta: core.Meta{Name: "native"}, Type: "startVm", Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.engine.RunJob(r.ctx(), native.UUID, "", core.Overlap{}); err != nil {
		t.Fatal(err)
	}

	all := r.do("GET", "/scheduler/job/history?sort=id", "").inventories()
	order := ids(t, all, true)
	equal(t, "jobs, oldest first", column(all, "schedulerJobUuid"), []string{a, b, c, a, b})
	equal(t, "triggers", column(all, "triggerUuid"), []string{trigger, trigger, other, "", ""})
	if all[3]["triggerUuid"] != nil || all[2]["schedulerJobGroupUuid"] != nil {
		t.Errorf("rows without trigger and group = %v, %v, want null there", all[3], all[2])
	}
	ids(t, r.do("GET", "/scheduler/job/history", "").inventories(), false)
	fire, start := all[0]["fireInstanceId"].(string), fmt.Sprint(all[0]["startTime"])

	for _, row := range []struct {
		name string
		ask  []string
		want []string
	}{
		{"newest first", nil, []string{b, a, c, b, a}},
		{"newest", []string{"limit→2"}, []string{b, a}},
		{"newest after some", []string{"start→1", "limit→2", "sort→-startTime"}, []string{a, c}},
		{"page of all", []string{"sort→id", "start→1", "limit→2"}, []string{b, c}},
		{"of a group", []string{"q→schedulerJobGroupUuid=" + g, "sort→id"}, []string{a, b, a, b}},
		{"of a group, upper case", []string{"q→schedulerJobGroupUuid=" + upper(g), "sort→id"}, []string{a, b, a, b}},
		{"of no group", []string{"q→schedulerJobGroupUuid is null"}, []string{c}},
		{"of a trigger", []string{"q→triggerUuid=" + trigger, "sort→id"}, []string{a, b}},
		{"of no trigger", []string{"q→triggerUuid is null", "sort→id"}, []string{a, b}},
		{"of one fire", []string{"q→fireInstanceId=" + fire, "sort→id"}, []string{a, b}},
		{"of an unknown fire", []string{"q→fireInstanceId=" + id.New()}, []string{}},
		{"of a job", []string{"q→schedulerJobUuid=" + a}, []string{a, a}},
		{"successful", []string{"q→success=true", "sort→id"}, []string{a, c}},
		{"not successful and ended", []string{"q→success=false", "q→resultDump not null"}, []string{b}},
		{"running", []string{"q→executeTime is null", "sort→id"}, []string{a, b}},
		{"by id", []string{fmt.Sprint("q→id=", order[2])}, []string{c}},
		{"after an id", []string{fmt.Sprint("q→id>", order[2]), "sort→id"}, []string{a, b}},
		{"up to an id", []string{fmt.Sprint("q→id<=", order[1]), "sort→id"}, []string{a, b}},
		{"by ids", []string{fmt.Sprintf("q→id?=%d,%d", order[0], order[4]), "sort→+id"}, []string{a, b}},
		{"not before", []string{"q→startTime>=" + start, "q→triggerUuid=" + trigger, "sort→id"}, []string{a, b}},
		{"at a time", []string{"q→startTime=" + start, "q→triggerUuid=" + trigger, "sort→id"}, []string{a, b}},
		{"in the past", []string{"q→startTime<2020-01-01"}, []string{}},
		{"sorted by a step's column", []string{"q→success=false", "sort→-schedulerJobUuid"}, sortedDown(b, a, b)},
		{"by type", []string{"q→jobType=STARTVM", "limit→1"}, []string{b}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			equal(t, "jobs", column(r.do("GET", "/scheduler/job/history"+q(row.ask...), "").inventories(), "schedulerJobUuid"), row.want)
		})
	}
	got := r.do("GET", "/scheduler/job/history"+q("limit→1", "replyWithCount→true", "fields→success"), "").ok()
	equal(t, "page", got, map[string]any{
		"inventories": []any{map[string]any{"success": false}}, "total": jsonNumber("5"),
		"schema": map[string]any{"inventories[0]": "org.zstack.header.scheduler.SchedulerJobHistoryInventory"},
	})
	got = r.do("GET", "/scheduler/job/history"+q("count→true", "q→success=true"), "").ok()
	equal(t, "count", got, map[string]any{"total": jsonNumber("2")})
}

func sortedDown(s ...string) []string {
	slices.Sort(s)
	slices.Reverse(s)
	return s
}

// Definitions may go, history stays.
func TestHistoryOutlivesWhatItTellsOf(t *testing.T) {
	r := newReplica(t, setting{})
	j := r.job("j", id.New())
	g, trigger := r.groupOf("g", j), r.trigger("t")
	r.bindGroup(g, trigger, true).ok()
	for _, path := range []string{"jobgroups/" + g, "jobs/" + j, "triggers/" + trigger} {
		r.do("DELETE", "/scheduler/"+path, "").ok()
	}
	rows := r.do("GET", "/scheduler/job/history"+q("q→triggerUuid="+trigger), "").inventories()
	equal(t, "jobs", column(rows, "schedulerJobUuid"), []string{j})
}

// Rows come from many pages of runs; a query that would read too many stops, answers
// with what it has, and says so. Totals that the runs' counters tell are not bounded.
func TestHistoryIsBounded(t *testing.T) {
	r := newReplica(t, setting{opts: zstack.Options{SyncWait: 5 * time.Minute}}) // half of which is a query's time
	s := store.New(r.redis, store.Options{Partitions: 4, Backlog: 1 << 30})
	target := id.New()
	plan := make([]core.PlannedStep, core.MaxSteps)
	for i := range plan {
		plan[i] = core.PlannedStep{Job: "j" + strconv.Itoa(i), Type: "startVm"}
	}
	for i := range 11 {
		request := "r" + strconv.Itoa(i)
		now := time.Now()
		_, err := s.Admit(t.Context(), core.Admission{
			Run:  core.Run{ID: s.NewRunID(target, now, request), Request: request, Dialect: core.ZStack, Target: core.Target{Kind: core.GroupTarget, UUID: target}, Type: "startVm"},
			Plan: plan, Routes: []core.Route{{}}, Remember: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Ten of the eleven runs are as much as a query looks at.
	for ask, want := range map[string]string{
		"count=true&q=targetResourceUuid is null":                  "what is older than",
		"limit=2&sort=schedulerJobUuid&replyWithCount=true":        "what is older than",
		"limit=2&sort=%2Bid&q=resultDump not null":                 "what is newer than",
		"count=true&q=schedulerJobGroupUuid=" + target + "&q=id>1": "what is older than",
	} {
		got := r.do("GET", "/scheduler/job/history?"+strings.ReplaceAll(ask, " ", "%20"), "").ok()
		warning, _ := got["warning"].(string)
		if !strings.Contains(warning, "100000 history rows") || !strings.Contains(warning, want) || !strings.Contains(warning, "narrow it by") {
			t.Errorf("%s: got the warning %q, want it to say how far the look went (%s)", ask, warning, want)
		}
	}
	for ask, want := range map[string]string{
		"count=true": "110000",
		"count=true&q=schedulerJobGroupUuid=" + target:                       "110000",
		"count=true&q=schedulerJobUuid=j7&q=schedulerJobGroupUuid=" + target: "11",
		"count=true&q=success=true":                                          "0",
	} {
		equal(t, ask, r.do("GET", "/scheduler/job/history?"+ask, "").ok(), map[string]any{"total": jsonNumber(want)})
	}
	rows := r.do("GET", "/scheduler/job/history?limit=1&sort=id", "").inventories()
	equal(t, "the oldest", column(rows, "schedulerJobUuid"), []string{"j0"})
	rows = r.do("GET", "/scheduler/job/history?limit=2", "").inventories()
	equal(t, "the newest", column(rows, "schedulerJobUuid"), []string{"j9999", "j9998"})
}
