package server

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// RequestID is the header that names a request: what the client sent, if it is
// fit to stand in a log, or a new id. It is in the answer's header before any
// API sees the request.
const RequestID = "X-Request-Id"

const maxRequestID = 128

func nameRequest(c *gin.Context) {
	name := c.GetHeader(RequestID)
	if !saneID(name) {
		name = id.New()
	}
	c.Header(RequestID, name)
}

// saneID reports whether a client's id is short and cannot break a log line.
func saneID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for _, b := range []byte(s) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '-', b == '_', b == '.', b == ':', b == '/', b == '=', b == '+':
		default:
			return false
		}
	}
	return true
}

// observe logs and counts the request when it has ended, also when it is cut
// off by a panic that is meant for net/http.
func (s *Server) observe(c *gin.Context) {
	began := time.Now()
	defer func() {
		took := time.Since(began)
		route := routeOf(c)
		s.logRequest(c, route, took)
		if s.deps.Metrics != nil {
			s.deps.Metrics.ObserveRequest(methodOf(c.Request), route, c.Writer.Status(), took)
		}
	}()
	c.Next()
}

// logRequest writes the request's line. It names the route and neither path nor
// query: a path may hold a session (ZStack's logout) or a receipt, a query
// anything.
func (s *Server) logRequest(c *gin.Context, route string, took time.Duration) {
	level := slog.LevelInfo
	if route == "/healthz" || route == "/readyz" {
		level = slog.LevelDebug // a probe comes every few seconds
	}
	ctx := c.Request.Context()
	attrs := []slog.Attr{
		slog.String("method", methodOf(c.Request)),
		slog.String("route", route),
		slog.Int("status", c.Writer.Status()),
		slog.Duration("took", took),
		slog.Int("bytes", max(c.Writer.Size(), 0)), // -1 before the first byte
		slog.String("request", c.Writer.Header().Get(RequestID)),
	}
	if caller, err := core.CallerFrom(ctx); err == nil {
		attrs = append(attrs, slog.String("caller", caller.Name))
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}

// routeOf returns the template of the route. All paths without one count as
// one, so that a stranger cannot fill the metrics.
func routeOf(c *gin.Context) string {
	if route := c.FullPath(); route != "" {
		return route
	}
	return "unmatched"
}

// methodOf returns the method, or "other" for one that no standard knows.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
