// Package native is Takt's own HTTP API, /api/v1: everything the engine can do
// as JSON resources, without the history that the vendors' dialects carry.
//
//	POST /sessions ──▶ token          GET/POST/PATCH/DELETE
//	                                  /jobs /groups /triggers /cbt-tasks
//	POST /groups/{id}/runs ─┐
//	POST /jobs/{id}/runs ───┼──▶ Run ──▶ /runs/{id} ──▶ steps, attempts, logs
//	POST /triggers/{id}/fire┘
//
// openapi.yaml describes all of it and is served by the API itself; tests hold
// it to the mounted routes and to the wire types (types.go).
//
// A request passes three gates before its handler: the identity (a Bearer token,
// or the console's cookie from the same origin), the query parameters the route
// knows, and for bodies a strict reading that names the field that is wrong.
// Nothing reaches the engine half checked, and the engine's verbs are atomic, so
// that a refused request has changed nothing. A handler returns an error; one
// table (problem.go) turns its kind into a status and a problem document.
//
// Secret parameters leave the API as "***" only, and a PATCH that sends "***"
// back keeps what is stored (secret.go).
package native

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
)

// Options are the settings of an API. The zero value is usable.
type Options struct {
	Prefix         string        // where it is mounted, for Location headers; "" = /api/v1
	MaxBody        int64         // bytes of a request's body; 0 = 1 MiB
	RequireIfMatch bool          // refuse a PATCH without If-Match (428)
	Heartbeat      time.Duration // between signs of life of a followed log; 0 = 15 s
	MaxFollowers   int           // logs followed at a time; 0 = 256
	Log            *slog.Logger  // nil = slog.Default()
}

// An API serves HTTP on an engine. It is safe for concurrent use.
type API struct {
	eng       *engine.Engine
	auth      Auth
	opts      Options
	log       *slog.Logger
	origin    *http.CrossOriginProtection
	followers chan struct{} // a place for each followed log
	closing   context.Context
	close     context.CancelFunc
	document  func() ([]byte, error)
}

// New makes an API on an engine and an identity store.
func New(eng *engine.Engine, auth Auth, opts Options) *API {
	opts.Prefix = strings.TrimSuffix(cmp.Or(opts.Prefix, "/api/v1"), "/")
	opts.MaxBody = cmp.Or(opts.MaxBody, 1<<20)
	opts.Heartbeat = cmp.Or(opts.Heartbeat, 15*time.Second)
	opts.MaxFollowers = cmp.Or(opts.MaxFollowers, 256)
	a := &API{
		eng: eng, auth: auth, opts: opts, log: cmp.Or(opts.Log, slog.Default()),
		origin:    http.NewCrossOriginProtection(),
		followers: make(chan struct{}, opts.MaxFollowers),
		document:  sync.OnceValues(documentJSON),
	}
	a.closing, a.close = context.WithCancel(context.Background())
	return a
}

// Close ends the logs that are being followed, which a server's Shutdown would
// wait for; so does the end of their requests' contexts. Clients take them up
// elsewhere.
func (a *API) Close() { a.close() }

// Mount adds the routes to r, which is the group of Options.Prefix. Paths and
// methods that no route has are the router's: it gives them, as far as they begin
// with the prefix, to NoRoute and NoMethod, and panics to Failed.
func (a *API) Mount(r gin.IRouter) {
	for _, rt := range a.routes() {
		r.Handle(rt.method, rt.path, a.serve(rt))
	}
}

// NoRoute answers for paths within the API that do not exist.
func (a *API) NoRoute(c *gin.Context) {
	a.fail(c, core.Errorf(core.NotFound, "there is no %s; %s/openapi.json lists what there is", c.Request.URL.Path, a.opts.Prefix))
}

// NoMethod answers for methods that a path does not have; the router has set
// Allow.
func (a *API) NoMethod(c *gin.Context) {
	a.fail(c, core.Errorf(methodNotAllowed, "%s does not take %s; it takes %s", c.Request.URL.Path, c.Request.Method, c.Writer.Header().Get("Allow")))
}

// A route is one operation of the API.
type route struct {
	method, path string
	query        []string // parameters it knows; any other is refused
	open         bool     // needs no identity
	handle       func(*gin.Context) error
}

func (a *API) routes() []route {
	definitions := []string{"limit", "cursor", "name"}
	return []route{
		{"GET", "/openapi.json", nil, true, a.openapiJSON},
		{"GET", "/openapi.yaml", nil, true, a.openapiYAML},

		{"POST", "/sessions", nil, true, a.signIn},
		{"DELETE", "/sessions/current", nil, false, a.signOut},
		{"GET", "/me", nil, false, a.me},
		{"GET", "/accounts", nil, false, a.listAccounts},
		{"POST", "/accounts", nil, false, a.createAccount},
		{"GET", "/accounts/:id", nil, false, a.getAccount},
		{"PATCH", "/accounts/:id", nil, false, a.patchAccount},
		{"GET", "/accounts/:id/tokens", nil, false, a.listTokens},
		{"POST", "/accounts/:id/tokens", nil, false, a.createToken},
		{"DELETE", "/accounts/:id/tokens/:token", nil, false, a.deleteToken},

		{"GET", "/jobs", append(definitions, "type", "group"), false, a.listJobs},
		{"POST", "/jobs", nil, false, a.createJob},
		{"GET", "/jobs/:id", nil, false, a.getJob},
		{"PATCH", "/jobs/:id", nil, false, a.patchJob},
		{"DELETE", "/jobs/:id", nil, false, a.deleteJob},
		{"POST", "/jobs/:id/runs", nil, false, a.runJob},

		{"GET", "/groups", append(definitions, "type"), false, a.listGroups},
		{"POST", "/groups", nil, false, a.createGroup},
		{"GET", "/groups/:id", nil, false, a.getGroup},
		{"PATCH", "/groups/:id", nil, false, a.patchGroup},
		{"DELETE", "/groups/:id", nil, false, a.deleteGroup},
		{"POST", "/groups/:id/jobs", nil, false, a.addJobs},
		{"PUT", "/groups/:id/jobs/:job", nil, false, a.addJob},
		{"DELETE", "/groups/:id/jobs/:job", nil, false, a.removeJob},
		{"POST", "/groups/:id/runs", nil, false, a.runGroup},

		{"GET", "/triggers", append(definitions, "target"), false, a.listTriggers},
		{"POST", "/triggers", nil, false, a.createTrigger},
		{"GET", "/triggers/:id", nil, false, a.getTrigger},
		{"PATCH", "/triggers/:id", nil, false, a.patchTrigger},
		{"DELETE", "/triggers/:id", nil, false, a.deleteTrigger},
		{"POST", "/triggers/:id/targets", nil, false, a.bind},
		{"DELETE", "/triggers/:id/targets/:uuid", nil, false, a.unbind},
		{"POST", "/triggers/:id/fire", nil, false, a.fire},
		{"GET", "/triggers/:id/ledger", []string{"from", "to", "skip", "limit"}, false, a.ledger},

		{"GET", "/runs", []string{"limit", "cursor", "state", "kind", "group", "job", "trigger", "dialect", "account", "from", "to"}, false, a.listRuns},
		{"GET", "/runs/:id", []string{"skip", "limit"}, false, a.getRun},
		{"GET", "/runs/:id/steps/:n/log", []string{"attempt", "tail", "follow", "after"}, false, a.stepLog},
		{"POST", "/runs/:id/cancel", nil, false, a.cancelRun},
		{"POST", "/runs/:id/retry", nil, false, a.retryRun},

		{"GET", "/cbt-tasks", append(definitions, "status", "machine"), false, a.listCBTTasks},
		{"POST", "/cbt-tasks", nil, false, a.createCBTTask},
		{"GET", "/cbt-tasks/:id", nil, false, a.getCBTTask},
		{"PATCH", "/cbt-tasks/:id", nil, false, a.patchCBTTask},
		{"DELETE", "/cbt-tasks/:id", []string{"force", "backups"}, false, a.deleteCBTTask},
		{"POST", "/cbt-tasks/:id/enable", nil, false, a.enableCBTTask},
		{"POST", "/cbt-tasks/:id/disable", nil, false, a.disableCBTTask},
		{"GET", "/cbt-tasks/:id/checkpoints", nil, false, a.listCheckpoints},
		{"DELETE", "/cbt-tasks/:id/checkpoints/:name", nil, false, a.deleteCheckpoint},
		{"GET", "/cbt-tasks/:id/changes", []string{"volume", "from", "to", "startingOffset", "maxResults"}, false, a.readChanges},
		{"GET", "/cbt-tasks/:id/estimate", nil, false, a.estimateCBT},
		{"GET", "/cbt-tasks/:id/backups", nil, false, a.listBackups},
		{"POST", "/cbt-tasks/:id/backups", nil, false, a.createBackup},
		{"GET", "/cbt-tasks/:id/backups/:name", nil, false, a.getBackup},
		{"DELETE", "/cbt-tasks/:id/backups/:name", nil, false, a.deleteBackup},
		{"POST", "/cbt-tasks/:id/backups/:name/restore", nil, false, a.restoreBackup},
		{"POST", "/cbt-tasks/:id/backups/:name/verify", nil, false, a.verifyBackup},

		{"GET", "/workers", nil, false, a.listWorkers},
		{"GET", "/resources", nil, false, a.listResources},
		{"GET", "/types", nil, false, a.listTypes},
		{"GET", "/cron/preview", []string{"expression", "dialect", "zone", "gap", "overlap", "from", "n"}, false, a.previewQuery},
		{"POST", "/cron/preview", nil, false, a.preview},
	}
}

// serve puts the gates that all routes share before a route's handler.
func (a *API) serve(rt route) gin.HandlerFunc {
	return func(c *gin.Context) {
		h := c.Writer.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		err := a.admit(c, rt)
		if err == nil {
			err = rt.handle(c)
		}
		if err != nil {
			a.fail(c, err)
		}
	}
}

func (a *API) admit(c *gin.Context, rt route) error {
	if !rt.open {
		if err := a.identify(c); err != nil {
			return err
		}
	}
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return core.Errorf(core.Invalid, "the query cannot be read: %v", err)
	}
	for name := range values {
		if !slices.Contains(rt.query, name) {
			return core.InvalidField(name, "%q is not a query parameter of this route, which takes: %s", name, cmp.Or(strings.Join(rt.query, ", "), "none"))
		}
	}
	return nil
}

// answer sends a JSON document. It is encoded before the first byte is sent, so
// that a failure can still become a problem.
func answer(c *gin.Context, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.Data(status, "application/json", body)
	return nil
}

// created answers 201 with where the new thing is.
func (a *API) created(c *gin.Context, path string, v any) error {
	c.Header("Location", a.opts.Prefix+path)
	return answer(c, http.StatusCreated, v)
}

func noContent(c *gin.Context) error {
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
	return nil
}
