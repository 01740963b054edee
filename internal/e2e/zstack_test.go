package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/testenv"
)

// A replicated dialect is two api processes behind a round-robin.
type replicated struct {
	*house
	replicas []*victim
	ports    []int
	url      string
}

// newReplicated starts two api processes, a worker and a trigger process, and sends
// the requests of clients to the api processes in turn. A replica that refuses the
// connection is passed over; one that breaks off answers 502.
func newReplicated(t *testing.T) *replicated {
	t.Helper()
	d := &replicated{house: newHouse(t, brief.Spec)}
	for range 2 {
		port := testenv.Port(t)
		d.ports = append(d.ports, port)
		d.replicas = append(d.replicas, d.process(orders{Role: "api-process", Listen: "127.0.0.1:" + strconv.Itoa(port)}))
	}
	d.child(orders{Role: "worker-process", Host: "one"})
	d.child(orders{Role: "trigger-process"})
	d.awaitWorkers(1)
	for i := range d.replicas {
		d.awaitReplica(i)
	}
	var turn atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "replica", r.In.Host
		},
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				first := int(turn.Add(1))
				var dialer net.Dialer
				conn, err := dialer.DialContext(ctx, "tcp", d.address(first%2))
				if err != nil {
					conn, err = dialer.DialContext(ctx, "tcp", d.address((first+1)%2))
				}
				return conn, err
			},
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	balancer := httptest.NewServer(proxy)
	t.Cleanup(balancer.Close)
	d.url = balancer.URL + "/zstack/v1"
	return d
}

func (d *replicated) address(i int) string { return "127.0.0.1:" + strconv.Itoa(d.ports[i]) }

func (d *replicated) awaitReplica(i int) {
	d.t.Helper()
	testenv.Eventually(d.t, 30*time.Second, func() error {
		res, err := http.Get("http://" + d.address(i) + "/readyz")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
}

// ZStack's clients work unmodified: their habits, on every call, against two
// replicas of which each serves every other request.
func TestZStackClients(t *testing.T) {
	t.Parallel()
	d := newReplicated(t)
	for _, row := range []struct {
		name string
		java bool
	}{{"Java SDK", true}, {"Go SDK", false}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			family(newSDK(t, row.java, d.url))
		})
	}
}

// The same while one replica after the other is killed and started again.
func TestZStackClientsWhileReplicasDie(t *testing.T) {
	t.Parallel()
	d := newReplicated(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	kills := 0
	go func() {
		defer close(stopped)
		for i := 0; ; i = 1 - i {
			select {
			case <-stop:
				return
			case <-time.After(700 * time.Millisecond):
			}
			d.replicas[i].kill()
			kills++
			d.replicas[i].restart()
			d.awaitReplica(i)
		}
	}()
	defer func() { close(stop); <-stopped; t.Logf("%d kills", kills) }()
	for range 2 {
		family(newSDK(t, true, d.url))
	}
}

// believed is how long another replica may go on believing a session or an access
// key that ended: 5 s, and something for a busy machine.
const believed = 10 * time.Second

// family calls every call of sections 3.1 to 3.5 of ZStack's scheduler API, as a
// client does that makes a group, lets it run and clears it away.
func family(c *sdk) {
	c.t.Helper()
	c.login("admin", adminPassword)
	valid := c.must(c.sync(http.MethodGet, "/accounts/sessions/"+c.session+"/valid", nil))
	if valid["valid"] != true {
		c.t.Errorf("the new session is %v", valid)
	}
	c.must(c.act("/accounts/sessions/"+c.session+"/renew", "renewSession", map[string]any{"duration": 7200}))

	began := time.Now()
	f := &scheduler{sdk: c, mark: id.New()[:8]}
	f.makeGroup()
	f.makeTriggers()
	f.changeThings()
	f.runThings()
	f.readHistory()
	f.readReport(began)
	f.signRequests()
	f.clearAway()

	c.must(c.sync(http.MethodDelete, "/accounts/sessions/"+c.session, nil))
	testenv.Eventually(c.t, believed, func() bool {
		return c.must(c.sync(http.MethodGet, "/accounts/sessions/"+c.session+"/valid", nil))["valid"] == false
	})
	var refusal *sdkError
	testenv.Eventually(c.t, believed, func() bool {
		_, err := c.create("/scheduler/jobgroups", map[string]any{"name": "x", "type": "brief"})
		return errors.As(err, &refusal) && refusal.Code == "ID.1001"
	})
}

// A scheduler is what one client has made.
type scheduler struct {
	*sdk
	mark   string // part of each name
	jobs   []string
	group  string
	simple string // bound to the group
	cron   string // bound to the last job
	runs   int    // rows of history that the group's trigger is to have
}

func (f *scheduler) makeGroup() {
	f.t.Helper()
	for i := range 4 {
		r := f.must(f.create("/scheduler/jobs", map[string]any{
			"name": fmt.Sprintf("%s-%d", f.mark, i), "targetResourceUuid": id.New(), "type": "brief", "parameters": map[string]any{},
		}))
		f.jobs = append(f.jobs, f.uuid(r))
	}
	f.group = id.New()
	want := map[string]any{"name": f.mark, "type": "brief", "resourceUuid": f.group}
	if got := f.uuid(f.must(f.create("/scheduler/jobgroups", want))); got != f.group {
		f.t.Errorf("the group has the uuid %s, want %s", got, f.group)
	}
	r, err := f.create("/scheduler/jobgroups", want)
	f.refused("SYS.1000", r, err)
	r, err = f.create("/scheduler/jobs", map[string]any{"name": "x", "targetResourceUuid": id.New(), "type": "noSuchType"})
	f.refused("SYS.1007", r, err)

	r = f.must(f.create("/scheduler/jobgroups/"+f.group+"/job", map[string]any{"schedulerJobUuids": f.jobs[:3]}))
	if list, _ := r["inventories"].([]any); len(list) != 3 {
		f.t.Errorf("added jobs: %v, want 3", r)
	}
	f.must(f.remove("/scheduler/jobgroups/" + f.group + "/job?schedulerJobUuids=" + f.jobs[2]))
	if got := f.list("/scheduler/jobs", "schedulerJobGroupUuids="+f.group); len(got) != 2 {
		f.t.Errorf("%d jobs are in the group, want 2", len(got))
	}
}

func (f *scheduler) makeTriggers() {
	f.t.Helper()
	f.simple = f.uuid(f.must(f.create("/scheduler/triggers", map[string]any{
		"name": f.mark + "-simple", "schedulerType": "simple", "schedulerInterval": 3600, "repeatCount": 0, "startTime": time.Now().Add(time.Hour).Unix(),
	})))
	f.cron = f.uuid(f.must(f.create("/scheduler/triggers", map[string]any{
		"name": f.mark + "-cron", "schedulerType": "cron", "cron": "0 0 3 1 1 ?", "repeatCount": 0,
	})))
	r, err := f.create("/scheduler/triggers", map[string]any{"name": "x", "schedulerType": "cron", "cron": "every day"})
	f.refused("SYS.1007", r, err)
	f.must(f.create("/scheduler/jobgroups/"+f.group+"/scheduler/triggers/"+f.simple, map[string]any{"triggerNow": true}))
	f.runs += 2
	r, err = f.create("/scheduler/jobgroups/"+f.group+"/scheduler/triggers/"+f.simple, map[string]any{"triggerNow": false})
	f.refused("SYS.1007", r, err)
	f.must(f.create("/scheduler/jobs/"+f.jobs[3]+"/scheduler/triggers/"+f.cron, map[string]any{"triggerNow": false}))

	for _, row := range []struct{ path, q, want string }{
		{"/scheduler/triggers", "name~=" + strings.ToUpper(f.mark) + "-sim%", f.simple},
		{"/scheduler/triggers", "job.name=" + f.mark + "-3", f.cron},
		{"/scheduler/jobgroups", "triggersUuid=" + f.simple, f.group},
		{"/scheduler/jobs", "trigger.uuid?=" + f.cron + "," + f.simple, f.jobs[3]},
	} {
		if got := f.list(row.path, row.q, "name not null"); len(got) != 1 || got[0]["uuid"] != row.want {
			f.t.Errorf("%s with %s gave %v, want %s", row.path, row.q, got, row.want)
		}
	}
	if got := f.list("/scheduler/jobgroups/" + id.New()); len(got) != 0 {
		f.t.Errorf("an unknown group is %v, want none", got)
	}
	free := f.list("/scheduler/jobs/candidates")
	found := 0
	for _, j := range free {
		for _, uuid := range f.jobs[:3] {
			if j["uuid"] == uuid {
				found++
			}
		}
		if j["uuid"] == f.jobs[3] {
			f.t.Error("a job with a trigger is a candidate")
		}
	}
	if found != 3 {
		f.t.Errorf("%d of the 3 jobs without a trigger are candidates", found)
	}
}

func (f *scheduler) changeThings() {
	f.t.Helper()
	wantName := func(r reply, want string) {
		f.t.Helper()
		if inventory, _ := r["inventory"].(map[string]any); inventory["name"] != want {
			f.t.Errorf("changed to %v, want the name %s", r, want)
		}
	}
	wantName(f.must(f.act("/scheduler/jobgroups/"+f.group+"/actions", "updateSchedulerJobGroup", map[string]any{"name": f.mark + "-g"})), f.mark+"-g")
	wantName(f.must(f.act("/scheduler/jobs/"+f.jobs[0]+"/actions", "updateSchedulerJob", map[string]any{"name": f.mark + "-first"})), f.mark+"-first")
	wantName(f.must(f.act("/scheduler/triggers/"+f.simple+"/actions", "updateSchedulerTrigger", map[string]any{"name": f.mark + "-s"})), f.mark+"-s")
	for event, want := range map[string]string{"disable": "Disabled", "enable": "Enabled"} {
		r := f.must(f.act("/schedulers/"+f.jobs[2], "changeSchedulerState", map[string]any{"stateEvent": event}))
		if inventory, _ := r["inventory"].(map[string]any); inventory["state"] != want {
			f.t.Errorf("after %s: %v", event, r)
		}
	}
	r, err := f.act("/scheduler/jobs/"+id.New()+"/actions", "updateSchedulerJob", map[string]any{"name": "x"})
	f.refused("SYS.1003", r, err)
}

func (f *scheduler) runThings() {
	f.t.Helper()
	f.awaitHistory() // a job that still runs would be skipped
	f.must(f.act("/scheduler/triggers/"+f.simple+"/actions", "runSchedulerTrigger", map[string]any{}))
	f.runs += 2
	f.awaitHistory()
	f.must(f.act("/scheduler/triggers/"+f.simple+"/actions", "runSchedulerTrigger", map[string]any{"jobUuids": f.jobs[1:2]}))
	f.runs++
	f.must(f.act("/scheduler/triggers/"+f.cron+"/actions", "runSchedulerTrigger", map[string]any{}))
}

// awaitHistory waits until every fire so far has ended well.
func (f *scheduler) awaitHistory() (rows []map[string]any) {
	f.t.Helper()
	testenv.Eventually(f.t, 40*time.Second, func() error {
		rows = f.list("/scheduler/job/history", "triggerUuid="+f.simple, "success=true")
		if len(rows) != f.runs {
			return fmt.Errorf("%d rows of success, want %d", len(rows), f.runs)
		}
		return nil
	})
	return rows
}

func (f *scheduler) readHistory() {
	f.t.Helper()
	rows := f.awaitHistory()
	fires := map[any]int{}
	for _, r := range rows {
		fires[r["fireInstanceId"]]++
		if r["jobType"] != "brief" || r["executeTime"] == nil {
			f.t.Errorf("history has %v", r)
		}
	}
	sizes := map[int]int{}
	for _, n := range fires {
		sizes[n]++
	}
	if sizes[2] != 2 || sizes[1] != 1 {
		f.t.Errorf("fires by number of jobs: %v, want two of 2 jobs and one of 1", sizes)
	}
	testenv.Eventually(f.t, 20*time.Second, func() error {
		if n := len(f.list("/scheduler/job/history", "schedulerJobUuid="+f.jobs[3], "success=true")); n != 1 {
			return fmt.Errorf("%d rows of the single job, want 1", n)
		}
		return nil
	})
}

func (f *scheduler) readReport(began time.Time) {
	f.t.Helper()
	q := url.Values{
		"startTime": {strconv.FormatInt(began.Truncate(time.Hour).UnixMilli(), 10)}, "intervalTimeUnit": {"Hour"}, "range": {"3.0"}, "schedulerJobTypes": {"brief", "shellCommand"},
	}
	r := f.must(f.sync(http.MethodGet, "/scheduler/report?"+q.Encode(), nil))
	for _, column := range []string{"successRecords", "failureRecords", "partialSuccessRecords", "waitingRecords"} {
		if list, _ := r[column].([]any); len(list) != 3 {
			f.t.Errorf("%s is %v, want 3 numbers", column, r[column])
		}
	}
	total := 0.0
	for _, n := range r["successRecords"].([]any) {
		total += n.(float64)
	}
	if total < 4 {
		f.t.Errorf("the report counts %v fires that succeeded, want at least the 4 of this client", total)
	}
}

// signRequests does with an access key what the session did.
func (f *scheduler) signRequests() {
	f.t.Helper()
	r := f.must(f.create("/accesskeys", map[string]any{"description": f.mark}))
	key, _ := r["inventory"].(map[string]any)
	uuid := f.uuid(r)
	signed := *f.sdk
	signed.session = ""
	signed.key[0], _ = key["AccessKeyID"].(string)
	signed.key[1], _ = key["AccessKeySecret"].(string)
	if got := signed.list("/scheduler/jobgroups/" + f.group); len(got) != 1 {
		f.t.Errorf("a signed query gave %v, want the group", got)
	}
	signed.must(signed.act("/scheduler/jobgroups/"+f.group+"/actions", "updateSchedulerJobGroup", map[string]any{"description": "signed"}))
	f.must(f.act("/accesskeys/"+uuid+"/actions", "changeAccessKeyState", map[string]any{"stateEvent": "disable"}))
	testenv.Eventually(f.t, believed, func() bool {
		_, err := signed.act("/scheduler/jobgroups/"+f.group+"/actions", "updateSchedulerJobGroup", map[string]any{"description": "x"})
		return err != nil
	})
	f.must(f.remove("/accesskeys/" + uuid))
}

func (f *scheduler) clearAway() {
	f.t.Helper()
	f.must(f.remove("/scheduler/jobgroups/" + f.group + "/scheduler/triggers/" + f.simple))
	f.must(f.remove("/scheduler/jobs/" + f.jobs[3] + "/scheduler/triggers/" + f.cron))
	for _, path := range []string{"/scheduler/triggers/" + f.simple, "/scheduler/triggers/" + f.cron, "/scheduler/jobgroups/" + f.group} {
		f.must(f.remove(path))
		f.must(f.remove(path)) // gone is gone
	}
	for _, uuid := range f.jobs {
		f.must(f.remove("/scheduler/jobs/" + uuid))
	}
	for _, path := range []string{"/scheduler/jobs", "/scheduler/jobgroups", "/scheduler/triggers"} {
		if got := f.list(path, "name~="+f.mark+"%"); len(got) != 0 {
			f.t.Errorf("%s still has %v", path, got)
		}
	}
	if got := f.list("/scheduler/job/history", "triggerUuid="+f.simple); len(got) != f.runs {
		f.t.Errorf("%d rows of history are left, want all %d", len(got), f.runs)
	}
}
