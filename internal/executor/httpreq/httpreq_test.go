package httpreq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/executor/httpreq"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/pkg/executor"
	"github.com/takt-dev/takt/pkg/executor/executortest"
)

// A site is a server under test with the client that may reach it.
type site struct {
	*httptest.Server
	client *safehttp.Client
	typ    executor.Type
}

func serve(t *testing.T, handler http.HandlerFunc) site {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	policy, err := safehttp.ParsePolicy([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	client := safehttp.New(policy)
	t.Cleanup(client.CloseIdle)
	return site{s, client, httpreq.New(client, 0)}
}

// run executes one attempt; parameters are pairs.
func (s site) run(t *testing.T, pairs ...string) (result executor.Result, log string, err error) {
	t.Helper()
	parameters := map[string]string{"url": s.URL}
	for i := 0; i < len(pairs); i += 2 {
		parameters[pairs[i]] = pairs[i+1]
	}
	if err := s.typ.Spec.Validate(parameters); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	var out bytes.Buffer
	result, err = s.typ.Executor.Execute(t.Context(), executor.Attempt{
		ID: "run:step:1", Key: "run:step", Number: 1, Type: httpreq.TypeName, Parameters: parameters, Log: &out,
	})
	return result, out.String(), err
}

type output struct {
	Status     int
	Headers    map[string]string
	Body       string
	Truncated  bool
	DurationMs int64
}

func decode(t *testing.T, result executor.Result) output {
	t.Helper()
	var o output
	if err := json.Unmarshal([]byte(result.Output), &o); err != nil {
		t.Fatalf("output %q is not JSON: %v", result.Output, err)
	}
	return o
}

func TestConformance(t *testing.T) {
	started := make(chan struct{}, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fails":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/blocks":
			started <- struct{}{}
			<-r.Context().Done()
		}
	})
	headers := `{"Authorization":"Bearer hunter2hunter2","X-Api-Key":"swordfish"}`
	executortest.Run(t, executortest.Harness{
		Type:    s.typ,
		Success: map[string]string{"url": s.URL + "/?token=opensesame", "headers": headers},
		Failure: map[string]string{"url": s.URL + "/fails?token=opensesame", "headers": headers},
		Blocking: func(testing.TB) (map[string]string, <-chan struct{}) {
			return map[string]string{"url": s.URL + "/blocks", "headers": headers, "timeout": "10m"}, started
		},
		Idle:    s.client.CloseIdle,
		Secrets: []string{"hunter2hunter2", "swordfish", "opensesame"},
	})
}

func TestRequestIsWhatTheParametersSay(t *testing.T) {
	tests := []struct {
		name       string
		parameters []string
		want       string
	}{
		{"defaults", nil, "GET body= key=run:step type= agent=takt accept="},
		{"JSON body", []string{"method", "POST", "body", `{"a":1}`},
			`POST body={"a":1} key=run:step type=application/json agent=takt accept=`},
		{"text body", []string{"method", "put", "body", "hello"},
			"PUT body=hello key=run:step type=text/plain; charset=utf-8 agent=takt accept="},
		{"own headers", []string{"method", "POST", "body", "x",
			"headers", `{"idempotency-key":"mine","content-type":"a/b","user-agent":"me","Accept":"c/d"}`},
			"POST body=x key=mine type=a/b agent=me accept=c/d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				h := r.Header
				fmt.Fprintf(w, "%s body=%s key=%s type=%s agent=%s accept=%s", r.Method, body,
					h.Get("Idempotency-Key"), h.Get("Content-Type"), h.Get("User-Agent"), h.Get("Accept"))
			})
			result, _, err := s.run(t, tt.parameters...)
			if err != nil {
				t.Fatal(err)
			}
			if got := decode(t, result).Body; got != tt.want {
				t.Errorf("the server got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatusDecides(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	})
	const (
		succeeds  = "succeeds"
		fails     = "fails"
		permanent = "fails for good"
	)
	tests := []struct {
		status int
		expect string
		want   string
	}{
		{200, "", succeeds}, {204, "", succeeds}, {299, "", succeeds},
		{300, "", fails},
		{400, "", permanent}, {401, "", permanent}, {403, "", permanent}, {404, "", permanent},
		{405, "", permanent}, {410, "", permanent}, {422, "", permanent},
		{408, "", fails}, {409, "", fails}, {425, "", fails}, {429, "", fails},
		{500, "", fails}, {502, "", fails}, {503, "", fails},
		{404, `[404]`, succeeds}, {200, `[404]`, fails},
		{200, `[200,204]`, succeeds}, {201, `[200,204]`, fails},
		{201, `["2xx"]`, succeeds}, {503, `["2XX", 503]`, succeeds}, {404, `["204"]`, permanent},
		{204, `["204"]`, succeeds}, {204, `[204.0]`, succeeds},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d expecting %s", tt.status, tt.expect), func(t *testing.T) {
			result, _, err := s.run(t, "url", fmt.Sprintf("%s/%d", s.URL, tt.status), "expect", tt.expect)
			got := succeeds
			if executor.IsPermanent(err) {
				got = permanent
			} else if err != nil {
				got = fails
			}
			if got != tt.want {
				t.Errorf("the attempt %s: %v, want that it %s", got, err, tt.want)
			}
			if result.ExitCode != tt.status || decode(t, result).Status != tt.status {
				t.Errorf("exit code %d, output %s, want status %d in both", result.ExitCode, result.Output, tt.status)
			}
		})
	}
}

func TestErrorSaysWhatWasExpected(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	_, _, err := s.run(t, "expect", `["2xx",404]`)
	if want := "GET " + s.URL + ": answered 503 Service Unavailable, expected 2xx, 404"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestOutputShowsFewHeaders(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/x")
		h.Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
		h.Set("Set-Cookie", "session=hunter2")
		h.Set("Location", "/next?a=1&b=2")
		w.WriteHeader(http.StatusFound)
		io.WriteString(w, "body")
	})
	result, _, err := s.run(t, "followRedirects", "false", "expect", "[302]")
	if err != nil {
		t.Fatal(err)
	}
	want := output{Status: 302, Body: "body", Headers: map[string]string{
		"content-type": "text/x", "content-length": "4", "location": "/next?a=1&b=2", "date": "Mon, 02 Jan 2006 15:04:05 GMT",
	}}
	got := decode(t, result)
	got.DurationMs = 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if !strings.Contains(result.Output, "a=1&b=2") {
		t.Errorf("output %s, want the location unescaped", result.Output)
	}
}

func TestRedirectIsFollowedUnlessRefused(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/next" {
			http.Redirect(w, r, "/next", http.StatusFound)
		}
	})
	if result, _, err := s.run(t); err != nil || result.ExitCode != 200 {
		t.Errorf("status %d, error %v, want the redirect's target", result.ExitCode, err)
	}
	if result, _, err := s.run(t, "followRedirects", "false"); err == nil || result.ExitCode != 302 {
		t.Errorf("status %d, error %v, want 302 as the answer", result.ExitCode, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	tests := []struct {
		name, body, maxOutput string
		wantBody              string // "" : only the bounds count
		truncated             bool
	}{
		{"below the limit", "12345", "6", "12345", false},
		{"at the limit", "12345", "5", "12345", false},
		{"above the limit", "12345", "4", "1234", true},
		{"nothing wanted", "12345", "0", "", true},
		{"nothing there", "", "0", "", false},
		{"rune at the limit", "aéé", "4", "aé\ufffd", true},
		{"default limit", strings.Repeat("x", 20000), "", strings.Repeat("x", 16384), true},
		{"largest limit", strings.Repeat("x", 70000), "65536", "", true},
		{"body that grows as JSON", strings.Repeat("\x01", 60000), "65536", "", true},
		{"body that is not text", strings.Repeat("\xff", 60000), "65536", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, tt.body) })
			result, _, err := s.run(t, "maxOutput", tt.maxOutput)
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, result)
			if len(result.Output) > executor.MaxOutputBytes {
				t.Errorf("output is %d bytes long", len(result.Output))
			}
			if got.Truncated != tt.truncated {
				t.Errorf("truncated %v, want %v", got.Truncated, tt.truncated)
			}
			if len(tt.body) < 60000 && got.Body != tt.wantBody {
				t.Errorf("body %.40q, %d bytes, want %.40q", got.Body, len(got.Body), tt.wantBody)
			}
			if len(tt.body) >= 60000 && len(result.Output) < executor.MaxOutputBytes-6 {
				t.Errorf("output is %d bytes long, want all of the room used", len(result.Output))
			}
		})
	}
}

func TestEchoedSecretsAreTakenOut(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/?key="+r.Header.Get("X-Api-Key"))
		fmt.Fprintf(w, "%s %s %s", r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("Accept"))
	})
	headers := `{"Authorization":"Bearer swordfish","X-Api-Key":"swordfish-and-more","Accept":"text/plain"}`
	result, log, err := s.run(t, "headers", headers)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := decode(t, result).Body, "*** *** text/plain"; got != want {
		t.Errorf("body %q, want %q", got, want)
	}
	// Cut anywhere, the answer shows not even a part of a secret.
	for limit := range 40 {
		result, more, err := s.run(t, "headers", headers, "maxOutput", fmt.Sprint(limit))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"swor", "more", "Bear"} {
			if strings.Contains(result.Output+log+more, part) {
				t.Errorf("with maxOutput %d the traces show %q: %s", limit, part, result.Output)
			}
		}
	}
}

func TestFailuresWithoutAnAnswer(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	gone := httptest.NewServer(nil)
	gone.Close()
	unguarded := s
	unguarded.typ = httpreq.New(safehttp.New(safehttp.Policy{}), 0)
	tests := []struct {
		name      string
		site      site
		pairs     []string
		want      string
		permanent bool
	}{
		{"too slow", s, []string{"timeout", "30ms"}, "no complete answer within 30ms", false},
		{"nobody listens", s, []string{"url", gone.URL}, "connection refused", false},
		{"address refused", unguarded, nil, safehttp.AllowKey, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, log, err := tt.site.run(t, tt.pairs...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || executor.IsPermanent(err) != tt.permanent {
				t.Errorf("error %v, permanent %v, want %q, permanent %v", err, executor.IsPermanent(err), tt.want, tt.permanent)
			}
			if result != (executor.Result{}) {
				t.Errorf("result %+v, want none", result)
			}
			if !strings.Contains(log, "no answer after") {
				t.Errorf("log %q does not say that there was no answer", log)
			}
		})
	}
}

func TestCauseIsTold(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(executor.ErrReleased)
		<-r.Context().Done()
	})
	_, err := s.typ.Executor.Execute(ctx, executor.Attempt{Parameters: map[string]string{"url": s.URL}, Log: io.Discard})
	if !errors.Is(err, executor.ErrReleased) || executor.IsPermanent(err) {
		t.Errorf("error %v, want the cause, not permanent", err)
	}
}

func TestBrokenAnswerIsKept(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	result, _, err := s.run(t)
	if err == nil || executor.IsPermanent(err) {
		t.Errorf("error %v, want one that may pass", err)
	}
	if got := decode(t, result); got.Body != "half" || result.ExitCode != 200 {
		t.Errorf("result %+v, want what came", result)
	}
}

func TestLogIsShort(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	u, err := url.Parse(s.URL + "/path?token=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	_, log, err := s.run(t, "url", u.String())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != 2 || lines[0] != "GET "+s.URL+"/path" || !strings.HasPrefix(lines[1], "200 OK in ") {
		t.Errorf("log %q, want the request and the status", log)
	}
}
