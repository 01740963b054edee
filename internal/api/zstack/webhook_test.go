package zstack_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/internal/testenv"
)

// A told is a call that a web hook got.
type told struct {
	at      time.Time
	job     string
	success string
	batch   string
	kind    string
	method  string
	body    string
}

// A listener is a web hook. serve, if given, answers the n-th call, from 1.
type listener struct {
	*httptest.Server
	mu    sync.Mutex
	calls []told
	serve func(n int, w http.ResponseWriter, r *http.Request)
}

func listen(t *testing.T, serve func(n int, w http.ResponseWriter, r *http.Request)) *listener {
	t.Helper()
	l := &listener{serve: serve}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		l.calls = append(l.calls, told{
			time.Now(), r.Header.Get("X-Job-UUID"), r.Header.Get("X-Job-Success"), r.Header.Get("X-Job-Batch"), r.Header.Get("Content-Type"), r.Method, string(body),
		})
		n := len(l.calls)
		l.mu.Unlock()
		if l.serve != nil {
			l.serve(n, w, r)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) told() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]told(nil), l.calls...)
}

// gets waits for n calls.
func (l *listener) gets(t *testing.T, n int, within time.Duration) []told {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		if got := len(l.told()); got < n {
			return fmt.Errorf("the hook was called %d times, want %d", got, n)
		}
		return nil
	})
	return l.told()
}

// reaching gives options with which these hooks may be called, and nothing else
// that is not public.
func reaching(t *testing.T, hooks ...*listener) zstack.Options {
	t.Helper()
	var allow []string
	for _, l := range hooks {
		allow = append(allow, strings.TrimPrefix(l.URL, "http://"))
	}
	policy, err := safehttp.ParsePolicyOf(zstack.HookSetting, allow)
	if err != nil {
		t.Fatal(err)
	}
	client := safehttp.New(policy)
	t.Cleanup(client.CloseIdle)
	return zstack.Options{Hooks: client}
}

// settled waits until a receipt's hook is over.
func (r *replica) settled(job string) {
	r.t.Helper()
	testenv.Eventually(r.t, 10*time.Second, func() error {
		if _, fields := r.row(job); fields["hook"] != "" || fields["ended"] == "" {
			return fmt.Errorf("the hook of %s is not over: %v", job, fields)
		}
		return nil
	})
	for n := range 4 {
		if err := r.redis.ZScore(r.t.Context(), fmt.Sprintf("takt:{r:%d}:open", n), job).Err(); err == nil {
			r.t.Errorf("receipt %s is still among the unfinished", job)
		}
	}
}

func jobOf(t *testing.T, a reply) string {
	t.Helper()
	location, _ := a.body["location"].(string)
	_, job, ok := strings.Cut(location, "/zstack/v1/api-jobs/")
	if a.status != http.StatusAccepted || !ok || len(job) != 32 {
		t.Fatalf("%s: got %d %s, want 202 with a location", a.what, a.status, a.raw)
	}
	return job
}

func TestWebHookTellsTheResult(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	job := r.job("j", newJobUUID())
	group := r.group("g")
	for _, row := range []struct {
		name, method, path, body string
		schema                   bool
		success, batch           string
	}{
		{"success", "POST", "/scheduler/jobgroups", createGroup, false, "true", ""},
		{"success with schema", "POST", "/scheduler/jobgroups", createGroup, true, "true", ""},
		{"failure", "POST", "/scheduler/jobgroups", `{"params":{"name":"g","type":"none"}}`, true, "false", ""},
		{"empty", "DELETE", "/scheduler/jobgroups/" + newJobUUID(), "", false, "true", ""},
		{"batch", "POST", "/scheduler/jobgroups/" + group + "/job", `{"params":{"schedulerJobUuids":["` + job + `"]}}`, true, "true", "SUCCESS"},
		{"failed batch", "POST", "/scheduler/jobgroups/" + group + "/job", `{"params":{"schedulerJobUuids":["` + newJobUUID() + `"]}}`, true, "false", "FAIL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			before := len(l.told())
			// Without X-Job-UUID: one is made.
			headers := []string{"X-Web-Hook", l.URL + "/told?token=x"}
			if row.schema {
				headers = append(headers, "X-JSON-Schema", "true")
			}
			job := jobOf(t, r.do(row.method, row.path, row.body, headers...))
			got := l.gets(t, before+1, 10*time.Second)[before]
			poll := r.do("GET", "/api-jobs/"+job, "", headers[2:]...)
			want := told{got.at, job, row.success, row.batch, "application/json; charset=utf-8", "POST", poll.raw}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(told{})); diff != "" {
				t.Errorf("the hook was told (-want +got):\n%s", diff)
			}
			if (poll.status == http.StatusOK) != (row.success == "true") {
				t.Errorf("poll = %d %s, want success %s", poll.status, poll.raw, row.success)
			}
			r.settled(job)
		})
	}
}

// With both headers the job uuid is the client's.
func TestWebHookWithJobUUID(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	job := newJobUUID()
	equal(t, "job", jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Job-UUID", job, "X-Web-Hook", l.URL)), job)
	equal(t, "told", l.gets(t, 1, 10*time.Second)[0].job, job)
}

func TestWebHookIsTriedAgain(t *testing.T) {
	t.Parallel()
	l := listen(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler) // an I/O error
		case 3:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	job := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))
	got := l.gets(t, 4, 20*time.Second)
	for n := 1; n < len(got); n++ {
		if gap := got[n].at.Sub(got[n-1].at); gap < 1900*time.Millisecond || gap > 4*time.Second {
			t.Errorf("try %d came %v after the one before, want 2 s", n+1, gap)
		}
		if got[n].body != got[0].body || got[n].job != job {
			t.Errorf("try %d = %+v, want what the first said", n+1, got[n])
		}
	}
	r.settled(job)
	if n := len(l.told()); n != 4 {
		t.Errorf("the hook was called %d times, want no more after its 204", n)
	}
}

func TestWebHookIsGivenUpAfterFifteenTries(t *testing.T) {
	t.Parallel()
	l := listen(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	r := newReplica(t, setting{opts: reaching(t, l)})
	job := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))
	key, _ := r.row(job)
	r.redis.HSet(t.Context(), key, "tries", 13)
	r.runs()
	l.gets(t, 2, 10*time.Second) // the fourteenth and the fifteenth
	r.settled(job)
	equal(t, "tries", r.redis.HGet(t.Context(), key, "tries").Val(), "15")
	equal(t, "calls", len(l.told()), 2)
	r.ends(job, time.Second).inventory() // the result stays
}

// A hook may not lead us to where its client could not have sent us at once.
func TestWebHookIsNotRedirected(t *testing.T) {
	t.Parallel()
	inner := listen(t, nil)
	l := listen(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n > 4 {
			return
		}
		status := map[string]int{"/moved": http.StatusMovedPermanently, "/other": http.StatusSeeOther, "/kept": http.StatusTemporaryRedirect, "/here": http.StatusFound}
		to := inner.URL
		if r.URL.Path == "/here" { // to what may be called, but as GET and without the body
			to = "/elsewhere"
		}
		http.Redirect(w, r, to, status[r.URL.Path])
	})
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	var jobs []string
	for _, path := range []string{"/moved", "/other", "/kept", "/here"} {
		jobs = append(jobs, jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL+path)))
	}
	for _, call := range l.gets(t, 8, 20*time.Second) {
		equal(t, "method", call.method, "POST")
	}
	for _, job := range jobs {
		r.settled(job)
	}
	equal(t, "calls of the private address", len(inner.told()), 0)
}

// A name is judged by what it resolves to when it is called.
func TestWebHookByANameOfAPrivateAddress(t *testing.T) {
	t.Parallel()
	inner := listen(t, nil)
	r := newReplica(t, setting{}).runs()
	job := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", strings.Replace(inner.URL, "127.0.0.1", "localhost", 1)))
	testenv.Eventually(t, 10*time.Second, func() bool { _, fields := r.row(job); return fields["tries"] >= "1" })
	equal(t, "calls", len(inner.told()), 0)
	r.ends(job, time.Second).inventory()
}

// A stranger's hook is not called: their 202 says that they must sign in.
func TestWebHookOfAStranger(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	stranger := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL, "Authorization", "OAuth "+newJobUUID()))
	r.do("GET", "/api-jobs/"+stranger, "").fails(http.StatusServiceUnavailable, "ID.1001", "Session expired")
	known := jobOf(t, r.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))
	r.settled(known)
	r.settled(stranger)
	if got := l.told(); len(got) != 1 || got[0].job != known {
		t.Errorf("told %+v, want the job %s alone", got, known)
	}
}

// The replica dies between closing the receipt and telling: another one tells.
func TestWebHookOfADeadReplica(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	server := testenv.Redis(t)
	first := join(t, server.Client(t), setting{opts: reaching(t, l)}) // never runs
	job := jobOf(t, first.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))
	survivor := join(t, server.Client(t), setting{opts: reaching(t, l)}).runs()
	equal(t, "told", l.gets(t, 1, 10*time.Second)[0].job, job)
	survivor.settled(job)
}

// The replica dies within the call: the one that carries it out tells of it.
func TestWebHookOfACallTakenOver(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	server := testenv.Redis(t)
	m := newMortal()
	dying := join(t, server.Client(t, m), setting{opts: reaching(t, l), wrap: func(s engine.Store) engine.Store { return suicide{s, m} }})
	survivor := join(t, server.Client(t), setting{opts: reaching(t, l)})
	gone := make(chan struct{})
	ctx, hangUp := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", dying.url+"/v1/scheduler/jobgroups", strings.NewReader(createGroup))
	req.Header.Set("Authorization", "OAuth "+dying.session)
	req.Header.Set("X-Web-Hook", l.URL)
	go func() {
		defer close(gone)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-m.died
	hangUp()
	<-gone
	survivor.lapse()
	survivor.runs()
	got := l.gets(t, 1, 10*time.Second)[0]
	if got.success != "true" {
		t.Errorf("told %+v, want a success", got)
	}
	survivor.settled(got.job)
}

// A hook that hangs is held by one replica, for longer than a lease; when that one
// stops, another goes on without counting the try.
func TestWebHookThatHangs(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{}, 8)
	l := listen(t, func(n int, _ http.ResponseWriter, r *http.Request) {
		if n == 1 {
			hanging <- struct{}{}
			<-r.Context().Done()
		}
	})
	server := testenv.Redis(t)
	first := join(t, server.Client(t), setting{opts: reaching(t, l)})
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { defer close(stopped); first.api.Run(ctx) }()
	began := time.Now()
	job := jobOf(t, first.do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))
	<-hanging
	second := join(t, server.Client(t), setting{opts: reaching(t, l)}).runs()
	testenv.Eventually(t, 20*time.Second, func() bool { return time.Since(began) > core.ReceiptLease+time.Second })
	equal(t, "calls while the first holds it", len(l.told()), 1)
	stop()
	<-stopped
	l.gets(t, 2, 5*time.Second)
	second.settled(job)
	_, fields := second.row(job)
	if fields["tries"] != "0" || fields["lost"] != "" {
		t.Errorf("row = %v, want no try counted and no holder lost", fields)
	}
}

// Replicas that look at the same time tell once.
func TestWebHooksAreToldOnceByManyReplicas(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	server := testenv.Redis(t)
	replicas := make([]*replica, 3)
	for n := range replicas {
		replicas[n] = join(t, server.Client(t), setting{opts: reaching(t, l)}).runs()
	}
	jobs := map[string]int{}
	for n := range 60 {
		jobs[jobOf(t, replicas[n%3].do("POST", "/scheduler/jobgroups", createGroup, "X-Web-Hook", l.URL))] = 0
	}
	l.gets(t, len(jobs), 20*time.Second)
	for job := range jobs {
		replicas[0].settled(job)
	}
	for _, call := range l.told() {
		jobs[call.job]++
	}
	for job, n := range jobs {
		if n != 1 {
			t.Errorf("job %s was told %d times", job, n)
		}
	}
}

// What is given once is given to the hook or to a poll, whichever comes first.
func TestWebHookOfASecretResult(t *testing.T) {
	t.Parallel()
	l := listen(t, nil)
	r := newReplica(t, setting{opts: reaching(t, l)}).runs()
	path, body := "/accounts/sessions/"+r.session+"/renew", `{"renewSession":{"duration":3600}}`
	job := jobOf(t, r.do("PUT", path, body, "X-Web-Hook", l.URL))
	if got := l.gets(t, 1, 10*time.Second)[0]; !strings.Contains(got.body, r.session) {
		t.Errorf("told %s, want the session", got.body)
	}
	r.settled(job)
	equal(t, "poll", r.ends(job, time.Second).raw, "{}")
}
