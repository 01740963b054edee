package console

import (
	"io"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"

	"github.com/takt-dev/takt/internal/core"
)

const monitoringPath = "/monitoring"

// A dashboard is asynqmon twice over one Redis client: the second is told to be
// read-only, so that its page offers viewers nothing that would be refused.
// asynqmon itself lets everybody do everything; the console stands before it.
// Payloads are ids of dispatches and are shown as they are.
type dashboard struct {
	all, readOnly screen
	client        io.Closer
}

// A screen is one asynqmon and the content policy of its page.
type screen struct {
	handler http.Handler
	policy  string
}

// oneClient hands asynqmon and its inspector the same client each time they ask.
type oneClient struct{ client any }

// MakeRedisClient implements asynq.RedisConnOpt.
func (o oneClient) MakeRedisClient() any { return o.client }

func newDashboard(redis asynq.RedisConnOpt) *dashboard {
	shared := oneClient{redis.MakeRedisClient()}
	d := &dashboard{all: newScreen(shared, false), readOnly: newScreen(shared, true)}
	d.client, _ = shared.client.(io.Closer)
	return d
}

func newScreen(redis asynq.RedisConnOpt, readOnly bool) screen {
	handler := asynqmon.New(asynqmon.Options{RootPath: monitoringPath, RedisConnOpt: redis, ReadOnly: readOnly})
	return screen{handler, monitoringPolicy(pageOf(handler))}
}

func (d *dashboard) close() error {
	if d.client == nil {
		return nil
	}
	return d.client.Close()
}

// monitors reports whether a caller may look at the queues.
func (h *Console) monitors(caller core.Caller) bool {
	return caller.Role == core.Admin || caller.Role == core.Operator || caller.Role == core.Viewer && h.opts.ViewersMonitor
}

// mayMonitor lets admins and operators pass, and viewers who only read.
func (h *Console) mayMonitor(c *gin.Context) {
	caller, err := core.CallerFrom(c.Request.Context())
	if err != nil {
		h.failLogged(c, "caller not identified", err)
		return
	}
	if !h.monitors(caller) {
		h.refuse(c, http.StatusForbidden, "Your role does not include the queues; ask an admin.")
		return
	}
	reads := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if caller.Role == core.Viewer && !reads {
		h.refuse(c, http.StatusForbidden, "Your role may look at the queues and change nothing.")
	}
}

// monitor answers with asynqmon.
func (h *Console) monitor(c *gin.Context) {
	s := h.dashboard.all
	if caller, err := core.CallerFrom(c.Request.Context()); err != nil || caller.Role == core.Viewer {
		s = h.dashboard.readOnly
	}
	c.Header("Content-Security-Policy", s.policy)
	c.Header("Cache-Control", "no-store")
	var w http.ResponseWriter = c.Writer
	if rest, ok := strings.CutPrefix(c.Request.URL.Path, monitoringPath+"/static/"); ok {
		c.Header("Cache-Control", "private, max-age=86400") // the names change with the content
		if strings.HasSuffix(rest, ".svg") {
			w = svgWriter{w}
		}
	}
	s.handler.ServeHTTP(w, c.Request)
}

// An svgWriter names the type of asynqmon's logo. asynqmon guesses text/plain,
// and no browser draws that.
type svgWriter struct{ http.ResponseWriter }

// Write sends b with the right type.
func (w svgWriter) Write(b []byte) (int, error) {
	w.Header().Set("Content-Type", "image/svg+xml")
	return w.ResponseWriter.Write(b)
}
