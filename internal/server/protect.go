package server

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

// recover answers 500 for a handler that panics. An answer that has begun is cut
// off instead, so that the client cannot take it for a whole one.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if reason == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does; net/http's own way to cut an answer off
			panic(reason)
		}
		s.log.ErrorContext(c.Request.Context(), "handler panicked",
			"route", routeOf(c), "request", c.Writer.Header().Get(RequestID),
			"panic", fmt.Sprint(reason), "stack", string(debug.Stack()))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		c.Abort()
		for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Etag"} {
			c.Writer.Header().Del(name) // what the handler meant to send
		}
		s.failed(c)
	}()
	c.Next()
}

// guardHeaders sets what keeps a browser from being turned against us. Pages set
// a content policy of their own; nothing else is meant to be rendered.
func guardHeaders(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not no-referrer: browsers would then send "Origin: null" with our own
	// forms, and the same-origin check could not tell them from a stranger's.
	h.Set("Referrer-Policy", "same-origin")
}

// limitBody bounds the size of each request's body. It stands before the router
// because http.MaxBytesReader wants net/http's own writer: it tells it to close
// the connection instead of reading on.
func (s *Server) limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, s.deps.BodyLimit)
		}
		next.ServeHTTP(w, r)
	})
}
