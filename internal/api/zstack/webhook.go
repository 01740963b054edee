package zstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/safehttp"
)

// Web hooks. The receipt of a request with X-Web-Hook remembers whom to tell; when
// it is closed, a replica takes it and sends the result there, as a poll would
// have given it. What does not get through is tried again. A hook is told at least
// once: a process may die between the answer and its note.

const (
	maxHookURL = 2048
	// hookTimeout bounds one try, from look-up to the answer's last byte.
	hookTimeout = 10 * time.Second
	// maxHookAnswer is all that is read of what a hook says.
	maxHookAnswer = 4 << 10
)

// HookSetting is the configuration key whose addresses web hooks may reach.
const HookSetting = "api.zstack.webHookAllow"

// A hook is whom to tell of a result.
type hook struct {
	URL    string `json:"url"`
	Schema bool   `json:"schema,omitempty"` // the client asked for it
}

// batchCalls are the calls on lists of resources. Theirs are done or not done
// altogether, so that X-Job-Batch is never PARTIAL.
var batchCalls = map[string]bool{"AddSchedulerJobsToSchedulerJobGroup": true, "RemoveSchedulerJobsFromSchedulerJobGroup": true}

// hookOf reads X-Web-Hook. What can never be called is refused at once.
func (a *API) hookOf(c *gin.Context) (*hook, error) {
	text := c.GetHeader("X-Web-Hook")
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	switch {
	case len(text) > maxHookURL:
		return nil, badRequest("Invalid header X-Web-Hook: it is longer than %d characters", maxHookURL)
	case err != nil:
		return nil, badRequest("Invalid header X-Web-Hook[%s]: it is no URL", excerpt(text))
	}
	if err := a.hooks.Check(u); err != nil {
		return nil, badRequest("Invalid header X-Web-Hook[%s]: %v", excerpt(safehttp.Target(u)), err)
	}
	return &hook{URL: text, Schema: wantsSchema(c)}, nil
}

// tell sends the result of a receipt to its web hook, once, and notes what came
// of it.
func (a *API) tell(ctx context.Context, r core.Receipt, since time.Time) {
	hold, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	release := a.keep(hold, r, since, stop)
	target, err := a.send(hold, r)
	release()
	switch {
	case errors.Is(context.Cause(hold), errRelieved):
		return
	case err == nil:
		r.Hook = nil
		a.spend(ctx, r)
		a.leave(ctx, r, 0)
	case ctx.Err() != nil:
		a.leave(ctx, r, 0) // we stop; another replica does it
	default:
		a.tellAgain(ctx, r, target, err)
	}
}

// tellAgain puts a web hook off, or gives it up.
func (a *API) tellAgain(ctx context.Context, r core.Receipt, target string, err error) {
	if r.Tries++; r.Tries < mostTries {
		a.log.DebugContext(ctx, "web hook not told", "receipt", r.ID, "hook", target, "try", r.Tries, "err", err)
		a.leave(ctx, r, tryEvery)
		return
	}
	a.log.WarnContext(ctx, "web hook given up", "receipt", r.ID, "hook", target, "tries", r.Tries, "err", err)
	r.Hook = nil
	a.leave(ctx, r, 0)
}

// spend forgets an answer that is given once only, now that it was.
func (a *API) spend(ctx context.Context, r core.Receipt) {
	if !r.Secret {
		return
	}
	if _, err := a.eng.SpendReceipt(ctx, r, answer{}.encode(false)); err != nil {
		a.log.WarnContext(ctx, "delivered session not forgotten", "receipt", r.ID, "err", err)
	}
}

// send makes the call of a web hook. target is its address as a log may show it.
func (a *API) send(ctx context.Context, r core.Receipt) (target string, err error) {
	var h hook
	if err := json.Unmarshal(r.Hook, &h); err != nil {
		return "", fmt.Errorf("read web hook: %w", err)
	}
	body := r.Body
	if !h.Schema {
		body = withoutSchema(body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("make web hook request: %w", err)
	}
	target = safehttp.Target(req.URL)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("X-Job-UUID", r.ID)
	req.Header.Set("X-Job-Success", strconv.FormatBool(r.OK))
	if batchCalls[r.Call] {
		req.Header.Set("X-Job-Batch", map[bool]string{true: "SUCCESS", false: "FAIL"}[r.OK])
	}
	// A redirect would lose the body, or take it where nobody asked for it.
	got, err := a.hooks.Do(req, safehttp.Options{Timeout: hookTimeout, MaxBody: maxHookAnswer, KeepRedirects: true})
	switch {
	case err != nil:
		return target, err
	case got.Status < 200 || got.Status > 299:
		return target, fmt.Errorf("the hook answered %d", got.Status)
	}
	return target, nil
}
