package zstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// Error codes of ZStack.
const (
	codeInternal     = "SYS.1000"
	codeTimeout      = "SYS.1001"
	codeNotFound     = "SYS.1003"
	codeOperation    = "SYS.1006"
	codeArgument     = "SYS.1007"
	codeNotReady     = "SYS.1010"
	codeCanceled     = "SYS.1017"
	codeLogin        = "ID.1000"
	codeSession      = "ID.1001"
	codeDenied       = "ID.1002"
	codeManySessions = "ID.1006"
)

var descriptions = map[string]string{
	codeInternal:     "An internal error happened in system",
	codeTimeout:      "A message or a operation timeout",
	codeNotFound:     "A resource can not be found",
	codeOperation:    "An operation failed",
	codeArgument:     "One or more API argument is invalid",
	codeNotReady:     "The system is not ready",
	codeCanceled:     "The operation was canceled",
	codeLogin:        "Unable to authenticate a user",
	codeSession:      "The session is invalid, either wrong session id or the session has been expired",
	codeDenied:       "No permission to do the operation",
	codeManySessions: "The number of sessions exceeds the maximum",
}

// codes is the one place where kinds of errors become codes. A uuid that is
// taken is an internal error to ZStack, and documented so.
var codes = map[core.Kind]string{
	core.Invalid:         codeArgument,
	core.NotFound:        codeNotFound,
	core.Exists:          codeInternal,
	core.Conflict:        codeOperation,
	core.Stale:           codeOperation,
	core.Unauthenticated: codeSession,
	core.Denied:          codeDenied,
	core.Exhausted:       codeOperation,
	core.Unavailable:     codeNotReady,
	core.Internal:        codeInternal,
}

// A fault is an error as the wire shows it.
type fault struct {
	status  int
	code    string
	details string
}

func (f *fault) Error() string { return f.code + ": " + f.details }

// failed is a business failure: of a direct call, or of a job.
func failed(code, format string, args ...any) *fault {
	return &fault{http.StatusServiceUnavailable, code, fmt.Sprintf(format, args...)}
}

// badArgument is the business failure of a request that can never work.
func badArgument(format string, args ...any) *fault { return failed(codeArgument, format, args...) }

// badRequest refuses a request whose shape is wrong, before it becomes a job.
func badRequest(format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, codeArgument, fmt.Sprintf(format, args...)}
}

// faultOf turns any error into what may leave the server. What has no kind is a
// fault of ours: it is logged and stays inside.
func (a *API) faultOf(ctx context.Context, err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	kind := core.KindOf(err)
	switch {
	case kind == core.Internal && errors.Is(err, context.DeadlineExceeded):
		return failed(codeTimeout, "the operation did not end in time; whether it took effect is not known")
	case kind == core.Internal:
		a.log.ErrorContext(ctx, "zstack call failed", "err", err)
	case kind == core.Unavailable:
		a.log.WarnContext(ctx, "zstack call not served", "err", err)
	case kind == core.Unauthenticated:
		return failed(codeSession, "Session expired")
	}
	return failed(codes[kind], "%s", core.Text(err))
}

// body is the error body: exactly one top-level key, else the Go SDK loses code
// and details.
func (f *fault) body() []byte {
	return encode(map[string]any{"error": errorCode{Code: f.code, Description: descriptions[f.code], Details: f.details}})
}

type errorCode struct {
	Code        string `json:"code"`
	Description string `json:"description"`
	Details     string `json:"details"`
}

// refuse answers with an error.
func (a *API) refuse(c *gin.Context, err error) {
	f := a.faultOf(c.Request.Context(), err)
	writeJSON(c, f.status, f.body())
}

// NoRoute answers for paths of this dialect that no route serves.
func (a *API) NoRoute(c *gin.Context) {
	f := &fault{http.StatusNotFound, codeNotFound, "no api mapping to " + c.Request.URL.Path}
	writeJSON(c, f.status, f.body())
}

// A ref is a resource as a request names it.
type ref struct {
	noun  string // the engine's
	kind  string // ZStack's
	field string // of the request
	uuid  string
}

func groupRef(field, uuid string) ref   { return ref{"job group", "SchedulerJobGroupVO", field, uuid} }
func jobRef(field, uuid string) ref     { return ref{"job", "SchedulerJobVO", field, uuid} }
func triggerRef(field, uuid string) ref { return ref{"trigger", "SchedulerTriggerVO", field, uuid} }

func (r ref) missing() *fault {
	return failed(codeNotFound, "invalid field[%s], resource[uuid:%s, type:%s] not found", r.field, r.uuid, r.kind)
}

func missingAll(r ref, uuids []string) *fault {
	return failed(codeNotFound, "invalid field[%s], resource[uuids:[%s], type:%s] not found", r.field, strings.Join(uuids, ", "), r.kind)
}

// named says of a NotFound error which field of the request is to blame.
func named(err error, refs ...ref) error {
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.NotFound {
		return err
	}
	for _, r := range refs {
		if r.noun == e.Field {
			return r.missing()
		}
	}
	return err
}
