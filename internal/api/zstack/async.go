package zstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The asynchronous protocol. A request with X-Job-UUID or X-Web-Hook becomes a
// receipt, which holds it, before anything is done; the first answer is held back
// until its result is there too, so that the first poll of an SDK finds it:
//
//	read ─▶ open receipt ─▶ carry out ─▶ close receipt ─▶ 202 ─▶ poll: 200, 503
//	                └── SyncWait ───────────────────────▶ 202 ─▶ poll: 202 …
//
// From "open" on the request is not lost: should this process die, another one
// carries it out (takeover.go). Any other request is answered with its result,
// and becomes a receipt only when that takes longer than SyncWait.

const (
	// shortReceipt keeps receipts that anybody can have made (the session was
	// wrong) or that hold a session.
	shortReceipt = 10 * time.Minute
	// maxTimeout is the longest a client may ask for: as long as the Java SDK polls.
	maxTimeout  = 3 * time.Hour
	jobUUIDSize = 32
)

// An outcome is how an operation ended, as the wire has it.
type outcome struct {
	ok   bool
	body []byte // with schema
	// open says that this is not the request's result: the store was away, or
	// another replica has it by now.
	open bool
}

// mutation serves the calls of an endpoint.
func (a *API) mutation(e endpoint) gin.HandlerFunc {
	return func(c *gin.Context) {
		r, err := a.read(c, e)
		if err != nil {
			a.refuse(c, err)
			return
		}
		a.answer(c, r)
	}
}

// checkJobUUID refuses an X-Job-UUID that is not 32 letters and digits. It comes
// with every request of the Java SDK, with queries too.
func checkJobUUID(job string) error {
	odd := func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if job != "" && (len(job) != jobUUIDSize || strings.ContainsFunc(job, odd)) {
		return badRequest("Invalid header X-Job-UUID[%s]: it must be a uuid of %d characters, without dashes", excerpt(job), jobUUIDSize)
	}
	return nil
}

// answer carries a request out and answers it.
func (a *API) answer(c *gin.Context, r request) {
	patience, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), a.opts.SyncWait)
	defer cancel()
	w := work{receipt: a.receipt(r)}
	var err error
	if w.run, w.invalid, err = a.prepare(r.asked, w.receipt.Seed); err != nil {
		a.refuse(c, err)
		return
	}
	refused := a.admit(patience, r, &w.receipt)
	if core.Is(refused, core.Unavailable) {
		a.refuse(c, refused)
		return
	}
	async := r.job != "" || r.hook != nil || a.opts.AlwaysAsync
	switch {
	case refused != nil && async:
		a.acceptRefused(patience, c, w.receipt, refused)
	case refused != nil:
		a.result(c, a.failure(patience, refused))
	case async:
		a.answerLater(patience, c, w)
	default:
		a.answerNow(patience, c, w)
	}
}

// admit looks at the session. One that is wrong is a business error, which comes
// through a receipt like any other.
func (a *API) admit(ctx context.Context, r request, receipt *core.Receipt) error {
	caller, _, err := a.auth.Validate(ctx, r.session)
	receipt.Caller, receipt.Account = caller, caller.Owner
	return err
}

// receipt makes what is to be stored of a request.
func (a *API) receipt(r request) core.Receipt {
	receipt := core.Receipt{
		ID: cmp.Or(r.job, id.New()), Seed: id.New(), Call: r.asked.Call, Timeout: r.timeout, Keep: a.opts.ReceiptLife,
		Secret: holdsSession(r.asked.Call), Asked: encode(r.asked),
	}
	if receipt.Secret {
		receipt.Keep = min(receipt.Keep, shortReceipt)
	}
	if r.hook != nil {
		receipt.Hook = encode(r.hook)
	}
	return receipt
}

// acceptRefused answers 202 to a caller who is not let in: the location says so.
// Nothing of the request is kept, and nobody is told: a web hook of strangers
// would make us call where they want.
func (a *API) acceptRefused(ctx context.Context, c *gin.Context, receipt core.Receipt, why error) {
	o := a.failure(ctx, why)
	receipt.Asked, receipt.Hook, receipt.Secret = nil, nil, false
	receipt.Keep = min(a.opts.ReceiptLife, shortReceipt)
	receipt.Done, receipt.OK, receipt.Body = true, o.ok, o.body
	if _, err := a.open(ctx, receipt); err != nil {
		a.refuse(c, err)
		return
	}
	a.accepted(c, receipt)
}

// open opens a receipt; a job uuid that is in use is refused as ZStack does.
func (a *API) open(ctx context.Context, r core.Receipt) (core.Receipt, error) {
	made, err := a.eng.OpenReceipt(ctx, r)
	if core.Is(err, core.Exists) {
		return r, badRequest("Duplicate job uuid[%s]", r.ID)
	}
	return made, err
}

// answerLater answers 202 as soon as the result can be polled, or after SyncWait.
// Once the receipt is open the operation outlives its request: a client that hangs
// up changes nothing.
func (a *API) answerLater(patience context.Context, c *gin.Context, w work) {
	since := time.Now()
	var err error
	if w.receipt, err = a.open(patience, w.receipt); err != nil {
		a.refuse(c, err)
		return
	}
	closed := make(chan struct{})
	a.busy.Go(func() {
		defer close(closed)
		a.finish(context.WithoutCancel(patience), w, since)
	})
	select {
	case <-closed:
	case <-patience.Done():
	}
	a.accepted(c, w.receipt)
}

// answerNow answers with the result. What takes longer than SyncWait becomes a
// receipt after all, stored before the 202 is sent.
func (a *API) answerNow(patience context.Context, c *gin.Context, w work) {
	ctx, stop := context.WithCancelCause(withAnswerDue(context.WithoutCancel(patience), patience, a.opts.SyncWait))
	done := make(chan outcome, 1)
	a.busy.Go(func() { done <- a.do(ctx, w) })
	select {
	case o := <-done:
		stop(nil)
		a.result(c, o)
		return
	case <-patience.Done():
	}
	since := time.Now()
	opening, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	receipt, err := a.open(opening, w.receipt)
	if err != nil {
		// Nowhere to leave the result: the client has to wait for it.
		a.result(c, <-done)
		stop(nil)
		return
	}
	w.receipt = receipt
	a.busy.Go(func() {
		defer stop(nil)
		release := a.keep(ctx, receipt, since, stop)
		o := <-done
		release()
		a.settle(ctx, receipt, o)
	})
	a.accepted(c, receipt)
}

// do carries an operation out and turns how it ended into the wire's words.
func (a *API) do(ctx context.Context, w work) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			a.log.ErrorContext(ctx, "zstack call panicked", "call", w.receipt.Call, "panic", p, "stack", string(debug.Stack()))
			o = a.failure(ctx, fmt.Errorf("panic: %v", p))
		}
	}()
	if w.invalid != nil {
		return a.failure(ctx, w.invalid)
	}
	ctx, cancel := context.WithTimeout(ctx, w.left())
	defer cancel()
	ctx = core.WithRequest(core.WithCaller(ctx, w.receipt.Caller), core.Request{Key: w.receipt.Seed, At: w.receipt.Created, Again: w.again})
	an, err := w.run(ctx)
	if err != nil {
		o = a.failure(ctx, err)
		o.open = core.Is(err, core.Unavailable) || errors.Is(context.Cause(ctx), errRelieved)
		return o
	}
	return outcome{ok: true, body: an.encode(true)}
}

func (a *API) failure(ctx context.Context, err error) outcome {
	return outcome{body: a.faultOf(ctx, err).body()}
}

// result answers with the result itself.
func (a *API) result(c *gin.Context, o outcome) {
	status := http.StatusOK
	if !o.ok {
		status = http.StatusServiceUnavailable
	}
	body := o.body
	if !wantsSchema(c) {
		body = withoutSchema(body)
	}
	writeJSON(c, status, body)
}

// accepted answers 202. Both SDKs cut the location at /zstack/v1/api-jobs/ when
// its host is not the one they know, so this part is always there.
func (a *API) accepted(c *gin.Context, r core.Receipt) {
	scheme := "http"
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	writeJSON(c, http.StatusAccepted, encode(struct {
		Location   string `json:"location"`
		APITimeout int64  `json:"apiTimeout"` // ms
	}{scheme + "://" + c.Request.Host + "/zstack/v1/api-jobs/" + r.ID, r.Timeout.Milliseconds()}))
}

// poll serves the location. It needs no session: the Java SDK polls with the
// literal "OAuth null" after a call that was signed otherwise.
func (a *API) poll(c *gin.Context) {
	job, ctx := c.Param("uuid"), c.Request.Context()
	if checkJobUUID(job) != nil {
		a.expired(c)
		return
	}
	receipt, err := a.eng.Receipt(ctx, job)
	if err == nil && receipt.Done && receipt.OK && receipt.Secret && c.Request.Method != http.MethodHead {
		// What holds a session is given once.
		receipt.Body, err = a.eng.SpendReceipt(ctx, receipt, answer{}.encode(false))
	}
	switch {
	case core.Is(err, core.NotFound):
		a.expired(c)
	case err != nil:
		// To the SDKs any other answer would mean that the job has failed, which
		// nobody knows: let them ask again.
		a.log.WarnContext(ctx, "receipt not read", "receipt", job, "err", err)
		writeJSON(c, http.StatusAccepted, answer{}.encode(false))
	case !receipt.Done:
		writeJSON(c, http.StatusAccepted, answer{}.encode(false))
	default:
		a.result(c, outcome{ok: receipt.OK, body: receipt.Body})
	}
}

func (a *API) expired(c *gin.Context) {
	f := &fault{http.StatusNotFound, codeNotFound, "the job has been expired"}
	writeJSON(c, f.status, f.body())
}

// pollOnly refuses every method but GET on a location.
func (a *API) pollOnly(c *gin.Context) {
	c.Header("Allow", "GET, HEAD")
	f := &fault{http.StatusMethodNotAllowed, codeArgument, "only GET is allowed on api-jobs, not " + c.Request.Method + " with " + strconv.Quote(c.Param("uuid"))}
	writeJSON(c, f.status, f.body())
}
