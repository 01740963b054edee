package server

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// errStopping is the cause (context.Cause) with which the context of an event
// stream ends when the server stops. A stream may show it to its client.
var errStopping = core.Errorf(core.Unavailable, "the server is stopping; connect again")

// endStreams ends the context of event streams when the server stops; other
// requests finish in peace. A response that is flushed is a stream: nothing else
// has reason to flush.
func (s *Server) endStreams(c *gin.Context) {
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	defer cancel(nil)
	c.Request = c.Request.WithContext(ctx)
	w := &streamWriter{ResponseWriter: c.Writer, stopping: s.stopping, cancel: cancel}
	defer w.forget()
	c.Writer = w
	c.Next()
}

// A streamWriter ties its request to the server's end at its first Flush. Only
// the request's own goroutine uses it.
type streamWriter struct {
	gin.ResponseWriter
	stopping context.Context
	cancel   context.CancelCauseFunc
	untie    func() bool // nil before the first Flush
}

// Flush sends what is written so far.
func (w *streamWriter) Flush() {
	if w.untie == nil {
		w.untie = context.AfterFunc(w.stopping, func() { w.cancel(errStopping) })
	}
	w.ResponseWriter.Flush()
}

// Unwrap lets http.ResponseController find the connection.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *streamWriter) forget() {
	if w.untie != nil {
		w.untie()
	}
}
