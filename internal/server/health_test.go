package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/server"
)

func healthOf(ready func(context.Context) map[string]error) *server.Health {
	return server.NewHealth(ready, slog.New(slog.DiscardHandler))
}

func TestReady(t *testing.T) {
	away := errors.New("dial tcp 10.1.2.3:6379: connection refused")
	for _, tt := range []struct {
		name   string
		found  map[string]error
		status int
		body   string
	}{
		{"nothing to ask", nil, 200, `{"dependencies":{},"status":"ok"}`},
		{"all there", map[string]error{"redis": nil, "nats": server.Degraded(nil)}, 200,
			`{"dependencies":{"nats":"ok","redis":"ok"},"status":"ok"}`},
		{"can do without", map[string]error{"redis": nil, "nats": server.Degraded(away)}, 200,
			`{"dependencies":{"nats":"degraded","redis":"ok"},"status":"degraded"}`},
		{"cannot do without", map[string]error{"redis": away, "nats": nil}, 503,
			`{"dependencies":{"nats":"ok","redis":"unavailable"},"status":"unavailable"}`},
		{"both away", map[string]error{"redis": away, "nats": server.Degraded(away)}, 503,
			`{"dependencies":{"nats":"degraded","redis":"unavailable"},"status":"unavailable"}`},
		{"wrapped", map[string]error{"nats": fmt.Errorf("look at nats: %w", server.Degraded(away))}, 200,
			`{"dependencies":{"nats":"degraded"},"status":"degraded"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newServer(t, server.Deps{Health: healthOf(func(context.Context) map[string]error { return tt.found })}).Handler()
			// Maps have no order: the answer must be the same each time.
			for range 20 {
				w := do(h, "GET", "/readyz")
				if w.Code != tt.status || w.Body.String() != tt.body {
					t.Fatalf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.body)
				}
			}
		})
	}
}

func TestReadyHasADeadline(t *testing.T) {
	var left time.Duration
	h := newServer(t, server.Deps{Health: healthOf(func(ctx context.Context) map[string]error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	})}).Handler()
	do(h, "GET", "/readyz")
	if left <= 0 || left > 2*time.Second {
		t.Errorf("the look at dependencies may take %v, want at most 2 s", left)
	}
}

func TestChangesOfReadinessAreLogged(t *testing.T) {
	var log journal
	var err error
	h := newServer(t, server.Deps{Log: log.logger(), Health: server.NewHealth(func(context.Context) map[string]error {
		return map[string]error{"redis": err}
	}, log.logger())}).Handler()
	counts := func() []int {
		text := log.text()
		log.lines(t, "")
		return []int{strings.Count(text, "dependency lost"), strings.Count(text, "dependency is back")}
	}
	for i, step := range []struct {
		err  error
		want []int
	}{{nil, []int{0, 0}}, {http.ErrServerClosed, []int{1, 0}}, {http.ErrServerClosed, []int{0, 0}}, {nil, []int{0, 1}}, {nil, []int{0, 0}}} {
		err = step.err
		do(h, "GET", "/readyz")
		if diff := cmp.Diff(step.want, counts()); diff != "" {
			t.Errorf("step %d: lines lost, back differ (-want +got):\n%s", i, diff)
		}
	}
}

// A probe that gives up before it has its answer says nothing about what it asked for.
func TestAProbeThatGivesUpIsNoLoss(t *testing.T) {
	var log journal
	h := newServer(t, server.Deps{Log: log.logger(), Health: server.NewHealth(func(ctx context.Context) map[string]error {
		return map[string]error{"redis": ctx.Err()}
	}, log.logger())}).Handler()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodGet, "/readyz", nil))
	do(h, "GET", "/readyz")
	if text := log.text(); strings.Contains(text, "dependency") {
		t.Errorf("log of a probe that gave up:\n%s\nwant nothing about dependencies", text)
	}
}
