package client_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/cbt/understudy"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

var specs = []executor.Spec{{Type: "echo", Parameters: []executor.Parameter{{Name: "text", Kind: executor.String, Required: true}}}}

// A server is the real API on a real store; its worker is the test.
type server struct {
	t     *testing.T
	url   string
	eng   *engine.Engine
	store *store.Store
	sent  chan core.Dispatch
	host  *understudy.Worker // carries out what is sent, if there is one
}

// serve starts a server; between sees each request before it.
func serve(t *testing.T, between func(http.Handler) http.Handler) *server {
	t.Helper()
	s := &server{t: t, sent: make(chan core.Dispatch, 100)}
	s.store = store.New(testenv.Redis(t).Client(t), store.Options{})
	s.eng = engine.New(s.store, s, s, engine.Options{Types: specs, FleetAge: time.Nanosecond})
	identity := auth.New(s.store, auth.Options{Cost: auth.Cost{Memory: 8, Time: 1, Threads: 1}})
	if _, _, err := identity.EnsureAdmin(t.Context(), "admin", "a password"); err != nil {
		t.Fatalf("make admin: %v", err)
	}
	api := native.New(s.eng, identity, native.Options{})
	r := gin.New()
	api.Mount(r.Group("/api/v1"))
	h := http.Handler(r)
	if between != nil {
		h = between(h)
	}
	listening := httptest.NewServer(h)
	t.Cleanup(func() {
		api.Close()
		listening.Close()
	})
	s.url = listening.URL
	_, err := s.store.Beat(t.Context(), core.Heartbeat{Worker: "w1"}, &core.Worker{
		ID: "w1", Host: "h1", Slots: 1, Types: specs, Queues: []string{"default"}, Started: time.Now(),
	})
	if err != nil {
		t.Fatalf("heartbeat: %v", err)
	}
	return s
}

func (s *server) Send(_ context.Context, ds []core.Dispatch) error {
	if s.host != nil {
		s.host.Take(ds...)
		return nil
	}
	for _, d := range ds {
		s.sent <- d
	}
	return nil
}
func (s *server) Ring([]string)      {}
func (s *server) RingTrigger(string) {}
func (s *server) Stop(core.Stop)     {}

// begin begins the next attempt and gives how to log and to end it.
func (s *server) begin() (log func(text string, end bool), finish func(core.AttemptState)) {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	d := <-s.sent
	b, err := s.eng.Begin(ctx, d, "w1")
	if err != nil {
		s.t.Fatalf("begin: %v", err)
	}
	log = func(text string, end bool) {
		if _, err := s.store.AppendLog(ctx, d.Run, d.Step, b.Attempt, text, end); err != nil {
			s.t.Errorf("append log: %v", err)
		}
	}
	return log, func(state core.AttemptState) {
		if _, err := s.eng.Finish(ctx, d, "w1", b, core.Outcome{State: state, Output: "done"}, true); err != nil {
			s.t.Errorf("finish: %v", err)
		}
	}
}

func signedIn(t *testing.T, s *server) *client.Client {
	t.Helper()
	c, err := client.New(s.url+"/", client.Options{})
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	if err := c.SignIn(t.Context(), "admin", "a password"); err != nil {
		t.Fatalf("sign in: %v", err)
	}
	return c
}

// must gives a result or ends the test.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func newJob(name string) client.NewJob {
	return client.NewJob{Type: "echo", JobFields: client.JobFields{
		Name: name, Parameters: map[string]string{"text": "hi"}, Timeout: client.Duration(time.Minute),
	}}
}

func TestRoundTrip(t *testing.T) {
	s := serve(t, nil)
	c := signedIn(t, s)
	ctx := t.Context()
	if me := must[client.Me](t)(c.Me(ctx)); me.Name != "admin" || me.Role != "admin" {
		t.Errorf("me is %+v", me)
	}

	job := must[client.Job](t)(c.CreateJob(ctx, newJob("greet")))
	if got := must[client.Job](t)(c.Job(ctx, job.UUID)); got.Timeout != client.Duration(time.Minute) || got.Name != "greet" {
		t.Errorf("job is %+v", got)
	}
	group := must[client.Group](t)(c.CreateGroup(ctx, client.NewGroup{Type: "echo", GroupFields: client.GroupFields{Name: "all"}}))
	group = must[client.Group](t)(c.AddJobs(ctx, group.UUID, job.UUID))
	if len(group.Jobs) != 1 || group.Jobs[0].Job != job.UUID {
		t.Errorf("group is %+v", group)
	}
	trigger := must[client.Trigger](t)(c.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
		Name: "leap days", Schedule: client.Schedule{Kind: "cron", Dialect: "quartz", Expression: "0 0 3 29 2 ?"},
	}}))
	binding := must[client.Binding](t)(c.Bind(ctx, trigger.UUID, client.NewBinding{Kind: client.GroupTarget, UUID: group.UUID}))
	if got := must[client.Trigger](t)(c.Trigger(ctx, trigger.UUID)); len(got.Targets) != 1 || got.Targets[0] != binding || got.Next.IsZero() {
		t.Errorf("trigger is %+v, want the target %+v", got, binding)
	}

	first := must[client.Run](t)(c.RunGroup(ctx, group.UUID, client.RunOptions{Key: "k1"}))
	if again := must[client.Run](t)(c.RunGroup(ctx, group.UUID, client.RunOptions{Key: "k1"})); again.ID != first.ID {
		t.Errorf("one key made the runs %s and %s", first.ID, again.ID)
	}
	log, finish := s.begin()
	log("hi\n", true)
	finish(core.AttemptFailed)
	done := must[client.RunDetail](t)(c.WaitRun(ctx, first.ID))
	if done.State != client.RunFailed || len(done.Steps) != 1 || done.Steps[0].Attempts[0].State != "failed" {
		t.Errorf("the run ended as %+v", done)
	}
	if text := must[string](t)(c.Log(ctx, client.LogOf{Run: first.ID})); text != "hi\n" {
		t.Errorf("log is %q", text)
	}

	retry := must[client.Run](t)(c.RetryRun(ctx, first.ID, ""))
	_, finish = s.begin()
	finish(core.AttemptSucceeded)
	entry := must[client.LedgerEntry](t)(c.Fire(ctx, trigger.UUID, "", group.UUID))
	canceled := must[client.Run](t)(c.CancelRun(ctx, entry.Runs[0], "enough"))
	if canceled.State != client.RunCanceled || canceled.Reason != "enough" {
		t.Errorf("the canceled run is %+v", canceled)
	}
	if l := must[client.Ledger](t)(c.Ledger(ctx, trigger.UUID, client.LedgerPage{Limit: 5})); len(l.Entries) != 1 || l.Entries[0].ID != entry.ID {
		t.Errorf("ledger is %+v", l)
	}

	var history []string
	for r, err := range c.Runs(ctx, client.RunFilter{Group: group.UUID}) {
		history = append(history, must[client.Run](t)(r, err).ID)
	}
	if diff := cmp.Diff([]string{entry.Runs[0], retry.ID, first.ID}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	for r, err := range c.Runs(ctx, client.RunFilter{States: []client.RunState{client.RunFailed}, Kind: client.GroupTarget, To: time.Now().Add(time.Hour)}) {
		if must[client.Run](t)(r, err).ID != first.ID {
			t.Errorf("the failed run is %s, want %s", r.ID, first.ID)
		}
	}

	for what, err := range map[string]error{
		"unbind":         c.Unbind(ctx, trigger.UUID, group.UUID),
		"delete trigger": c.DeleteTrigger(ctx, trigger.UUID),
		"remove job":     c.RemoveJob(ctx, group.UUID, job.UUID),
		"delete group":   c.DeleteGroup(ctx, group.UUID),
		"delete job":     c.DeleteJob(ctx, job.UUID),
		"sign out":       c.SignOut(ctx),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.Me(ctx); !client.IsStatus(err, http.StatusUnauthorized) {
		t.Errorf("after signing out: %v, want status 401", err)
	}
}

func TestPatch(t *testing.T) {
	c := signedIn(t, serve(t, nil))
	ctx := t.Context()
	job := must[client.Job](t)(c.CreateJob(ctx, newJob("a")))
	job = must[client.Job](t)(c.PatchJob(ctx, job.UUID, job.Version, map[string]any{"name": "b", "timeout": nil}))
	if job.Name != "b" || job.Timeout != 0 || job.Version != 2 {
		t.Errorf("patched job is %+v", job)
	}
	if _, err := c.PatchJob(ctx, job.UUID, 1, map[string]any{"name": "c"}); !client.IsStatus(err, http.StatusPreconditionFailed) {
		t.Errorf("a patch of an old version: %v, want status 412", err)
	}
	group := must[client.Group](t)(c.CreateGroup(ctx, client.NewGroup{Type: "echo", GroupFields: client.GroupFields{Name: "g"}}))
	if group = must[client.Group](t)(c.PatchGroup(ctx, group.UUID, 0, map[string]any{"enabled": false})); *group.Enabled {
		t.Error("the group is still enabled")
	}
	trigger := must[client.Trigger](t)(c.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
		Name: "t", Schedule: client.Schedule{Kind: "cron", Dialect: "unix", Expression: "@yearly"},
	}}))
	trigger = must[client.Trigger](t)(c.PatchTrigger(ctx, trigger.UUID, 1, map[string]any{"enabled": false}))
	if !trigger.Next.IsZero() || trigger.Revision != 2 {
		t.Errorf("the disabled trigger is %+v", trigger)
	}
}

func TestErrorsAreProblems(t *testing.T) {
	c := signedIn(t, serve(t, nil))
	_, err := c.CreateJob(t.Context(), client.NewJob{Type: "echo", JobFields: client.JobFields{Name: "x"}})
	var p *client.Problem
	if !errors.As(err, &p) {
		t.Fatalf("error %v, want a Problem", err)
	}
	want := &client.Problem{
		Type: "/problems/invalid", Title: "The request is not valid", Status: 400, Field: "parameters.text",
		Detail: `parameter "text": is required by job type echo`,
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	if _, err := client.New("takt.example", client.Options{}); err == nil {
		t.Error("an address without a scheme is taken")
	}
	if err := c.SignIn(t.Context(), "admin", "wrong"); !client.IsStatus(err, http.StatusUnauthorized) {
		t.Errorf("a wrong password: %v, want status 401", err)
	}
	if _, err := c.WaitRun(t.Context(), "ffffffffffffffffffffffffffffffff"); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("wait for nothing: %v, want status 404", err)
	}
}

func TestWaitRunBearsWithABusyServer(t *testing.T) {
	var busy atomic.Int32
	s := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, "limit=1") && busy.Add(1) == 2 { // the second look
				w.Header().Set("Retry-After", "1")
				http.Error(w, "overloaded", http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	c := signedIn(t, s)
	job := must[client.Job](t)(c.CreateJob(t.Context(), newJob("j")))
	run := must[client.Run](t)(c.RunJob(t.Context(), job.UUID, client.RunOptions{}))
	_, finish := s.begin()
	ended := make(chan client.RunDetail)
	go func() {
		r, err := c.WaitRun(t.Context(), run.ID)
		if err != nil {
			t.Errorf("wait: %v", err)
		}
		ended <- r
	}()
	testenv.Eventually(t, 5*time.Second, func() bool { return busy.Load() >= 2 })
	finish(core.AttemptSucceeded)
	if r := <-ended; r.State != client.RunSucceeded {
		t.Errorf("the run ended as %s", r.State)
	}
}

// A screen is written by a follower and read by the test.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// cutAfter aborts the connection after a number of writes.
type cutAfter struct {
	http.ResponseWriter
	left int
}

func (w *cutAfter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutAfter) Write(p []byte) (int, error) {
	if w.left--; w.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return w.ResponseWriter.Write(p)
}

func (w *cutAfter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }
func (w *cutAfter) Flush()                            { w.ResponseWriter.(http.Flusher).Flush() }

func TestFollowLogGoesOnWhereItBrokeOff(t *testing.T) {
	var follows atomic.Int32
	var resumedAfter atomic.Value
	s := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, "follow=true") {
				if follows.Add(1) == 1 {
					w = &cutAfter{w, 2} // the greeting and one event
				} else {
					resumedAfter.Store(r.Header.Get("Last-Event-ID"))
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	c := signedIn(t, s)
	job := must[client.Job](t)(c.CreateJob(t.Context(), newJob("j")))
	run := must[client.Run](t)(c.RunJob(t.Context(), job.UUID, client.RunOptions{}))
	log, finish := s.begin()
	var out screen
	followed := make(chan error)
	go func() { followed <- c.FollowLog(t.Context(), client.LogOf{Run: run.ID, Attempt: 1}, &out) }()
	log("one\n", false)
	testenv.Eventually(t, 5*time.Second, func() bool { return out.String() == "one\n" })
	log("two\r", false) // cuts the first connection
	log("three\n", true)
	if err := <-followed; err != nil {
		t.Errorf("follow: %v", err)
	}
	if got := out.String(); got != "one\ntwo\rthree\n" {
		t.Errorf("followed %q, want each line once", got)
	}
	if after, _ := resumedAfter.Load().(string); after == "" {
		t.Error("the second connection had no Last-Event-ID")
	}
	finish(core.AttemptSucceeded)

	if err := c.FollowLog(t.Context(), client.LogOf{Run: run.ID, Step: 3}, &out); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("follow of an unknown step: %v, want status 404", err)
	}
	full := errors.New("disk full")
	if err := c.FollowLog(t.Context(), client.LogOf{Run: run.ID}, failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("follow into a full disk: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
