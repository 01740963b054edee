package console_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/api/console"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// A site is a console with real accounts over a real Redis.
type site struct {
	URL   string
	asynq asynq.RedisConnOpt
	auth  *auth.Authority
	admin context.Context
	verbs *verbs
}

const password = "correct horse"

// newSite starts a console with an account for each role, named after it.
func newSite(t *testing.T, change func(*console.Options)) *site {
	t.Helper()
	server := testenv.Redis(t)
	client := server.Client(t)
	at := client.Options()
	conn := asynq.RedisClientOpt{Network: at.Network, Addr: at.Addr, Password: at.Password}
	cheap := auth.Cost{Memory: 64, Time: 1, Threads: 1}
	s := &site{
		asynq: conn,
		auth:  auth.New(store.New(client, store.Options{}), auth.Options{Cost: cheap, Log: slog.New(slog.DiscardHandler)}),
		admin: core.WithCaller(t.Context(), core.Caller{Account: auth.AdminUUID, Name: "admin", Owner: auth.AdminUUID, Role: core.Admin}),
		verbs: &verbs{},
	}
	s.makeAccounts(t)
	opts := console.Options{Accounts: s.auth, Verbs: s.verbs, Redis: conn, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	h := console.New(opts)
	t.Cleanup(func() { h.Close() })
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed, router.UseRawPath = true, true // as package server has it
	router.NoRoute(h.NoRoute)
	router.NoMethod(h.NoMethod)
	h.Mount(router)
	web := httptest.NewServer(http.MaxBytesHandler(router, 1<<16))
	t.Cleanup(web.Close)
	s.URL = web.URL
	return s
}

func (s *site) makeAccounts(t *testing.T) {
	t.Helper()
	if _, _, err := s.auth.EnsureAdmin(t.Context(), "admin", password); err != nil {
		t.Fatalf("make admin: %v", err)
	}
	for _, role := range []core.Role{core.Operator, core.Viewer} {
		n := auth.NewAccount{Name: string(role), Password: auth.DigestOf(password), Role: role}
		if _, err := s.auth.CreateAccount(s.admin, n); err != nil {
			t.Fatalf("make account %s: %v", role, err)
		}
	}
}

// session signs an account in beside the console.
func (s *site) session(t *testing.T, account string) string {
	t.Helper()
	session, err := s.auth.LoginPlain(t.Context(), account, password, "")
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	return session.ID
}

// A request is one call to the site; header holds names and values in turn.
type request struct {
	method, path, body string
	header             []string
}

// An answer is what came back, whole.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location() string { return a.header.Get("Location") }

// do sends a request and follows no redirect.
func (s *site) do(t *testing.T, r request) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, s.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatalf("make request: %v", err)
	}
	for i := 0; i < len(r.header); i += 2 {
		req.Header.Set(r.header[i], r.header[i+1])
	}
	got, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return answer{got.StatusCode, got.Header, string(body)}
}

// submit posts a form as a browser does from a page of the site.
func (s *site) submit(t *testing.T, path string, form url.Values, header ...string) answer {
	t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded", "Origin", s.URL, "Accept", "text/html"}, header...)
	return s.do(t, request{"POST", path, form.Encode(), header})
}

func cookie(session string) string { return "takt_session=" + session }

// queues fills the site's Redis: twenty tasks of the queue low have been carried
// out, a worker carries out one of critical until the test ends, and two wait in
// default, which nobody reads.
func (s *site) queues(t *testing.T) {
	t.Helper()
	var over sync.WaitGroup
	client := asynq.NewClient(s.asynq)
	defer client.Close()
	enqueue := func(queue, payload string) {
		if _, err := client.Enqueue(asynq.NewTask("step", []byte(payload)), asynq.Queue(queue), asynq.TaskID(payload)); err != nil {
			t.Fatalf("enqueue: %v", err)
		}
	}
	for i := range 20 {
		over.Add(1)
		enqueue("low", fmt.Sprintf("0198c0de000070008000000000000009:%d:1-00000000deadbeef", i))
	}
	enqueue("critical", "0198c0de00007000800000000000000a:0:1-00000000deadbeef")
	enqueue("default", "0198c0de00007000800000000000000b:0:1-00000000deadbeef")
	enqueue("default", "0198c0de00007000800000000000000b:1:1-00000000deadbeef")

	began, end := make(chan struct{}), make(chan struct{})
	worker := asynq.NewServer(s.asynq, asynq.Config{
		Queues: map[string]int{"critical": 1, "low": 1}, Concurrency: 2, TaskCheckInterval: time.Millisecond,
		LogLevel: asynq.FatalLevel,
	})
	carryOut := func(_ context.Context, task *asynq.Task) error {
		if strings.HasPrefix(string(task.Payload()), "0198c0de000070008000000000000009") {
			over.Done()
			return nil
		}
		close(began)
		<-end
		return nil
	}
	if err := worker.Start(asynq.HandlerFunc(carryOut)); err != nil {
		t.Fatalf("start worker: %v", err)
	}
	t.Cleanup(func() { close(end); worker.Shutdown() })
	<-began
	over.Wait()
}

// queue looks at a queue beside the console.
func (s *site) queue(t *testing.T, name string) *asynq.QueueInfo {
	t.Helper()
	inspector := asynq.NewInspector(s.asynq)
	defer inspector.Close()
	info, err := inspector.GetQueueInfo(name)
	if err != nil {
		t.Fatalf("look at queue %s: %v", name, err)
	}
	return info
}

// verbs are an engine with fixed answers.
type verbs struct {
	runs  []core.Run
	fleet core.Fleet
	err   error
}

func (v *verbs) Runs(ctx context.Context, f core.RunFilter) (core.RunPage, error) {
	if _, err := core.CallerFrom(ctx); err != nil {
		return core.RunPage{}, err
	}
	if f.Limit <= 0 {
		return core.RunPage{}, errors.New("the page is not bounded")
	}
	return core.RunPage{Runs: v.runs[:min(len(v.runs), f.Limit)]}, v.err
}

func (v *verbs) Fleet(context.Context) (core.Fleet, error) { return v.fleet, nil }
