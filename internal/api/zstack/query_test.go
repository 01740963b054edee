package zstack_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/id"
)

func TestQueryDefinitions(t *testing.T) {
	r := newReplica(t, setting{})
	target := id.New()
	a, b, c := r.job("alpha", target), r.job("Beta", id.New()), r.job("gamma 100%", id.New())
	g1, g2 := r.groupOf("one", a, b), r.groupOf("two", c)
	t1, t2 := r.trigger("daily"), r.trigger("weekly")
	r.bindGroup(g1, t1, false).ok()
	r.bindGroup(g2, t2, false).ok()
	r.do("POST", "/scheduler/jobs/"+a+"/scheduler/triggers/"+t2, "").ok()

	for _, row := range []struct {
		name, path string
		ask        []string
		want       []string
	}{
		{"all jobs, oldest first", "jobs", nil, []string{a, b, c}},
		{"by uuid in the path", "jobs/" + b, nil, []string{b}},
		{"by unknown uuid", "jobs/" + id.New(), nil, []string{}},
		{"by no uuid", "jobs/nothing", nil, []string{}},
		{"uuid in the path and a condition", "jobs/" + b, []string{"q→name=alpha"}, []string{}},
		{"by uuid", "jobs", []string{"q→uuid=" + c}, []string{c}},
		{"by uuid in upper case", "jobs", []string{"q→uuid=" + upper(c)}, []string{c}},
		{"all but one", "jobs", []string{"q→uuid!=" + c}, []string{a, b}},
		{"by name, any case", "jobs", []string{"q→name=BETA"}, []string{b}},
		{"like", "jobs", []string{"q→name~=%A"}, []string{a, b}},
		{"like with an escape", "jobs", []string{`q→name~=%\%`}, []string{c}},
		{"and", "jobs", []string{"q→name~=%a%", "q→targetResourceUuid=" + target}, []string{a}},
		{"in", "jobs", []string{"q→name?=alpha,gamma 100%"}, []string{a, c}},
		{"not in", "jobs", []string{"q→name!?=alpha,gamma 100%"}, []string{b}},
		{"by group", "jobs", []string{"q→schedulerJobGroupUuids=" + g2}, []string{c}},
		{"by trigger", "jobs", []string{"q→triggersUuid=" + t2}, []string{a}},
		{"without trigger", "jobs", []string{"q→triggersUuid is null"}, []string{b, c}},
		{"candidates", "jobs/candidates", nil, []string{b, c}},
		{"by the name of a trigger", "jobs", []string{"q→trigger.name=Weekly"}, []string{a}},
		{"by no name of a trigger", "jobs", []string{"q→trigger.name!=weekly"}, []string{b, c}},
		{"sorted", "jobs", []string{"sort→-name"}, []string{c, b, a}},
		{"sorted, plus sign", "jobs", []string{"sort→+name"}, []string{a, b, c}},
		{"page", "jobs", []string{"sort→name", "start→1", "limit→1"}, []string{b}},
		{"past the end", "jobs", []string{"start→9"}, []string{}},
		{"limit 0", "jobs", []string{"limit→0"}, []string{}},
		{"groups by trigger's name", "jobgroups", []string{"q→trigger.name=daily"}, []string{g1}},
		{"groups by job", "jobgroups", []string{"q→jobsUuid=" + c}, []string{g2}},
		{"groups by job's name", "jobgroups", []string{"q→job.name=beta"}, []string{g1}},
		{"groups by state and type", "jobgroups", []string{"q→state=enabled", "q→jobType=startvm"}, []string{g1, g2}},
		{"triggers by job", "triggers", []string{"q→jobsUuid=" + a}, []string{t2}},
		{"triggers by job's name", "triggers", []string{"q→job.name=alpha"}, []string{t2}},
		{"triggers by group's name", "triggers", []string{"q→jobGroup.name=one"}, []string{t1}},
		{"triggers by kind", "triggers", []string{"q→schedulerType=cron", "q→schedulerInterval is null"}, []string{t1, t2}},
		{"triggers to come", "triggers", []string{"q→createDate<2000-01-01"}, []string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			equal(t, "uuids", column(r.do("GET", "/scheduler/"+row.path+q(row.ask...), "").inventories(), "uuid"), row.want)
		})
	}
}

func TestQueryAnswer(t *testing.T) {
	r := newReplica(t, setting{})
	r.group("a")
	r.group("b")
	class := "org.zstack.header.scheduler.SchedulerJobGroupInventory"

	got := r.do("GET", "/scheduler/jobgroups"+q("limit→1", "replyWithCount→true", "sort→name", "fields→name,state"), "").ok()
	equal(t, "page", got, map[string]any{
		"inventories": []any{map[string]any{"name": "a", "state": "Enabled"}},
		"total":       jsonNumber("2"),
		"schema":      map[string]any{"inventories[0]": class},
	})
	got = r.do("GET", "/scheduler/jobgroups"+q("count→true", "q→name=b"), "").ok()
	equal(t, "count", got, map[string]any{"total": jsonNumber("1")})
	got = r.do("GET", "/scheduler/jobgroups"+q("q→name=c"), "").ok()
	equal(t, "nothing found", got, map[string]any{"inventories": []any{}, "schema": map[string]any{}})
}

func TestQueryRefused(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct {
		name, ask string
		status    int
		code      string
	}{
		{"no operator", "q→name", 400, "SYS.1007"},
		{"limit", "limit→many", 400, "SYS.1007"},
		{"unknown field", "q→x=1", 503, "SYS.1007"},
		{"no time", "q→createDate>soon", 503, "SYS.1007"},
		{"sort", "sort→x", 503, "SYS.1007"},
		{"filterName", "filterName→x", 503, "SYS.1007"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			for _, path := range []string{"jobgroups", "jobs", "triggers", "job/history"} {
				ask := row.ask
				if path == "job/history" && ask == "q→createDate>soon" {
					ask = "q→startTime>soon"
				}
				r.do("GET", "/scheduler/"+path+q(ask), "").fails(row.status, row.code, "")
			}
		})
	}
}
