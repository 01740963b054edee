package native

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// Kinds of error that only this dialect has, beside those of core.
const (
	tooLarge             core.Kind = "too_large"
	unsupportedMedia     core.Kind = "unsupported_media_type"
	methodNotAllowed     core.Kind = "method_not_allowed"
	preconditionRequired core.Kind = "precondition_required"
)

// problems turns the kind of an error into what the client sees of it.
var problems = map[core.Kind]struct {
	status int
	title  string
}{
	core.Invalid:         {http.StatusBadRequest, "The request is not valid"},
	core.Unauthenticated: {http.StatusUnauthorized, "Sign in first"},
	core.Denied:          {http.StatusForbidden, "Not allowed"},
	core.NotFound:        {http.StatusNotFound, "Not found"},
	methodNotAllowed:     {http.StatusMethodNotAllowed, "Method not allowed"},
	core.Exists:          {http.StatusConflict, "Already exists"},
	core.Conflict:        {http.StatusConflict, "Not possible in this state"},
	core.Stale:           {http.StatusPreconditionFailed, "Changed meanwhile"},
	tooLarge:             {http.StatusRequestEntityTooLarge, "The body is too large"},
	unsupportedMedia:     {http.StatusUnsupportedMediaType, "Unsupported content type"},
	preconditionRequired: {http.StatusPreconditionRequired, "If-Match is required"},
	core.Exhausted:       {http.StatusTooManyRequests, "A limit is reached"},
	core.Internal:        {http.StatusInternalServerError, "Internal error"},
	core.Unavailable:     {http.StatusServiceUnavailable, "Unavailable"},
}

// When to come again, where the error itself does not say.
const (
	retryExhausted   = 5 * time.Second
	retryUnavailable = 2 * time.Second
)

// problemOf describes an error. The text of an internal one stays inside.
func problemOf(err error) Problem {
	kind, detail := core.KindOf(err), core.Text(err)
	if kind == core.Internal && errors.Is(err, context.DeadlineExceeded) {
		kind, detail = core.Unavailable, "the request took too long; try again shortly"
	}
	as, known := problems[kind]
	if !known {
		kind, as = core.Internal, problems[core.Internal]
	}
	p := Problem{Type: "/problems/" + string(kind), Title: as.title, Status: as.status, Detail: detail}
	var e *core.Error
	if errors.As(err, &e) && (kind == core.Invalid || kind == core.Exists) {
		p.Field = e.Field // of other kinds the field is not one of the request's
	}
	return p
}

// fail answers with an error. Where the answer has begun already, as in a
// stream, it only logs.
func (a *API) fail(c *gin.Context, err error) {
	p := problemOf(err)
	if errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil {
		// The client has gone; nobody reads the answer. nginx's number for it.
		c.AbortWithStatus(499)
		return
	}
	ctx, about := c.Request.Context(), []any{"method", c.Request.Method, "route", c.FullPath(), "request", requestID(c), "err", err}
	switch p.Status {
	case http.StatusInternalServerError:
		a.log.ErrorContext(ctx, "request failed", about...)
	case http.StatusServiceUnavailable: // the answer does not say why
		a.log.WarnContext(ctx, "request not served", about...)
	}
	c.Abort()
	if c.Writer.Written() {
		return
	}
	h := c.Writer.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="takt"`)
	case http.StatusTooManyRequests:
		h.Set("Retry-After", retryAfter(err, retryExhausted))
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter(err, retryUnavailable))
	}
	send(c, p)
}

// Failed answers for a handler that has panicked, which the server has logged.
func (a *API) Failed(c *gin.Context) {
	send(c, problemOf(core.Errorf(core.Internal, "panic")))
}

func send(c *gin.Context, p Problem) {
	p.RequestID = requestID(c)
	body, _ := json.Marshal(p) // texts and a number: nothing that can fail
	c.Data(p.Status, "application/problem+json", body)
}

// retryAfter gives whole seconds, rounded up: a client that obeys must not come
// too early.
func retryAfter(err error, usual time.Duration) string {
	var wait auth.WaitError
	if errors.As(err, &wait) {
		usual = wait.For
	}
	return strconv.FormatInt(int64((usual+time.Second-1)/time.Second), 10)
}

// requestID is what the server's middleware named the request in its answer, or
// else what the client did.
func requestID(c *gin.Context) string {
	if id := c.Writer.Header().Get("X-Request-Id"); id != "" {
		return id
	}
	if id := c.GetHeader("X-Request-Id"); visible(id, 128) {
		return id
	}
	return ""
}

// visible reports whether s has 1 to most visible ASCII characters.
func visible(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
