// Package console is what people see of Takt in a browser: the sign-in page, a
// start page with the latest runs and the workers, and asynqmon, the dashboard
// of the queues, at /monitoring. Its pages work without scripts and load nothing
// from elsewhere.
//
//	GET  /login       the form          open
//	POST /login       sign in           open, same origin
//	POST /logout      sign out          same origin
//	GET  /            start page        any account
//	     /monitoring  asynqmon          admins and operators; viewers by option, reading only
//	GET  /assets/     style and icon    open
//
// Who asks is known by the session cookie or, for programs, by the header
// "Authorization: Bearer <session or API token>" (ZStack's "OAuth <session>" does
// as well). A request without either is sent to the form if it is a browser's,
// and answered 401 if not.
package console

import (
	"context"
	"embed"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/core"
)

// Accounts knows who somebody is; auth.Authority implements it. Methods may also
// return Unavailable errors.
type Accounts interface {
	// LoginPlain begins a session. Unauthenticated for a wrong name or password;
	// Exhausted, with an auth.WaitError as cause, after too many of them.
	LoginPlain(ctx context.Context, name, password, remote string) (core.Session, error)
	// Validate returns whose a session or an API token is, or Unauthenticated.
	Validate(ctx context.Context, text string) (core.Caller, core.Session, error)
	// Logout ends a session.
	Logout(ctx context.Context, text string) error
}

// Verbs are what the start page shows; engine.Engine implements them. The caller
// is taken from the context.
type Verbs interface {
	Runs(ctx context.Context, f core.RunFilter) (core.RunPage, error)
	Fleet(ctx context.Context) (core.Fleet, error)
}

// Options are what a Console needs.
type Options struct {
	Accounts Accounts
	Verbs    Verbs
	// Redis says where the queues are: one server, Sentinel or Cluster. It is
	// asked for a client once.
	Redis asynq.RedisConnOpt
	// ViewersMonitor lets viewers look at /monitoring. Queues hold the tasks of
	// all accounts, so it is for installations with one.
	ViewersMonitor bool
	// Log takes what fails on the way; nil = slog.Default().
	Log *slog.Logger
}

// A Console serves its pages. It is safe for concurrent use.
type Console struct {
	opts      Options
	log       *slog.Logger
	dashboard *dashboard
}

// New makes a Console. It does not connect yet. Like asynqmon it panics without
// Options.Redis.
func New(opts Options) *Console {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	return &Console{opts: opts, log: opts.Log, dashboard: newDashboard(opts.Redis)}
}

// Close closes the client that Options.Redis made. Leave it out where Redis
// hands out a client that others use.
func (h *Console) Close() error { return h.dashboard.close() }

//go:embed asset
var assets embed.FS

// Mount puts the console's routes under r, which has to be the root: links and
// the cookie are for the whole site.
func (h *Console) Mount(r gin.IRouter) {
	r.StaticFileFS("/assets/console.css", "asset/console.css", http.FS(assets))
	r.StaticFileFS("/assets/icon.svg", "asset/icon.svg", http.FS(assets))

	r.GET("/login", h.loginForm)
	r.POST("/login", h.login)
	r.POST("/logout", h.logout)
	r.GET("/", h.identify, h.start)

	queues := r.Group(monitoringPath, h.identify, h.mayMonitor, h.sameOrigin)
	queues.Any("", h.monitor)
	queues.Any("/*path", h.monitor)
}

// NoRoute answers for a path that nobody has.
func (h *Console) NoRoute(c *gin.Context) {
	h.refuse(c, http.StatusNotFound, "There is nothing at this address.")
}

// NoMethod answers for a method that a path does not take.
func (h *Console) NoMethod(c *gin.Context) {
	h.refuse(c, http.StatusMethodNotAllowed, "This address does not take "+c.Request.Method+" requests.")
}

// Failed answers for a handler that has panicked.
func (h *Console) Failed(c *gin.Context) {
	h.refuse(c, http.StatusInternalServerError, "An internal error happened; the server's log says more.")
}
