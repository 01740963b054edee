package zstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The asynchronous protocol. A receipt is opened before the operation begins and
// closed after it has ended; the first answer is held back until then, so that
// the first poll of an SDK finds the result. A receipt that cannot be closed
// leaves the client with the result itself instead of a location that would
// never tell.

const (
	// shortReceipt keeps receipts that anybody can have made (the session was
	// wrong) or that hold a session.
	shortReceipt = 10 * time.Minute
	// closePatience is how long a request tries to close its receipt. With
	// SyncWait it stays below the 10 s after which the Java SDK hangs up.
	closePatience = 1500 * time.Millisecond
	jobUUIDSize   = 32
)

// A request is a mutation whose shape is right.
type request struct {
	call    call
	input   *input
	session string
	run     operation
	timeout time.Duration
}

// An outcome is how an operation ended, as the wire has it.
type outcome struct {
	ok   bool
	body []byte // with schema
}

// mutation serves the calls of an endpoint.
func (a *API) mutation(e endpoint) gin.HandlerFunc {
	return func(c *gin.Context) {
		r, err := a.read(c, e)
		if err != nil {
			a.refuse(c, err)
			return
		}
		a.carryOut(c, r)
	}
}

func (a *API) read(c *gin.Context, e endpoint) (request, error) {
	session, err := authorization(c.Request.Header)
	if err != nil {
		return request{}, err
	}
	job := c.GetHeader("X-Job-UUID")
	if err := checkJobUUID(job); err != nil {
		return request{}, err
	}
	if c.GetHeader("X-Web-Hook") != "" {
		return request{}, badRequest("web hooks are not served yet; leave out the header X-Web-Hook and poll the location in the answer")
	}
	body, err := readBody(c)
	if err != nil {
		return request{}, err
	}
	k, fields, err := e.pick(body)
	if err != nil {
		return request{}, err
	}
	in := &input{call: k.name, job: job, path: slices.Clone(c.Params).ByName, fields: fields}
	if e.method == http.MethodDelete {
		if in.query, err = url.ParseQuery(c.Request.URL.RawQuery); err != nil {
			return request{}, badRequest("the query string cannot be read: %v", err)
		}
	}
	r := request{call: k, input: in, session: session, run: k.prepare(in), timeout: a.opts.Timeout}
	if seconds, ok := wholeNumber(c.GetHeader("X-API-Timeout")); ok && seconds > 0 && seconds < int64(r.timeout/time.Second) {
		r.timeout = time.Duration(seconds) * time.Second
	}
	if in.mismatch != nil {
		return request{}, in.mismatch
	}
	return r, nil
}

// checkJobUUID refuses an X-Job-UUID that is not 32 letters and digits. It comes
// with every request of the Java SDK, with queries too.
func checkJobUUID(job string) error {
	odd := func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if job != "" && (len(job) != jobUUIDSize || strings.ContainsFunc(job, odd)) {
		return badRequest("Invalid header X-Job-UUID[%s]: it must be a uuid of %d characters, without dashes", job, jobUUIDSize)
	}
	return nil
}

// carryOut begins the operation and answers when it has ended, or after SyncWait.
// The operation outlives the request: a client that hangs up changes nothing.
func (a *API) carryOut(c *gin.Context, r request) {
	patience := time.NewTimer(a.opts.SyncWait)
	defer patience.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), r.timeout)
	p := a.admit(ctx, r)
	asked := p.receipt.ID != ""
	if asked {
		if err := a.open(ctx, p); err != nil {
			cancel()
			a.refuse(c, err)
			return
		}
	}
	done := make(chan outcome, 1)
	a.busy.Go(func() {
		defer cancel()
		done <- a.do(core.WithCaller(ctx, p.caller), p.refused, r)
	})
	select {
	case o := <-done:
		if asked && a.close(ctx, p, o, closePatience) {
			a.accepted(c, p)
			return
		}
		a.result(c, o.ok, o.body)
	case <-patience.C:
		a.sendAway(c, p, done)
	}
}

// A pending operation: who asked, and where its result will lie.
type pending struct {
	caller  core.Caller
	refused error // why the session was not accepted
	receipt core.Receipt
	keep    time.Duration
	timeout time.Duration
}

// admit looks at the session. One that is wrong is a business error, so that it
// comes through the receipt like any other.
func (a *API) admit(ctx context.Context, r request) pending {
	ctx, cancel := context.WithTimeout(ctx, a.opts.SyncWait)
	defer cancel()
	p := pending{receipt: core.Receipt{ID: r.input.job, Call: r.call.name}, keep: a.opts.ReceiptLife, timeout: r.timeout}
	p.caller, _, p.refused = a.auth.Validate(ctx, r.session)
	p.receipt.Account = p.caller.Owner
	if p.receipt.ID == "" && a.opts.AlwaysAsync {
		p.receipt.ID = id.New()
	}
	if p.refused != nil || holdsSession(r.call.name) {
		p.keep = min(p.keep, shortReceipt)
	}
	return p
}

// open opens a receipt; a job uuid that is in use is refused as ZStack does.
func (a *API) open(ctx context.Context, p pending) error {
	ctx, cancel := context.WithTimeout(ctx, a.opts.SyncWait)
	defer cancel()
	err := a.eng.OpenReceipt(ctx, p.receipt, p.keep)
	if core.Is(err, core.Exists) {
		return badRequest("Duplicate job uuid[%s]", p.receipt.ID)
	}
	return err
}

// sendAway answers 202 while the operation goes on.
func (a *API) sendAway(c *gin.Context, p pending, done <-chan outcome) {
	ctx := context.WithoutCancel(c.Request.Context())
	if p.receipt.ID == "" {
		p.receipt.ID = id.New()
		if err := a.open(ctx, p); err != nil {
			// Nowhere to leave the result: the client has to wait for it.
			o := <-done
			a.result(c, o.ok, o.body)
			return
		}
	}
	a.busy.Go(func() { a.close(ctx, p, <-done, a.opts.Timeout) })
	a.accepted(c, p)
}

// do carries a request out and turns how it ended into the wire's words.
func (a *API) do(ctx context.Context, signErr error, r request) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			a.log.ErrorContext(ctx, "zstack call panicked", "call", r.call.name, "panic", p, "stack", string(debug.Stack()))
			o = a.failure(ctx, fmt.Errorf("panic: %v", p))
		}
	}()
	switch {
	case signErr != nil:
		return a.failure(ctx, signErr)
	case r.input.invalid != nil:
		return a.failure(ctx, r.input.invalid)
	}
	an, err := r.run(ctx)
	if err != nil {
		return a.failure(ctx, err)
	}
	return outcome{true, an.encode(true)}
}

func (a *API) failure(ctx context.Context, err error) outcome {
	return outcome{false, a.faultOf(ctx, err).body()}
}

// close stores the result and reports whether it could, trying for as long as
// patience lasts.
func (a *API) close(ctx context.Context, p pending, o outcome, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	receipt := p.receipt
	receipt.OK, receipt.Body = o.ok, o.body
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := a.eng.CloseReceipt(ctx, receipt, p.keep)
		if err == nil {
			return true
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			a.log.ErrorContext(ctx, "receipt not closed", "receipt", receipt.ID, "call", receipt.Call, "err", err)
			return false
		}
	}
}

// result answers with the result itself.
func (a *API) result(c *gin.Context, ok bool, body []byte) {
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	if !wantsSchema(c) {
		body = withoutSchema(body)
	}
	writeJSON(c, status, body)
}

// accepted answers 202. Both SDKs cut the location at /zstack/v1/api-jobs/ when
// its host is not the one they know, so this part is always there.
func (a *API) accepted(c *gin.Context, p pending) {
	scheme := "http"
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	writeJSON(c, http.StatusAccepted, encode(struct {
		Location   string `json:"location"`
		APITimeout int64  `json:"apiTimeout"` // ms
	}{scheme + "://" + c.Request.Host + "/zstack/v1/api-jobs/" + p.receipt.ID, p.timeout.Milliseconds()}))
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
	switch {
	case core.Is(err, core.NotFound):
		a.expired(c)
	case err != nil:
		// To the SDKs any other answer would mean that the job has failed, which
		// nobody knows: let them ask again.
		a.log.WarnContext(ctx, "receipt not read", "receipt", job, "err", err)
		writeJSON(c, http.StatusAccepted, answer{}.encode(false))
	case !receipt.Done && a.overdue(ctx, receipt):
		a.refuse(c, failed(codeTimeout, "the server that carried out %s has not reported for %s; whether it took effect is not known", receipt.Call, a.opts.Timeout))
	case !receipt.Done:
		writeJSON(c, http.StatusAccepted, answer{}.encode(false))
	default:
		a.deliver(c, receipt)
	}
}

// overdue reports whether the process that opened a receipt must have died: no
// operation goes on beyond its timeout.
func (a *API) overdue(ctx context.Context, receipt core.Receipt) bool {
	now, err := a.eng.Now(ctx)
	return err == nil && now.Sub(receipt.Created) > a.opts.Timeout+time.Minute
}

// deliver answers with a result. One that holds a session is forgotten by that.
func (a *API) deliver(c *gin.Context, receipt core.Receipt) {
	if receipt.OK && holdsSession(receipt.Call) {
		spent := receipt
		spent.Body = answer{}.encode(false)
		if err := a.eng.CloseReceipt(c.Request.Context(), spent, shortReceipt); err != nil {
			a.log.WarnContext(c.Request.Context(), "delivered session not forgotten", "receipt", receipt.ID, "err", err)
		}
	}
	a.result(c, receipt.OK, receipt.Body)
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
