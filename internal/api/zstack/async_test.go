package zstack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/testenv"
)

func textNumber(v any) string { return fmt.Sprint(v) }

// accepted checks a 202 and polls its location once.
func (r *replica) accepted(job string, a reply) reply {
	r.t.Helper()
	location, _ := a.body["location"].(string)
	if a.status != http.StatusAccepted || location != r.url+"/zstack/v1/api-jobs/"+job {
		r.t.Fatalf("%s: got %d %s, want 202 with the location of job %s", a.what, a.status, a.raw, job)
	}
	return r.do("GET", location, "", "Authorization", "OAuth null")
}

const createGroup = `{"params":{"name":"g","type":"startVm"}}`

func TestFirstPollHasTheResult(t *testing.T) {
	r := newReplica(t, setting{})
	job := newJobUUID()
	a := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job)
	if got := textNumber(a.body["apiTimeout"]); got != "1800000" {
		t.Errorf("apiTimeout = %s, want 30 min in ms", got)
	}
	short := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", newJobUUID(), "X-API-Timeout", "60")
	if got := textNumber(short.body["apiTimeout"]); got != "60000" {
		t.Errorf("apiTimeout after X-API-Timeout: 60 = %s, want it in ms", got)
	}
	got := r.accepted(job, a)
	if got.inventory()["name"] != "g" {
		t.Errorf("poll = %s, want the group", got.raw)
	}
	if got.body["schema"] != nil {
		t.Errorf("poll without X-JSON-Schema = %s, want no schema", got.raw)
	}
	again := r.do("GET", "/api-jobs/"+job, "", "Authorization", "", "X-JSON-Schema", "true", "X-Job-UUID", newJobUUID())
	equal(t, "schema", again.ok()["schema"], any(map[string]any{"inventory": "org.zstack.header.scheduler.SchedulerJobGroupInventory"}))
}

func TestReceiptsSurviveRestartAndAnswerEverywhere(t *testing.T) {
	redis := testenv.DurableRedis(t)
	first := join(t, redis.Client(t), setting{})
	done, failed := newJobUUID(), newJobUUID()
	first.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", done)
	first.do("POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"none"}}`, "X-Job-UUID", failed)

	redis.Kill()
	redis.Restart()
	other := join(t, redis.Client(t), setting{})
	for _, r := range []*replica{first, other} {
		if got := r.do("GET", "/api-jobs/"+done, "").inventory()["name"]; got != "g" {
			t.Errorf("name after a restart = %v, want g", got)
		}
		r.do("GET", "/api-jobs/"+failed, "").fails(http.StatusServiceUnavailable, "SYS.1007", "No SchedulerJobFactory of type[none] found")
	}
	other.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", done).fails(http.StatusBadRequest, "SYS.1007", "Duplicate job uuid["+done+"]")
}

func TestBusinessErrorsComeThroughTheReceipt(t *testing.T) {
	r := newReplica(t, setting{})
	group := r.group("g")
	for _, row := range []struct{ name, method, path, body, session, code, text string }{
		{"session", "POST", "/scheduler/jobgroups", createGroup, "OAuth " + newJobUUID(), "ID.1001", "Session expired"},
		{"mandatory field", "POST", "/scheduler/jobgroups", `{}`, "", "SYS.1007", "field[name] of message[APICreateSchedulerJobGroupMsg] is mandatory"},
		{"missing resource", "DELETE", "/scheduler/jobgroups/" + group + "/scheduler/triggers/" + group, "", "", "SYS.1003", "invalid field[schedulerTriggerUuid], resource[uuid:" + group + ", type:SchedulerTriggerVO] not found"},
		{"taken uuid", "POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"startVm","resourceUuid":"` + group + `"}}`, "", "SYS.1000", group},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			job, session := newJobUUID(), row.session
			if session == "" {
				session = "OAuth " + r.session
			}
			a := r.do(row.method, row.path, row.body, "X-Job-UUID", job, "Authorization", session)
			r.accepted(job, a).fails(http.StatusServiceUnavailable, row.code, row.text)
			r.do(row.method, row.path, row.body, "Authorization", session).fails(http.StatusServiceUnavailable, row.code, row.text)
		})
	}
}

// What is wrong with the shape of a request is refused before a job is made.
func TestShapeErrorsAre400(t *testing.T) {
	r := newReplica(t, setting{})
	for _, row := range []struct {
		name, method, path, body string
		header, value            string
		status                   int
		text                     string
	}{
		{"no session header", "POST", "/scheduler/jobgroups", createGroup, "Authorization", "", 400, "missing header 'Authorization'"},
		{"basic session header", "GET", "/scheduler/jobs", "", "Authorization", "Basic eDp5", 400, "Authorization type must be 'OAuth'"},
		{"scheme in lower case", "GET", "/scheduler/jobs", "", "Authorization", "oauth x", 400, "Authorization type must be 'OAuth'"},
		{"short job uuid", "POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", "abc", 400, "X-Job-UUID[abc]"},
		{"short job uuid of a query", "GET", "/scheduler/jobs", "", "X-Job-UUID", "abc", 400, "X-Job-UUID[abc]"},
		{"job uuid with a slash", "POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", strings.Repeat("/", 32), 400, "X-Job-UUID"},
		{"web hook of another scheme", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "ftp://hooks.example.com/", 400, "only absolute http and https URLs"},
		{"web hook without a host", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "/hook", 400, "only absolute http and https URLs"},
		{"web hook that is no URL", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "http://a b/", 400, "it is no URL"},
		{"web hook to a private address", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "http://10.0.0.1/x", 400, "10.0.0.1:80 is refused: it is a private address; to allow it, list its network, its address or host:port in api.zstack.webHookAllow"},
		{"web hook to the metadata address", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "http://[::ffff:169.254.169.254]/", 400, "a link-local address"},
		{"web hook without end", "POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", "http://hooks.example.com/" + strings.Repeat("x", 2048), 400, "longer than 2048"},
		{"timeout of another type", "POST", "/scheduler/jobgroups", createGroup, "X-API-Timeout", "soon", 400, "[X-API-Timeout] field is excepted an int or long, but was [soon]."},
		{"malformed JSON", "POST", "/scheduler/jobgroups", `{"params":`, "", "", 400, "not a JSON object"},
		{"two objects", "POST", "/scheduler/jobgroups", `{} {}`, "", "", 400, "not one JSON object"},
		{"a list", "POST", "/scheduler/jobgroups", `[]`, "", "", 400, "not a JSON object"},
		{"params of another type", "POST", "/scheduler/jobgroups", `{"params":[1]}`, "", "", 400, "[params] field is excepted an object, but was [[1]]."},
		{"name of another type", "POST", "/scheduler/jobgroups", `{"params":{"name":{"a":1},"type":"startVm"}}`, "", "", 400, `[name] field is excepted a string, but was [{"a":1}].`},
		{"map of another type", "POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"startVm","parameters":"x"}}`, "", "", 400, "[parameters] field is excepted a map, but was [x]."},
		{"number of another type", "POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"simple","schedulerInterval":"often"}}`, "", "", 400, "[schedulerInterval] field is excepted an int or long, but was [often]."},
		{"half a second", "POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"simple","schedulerInterval":1.5}}`, "", "", 400, "but was [1.5]."},
		{"boolean of another type", "POST", "/scheduler/jobgroups/a/scheduler/triggers/b", `{"params":{"triggerNow":"maybe"}}`, "", "", 400, "[triggerNow] field is excepted a boolean, but was [maybe]."},
		{"list of another type", "POST", "/scheduler/jobgroups/a/job", `{"params":{"schedulerJobUuids":[1]}}`, "", "", 400, "[schedulerJobUuids] field is excepted a list of strings, but was [[1]]."},
		{"unknown action", "PUT", "/scheduler/triggers/a/actions", `{"explodeSchedulerTrigger":{}}`, "", "", 400, "the body doesn't contain action mapping"},
		{"unknown action of a group", "PUT", "/scheduler/jobgroups/a/actions", `{}`, "", "", 400, "the body doesn't contain action mapping"},
		{"unknown action of a job", "PUT", "/scheduler/jobs/a/actions", ``, "", "", 400, "the body doesn't contain action mapping"},
		{"unknown action of login", "PUT", "/accounts/login", `{"logOut":{}}`, "", "", 400, "the body doesn't contain action mapping"},
		{"POST to a location", "POST", "/api-jobs/" + newJobUUID(), "", "", "", 405, "only GET"},
		{"PUT to a location", "PUT", "/api-jobs/" + newJobUUID(), `{"a":{}}`, "", "", 405, "only GET"},
		{"PATCH of a location", "PATCH", "/api-jobs/" + newJobUUID(), "", "", "", 405, "only GET"},
		{"DELETE of a location", "DELETE", "/api-jobs/" + newJobUUID(), "", "", "", 405, "only GET"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			code := "SYS.1007"
			if row.header == "Authorization" {
				code = "ID.1001"
			}
			headers := []string{}
			if row.header != "" {
				headers = append(headers, row.header, row.value)
			}
			r.do(row.method, row.path, row.body, headers...).fails(row.status, code, row.text)
			if row.header == "" && row.status == 400 {
				job := newJobUUID()
				r.do(row.method, row.path, row.body, "X-Job-UUID", job).fails(row.status, code, row.text)
				r.do("GET", "/api-jobs/"+job, "").fails(http.StatusNotFound, "SYS.1003", "the job has been expired")
			}
		})
	}
}

func TestUnknownLocation(t *testing.T) {
	r := newReplica(t, setting{})
	for _, job := range []string{newJobUUID(), "short", "%7Buuid%7D"} {
		r.do("GET", "/api-jobs/"+job, "", "Authorization", "").fails(http.StatusNotFound, "SYS.1003", "the job has been expired")
	}
}

func TestAlwaysAsync(t *testing.T) {
	r := newReplica(t, setting{opts: zstack.Options{AlwaysAsync: true}})
	a := r.do("POST", "/scheduler/jobgroups", createGroup)
	location, _ := a.body["location"].(string)
	if a.status != http.StatusAccepted || location == "" {
		t.Fatalf("got %d %s, want 202", a.status, a.raw)
	}
	r.do("GET", location, "").inventory()
}

// A gate holds groups' creation back until it is opened, and fails to close
// receipts as often as told.
type gate struct {
	engine.Store
	entered  chan struct{}
	open     chan struct{}
	failures atomic.Int64
}

func newGate(s engine.Store) *gate {
	return &gate{Store: s, entered: make(chan struct{}, 8), open: make(chan struct{})}
}

func (g *gate) CreateGroup(ctx context.Context, x core.Group) error {
	g.entered <- struct{}{}
	<-g.open
	return g.Store.CreateGroup(ctx, x)
}

func (g *gate) CloseReceipt(ctx context.Context, r core.Receipt) error {
	if g.failures.Add(-1) >= 0 {
		return core.Errorf(core.Unavailable, "the store is away")
	}
	return g.Store.CloseReceipt(ctx, r)
}

func gated(t *testing.T, opts zstack.Options) (*replica, *gate) {
	t.Helper()
	var g *gate
	r := newReplica(t, setting{opts: opts, wrap: func(s engine.Store) engine.Store {
		g = newGate(s)
		return g
	}})
	return r, g
}

func TestSlowMutationBecomesA202(t *testing.T) {
	for name, header := range map[string]string{"asked for": newJobUUID(), "not asked for": ""} {
		t.Run(name, func(t *testing.T) {
			r, g := gated(t, zstack.Options{SyncWait: 20 * time.Millisecond})
			a := r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", header)
			location, _ := a.body["location"].(string)
			if a.status != http.StatusAccepted || location == "" {
				t.Fatalf("got %d %s, want 202", a.status, a.raw)
			}
			poll := r.do("GET", location, "")
			if poll.status != http.StatusAccepted || poll.raw != "{}" {
				t.Errorf("poll of a running job = %d %s, want 202 {}", poll.status, poll.raw)
			}
			close(g.open)
			testenv.Eventually(t, 5*time.Second, func() bool { poll = r.do("GET", location, ""); return poll.status == http.StatusOK })
			if got := poll.inventory()["name"]; got != "g" {
				t.Errorf("result = %s, want the group", poll.raw)
			}
		})
	}
}

// The client hangs up; the operation and its receipt go on.
func TestOperationOutlivesItsRequest(t *testing.T) {
	r, g := gated(t, zstack.Options{})
	job := newJobUUID()
	ctx, hangUp := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", r.url+"/v1/scheduler/jobgroups", strings.NewReader(createGroup))
	req.Header.Set("Authorization", "OAuth "+r.session)
	req.Header.Set("X-Job-UUID", job)
	ended := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		ended <- err
	}()
	<-g.entered
	hangUp()
	if err := <-ended; err == nil {
		t.Fatal("the request was answered, want it broken off")
	}
	close(g.open)
	testenv.Eventually(t, 5*time.Second, func() bool { return r.do("GET", "/api-jobs/"+job, "").status == http.StatusOK })
}

// While the store is away a poll must not say that the job has failed.
func TestPollWithoutStore(t *testing.T) {
	redis := testenv.DurableRedis(t)
	r := join(t, redis.Client(t), setting{})
	job := newJobUUID()
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job)
	redis.Kill()
	if got := r.do("GET", "/api-jobs/"+job, ""); got.status != http.StatusAccepted || got.raw != "{}" {
		t.Errorf("poll without store = %d %s, want 202 {}", got.status, got.raw)
	}
	r.do("GET", "/scheduler/jobs", "").fails(http.StatusServiceUnavailable, "SYS.1010", "")
	r.do("POST", "/scheduler/jobgroups", createGroup).fails(http.StatusServiceUnavailable, "SYS.1010", "")
	r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", newJobUUID()).fails(http.StatusServiceUnavailable, "SYS.1010", "")
	redis.Restart()
	testenv.Eventually(t, 5*time.Second, func() bool { return r.do("GET", "/api-jobs/"+job, "").status == http.StatusOK })
}

func TestPanicIsAnInternalError(t *testing.T) {
	r := newReplica(t, setting{wrap: func(s engine.Store) engine.Store { return broken{s} }})
	r.do("POST", "/scheduler/jobgroups", createGroup).fails(http.StatusServiceUnavailable, "SYS.1000", "an internal error happened")
}

type broken struct{ engine.Store }

func (broken) CreateGroup(context.Context, core.Group) error { panic("secret text") }

func TestTextLimits(t *testing.T) {
	r := newReplica(t, setting{})
	r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"`+strings.Repeat("x", bodyLimit)+`"}}`).fails(http.StatusRequestEntityTooLarge, "SYS.1007", "the body is longer than 65536 bytes")
	name, _ := json.Marshal(strings.Repeat("ä", 256))
	r.do("POST", "/scheduler/jobgroups", `{"params":{"name":`+string(name)+`,"type":"startVm"}}`).fails(http.StatusServiceUnavailable, "SYS.1007", "name has 256 characters")
	name, _ = json.Marshal(strings.Repeat("ä", 255))
	r.do("POST", "/scheduler/jobgroups", `{"params":{"name":`+string(name)+`,"type":"startVm"}}`).ok()
	long, _ := json.Marshal(strings.Repeat("d", 2049))
	r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"g","description":`+string(long)+`,"type":"startVm"}}`).fails(http.StatusServiceUnavailable, "SYS.1007", "description has 2049 characters")
}

// Anybody can have receipts made for a wrong session; they must not stay.
func TestReceiptsOfStrangersAreShort(t *testing.T) {
	r := newReplica(t, setting{})
	for session, most := range map[string]time.Duration{"OAuth " + newJobUUID(): 10 * time.Minute, "OAuth " + r.session: 3 * time.Hour} {
		job := newJobUUID()
		r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job, "Authorization", session)
		keys, err := r.redis.Keys(t.Context(), "*"+job+"*").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys of receipt %s = %v, %v, want one", job, keys, err)
		}
		if life := r.redis.TTL(t.Context(), keys[0]).Val(); life > most || life < most-time.Minute {
			t.Errorf("receipt lives for %v, want %v", life, most)
		}
	}
}
