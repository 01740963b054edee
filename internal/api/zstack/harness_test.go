package zstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	m.Run()
}

var (
	quiet = slog.New(slog.DiscardHandler)
	cheap = auth.Options{Cost: auth.Cost{Memory: 64, Time: 1, Threads: 1}, Log: quiet}
)

// bodyLimit is what the tests' server takes.
const bodyLimit = 64 << 10

// jobTypes are what the tests' engine knows: ZStack's own types, guarded, which
// has a secret, and caller, which has headers.
var jobTypes = append(zstack.JobTypes(),
	executor.Spec{Type: "guarded", Parameters: []executor.Parameter{{Name: "token", Kind: executor.String, Secret: true}, {Name: "count", Kind: executor.Integer}}},
	executor.Spec{Type: "caller", Open: true},
)

// A recorder is the engine's queue and events; it keeps what it is told.
type recorder struct {
	mu   sync.Mutex
	sent []core.Dispatch
	rang []string
	host *understudy.Worker // carries out what is sent, if there is one
}

func (r *recorder) Send(_ context.Context, ds []core.Dispatch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host != nil {
		r.host.Take(ds...)
		return nil
	}
	r.sent = append(r.sent, ds...)
	return nil
}

func (r *recorder) Ring([]string) {}

func (r *recorder) RingTrigger(trigger string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rang = append(r.rang, trigger)
}

func (r *recorder) Stop(s core.Stop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host != nil {
		r.host.Stop(s)
	}
}

// take gives the dispatches sent since the last call.
func (r *recorder) take() []core.Dispatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.sent
	r.sent = nil
	return out
}

// A replica is one API process: its own engine, sessions and handlers on the
// Redis that it shares with others.
type replica struct {
	t       *testing.T
	redis   *redis.Client
	store   *store.Store
	engine  *engine.Engine
	queue   *recorder
	api     *zstack.API
	url     string
	session string // of the admin; sent unless a request says otherwise
}

// A setting changes how a replica is built.
type setting struct {
	opts zstack.Options
	wrap func(engine.Store) engine.Store // puts a fault between engine and store

	types                     []executor.Spec // nil = jobTypes
	groupJobs, targetTriggers int             // caps; 0 = the usual ones
}

func newReplica(t *testing.T, s setting) *replica {
	t.Helper()
	return join(t, testenv.Redis(t).Client(t, testenv.SameSlot(t)), s)
}

// join starts a replica on a Redis that others may use. It signs the admin in.
func join(t *testing.T, client *redis.Client, s setting) *replica {
	t.Helper()
	r := &replica{t: t, redis: client, store: store.New(client, store.Options{Partitions: 4}), queue: &recorder{}}
	var kept engine.Store = r.store
	if s.wrap != nil {
		kept = s.wrap(r.store)
	}
	if s.types == nil {
		s.types = jobTypes
	}
	r.engine = engine.New(kept, r.queue, r.queue, engine.Options{
		Types: s.types, GroupJobs: s.groupJobs, TargetTriggers: s.targetTriggers, FleetAge: time.Nanosecond, Log: quiet,
	})
	sessions := auth.New(r.store, cheap)
	if _, _, err := sessions.EnsureAdmin(t.Context(), "admin", "password"); err != nil {
		t.Fatalf("make the admin: %v", err)
	}
	admin, err := sessions.LoginPlain(t.Context(), "admin", "password", "")
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	r.session = admin.ID
	if s.opts.Log == nil {
		s.opts.Log = quiet
	}
	r.api = zstack.New(r.engine, sessions, s.opts)
	router := gin.New()
	router.Use(func(c *gin.Context) { c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, bodyLimit) })
	for _, prefix := range []string{"/zstack/v1", "/v1"} {
		r.api.Mount(router.Group(prefix))
	}
	router.NoRoute(r.api.NoRoute)
	server := httptest.NewServer(router)
	r.url = server.URL
	t.Cleanup(func() {
		server.Close()
		r.api.Wait()
	})
	return r
}

// ctx is the context of a verb called past the API, by the admin.
func (r *replica) ctx() context.Context {
	return core.WithCaller(r.t.Context(), core.Caller{Account: auth.AdminUUID, Name: "admin", Owner: auth.AdminUUID, Role: core.Admin})
}

// A reply is an answer of the API.
type reply struct {
	t      *testing.T
	what   string
	status int
	body   map[string]any
	raw    string
}

// do sends a request below /zstack/v1, or with a path from /v1 or http on that.
// headers are name, value, ...
func (r *replica) do(method, path, body string, headers ...string) reply {
	r.t.Helper()
	url := r.url + "/zstack/v1" + path
	if strings.HasPrefix(path, "/v1/") {
		url = r.url + path
	}
	if strings.HasPrefix(path, "http") {
		url = path
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatalf("make request: %v", err)
	}
	req.Header.Set("Content-Type", "application/json;charset=UTF-8")
	req.Header.Set("Authorization", "OAuth "+r.session)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	out := reply{t: r.t, what: method + " " + path, status: resp.StatusCode, raw: string(raw)}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&out.body); err != nil {
		r.t.Fatalf("%s %s: the answer %d %q is not a JSON object: %v", method, path, resp.StatusCode, raw, err)
	}
	return out
}

// ok fails the test unless the answer is 200, and gives its body.
func (a reply) ok() map[string]any {
	a.t.Helper()
	if a.status != http.StatusOK {
		a.t.Fatalf("%s: got %d %s, want 200", a.what, a.status, a.raw)
	}
	return a.body
}

// inventory gives the inventory of a success.
func (a reply) inventory() map[string]any {
	a.t.Helper()
	inv, ok := a.ok()["inventory"].(map[string]any)
	if !ok {
		a.t.Fatalf("%s: %s has no inventory", a.what, a.raw)
	}
	return inv
}

// inventories gives the list of a success.
func (a reply) inventories() []map[string]any {
	a.t.Helper()
	list, ok := a.ok()["inventories"].([]any)
	if !ok {
		a.t.Fatalf("%s: %s has no inventories", a.what, a.raw)
	}
	out := make([]map[string]any, len(list))
	for i := range list {
		out[i] = list[i].(map[string]any)
	}
	return out
}

// fails checks status and code of an error, that its body has one key only, and
// that its details hold a text.
func (a reply) fails(status int, code, text string) {
	a.t.Helper()
	e, ok := a.body["error"].(map[string]any)
	if a.status != status || !ok || len(a.body) != 1 {
		a.t.Errorf("%s: got %d %s, want %d and nothing but an error", a.what, a.status, a.raw, status)
		return
	}
	details, _ := e["details"].(string)
	if e["code"] != code || !strings.Contains(details, text) || e["description"] == "" {
		a.t.Errorf("%s: got error %v, want code %s and details with %q", a.what, e, code, text)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// texts gives a list of a JSON body.
func texts(v any) []string {
	out := []string{}
	list, _ := v.([]any)
	for _, x := range list {
		s, _ := x.(string)
		out = append(out, s)
	}
	return out
}

// column gives one field of each inventory.
func column(rows []map[string]any, field string) []string {
	out := []string{}
	for _, r := range rows {
		s, _ := r[field].(string)
		out = append(out, s)
	}
	return out
}

// group, job, trigger and bound make things through the API.
func (r *replica) group(name string) string {
	r.t.Helper()
	return r.do("POST", "/scheduler/jobgroups", `{"params":{"name":"`+name+`","type":"startVm"}}`).inventory()["uuid"].(string)
}

func (r *replica) job(name, target string) string {
	r.t.Helper()
	return r.do("POST", "/scheduler/jobs", `{"params":{"name":"`+name+`","type":"startVm","targetResourceUuid":"`+target+`"}}`).inventory()["uuid"].(string)
}

// trigger makes one that fires in a year for the first time.
func (r *replica) trigger(name string) string {
	r.t.Helper()
	return r.do("POST", "/scheduler/triggers", `{"params":{"name":"`+name+`","schedulerType":"cron","cron":"0 0 3 1 1 ?"}}`).inventory()["uuid"].(string)
}

func (r *replica) groupOf(name string, jobs ...string) string {
	r.t.Helper()
	g := r.group(name)
	list, _ := json.Marshal(jobs)
	r.do("POST", "/scheduler/jobgroups/"+g+"/job", `{"params":{"schedulerJobUuids":`+string(list)+`}}`).ok()
	return g
}

func (r *replica) bindGroup(group, trigger string, now bool) reply {
	r.t.Helper()
	body := `{"params":{"triggerNow":false}}`
	if now {
		body = `{"params":{"triggerNow":true}}`
	}
	return r.do("POST", "/scheduler/jobgroups/"+group+"/scheduler/triggers/"+trigger, body)
}

// newJobUUID makes what the Java SDK sends as X-Job-UUID.
func newJobUUID() string { return id.New() }

func jsonNumber(text string) any { return json.Number(text) }

// signIn makes an account of its own and gives a session of it.
func (r *replica) signIn(name string, role core.Role) string {
	r.t.Helper()
	sessions := auth.New(r.store, cheap)
	if _, err := sessions.CreateAccount(r.ctx(), auth.NewAccount{Name: name, Password: auth.DigestOf("password"), Role: role}); err != nil {
		r.t.Fatalf("make account %s: %v", name, err)
	}
	s, err := sessions.LoginPlain(r.t.Context(), name, "password", "")
	if err != nil {
		r.t.Fatalf("sign in %s: %v", name, err)
	}
	return s.ID
}
