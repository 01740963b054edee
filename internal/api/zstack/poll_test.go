package zstack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/testenv"
)

// A client polls as one of ZStack's SDKs does.
type client struct {
	name   string
	pace   time.Duration
	header []string // of its polls
}

var (
	javaSDK = client{"Java SDK", time.Second, []string{"Authorization", "OAuth null", "X-JSON-Schema", "true"}}
	goSDK   = client{"Go SDK", 2 * time.Second, []string{"x-session-id", "x"}}
)

// cut makes the address that an SDK polls of a location. Where it lacks the host
// and port they were told, they cut it at the path that is always there, and the
// Java SDK throws ArrayIndexOutOfBounds when it is not.
func (k client) cut(t *testing.T, location, hostPort string) string {
	t.Helper()
	if strings.Contains(location, hostPort) {
		return location
	}
	parts := strings.Split(location, "/zstack/v1/api-jobs/")
	if len(parts) != 2 {
		t.Fatalf("%s cannot cut the location %q", k.name, location)
	}
	return "http://" + hostPort + "/zstack/v1/api-jobs/" + parts[1]
}

// poll asks at once and then at the SDK's pace until the answer is not 202. Each
// answer must come within the 10 s that the Java SDK waits.
func (k client) poll(r *replica, location string) (got reply, polls int) {
	r.t.Helper()
	u, err := url.Parse(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	address := k.cut(r.t, location, u.Host)
	pace := time.NewTicker(k.pace)
	defer pace.Stop()
	for polls = 1; polls < 30; polls++ {
		began := time.Now()
		got = r.do("GET", address, "", append([]string{"Authorization", ""}, k.header...)...)
		if took := time.Since(began); took > 10*time.Second {
			r.t.Fatalf("%s: an answer took %v, and it had hung up by then", k.name, took)
		}
		if got.status != http.StatusAccepted {
			return got, polls
		}
		<-pace.C
	}
	r.t.Fatalf("%s: the job never ended", k.name)
	return got, polls
}

// Quick calls have their result by the first poll, through whatever host name and
// port the client is told; slow ones are polled for.
func TestPollingAsTheSDKsDo(t *testing.T) {
	for _, k := range []client{javaSDK, goSDK} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r, g := gated(t, zstack.Options{SyncWait: time.Second})
			close(g.open)
			for name, host := range map[string]string{"its own host": "", "a foreign host": "takt.example.com:8080", "a host without port": "takt.example.com"} {
				req, _ := http.NewRequestWithContext(t.Context(), "POST", r.url+"/v1/scheduler/jobgroups", strings.NewReader(createGroup))
				req.Header.Set("Authorization", "OAuth "+r.session)
				req.Header.Set("X-Job-UUID", newJobUUID())
				req.Host = host
				a := r.exchange(req)
				location, _ := a.body["location"].(string)
				if want := "http://" + req.Host; host != "" && !strings.HasPrefix(location, want+"/zstack/v1/api-jobs/") {
					t.Errorf("%s: location = %q, want it at %s", name, location, want)
				}
				got, polls := k.poll(r, location)
				got.inventory()
				if polls != 1 {
					t.Errorf("%s: %d polls, want the result with the first", name, polls)
				}
			}
		})
	}
}

func TestPollingASlowJob(t *testing.T) {
	t.Parallel()
	r, g := gated(t, zstack.Options{SyncWait: 50 * time.Millisecond})
	a := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", newJobUUID())
	<-g.entered
	time.AfterFunc(1200*time.Millisecond, func() { close(g.open) })
	got, polls := javaSDK.poll(r, a.body["location"].(string))
	if got.inventory(); polls < 2 {
		t.Errorf("%d polls, want it running at the first", polls)
	}
	if got.body["schema"] == nil {
		t.Errorf("result = %s, want the schema that the Java SDK asks for", got.raw)
	}
}

// exchange sends a request that was made by hand.
func (r *replica) exchange(req *http.Request) reply {
	r.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	out := reply{t: r.t, what: req.Method + " " + req.URL.Path, status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&out.body); err != nil {
		r.t.Fatalf("%s: the answer %d is no JSON object: %v", out.what, out.status, err)
	}
	return out
}

func TestJobUUIDIsUsedOnce(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	job := newJobUUID()
	group := r.group("kept")
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job)
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/scheduler/jobgroups", createGroup},
		{"PUT", "/scheduler/triggers/" + newJobUUID() + "/actions", `{"runSchedulerTrigger":{}}`},
		{"DELETE", "/scheduler/jobgroups/" + group, ""},
	} {
		r.do(row.method, row.path, row.body, "X-Job-UUID", job).fails(http.StatusBadRequest, "SYS.1007", "Duplicate job uuid["+job+"]")
		r.do(row.method, row.path, row.body, "X-Job-UUID", job, "Authorization", "OAuth "+newJobUUID()).fails(http.StatusBadRequest, "SYS.1007", "Duplicate job uuid["+job+"]")
	}
	equal(t, "groups", r.count("/scheduler/jobgroups"), 2)
	r.do("GET", "/scheduler/jobs", "", "X-Job-UUID", job).ok() // a query makes no job

	// Of many at once, one is it.
	job = newJobUUID()
	statuses := make([]int, 8)
	var all sync.WaitGroup
	for n := range statuses {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(context.Background(), "POST", r.url+"/v1/scheduler/jobgroups", strings.NewReader(`{"params":{"name":"once","type":"startVm"}}`))
			req.Header.Set("Authorization", "OAuth "+r.session)
			req.Header.Set("X-Job-UUID", job)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
				statuses[n] = resp.StatusCode
			}
		})
	}
	all.Wait()
	got := map[int]int{}
	for _, s := range statuses {
		got[s]++
	}
	equal(t, "answers", got, map[int]int{http.StatusAccepted: 1, http.StatusBadRequest: 7})
	equal(t, "groups", r.count("/scheduler/jobgroups?q=name=once"), 1)
}

// Once a job uuid is forgotten it may name another request, which is not taken for
// the first.
func TestJobUUIDMayBeUsedAgainWhenForgotten(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	g, trigger := r.groupOf("g", r.job("a", newJobUUID())), r.trigger("t")
	r.bindGroup(g, trigger, false).ok()
	job := newJobUUID()
	for n := 1; n <= 2; n++ {
		a := r.do("PUT", "/scheduler/triggers/"+trigger+"/actions", `{"runSchedulerTrigger":{}}`, "X-Job-UUID", job)
		r.accepted(job, a).ok()
		equal(t, "fires", r.count("/scheduler/job/history?q=schedulerJobGroupUuid="+g), n)
		key, _ := r.row(job)
		r.redis.Del(t.Context(), key)
		r.do("GET", "/api-jobs/"+job, "").fails(http.StatusNotFound, "SYS.1003", "the job has been expired")
	}
}

func TestTimeoutOfACall(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	for asked, want := range map[string]string{
		"": "1800000", "60": "60000", "60.0": "60000", "7200": "7200000", "999999": "10800000", "0": "1800000", "-1": "1800000",
	} {
		a := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", newJobUUID(), "X-API-Timeout", asked)
		if got := textNumber(a.body["apiTimeout"]); got != want {
			t.Errorf("apiTimeout after X-API-Timeout %q = %s, want %s ms", asked, got, want)
		}
	}

	slow, g := gated(t, zstack.Options{SyncWait: 50 * time.Millisecond})
	job := newJobUUID()
	slow.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job, "X-API-Timeout", "1")
	<-g.entered
	time.AfterFunc(1100*time.Millisecond, func() { close(g.open) })
	slow.ends(job, 10*time.Second).fails(http.StatusServiceUnavailable, "SYS.1001", "the operation did not end in time")
}

// How long a receipt is kept is for Redis to keep track of.
func TestRetentionOfReceipts(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	short := newReplica(t, setting{opts: zstack.Options{ReceiptLife: time.Minute}})
	slow, g := gated(t, zstack.Options{SyncWait: 20 * time.Millisecond})
	defer close(g.open)
	renew := func(r *replica) string { return "/accounts/sessions/" + r.session + "/renew" }
	for _, row := range []struct {
		name               string
		r                  *replica
		method, path, body string
		session            string
		want               time.Duration
	}{
		{"done", r, "POST", "/scheduler/jobgroups", createGroup, "", 3 * time.Hour},
		{"failed", r, "POST", "/scheduler/jobgroups", `{}`, "", 3 * time.Hour},
		{"as configured", short, "POST", "/scheduler/jobgroups", createGroup, "", time.Minute},
		{"of a stranger", r, "POST", "/scheduler/jobgroups", createGroup, newJobUUID(), 10 * time.Minute},
		{"of a stranger, shorter", short, "POST", "/scheduler/jobgroups", createGroup, newJobUUID(), time.Minute},
		{"with a session in it", r, "PUT", renew(r), `{"renewSession":{"duration":3600}}`, "", 10 * time.Minute},
		{"still running", slow, "POST", "/scheduler/jobgroups", createGroup, "", 3*time.Hour + 30*time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			job := newJobUUID()
			if row.session == "" {
				row.session = row.r.session
			}
			row.r.do(row.method, row.path, row.body, "X-Job-UUID", job, "Authorization", "OAuth "+row.session)
			key, _ := row.r.row(job)
			if got := row.r.redis.PTTL(t.Context(), key).Val(); got > row.want || got < row.want-30*time.Second {
				t.Errorf("kept for %v, want %v", got, row.want)
			}
		})
	}
}

// HEAD asks whether there is something, and takes nothing away.
func TestHeadOfALocation(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	job := newJobUUID()
	r.do("PUT", "/accounts/sessions/"+r.session+"/renew", `{"renewSession":{"duration":3600}}`, "X-Job-UUID", job)
	for path, want := range map[string]int{job: http.StatusOK, newJobUUID(): http.StatusNotFound} {
		req, _ := http.NewRequestWithContext(t.Context(), "HEAD", r.url+"/v1/api-jobs/"+path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		equal(t, "HEAD", resp.StatusCode, want)
	}
	equal(t, "session", r.ends(job, time.Second).inventory()["uuid"], any(r.session))
	equal(t, "session again", r.ends(job, time.Second).raw, "{}")
}

// A failure tells no secret, and is told as often as it is asked for.
func TestFailureOfASecretCallIsToldAgain(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{})
	job := newJobUUID()
	r.do("PUT", "/accounts/sessions/"+r.session+"/renew", `{"renewSession":{"duration":1}}`, "X-Job-UUID", job)
	for range 2 {
		r.ends(job, time.Second).fails(http.StatusServiceUnavailable, "SYS.1007", "duration")
	}
}

// With the setting, a wrong session comes through a receipt as well.
func TestAlwaysAsyncForStrangers(t *testing.T) {
	t.Parallel()
	r := newReplica(t, setting{opts: zstack.Options{AlwaysAsync: true}})
	job := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "Authorization", "OAuth "+newJobUUID()))
	r.do("GET", "/api-jobs/"+job, "").fails(http.StatusServiceUnavailable, "ID.1001", "Session expired")
}

// Two replicas behind a round-robin, one of which dies in the middle of a sequence
// of calls as the Java SDK makes them: each call that was accepted has a result.
func TestSDKAgainstTwoReplicas(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	second := join(t, server.Client(t), setting{}).runs()
	m := newMortal()
	first := join(t, server.Client(t, m), setting{}).runs()
	m.left.Store(60)
	accepted := map[string]string{}
	for n := range 20 {
		r := []*replica{first, second}[n%2]
		name, job := fmt.Sprintf("group %d", n), newJobUUID()
		a := r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"`+name+`","type":"startVm"}}`, "X-Job-UUID", job)
		if a.status == http.StatusAccepted {
			accepted[job] = name
		}
	}
	<-m.died
	if len(accepted) < 11 {
		t.Errorf("%d calls were accepted, want some of the one that died", len(accepted))
	}
	for job, name := range accepted {
		equal(t, "name", second.ends(job, 15*time.Second).inventory()["name"], any(name))
	}
}
