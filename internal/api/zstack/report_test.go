package zstack_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// report asks for one with the arguments given, besides which it has those of an
// hourly one over two hours that begins an hour ago.
func (r *replica) report(change url.Values) reply {
	r.t.Helper()
	v := url.Values{
		"startTime":        {fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())},
		"intervalTimeUnit": {"Hour"}, "range": {"2"}, "schedulerJobTypes": {"startVm"},
	}
	for k, values := range change {
		if v[k] = values; values == nil {
			delete(v, k)
		}
	}
	return r.do("GET", "/scheduler/report?"+v.Encode(), "")
}

// The rows of 3.5, GetSchedulerExecutionReport: its arguments and their errors.
func TestReportArguments(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct {
		name   string
		change url.Values
		status int
		code   string
		text   string
	}{
		{"startTime missing", url.Values{"startTime": nil}, 503, "SYS.1007", "field[startTime] of message[APIGetSchedulerExecutionReportMsg] is mandatory"},
		{"startTime no number", url.Values{"startTime": {"soon"}}, 400, "SYS.1007", "[startTime] field is excepted an int or long, but was [soon]."},
		{"startTime negative", url.Values{"startTime": {"-1"}}, 503, "SYS.1007", "startTime out of range"},
		{"startTime beyond the calendar", url.Values{"startTime": {"9e18"}}, 503, "SYS.1007", "startTime out of range"},
		{"intervalTimeUnit missing", url.Values{"intervalTimeUnit": nil}, 503, "SYS.1007", "field[intervalTimeUnit]"},
		{"intervalTimeUnit unknown", url.Values{"intervalTimeUnit": {"Week"}}, 503, "SYS.1007", "invalid time unit: Week"},
		{"range missing", url.Values{"range": nil}, 503, "SYS.1007", "field[range]"},
		{"range no whole number", url.Values{"range": {"1.5"}}, 400, "SYS.1007", "[range] field is excepted an int or long, but was [1.5]."},
		{"range below 0", url.Values{"range": {"-1"}}, 503, "SYS.1007", "must be in the range of [0, 31], but was -1"},
		{"range above 31", url.Values{"range": {"32"}}, 503, "SYS.1007", "must be in the range of [0, 31], but was 32"},
		{"schedulerJobTypes missing", url.Values{"schedulerJobTypes": nil}, 503, "SYS.1007", "field[schedulerJobTypes]"},
		{"schedulerJobTypes empty", url.Values{"schedulerJobTypes": {""}}, 503, "SYS.1007", "field[schedulerJobTypes]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.report(row.change).fails(row.status, row.code, row.text)
		})
	}
	r.do("GET", "/scheduler/report", "", "Authorization", "").fails(400, "ID.1001", "missing header 'Authorization'")
	r.do("GET", "/scheduler/report?range=x", "", "Authorization", "OAuth "+id.New()).fails(400, "SYS.1007", "[range]")
	r.do("GET", "/scheduler/report", "", "Authorization", "OAuth "+id.New()).fails(503, "ID.1001", "Session expired")
	zero := []any{jsonNumber("0"), jsonNumber("0")}
	want := map[string]any{"successRecords": zero, "failureRecords": zero, "partialSuccessRecords": zero, "waitingRecords": zero}
	for name, change := range map[string]url.Values{
		"numbers as floats":         {"startTime": {"1.5856704E12"}, "range": {"2.0"}},
		"unit in lower case":        {"intervalTimeUnit": {"month"}},
		"types numbered":            {"schedulerJobTypes": nil, "schedulerJobTypes.0": {"startVm"}, "schedulerJobTypes.1": {"stopVm"}},
		"an unknown type":           {"schedulerJobTypes": {"nothing"}},
		"in the future":             {"startTime": {"33000000000000"}},
		"a parameter nobody knows":  {"color": {"red"}},
		"the Java SDK's own header": {},
	} {
		equal(t, name, r.report(change).ok(), want)
	}
	empty := []any{}
	equal(t, "range 0", r.report(url.Values{"range": {"0"}}).ok(), map[string]any{"successRecords": empty, "failureRecords": empty, "partialSuccessRecords": empty, "waitingRecords": empty})
}

// admitRun makes a run of some steps and ends the first of them as told: s, f, x for
// succeeded, failed and canceled, and - for one that goes on.
func (r *replica) admitRun(target core.Target, jobType string, at time.Time, ends string) {
	r.t.Helper()
	plan := make([]core.PlannedStep, len(ends))
	routes := make([]core.Route, len(ends))
	for i := range plan {
		plan[i] = core.PlannedStep{Job: fmt.Sprint("job", i), Type: jobType, Timeout: time.Minute}
		routes[i] = core.Route{Queue: "default"}
	}
	request := id.New()
	a, err := r.store.Admit(r.t.Context(), core.Admission{
		Run:  core.Run{ID: r.store.NewRunID(target.UUID, at, request), Request: request, Account: "acc", Dialect: core.ZStack, Target: target, Type: jobType},
		Plan: plan, Routes: routes, Remember: time.Hour,
	})
	if err != nil {
		r.t.Fatalf("admit: %v", err)
	}
	for i, d := range a.Sends {
		switch ends[i] {
		case 's':
			r.work(d, "w", core.Outcome{State: core.AttemptSucceeded, Retry: -1})
		case 'f':
			r.work(d, "w", core.Outcome{State: core.AttemptFailed, Reason: "no", Retry: -1})
		}
	}
	if ends[len(ends)-1] == 'x' {
		if _, _, err := r.store.Cancel(r.t.Context(), a.Run, "enough", core.RunCanceled); err != nil {
			r.t.Fatalf("cancel: %v", err)
		}
	}
	r.backdate(a.Run, target.UUID, at)
}

// backdate gives a run another instant of creation, in its row and in the indexes.
func (r *replica) backdate(run, target string, at time.Time) {
	r.t.Helper()
	n, _ := id.RunPartition(run)
	root, ms := fmt.Sprintf("takt:{p:%d}", n), at.UnixMilli()
	ctx := r.t.Context()
	for r.redis.ZCount(ctx, root+":runs", fmt.Sprint(ms), fmt.Sprint(ms)).Val() > 0 {
		ms++
	}
	r.redis.HSet(ctx, root+":run:"+run, "cr", ms)
	keys := []string{root + ":runs", root + ":runs:" + target}
	if trigger := r.redis.HGet(ctx, root+":run:"+run, "tr").Val(); trigger != "" {
		keys = append(keys, root+":runs:by:"+trigger)
	}
	for _, key := range keys {
		if err := r.redis.ZAdd(ctx, key, zAt(ms, run)).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Section 4, report: how a fire is classed, and the intervals by the calendar.
func TestReportOfFires(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	r := newReplica(t, setting{opts: zstack.Options{Zone: zone}})
	r.hire("w")
	local := func(text string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	group := core.Target{Kind: core.GroupTarget, UUID: id.New()}
	other := core.Target{Kind: core.JobTarget, UUID: id.New()}
	// The 29th of March 2026 has 23 hours in Berlin.
	for _, f := range []struct{ at, ends string }{
		{"2026-03-28 00:00", "ss"}, {"2026-03-28 23:59", "sf"}, {"2026-03-29 00:00", "ff"}, {"2026-03-29 23:59", "s-"},
		{"2026-03-30 00:00", "ss"}, {"2026-03-30 12:00", "--"}, {"2026-03-30 12:01", "sx"}, {"2026-03-30 13:00", "xx"}, {"2026-04-01 00:00", "s"},
	} {
		r.admitRun(group, "startVm", local(f.at), f.ends)
	}
	r.admitRun(other, "stopVm", local("2026-03-28 00:01"), "s")

	for _, row := range []struct {
		name, start, unit, count string
		types                    []string
		want                     string // success, failure, partial, waiting
	}{
		{"days, the one with 23 hours too", "2026-03-28 00:00", "Day", "3", []string{"startVm"}, "[1 0 1] [0 1 1] [1 0 1] [0 1 1]"},
		{"two types", "2026-03-28 00:00", "Day", "1", []string{"startVm", "STOPVM"}, "[2] [0] [1] [0]"},
		{"another type", "2026-03-28 00:00", "Day", "1", []string{"stopVm"}, "[1] [0] [0] [0]"},
		{"hours", "2026-03-30 11:00", "Hour", "3", []string{"startVm"}, "[0 0 0] [0 0 1] [0 1 0] [0 1 0]"},
		{"months", "2026-03-01 00:00", "Month", "2", []string{"startVm"}, "[2 1] [2 0] [2 0] [2 0]"},
		{"months from a 31st on", "2026-01-31 00:00", "Month", "3", []string{"startVm"}, "[0 2 1] [0 2 0] [0 2 0] [0 2 0]"},
		{"days that begin within one", "2026-03-28 23:59", "Day", "1", []string{"startVm"}, "[0] [1] [1] [0]"},
		{"what is to come", "2099-01-01 00:00", "Month", "1", []string{"startVm"}, "[0] [0] [0] [0]"},
	} {
		for range 2 { // the second time some of it is remembered
			got := r.report(url.Values{
				"startTime": {fmt.Sprint(local(row.start).UnixMilli())}, "intervalTimeUnit": {row.unit}, "range": {row.count}, "schedulerJobTypes": row.types,
			}).ok()
			text := fmt.Sprint(got["successRecords"], got["failureRecords"], got["partialSuccessRecords"], got["waitingRecords"])
			if text != row.want {
				t.Errorf("%s: got %s, want %s", row.name, text, row.want)
			}
		}
	}
	// An account sees its own.
	got := r.do("GET", fmt.Sprintf("/scheduler/report?startTime=%d&intervalTimeUnit=Month&range=1&schedulerJobTypes=startVm", local("2026-03-01 00:00").UnixMilli()), "",
		"Authorization", "OAuth "+r.signIn("other", core.Viewer)).ok()
	equal(t, "of another account", fmt.Sprint(got["successRecords"], got["failureRecords"]), "[0] [0]")
}
