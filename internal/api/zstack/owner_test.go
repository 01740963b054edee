package zstack_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// An estate is what one account has.
type estate struct {
	session             string
	group, job, trigger string // the job is in no group
	key                 string
}

// estate signs an account in and has it make one of everything.
func (r *replica) estate(name string) estate {
	r.t.Helper()
	owner := *r
	owner.session = r.signIn(name, core.Operator)
	e := estate{session: owner.session, job: owner.job(name, newJobUUID()), trigger: owner.trigger(name), key: owner.newKey(owner.session).uuid}
	e.group = owner.groupOf(name, owner.job(name+"'s member", newJobUUID()))
	return e
}

// Every call on what belongs to another account is refused with ID.1002, whether
// the path or a list names it, and has no effect.
func TestCallsOnOthersThings(t *testing.T) {
	r := newReplica(t, setting{})
	ann, bob := r.estate("ann"), r.estate("bob")
	before := r.snapshot()
	const groups, jobs, triggers, binding = "/scheduler/jobgroups/", "/scheduler/jobs/", "/scheduler/triggers/", "/scheduler/triggers/"
	for _, row := range []struct{ name, method, path, body string }{
		{"UpdateSchedulerJobGroup", "PUT", groups + ann.group + "/actions", `{"updateSchedulerJobGroup":{"name":"x"}}`},
		{"DeleteSchedulerJobGroup", "DELETE", groups + ann.group, ""},
		{"AddSchedulerJobsToSchedulerJobGroup, group", "POST", groups + ann.group + "/job", `{"params":{"schedulerJobUuids":["` + bob.job + `"]}}`},
		{"AddSchedulerJobsToSchedulerJobGroup, job", "POST", groups + bob.group + "/job", `{"params":{"schedulerJobUuids":["` + bob.job + `","` + ann.job + `"]}}`},
		{"AddSchedulerJobsToSchedulerJobGroup, job in the path", "POST", groups + bob.group + "/job/%5B" + bob.job + "," + ann.job + "%5D", ""},
		{"RemoveSchedulerJobsFromSchedulerJobGroup, group", "DELETE", groups + ann.group + "/job?schedulerJobUuids=" + bob.job, ""},
		{"RemoveSchedulerJobsFromSchedulerJobGroup, job", "DELETE", groups + bob.group + "/job?schedulerJobUuids=" + ann.job, ""},
		{"RemoveSchedulerJobsFromSchedulerJobGroup, job in the path", "DELETE", groups + bob.group + "/job/%5B" + ann.job + "%5D", ""},
		{"AddSchedulerJobGroupToSchedulerTrigger, group", "POST", groups + ann.group + binding + bob.trigger, ""},
		{"AddSchedulerJobGroupToSchedulerTrigger, trigger", "POST", groups + bob.group + binding + ann.trigger, ""},
		{"RemoveSchedulerJobGroupFromSchedulerTrigger, group", "DELETE", groups + ann.group + binding + bob.trigger, ""},
		{"RemoveSchedulerJobGroupFromSchedulerTrigger, trigger", "DELETE", groups + bob.group + binding + ann.trigger, ""},
		{"UpdateSchedulerJob", "PUT", jobs + ann.job + "/actions", `{"updateSchedulerJob":{"name":"x"}}`},
		{"DeleteSchedulerJob", "DELETE", jobs + ann.job, ""},
		{"ChangeSchedulerState", "PUT", "/schedulers/" + ann.job, `{"changeSchedulerState":{"stateEvent":"disable"}}`},
		{"AddSchedulerJobToSchedulerTrigger, job", "POST", jobs + ann.job + binding + bob.trigger, ""},
		{"AddSchedulerJobToSchedulerTrigger, trigger", "POST", jobs + bob.job + binding + ann.trigger, ""},
		{"RemoveSchedulerJobFromSchedulerTrigger, job", "DELETE", jobs + ann.job + binding + bob.trigger, ""},
		{"RemoveSchedulerJobFromSchedulerTrigger, trigger", "DELETE", jobs + bob.job + binding + ann.trigger, ""},
		{"UpdateSchedulerTrigger", "PUT", triggers + ann.trigger + "/actions", `{"updateSchedulerTrigger":{"name":"x"}}`},
		{"DeleteSchedulerTrigger", "DELETE", triggers + ann.trigger, ""},
		{"RunSchedulerTrigger", "PUT", triggers + ann.trigger + "/actions", `{"runSchedulerTrigger":{}}`},
		{"RunSchedulerTrigger, job", "PUT", triggers + bob.trigger + "/actions", `{"runSchedulerTrigger":{"jobUuids":["` + ann.job + `"]}}`},
		{"ChangeAccessKeyState", "PUT", "/accesskeys/" + ann.key + "/actions", `{"changeAccessKeyState":{"stateEvent":"disable"}}`},
		{"DeleteAccessKey", "DELETE", "/accesskeys/" + ann.key, ""},
		{"CreateAccessKey", "POST", "/accesskeys", `{"params":{"accountUuid":"36c27e8ff05c4780bf6d2fa65700f22e"}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t, r.session = t, bob.session
			r.do(row.method, row.path, row.body).fails(http.StatusServiceUnavailable, "ID.1002", "")
			job := newJobUUID()
			r.accepted(job, r.do(row.method, row.path, row.body, "X-Job-UUID", job)).fails(http.StatusServiceUnavailable, "ID.1002", "")
		})
	}
	equal(t, "everything afterwards", r.snapshot(), before)
}

// snapshot is all that the admin sees.
func (r *replica) snapshot() map[string][]map[string]any {
	r.t.Helper()
	out := map[string][]map[string]any{}
	for _, path := range []string{"/scheduler/jobgroups", "/scheduler/jobs", "/scheduler/triggers", "/accesskeys", "/scheduler/job/history"} {
		out[path] = r.do("GET", path, "").inventories()
	}
	return out
}

// An account sees its own, an admin all; what it may not see is not found by its
// uuid either.
func TestQueriesShowOnesOwn(t *testing.T) {
	r := newReplica(t, setting{})
	ann, bob := r.estate("ann"), r.estate("bob")
	for _, e := range []estate{ann, bob} {
		as := []string{"Authorization", "OAuth " + e.session}
		r.do("POST", "/scheduler/jobs/"+e.job+"/scheduler/triggers/"+e.trigger, `{"params":{"triggerNow":true}}`, as...).ok()
	}
	for _, row := range []struct {
		path      string
		ann, each int
	}{
		{"/scheduler/jobgroups", 1, 1},
		{"/scheduler/jobgroups/" + ann.group, 1, 0},
		{"/scheduler/jobgroups?q=trigger.uuid=" + ann.trigger, 0, 0},
		{"/scheduler/jobs", 2, 2},
		{"/scheduler/jobs/" + ann.job, 1, 0},
		{"/scheduler/jobs?q=trigger.uuid=" + ann.trigger, 1, 0},
		{"/scheduler/jobs/candidates", 1, 1},
		{"/scheduler/triggers", 1, 1},
		{"/scheduler/triggers/" + ann.trigger, 1, 0},
		{"/scheduler/triggers?q=job.uuid=" + ann.job, 1, 0},
		{"/scheduler/job/history", 1, 1},
		{"/scheduler/job/history?q=schedulerJobUuid=" + ann.job, 1, 0},
		{"/scheduler/job/history?q=triggerUuid=" + ann.trigger, 1, 0},
		{"/accesskeys", 1, 1},
		{"/accesskeys/" + ann.key, 1, 0},
	} {
		t.Run(strings.TrimPrefix(row.path, "/"), func(t *testing.T) {
			r := *r
			r.t = t
			for _, who := range []struct {
				name, session string
				want          int
			}{{"ann", ann.session, row.ann}, {"bob", bob.session, row.each}, {"admin", r.session, row.ann + (row.each)}} {
				if got := r.do("GET", row.path, "", "Authorization", "OAuth "+who.session).inventories(); len(got) != who.want {
					t.Errorf("%s sees %d, want %d: %v", who.name, len(got), who.want, got)
				}
			}
		})
	}
}

// The report counts what the account may see.
func TestReportCountsOnesOwn(t *testing.T) {
	r := newReplica(t, setting{})
	ann, bob := r.estate("ann"), r.estate("bob")
	for _, e := range []estate{ann, bob} {
		r.do("POST", "/scheduler/jobs/"+e.job+"/scheduler/triggers/"+e.trigger, `{"params":{"triggerNow":true}}`, "Authorization", "OAuth "+e.session).ok()
	}
	since := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)
	path := "/scheduler/report?startTime=" + since + "&intervalTimeUnit=Day&range=2&schedulerJobTypes=startVm"
	for _, who := range []struct {
		name, session string
		want          int64
	}{{"ann", ann.session, 1}, {"bob", bob.session, 1}, {"admin", r.session, 2}} {
		body := r.do("GET", path, "", "Authorization", "OAuth "+who.session).ok()
		var sum int64
		for _, records := range []string{"successRecords", "failureRecords", "partialSuccessRecords", "waitingRecords"} {
			list, _ := body[records].([]any)
			for _, n := range list {
				count, _ := n.(json.Number).Int64()
				sum += count
			}
		}
		if sum != who.want {
			t.Errorf("%s is told of %d fires, want %d: %v", who.name, sum, who.want, body)
		}
	}
}

// A user of an account acts on what is the account's, and nobody else's does.
func TestUsersShareTheirAccountsThings(t *testing.T) {
	r := newReplica(t, setting{})
	ann, bob := r.estate("ann"), r.estate("bob")
	user := *r
	user.session = r.user("ann", "helper", core.Operator)
	user.do("PUT", "/schedulers/"+ann.job, `{"changeSchedulerState":{"stateEvent":"disable"}}`).ok()
	user.do("PUT", "/schedulers/"+bob.job, `{"changeSchedulerState":{"stateEvent":"disable"}}`).fails(503, "ID.1002", bob.job)
	made := user.job("helper's", newJobUUID())
	if got := r.do("GET", "/scheduler/jobs/"+made, "", "Authorization", "OAuth "+ann.session).inventories(); len(got) != 1 {
		t.Errorf("the account sees %v of what its user has made, want it", got)
	}
	viewer := *r
	viewer.session = r.user("ann", "reader", core.Viewer)
	viewer.do("GET", "/scheduler/jobs/"+ann.job, "").inventories()
	viewer.do("PUT", "/schedulers/"+ann.job, `{"changeSchedulerState":{"stateEvent":"enable"}}`).fails(503, "ID.1002", "may not change this job")
	viewer.do("POST", "/scheduler/jobgroups", createGroup).fails(503, "ID.1002", "may not make a job group")
}
