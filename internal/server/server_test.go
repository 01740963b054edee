package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/server"
)

// An api mounts what the test needs and has no words of its own.
type api func(gin.IRouter)

func (a api) Mount(r gin.IRouter) { a(r) }

// A speaker is an api that has.
type speaker struct{ api }

func (speaker) NoRoute(c *gin.Context)  { c.String(http.StatusNotFound, "own 404") }
func (speaker) NoMethod(c *gin.Context) { c.String(http.StatusMethodNotAllowed, "own 405") }
func (speaker) Failed(c *gin.Context)   { c.String(http.StatusInternalServerError, "own 500") }

// routes is what each API of the tests has: things and a handler that panics.
func routes(r gin.IRouter) {
	r.GET("/things/:uuid", func(c *gin.Context) { c.String(http.StatusOK, c.Param("uuid")) })
	r.GET("/boom", func(c *gin.Context) { c.Header("Content-Type", "text/event-stream"); panic("kaboom") })
}

func newServer(t *testing.T, deps server.Deps) *server.Server {
	t.Helper()
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s, err := server.New(deps)
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	return s
}

func everything(deps server.Deps) server.Deps {
	deps.Native, deps.ZStack, deps.Console = api(routes), api(routes), api(routes)
	return deps
}

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	zstackJSON  = "application/json; charset=utf-8"
	problemJSON = "application/problem+json"
	plainText   = "text/plain; charset=utf-8"
)

func TestEachDialectHasItsOwnWords(t *testing.T) {
	quiet := newServer(t, everything(server.Deps{})).Handler()
	own := newServer(t, server.Deps{Native: speaker{routes}, ZStack: speaker{routes}, Console: speaker{routes}}).Handler()
	empty := newServer(t, server.Deps{}).Handler()
	zstack := func(code, description, details string) string {
		return fmt.Sprintf(`{"error":{"code":%q,"description":%q,"details":%q}}`, code, description, details)
	}
	const notFound, badArgument, internal = "A resource can not be found", "One or more API argument is invalid", "An internal error happened in system"
	const saysMore = "an internal error happened; the server's log says more"
	for _, tt := range []struct {
		name           string
		of             http.Handler
		method, path   string
		status         int
		contentType    string
		body, allowing string
	}{
		{"native", quiet, "GET", "/api/v1/things/a", 200, plainText, "a", ""},
		{"zstack", quiet, "GET", "/zstack/v1/things/a", 200, plainText, "a", ""},
		{"zstack, short", quiet, "GET", "/v1/things/a", 200, plainText, "a", ""},
		{"escaped slash", quiet, "GET", "/v1/things/a%2Fb", 200, plainText, "a/b", ""},

		{"no path, zstack", quiet, "GET", "/zstack/v1/none?x=1", 404, zstackJSON, zstack("SYS.1003", notFound, "no api mapping to /zstack/v1/none"), ""},
		{"no path, zstack, short", quiet, "GET", "/v1/none", 404, zstackJSON, zstack("SYS.1003", notFound, "no api mapping to /v1/none"), ""},
		{"no version, zstack", quiet, "GET", "/zstack", 404, zstackJSON, zstack("SYS.1003", notFound, "no api mapping to /zstack"), ""},
		{"no path, native", quiet, "GET", "/api/none", 404, problemJSON, `{"detail":"no api mapping to /api/none","status":404,"title":"Not Found","type":"about:blank"}`, ""},
		{"no path", quiet, "GET", "/none", 404, plainText, "no api mapping to /none\n", ""},
		{"not quite a prefix", quiet, "GET", "/v10/things/a", 404, plainText, "no api mapping to /v10/things/a\n", ""},
		{"slash too many", quiet, "GET", "/v1/things/a/", 404, zstackJSON, zstack("SYS.1003", notFound, "no api mapping to /v1/things/a/"), ""},
		{"no APIs", empty, "GET", "/v1/things/a", 404, zstackJSON, zstack("SYS.1003", notFound, "no api mapping to /v1/things/a"), ""},

		{"no method, zstack", quiet, "PUT", "/v1/things/a", 405, zstackJSON, zstack("SYS.1007", badArgument, "PUT is not possible here; use GET"), "GET"},
		{"no method, native", quiet, "PUT", "/api/v1/things/a", 405, problemJSON, `{"detail":"PUT is not possible here; use GET","status":405,"title":"Method Not Allowed","type":"about:blank"}`, "GET"},
		{"no method", quiet, "PUT", "/things/a", 405, plainText, "PUT is not possible here; use GET\n", "GET"},

		{"panic, zstack", quiet, "GET", "/zstack/v1/boom", 500, zstackJSON, zstack("SYS.1000", internal, saysMore), ""},
		{"panic, zstack, short", quiet, "GET", "/v1/boom", 500, zstackJSON, zstack("SYS.1000", internal, saysMore), ""},
		{"panic, native", quiet, "GET", "/api/v1/boom", 500, problemJSON, `{"detail":"` + saysMore + `","status":500,"title":"Internal Server Error","type":"about:blank"}`, ""},
		{"panic", quiet, "GET", "/boom", 500, plainText, saysMore + "\n", ""},

		{"own words for no path", own, "GET", "/v1/none", 404, plainText, "own 404", ""},
		{"own words for no method", own, "PUT", "/api/v1/things/a", 405, plainText, "own 405", "GET"},
		{"own words for a panic", own, "GET", "/boom", 500, plainText, "own 500", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := do(tt.of, tt.method, tt.path)
			got := []any{w.Code, w.Header().Get("Content-Type"), strings.ReplaceAll(w.Body.String(), `\u0026`, "&"), w.Header().Get("Allow")}
			want := []any{tt.status, tt.contentType, tt.body, tt.allowing}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answer differs (-want +got):\n%s", diff)
			}
		})
	}
}

// A journal keeps the log lines as JSON objects.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// lines returns the lines with a message, and forgets all.
func (j *journal) lines(t *testing.T, message string) []map[string]any {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []map[string]any
	for dec := json.NewDecoder(&j.buf); ; {
		var line map[string]any
		err := dec.Decode(&line)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("read log: %v", err)
		}
		if line["msg"] == message {
			found = append(found, line)
		}
	}
	j.buf.Reset()
	return found
}

func TestOneLinePerRequest(t *testing.T) {
	var log journal
	deps := everything(server.Deps{Log: log.logger()})
	deps.Native = api(func(r gin.IRouter) {
		r.Use(func(c *gin.Context) {
			ctx := core.WithCaller(c.Request.Context(), core.Caller{Name: "ann"})
			c.Request = c.Request.WithContext(ctx)
		})
		routes(r)
	})
	h := newServer(t, deps).Handler()
	for _, tt := range []struct {
		name, method, path string
		want               map[string]any
	}{
		{"known caller", "GET", "/api/v1/things/abc?token=secret", map[string]any{
			"level": "INFO", "method": "GET", "route": "/api/v1/things/:uuid", "status": 200.0, "bytes": 3.0, "request": "r-1", "caller": "ann"}},
		{"secret in the path", "DELETE", "/v1/accounts/sessions/secret", map[string]any{
			"level": "INFO", "method": "DELETE", "route": "unmatched", "status": 404.0, "bytes": 132.0, "request": "r-1"}},
		{"odd method", "SECRET", "/things/a", map[string]any{
			"level": "INFO", "method": "other", "route": "unmatched", "status": 405.0, "bytes": 37.0, "request": "r-1"}},
		{"health", "GET", "/healthz", map[string]any{
			"level": "DEBUG", "method": "GET", "route": "/healthz", "status": 200.0, "bytes": 15.0, "request": "r-1"}},
		{"readiness", "HEAD", "/readyz", map[string]any{
			"level": "DEBUG", "method": "HEAD", "route": "/readyz", "status": 200.0, "bytes": 33.0, "request": "r-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			do(h, tt.method, tt.path, "X-Request-Id", "r-1")
			lines := log.lines(t, "request")
			if len(lines) != 1 {
				t.Fatalf("got %d lines, want 1: %v", len(lines), lines)
			}
			line := lines[0]
			if text := strings.ToLower(fmt.Sprint(line)); strings.Contains(text, "secret") {
				t.Errorf("the line tells the secret: %s", text)
			}
			if took, ok := line["took"].(float64); !ok || took <= 0 {
				t.Errorf("took is %v, want a duration", line["took"])
			}
			for _, key := range []string{"time", "msg", "took"} {
				delete(line, key)
			}
			if diff := cmp.Diff(tt.want, line); diff != "" {
				t.Errorf("line differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPanicIsLoggedWithItsStack(t *testing.T) {
	var log journal
	h := newServer(t, everything(server.Deps{Log: log.logger()})).Handler()
	do(h, "GET", "/v1/boom", "X-Request-Id", "r-2")
	lines := log.lines(t, "handler panicked")
	if len(lines) != 1 {
		t.Fatalf("got %d lines about the panic, want 1", len(lines))
	}
	line := lines[0]
	if line["panic"] != "kaboom" || line["request"] != "r-2" || line["route"] != "/v1/boom" || line["level"] != "ERROR" {
		t.Errorf("line is %v, want panic, request, route at level ERROR", line)
	}
	if stack := fmt.Sprint(line["stack"]); !strings.Contains(stack, "server_test.routes") {
		t.Errorf("the stack does not name the handler:\n%s", stack)
	}
}

func TestPanicInTheMiddleOfAnAnswerCutsItOff(t *testing.T) {
	var log journal
	deps := server.Deps{Log: log.logger(), Native: api(func(r gin.IRouter) {
		r.GET("/half", func(c *gin.Context) {
			c.Writer.WriteString(`{"half":`)
			c.Writer.Flush()
			panic("too late for a 500")
		})
	})}
	web := httptest.NewServer(newServer(t, deps).Handler())
	defer web.Close()
	answer, err := http.Get(web.URL + "/api/v1/half")
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("got a whole answer %q, want it cut off", text)
	}
	web.Close() // waits for the handler's end, and so for its line
	if n := len(log.lines(t, "request")); n != 1 {
		t.Errorf("%d request lines, want 1", n)
	}
}

func TestRequestID(t *testing.T) {
	h := newServer(t, everything(server.Deps{})).Handler()
	for _, tt := range []struct {
		name, sent string
		kept       bool
	}{
		{"uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", true},
		{"trace", "00-4bf92f3577b34da6a3ce929d0e0e4736/1:2=+_.", true},
		{"longest", strings.Repeat("a", 128), true},
		{"none", "", false},
		{"too long", strings.Repeat("a", 129), false},
		{"line end", "a\nlevel=ERROR", false},
		{"space", "a b", false},
		{"markup", "<b>", false},
		{"not ASCII", "é", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := do(h, "GET", "/things/a", server.RequestID, tt.sent).Header().Get(server.RequestID)
			if tt.kept && got != tt.sent {
				t.Errorf("got id %q, want the one sent", got)
			}
			if !tt.kept && (got == tt.sent || len(got) != 32) {
				t.Errorf("got id %q, want a new one", got)
			}
		})
	}
}

type observation struct {
	Method, Route string
	Status        int
}

type observations []observation

func (o *observations) ObserveRequest(method, route string, status int, took time.Duration) {
	*o = append(*o, observation{method, route, status})
}

func TestMetricsCountByRoute(t *testing.T) {
	var got observations
	h := newServer(t, everything(server.Deps{Metrics: &got})).Handler()
	for _, r := range [][2]string{{"GET", "/v1/things/a"}, {"GET", "/zstack/v1/things/b"}, {"GET", "/v1/boom"}, {"GET", "/guess"}, {"XYZ", "/things/a"}} {
		do(h, r[0], r[1])
	}
	want := observations{
		{"GET", "/v1/things/:uuid", 200}, {"GET", "/zstack/v1/things/:uuid", 200}, {"GET", "/v1/boom", 500},
		{"GET", "unmatched", 404}, {"other", "unmatched", 405},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observations differ (-want +got):\n%s", diff)
	}
}

func TestGuardHeaders(t *testing.T) {
	h := newServer(t, everything(server.Deps{})).Handler()
	for _, path := range []string{"/v1/things/a", "/none", "/api/v1/boom", "/healthz"} {
		got := do(h, "GET", path).Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy":         "same-origin",
		} {
			if got.Get(name) != want {
				t.Errorf("%s: header %s is %q, want %q", path, name, got.Get(name), want)
			}
		}
	}
}

func TestClientAddress(t *testing.T) {
	whoami := api(func(r gin.IRouter) {
		r.GET("/whoami", func(c *gin.Context) { c.String(http.StatusOK, c.ClientIP()) })
	})
	const proxy, client = "192.0.2.1", "203.0.113.9" // httptest's requests come from the first
	for _, tt := range []struct {
		name    string
		trusted []string
		want    string
	}{
		{"nobody is trusted", nil, proxy},
		{"the proxy is trusted", []string{"192.0.2.0/24"}, client},
		{"another one is trusted", []string{"198.51.100.1"}, proxy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newServer(t, server.Deps{Console: whoami, TrustedProxies: tt.trusted}).Handler()
			if got := do(h, "GET", "/whoami", "X-Forwarded-For", client).Body.String(); got != tt.want {
				t.Errorf("client address is %s, want %s", got, tt.want)
			}
		})
	}
	if _, err := server.New(server.Deps{TrustedProxies: []string{"nonsense"}}); err == nil {
		t.Error("a trusted proxy that is no address was taken")
	}
}

func TestHealthy(t *testing.T) {
	w := do(newServer(t, server.Deps{Health: healthOf(func(context.Context) map[string]error {
		return map[string]error{"redis": io.EOF}
	})}).Handler(), "GET", "/healthz")
	if w.Code != http.StatusOK || w.Body.String() != `{"status":"ok"}` {
		t.Errorf("got %d %s, want 200 whatever is away", w.Code, w.Body)
	}
}
