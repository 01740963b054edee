package safehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newClient returns a client that may reach what allow lists.
func newClient(t *testing.T, allow ...string) *Client {
	t.Helper()
	policy, err := ParsePolicy(allow)
	if err != nil {
		t.Fatal(err)
	}
	c := New(policy)
	t.Cleanup(c.CloseIdle)
	return c
}

func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, c *Client, url string, o Options) (*Answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(req, o)
}

// hostPort is where a test server listens, as a policy entry.
func hostPort(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

// byName is the server's URL by a name that resolves to loopback.
func byName(t *testing.T, s *httptest.Server) string {
	t.Helper()
	_, port, err := net.SplitHostPort(hostPort(s))
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + port
}

func TestDoReachesOnlyWhatIsAllowed(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "inner")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	name := strings.TrimPrefix(byName(t, s), "http://")

	tests := []struct {
		name  string
		allow []string
		url   string
		want  string // part of the refusal; "" means reached
	}{
		{"address, nothing allowed", nil, s.URL, "loopback"},
		{"name that resolves to loopback", nil, byName(t, s), "loopback"},
		{"mapped address", nil, strings.Replace(s.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), "loopback"},
		{"unspecified address", nil, strings.Replace(s.URL, "127.0.0.1", "0.0.0.0", 1), "unspecified"},
		{"another port allowed", []string{"127.0.0.1:1"}, s.URL, "loopback"},
		{"network allowed", []string{"127.0.0.0/8", "::1"}, s.URL, ""},
		{"network allowed, by name", []string{"127.0.0.0/8", "::1"}, byName(t, s), ""},
		{"host and port allowed", []string{name}, byName(t, s), ""},
		{"only the name allowed", []string{name}, s.URL, "loopback"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := connections.Load()
			answer, err := get(t, newClient(t, tt.allow...), tt.url, Options{})
			checkRefusal(t, err, tt.want)
			if err == nil && string(answer.Body) != "inner" {
				t.Errorf("body %q, want the server's", answer.Body)
			}
			if got := connections.Load() - before; (got > 0) != (tt.want == "") {
				t.Errorf("%d connections reached the server", got)
			}
		})
	}
}

func TestDoIgnoresProxies(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "direct") })
	proxy := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "proxy") })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c := newClient(t, "127.0.0.0/8")
	if c.transport.Proxy != nil {
		t.Error("the transport has a proxy function; net/http reads the environment once, so only this tells")
	}
	answer, err := get(t, c, s.URL, Options{})
	if err != nil || string(answer.Body) != "direct" {
		t.Errorf("answer %+v, error %v, want the server's own", answer, err)
	}
}

func TestDoTakesHTTPOnly(t *testing.T) {
	for _, url := range []string{"ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "/path", "http:", "http:///path", "http:opaque", "HTTPS+unix://x"} {
		if _, err := get(t, newClient(t), url, Options{}); !errors.Is(err, ErrScheme) {
			t.Errorf("Do(%q) = %v, want ErrScheme", url, err)
		}
	}
}

func TestDoBoundsTheBody(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for range 4 {
			io.WriteString(w, "12345678")
			w.(http.Flusher).Flush()
		}
	})
	c := newClient(t, "127.0.0.0/8")
	tests := []struct {
		name      string
		limit     int64
		want      int
		truncated bool
	}{
		{"below", 31, 31, true},
		{"exact", 32, 32, false},
		{"above", 33, 32, false},
		{"default", 0, 32, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := get(t, c, s.URL, Options{MaxBody: tt.limit})
			if err != nil {
				t.Fatal(err)
			}
			if len(answer.Body) != tt.want || answer.Truncated != tt.truncated {
				t.Errorf("%d bytes, truncated %v, want %d, %v", len(answer.Body), answer.Truncated, tt.want, tt.truncated)
			}
		})
	}
}

func TestDoBoundsTheHeader(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 128<<10))
	})
	if answer, err := get(t, newClient(t, "127.0.0.0/8"), s.URL, Options{}); err == nil {
		t.Errorf("answer with %d headers, want an error", len(answer.Header))
	}
}

func TestDoTimesOut(t *testing.T) {
	stages := map[string]http.HandlerFunc{
		"before the header": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"within the body": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range stages {
		t.Run(name, func(t *testing.T) {
			s := serve(t, handler)
			c := newClient(t, "127.0.0.0/8")
			var timeout *TimeoutError
			_, err := get(t, c, s.URL+"/path?token=hunter2", Options{Timeout: 50 * time.Millisecond})
			if !errors.As(err, &timeout) || timeout.After != 50*time.Millisecond {
				t.Errorf("Do = %v, want a TimeoutError of 50ms", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows the query", err)
			}
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	started := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})
	cause := errors.New("released")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-started
		cancel(cause)
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, "127.0.0.0/8").Do(req, Options{}); !errors.Is(err, cause) {
		t.Errorf("Do = %v, want the cause of its context", err)
	}
}

// A server may switch protocols unasked; the connection is not read then.
func TestDoLeavesSwitchedProtocols(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = conn.Read(make([]byte, 1)) // until the client closes
	}()
	answer, err := get(t, newClient(t, "127.0.0.0/8"), "http://"+l.Addr().String(), Options{Timeout: 5 * time.Second})
	if err != nil || answer.Status != http.StatusSwitchingProtocols {
		t.Errorf("answer %+v, error %v, want status 101", answer, err)
	}
}

func TestDoReturnsWhatCameBeforeABreak(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	answer, err := get(t, newClient(t, "127.0.0.0/8"), s.URL, Options{})
	if err == nil || answer == nil || string(answer.Body) != "half" || answer.Status != 200 {
		t.Errorf("answer %+v, error %v, want the half that came and an error", answer, err)
	}
}

func TestDialContextIsGuarded(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, err := newClient(t).DialContext(t.Context(), "tcp", hostPort(s))
	checkRefusal(t, err, "loopback")
	conn, err := newClient(t, hostPort(s)).DialContext(t.Context(), "tcp", hostPort(s))
	if err != nil {
		t.Fatalf("DialContext of an allowed address = %v", err)
	}
	conn.Close()
	if _, err := newClient(t).DialContext(t.Context(), "udp", hostPort(s)); err == nil {
		t.Error("DialContext connected by UDP")
	}
}
