package native_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// specs are the job types that the test's binary knows.
var specs = []executor.Spec{
	{Type: "echo", Description: "Says it.", Parameters: []executor.Parameter{
		{Name: "text", Kind: executor.String, Required: true},
		{Name: "count", Kind: executor.Integer, Default: "1"},
		{Name: "password", Kind: executor.String, Secret: true},
		{Name: "headers", Kind: executor.StringMap},
	}},
	{Type: "other", Open: true},
}

const (
	worker = "w1"
	prefix = "/api/v1"
)

// An env is an API on a real store, with a queue that only remembers.
type env struct {
	t     testing.TB
	url   string
	api   *native.API
	eng   *engine.Engine
	store *store.Store
	redis *testenv.RedisServer
	auth  *auth.Authority
	queue *memoryQueue
	doc   *description
	token string // of the admin
	logs  *syncBuffer
}

func start(t testing.TB, opts native.Options) *env {
	t.Helper()
	e := &env{t: t, queue: &memoryQueue{}, doc: describe(t), logs: &syncBuffer{}, redis: testenv.Redis(t)}
	e.store = store.New(e.redis.Client(t), store.Options{})
	log := slog.New(slog.NewTextHandler(e.logs, nil))
	e.eng = engine.New(e.store, e.queue, noEvents{e.queue}, engine.Options{Types: specs, FleetAge: time.Nanosecond, Log: log})
	e.auth = auth.New(e.store, auth.Options{Cost: auth.Cost{Memory: 8, Time: 1, Threads: 1}, Log: log})
	if _, _, err := e.auth.EnsureAdmin(t.Context(), "admin", "admin's own"); err != nil {
		t.Fatalf("make admin: %v", err)
	}
	opts.Log = log
	e.api = native.New(e.eng, e.auth, opts)
	server := httptest.NewServer(router(e.api))
	t.Cleanup(func() {
		e.api.Close()
		server.Close()
	})
	e.url = server.URL + prefix
	e.token = e.signIn("admin", "admin's own")
	return e
}

func router(api *native.API) *gin.Engine {
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.NoRoute(api.NoRoute)
	r.NoMethod(api.NoMethod)
	api.Mount(r.Group(prefix))
	return r
}

func (e *env) signIn(name, password string) string {
	e.t.Helper()
	var s native.Session
	e.as("").post("/sessions", native.NewSession{Name: name, Password: password}).want(201).read(&s)
	return s.Token
}

// account makes an account and signs it in.
func (e *env) account(name string, role core.Role) (native.Account, string) {
	e.t.Helper()
	var a native.Account
	e.admin().post("/accounts", native.NewAccount{Name: name, Password: "pw of " + name, Role: role}).want(201).read(&a)
	return a, e.signIn(name, "pw of "+name)
}

// A client sends requests with a token and headers.
type client struct {
	e       *env
	token   string
	headers map[string]string
}

func (e *env) as(token string) client { return client{e: e, token: token} }
func (e *env) admin() client          { return e.as(e.token) }

func (c client) with(name, value string) client {
	headers := map[string]string{name: value}
	for k, v := range c.headers {
		headers[k] = v
	}
	c.headers = headers
	return c
}

func (c client) get(path string) *answer          { c.e.t.Helper(); return c.do("GET", path, nil) }
func (c client) post(path string, v any) *answer  { c.e.t.Helper(); return c.do("POST", path, v) }
func (c client) patch(path string, v any) *answer { c.e.t.Helper(); return c.do("PATCH", path, v) }
func (c client) del(path string) *answer          { c.e.t.Helper(); return c.do("DELETE", path, nil) }

// do sends a request; v is a JSON text, a value to encode, or nil for no body.
// Each answer is held to the description.
func (c client) do(method, path string, v any) *answer {
	c.e.t.Helper()
	req, err := http.NewRequestWithContext(c.e.t.Context(), method, c.e.url+path, body(c.e.t, v))
	if err != nil {
		c.e.t.Fatalf("make request: %v", err)
	}
	if v != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.e.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.e.t.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	a := &answer{t: c.e.t, what: method + " " + path, status: res.StatusCode, header: res.Header, text: string(text)}
	c.e.doc.checkAnswer(c.e.t, method, path, a)
	return a
}

func body(t testing.TB, v any) io.Reader {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return strings.NewReader(v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encode body: %v", err)
	}
	return bytes.NewReader(text)
}

type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	text   string
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d; body %s", a.what, a.status, status, a.text)
	}
	return a
}

// read decodes the body into what v points to, and nothing of what was there stays.
func (a *answer) read(v any) *answer {
	a.t.Helper()
	reflect.ValueOf(v).Elem().SetZero()
	if err := json.Unmarshal([]byte(a.text), v); err != nil {
		a.t.Fatalf("%s: decode %s: %v", a.what, a.text, err)
	}
	return a
}

func (a *answer) problem() native.Problem {
	a.t.Helper()
	var p native.Problem
	a.read(&p)
	return p
}

// job, group and trigger make definitions as the admin.
func (e *env) job(name string) native.Job {
	e.t.Helper()
	var j native.Job
	e.admin().post("/jobs", native.NewJob{Type: "echo", JobFields: native.JobFields{
		Name: name, Parameters: map[string]string{"text": "hi"},
	}}).want(201).read(&j)
	return j
}

func (e *env) group(name string, jobs ...native.Job) native.Group {
	e.t.Helper()
	var g native.Group
	e.admin().post("/groups", native.NewGroup{Type: "echo", GroupFields: native.GroupFields{Name: name}}).want(201).read(&g)
	if len(jobs) > 0 {
		var add native.AddJobs
		for _, j := range jobs {
			add.Jobs = append(add.Jobs, j.UUID)
		}
		e.admin().post("/groups/"+g.UUID+"/jobs", add).want(200).read(&g)
	}
	return g
}

func (e *env) trigger(name string) native.Trigger {
	e.t.Helper()
	var tr native.Trigger
	e.admin().post("/triggers", yearly(name)).want(201).read(&tr)
	return tr
}

// yearly is a trigger that does not fire while a test runs.
func yearly(name string) native.NewTrigger {
	return native.NewTrigger{TriggerFields: native.TriggerFields{
		Name: name, Schedule: native.Schedule{Kind: "cron", Dialect: "quartz", Expression: "0 0 3 29 2 ?", Zone: "Europe/Berlin"},
	}}
}

// run starts a group as the admin.
func (e *env) run(g native.Group) native.Run {
	e.t.Helper()
	var r native.Run
	e.admin().post("/groups/"+g.UUID+"/runs", nil).want(201).read(&r)
	return r
}

// alive lets the worker send a heartbeat with what it can do.
func (e *env) alive() {
	e.t.Helper()
	_, err := e.store.Beat(e.t.Context(), core.Heartbeat{Worker: worker}, &core.Worker{
		ID: worker, Host: "host1", Tags: []string{"ssd"}, Slots: 4, Version: "test", Types: specs,
		Resources: []string{"5eed0000000000000000000000000001"}, Queues: []string{"default", core.HostQueue("host1")}, Started: time.Now(),
	})
	if err != nil {
		e.t.Fatalf("heartbeat: %v", err)
	}
}

// work takes all dispatches, and what they make ready, and ends each attempt as
// outcome says of its step and attempt.
func (e *env) work(outcome func(step core.PlannedStep, attempt int) core.Outcome) {
	e.t.Helper()
	ctx := e.t.Context()
	for _, d := range e.queue.take() {
		b, err := e.eng.Begin(ctx, d, worker)
		if core.Is(err, core.Stale) {
			continue
		}
		if err != nil {
			e.t.Fatalf("begin %s: %v", d.ID(), err)
		}
		e.log(d.Run, d.Step, b.Attempt, fmt.Sprintf("attempt %d of %s\n", b.Attempt, b.Step.Name), false)
		if _, err := e.eng.Finish(ctx, d, worker, b, outcome(b.Step, b.Attempt), false); err != nil {
			e.t.Fatalf("finish %s: %v", d.ID(), err)
		}
	}
}

func (e *env) log(run string, step, attempt int, text string, end bool) string {
	e.t.Helper()
	position, err := e.store.AppendLog(e.t.Context(), run, step, attempt, text, end)
	if err != nil {
		e.t.Fatalf("append log: %v", err)
	}
	return position
}

func succeed(core.PlannedStep, int) core.Outcome {
	return core.Outcome{State: core.AttemptSucceeded, Output: `{"said":"hi"}`}
}

func fail(core.PlannedStep, int) core.Outcome {
	return core.Outcome{State: core.AttemptFailed, ExitCode: 3, Reason: "no voice"}
}

// A memoryQueue keeps dispatches until take.
type memoryQueue struct {
	mu   sync.Mutex
	sent []core.Dispatch
	host *understudy.Worker // carries out what is sent, if there is one
}

func (q *memoryQueue) Send(_ context.Context, ds []core.Dispatch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.host != nil {
		q.host.Take(ds...)
		return nil
	}
	q.sent = append(q.sent, ds...)
	return nil
}

func (q *memoryQueue) take() []core.Dispatch {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// noEvents tells the queue's host of stops, and nobody of anything else.
type noEvents struct{ *memoryQueue }

func (noEvents) Ring([]string)      {}
func (noEvents) RingTrigger(string) {}
func (n noEvents) Stop(s core.Stop) {
	if n.host != nil {
		n.host.Stop(s)
	}
}

// A syncBuffer is a log that a test reads while handlers write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
