// Package zstack speaks ZStack's scheduler and CBT API, so that ZStack's own
// clients (the Java SDK, the Go SDK, curl, Terraform) work against Takt unmodified.
// It translates; every rule about jobs, groups, triggers, CBT tasks and runs is the
// engine's.
//
// There are three kinds of calls:
//
//	sign-in   PUT, DELETE, GET   answered at once, never 202, no session needed
//	query     GET                answered at once: 200 or 503
//	mutation  POST, PUT, DELETE  the asynchronous protocol
//
// A mutation with X-Job-UUID (the Java SDK always sends it) or X-Web-Hook gets a
// receipt that holds it, is carried out, and is answered with 202 and the receipt's
// location, where any replica then answers 202 (not done), 200 (done) or 503
// (failed). All business errors, a wrong session too, come through the receipt.
// Should the process die, another replica carries it out (Run). A mutation without
// these headers (curl, Go SDK) is answered directly, unless it takes longer than
// Options.SyncWait: then it becomes a 202 as well.
//
// A request goes through three readings, each with errors of its own:
//
//	shape     header, JSON, types of fields   400, at once        (input.mismatch)
//	meaning   mandatory fields, uuids         SYS.1007, business  (input.invalid)
//	rules     the engine                      core.Kind           (fault.go)
//
// Comments say where a rule comes from when it looks odd: ZStack's server, one of
// its SDKs, or its documentation.
package zstack

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/safehttp"
)

// Sessions signs accounts in and out. Package auth implements it; the errors are
// those of auth.Authority.
type Sessions interface {
	Login(ctx context.Context, name string, password auth.Digest, remote string) (core.Session, error)
	Validate(ctx context.Context, text string) (core.Caller, core.Session, error)
	Logout(ctx context.Context, text string) error
	Renew(ctx context.Context, text string, life time.Duration) (core.Session, error)
	LoginUser(ctx context.Context, owner, name string, password auth.Digest, remote string) (core.Session, error)
	AccessKeys
}

var _ Sessions = (*auth.Authority)(nil)

// Options are the settings of the dialect. The zero value is usable.
type Options struct {
	// Zone is what timestamps are written in and cron expressions mean; its name
	// must be of the IANA database. nil = UTC.
	Zone *time.Location
	// AlwaysAsync answers every mutation with 202, as ZStack itself does.
	AlwaysAsync bool
	// ReceiptLife is how long a result can be polled; 0 = 3 h, as ZStack has it.
	ReceiptLife time.Duration
	// SyncWait is how long a request waits for its result; 0 = 8 s. The Java SDK
	// gives up on an answer after 10 s.
	SyncWait time.Duration
	// Timeout is how long a mutation may take in all; 0 = 30 min, as ZStack has it.
	Timeout time.Duration
	// Hooks calls web hooks; nil = one that reaches public addresses only.
	Hooks *safehttp.Client
	Log   *slog.Logger // nil = slog.Default()
	// Now is the clock that the dates of signed requests are held to; nil = time.Now.
	Now func() time.Time
}

// An API serves the dialect. It is safe for concurrent use.
type API struct {
	eng  *engine.Engine
	auth Sessions
	opts Options
	log  *slog.Logger
	busy sync.WaitGroup // operations under way

	calls map[string]call // of the mutations, by name
	hooks *safehttp.Client
	due   chan struct{} // a receipt can be taken

	leaving context.Context // ends when Run is told to end
	depart  context.CancelFunc
}

// New makes an API on an engine and the sessions of its accounts.
func New(eng *engine.Engine, sessions Sessions, opts Options) *API {
	if opts.Zone == nil {
		opts.Zone = time.UTC
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	sessions = identities{sessions}
	opts.ReceiptLife = cmp.Or(opts.ReceiptLife, 3*time.Hour)
	opts.SyncWait = cmp.Or(opts.SyncWait, 8*time.Second)
	opts.Timeout = cmp.Or(opts.Timeout, 30*time.Minute)
	a := &API{eng: eng, auth: sessions, opts: opts, log: cmp.Or(opts.Log, slog.Default()), hooks: opts.Hooks, due: make(chan struct{}, 1)}
	a.leaving, a.depart = context.WithCancel(context.Background())
	if a.hooks == nil {
		a.hooks = safehttp.New(safehttp.Policy{Setting: HookSetting})
	}
	a.calls = callsByName(a.owned(a.mutations()))
	return a
}

// Wait returns when every operation has ended and its receipt is closed. Call it
// after the HTTP server has stopped: what was answered with 202 is still at work.
func (a *API) Wait() { a.busy.Wait() }

// Mount adds the dialect's routes below r, which stands for /zstack/v1 or /v1.
func (a *API) Mount(r gin.IRouter) {
	r.PUT("/accounts/login", a.login("logInByAccount", "logIn"))
	r.PUT("/login", a.login("logIn"))
	r.PUT("/accounts/users/login", a.loginByUser)
	r.DELETE("/accounts/sessions/:uuid", a.logout)
	get(r, "/accounts/sessions/:uuid/valid", a.validateSession)

	open := r
	r = r.Group("", a.signed) // what follows may be signed instead of having a session
	for _, e := range a.mutations() {
		r.Handle(e.method, e.path, a.mutation(e))
	}

	get(r, "/scheduler/jobgroups", a.query(groups))
	get(r, "/scheduler/jobgroups/:uuid", a.query(groups))
	get(r, "/scheduler/jobs", a.query(jobs))
	get(r, "/scheduler/jobs/candidates", a.candidates)
	get(r, "/scheduler/jobs/:uuid", a.query(jobs))
	get(r, "/scheduler/triggers", a.query(triggers))
	get(r, "/scheduler/triggers/:uuid", a.query(triggers))
	get(r, "/scheduler/job/history", a.query(history))
	get(r, "/scheduler/report", a.report)

	get(r, "/cbt-task", a.query(cbtTasks))
	get(r, "/cbt-task/:uuid", a.query(cbtTasks))

	get(r, "/accesskeys", a.query(keys))
	get(r, "/accesskeys/:uuid", a.query(keys))

	r = open
	get(r, "/api-jobs/:uuid", a.poll)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		r.Handle(method, "/api-jobs/:uuid", a.pollOnly)
	}
}

// get serves HEAD as well: ZStack's REST layer knows it.
func get(r gin.IRouter, path string, h gin.HandlerFunc) {
	r.GET(path, h)
	r.HEAD(path, h)
}

// An endpoint is a method and path with the calls that share it: a PUT tells
// them apart by the key of its body, any other method has one.
type endpoint struct {
	method, path string
	calls        []call
}

// A call is one API of ZStack. prepare reads the input and returns what is to be
// done; it does nothing yet.
type call struct {
	name    string // as ZStack's documentation has it
	prepare func(*input) operation
}

// An operation carries a call out. The context holds the caller.
type operation func(ctx context.Context) (answer, error)

// mutations is the table of all calls that change something.
func (a *API) mutations() []endpoint {
	const (
		members = "/scheduler/jobgroups/:uuid/job"
		ties    = "/scheduler/triggers/:schedulerTriggerUuid"
	)
	at := func(method, path, name string, prepare func(*input) operation) endpoint {
		return endpoint{method, path, []call{{name, prepare}}}
	}
	return append(a.cbtEndpoints(), []endpoint{
		at(http.MethodPut, "/accounts/sessions/:uuid/renew", renewSession, a.renewSession),
		at(http.MethodPost, "/accesskeys", createAccessKey, a.createAccessKey),
		at(http.MethodDelete, "/accesskeys/:uuid", "DeleteAccessKey", a.deleteAccessKey),
		at(http.MethodPut, "/accesskeys/:uuid/actions", "ChangeAccessKeyState", a.changeAccessKeyState),

		at(http.MethodPost, "/scheduler/jobgroups", "CreateSchedulerJobGroup", a.createGroup),
		at(http.MethodDelete, "/scheduler/jobgroups/:uuid", "DeleteSchedulerJobGroup", a.deleteGroup),
		at(http.MethodPut, "/scheduler/jobgroups/:uuid/actions", "UpdateSchedulerJobGroup", a.updateGroup),
		at(http.MethodPost, members, "AddSchedulerJobsToSchedulerJobGroup", a.addJobs),
		at(http.MethodPost, members+"/:uuids", "AddSchedulerJobsToSchedulerJobGroup", a.addJobs),
		at(http.MethodDelete, members, "RemoveSchedulerJobsFromSchedulerJobGroup", a.removeJobs),
		at(http.MethodDelete, members+"/:uuids", "RemoveSchedulerJobsFromSchedulerJobGroup", a.removeJobs),
		at(http.MethodPost, "/scheduler/jobgroups/:uuid"+ties, "AddSchedulerJobGroupToSchedulerTrigger", a.bindGroup),
		at(http.MethodDelete, "/scheduler/jobgroups/:uuid"+ties, "RemoveSchedulerJobGroupFromSchedulerTrigger", a.unbindGroup),

		at(http.MethodPost, "/scheduler/jobs", "CreateSchedulerJob", a.createJob),
		at(http.MethodDelete, "/scheduler/jobs/:uuid", "DeleteSchedulerJob", a.deleteJob),
		at(http.MethodPut, "/scheduler/jobs/:uuid/actions", "UpdateSchedulerJob", a.updateJob),
		at(http.MethodPut, "/schedulers/:uuid", "ChangeSchedulerState", a.changeState),
		at(http.MethodPost, "/scheduler/jobs/:uuid"+ties, "AddSchedulerJobToSchedulerTrigger", a.bindJob),
		at(http.MethodDelete, "/scheduler/jobs/:uuid"+ties, "RemoveSchedulerJobFromSchedulerTrigger", a.unbindJob),

		at(http.MethodPost, "/scheduler/triggers", "CreateSchedulerTrigger", a.createTrigger),
		at(http.MethodDelete, "/scheduler/triggers/:uuid", "DeleteSchedulerTrigger", a.deleteTrigger),
		{http.MethodPut, "/scheduler/triggers/:uuid/actions", []call{
			{"UpdateSchedulerTrigger", a.updateTrigger}, {"RunSchedulerTrigger", a.runTrigger},
		}},
	}...)
}
