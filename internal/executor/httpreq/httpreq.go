// Package httpreq executes jobs of type httpRequest: one HTTP request, judged by
// the status of the answer.
//
// An expected status (2xx, unless the job says otherwise) is success. Any other
// is a failure that is tried again, except 400, 401, 403, 404, 405, 410 and 422,
// which say that the same request will fail again and are permanent. So are an
// address that the worker's policy refuses and a malformed parameter.
//
// Each request carries the attempt's Key as Idempotency-Key, because an attempt
// may be made twice. The log and the errors name the URL without its query and
// no header at all; the values of secret headers are taken out of the captured
// answer too, since some servers echo what they got.
package httpreq

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/pkg/executor"
)

// New returns the type. All requests go through client; one whose job names no
// timeout may take as long as timeout, 0 = 30 s.
func New(client *safehttp.Client, timeout time.Duration) executor.Type {
	return executor.Type{Spec: Spec(), Executor: &requester{client, cmp.Or(timeout, defaultTimeout)}}
}

type requester struct {
	client  *safehttp.Client
	timeout time.Duration
}

var _ executor.Executor = (*requester)(nil)

// Execute makes the request. The result's ExitCode is the answer's status, its
// Output the answer as JSON; both are there whenever there was an answer.
func (r *requester) Execute(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	c, err := parse(a.Parameters)
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	req, err := c.request(ctx, a.Key)
	if err != nil {
		return executor.Result{}, executor.Permanent(err)
	}
	fmt.Fprintf(a.Log, "%s %s\n", c.method, safehttp.Target(c.url))
	hidden := newRedactor(c.header)
	started := time.Now()
	answer, err := r.client.Do(req, safehttp.Options{
		Timeout:       cmp.Or(c.timeout, r.timeout),
		MaxBody:       int64(max(c.maxOutput, 1)), // none would mean the default
		KeepRedirects: !c.follow,
	})
	took := time.Since(started)
	if answer == nil {
		fmt.Fprintf(a.Log, "no answer after %v: %v\n", took.Round(time.Millisecond), err)
		return executor.Result{}, classify(err)
	}
	result := executor.Result{ExitCode: answer.Status, Output: report(answer, took, c.maxOutput, hidden)}
	fmt.Fprintf(a.Log, "%s in %v\n", statusText(answer.Status), took.Round(time.Millisecond))
	if err != nil {
		return result, classify(fmt.Errorf("read the answer: %w", err))
	}
	return result, c.judge(answer.Status)
}

func (c call) request(ctx context.Context, key string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), strings.NewReader(c.body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.Header = c.header.Clone()
	setDefault(req.Header, "User-Agent", "takt")
	setDefault(req.Header, "Idempotency-Key", key)
	if c.body != "" {
		setDefault(req.Header, "Content-Type", contentType(c.body))
	}
	return req, nil
}

func setDefault(h http.Header, name, value string) {
	if _, ok := h[name]; !ok && value != "" {
		h.Set(name, value)
	}
}

func contentType(body string) string {
	if json.Valid([]byte(body)) {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

func (c call) judge(status int) error {
	if c.expect.holds(status) {
		return nil
	}
	err := fmt.Errorf("%s %s: answered %s, expected %v", c.method, safehttp.Target(c.url), statusText(status), c.expect)
	if hopeless(status) {
		return executor.Permanent(err)
	}
	return err
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// classify marks the errors that another attempt meets again.
func classify(err error) error {
	if refused := (*safehttp.RefusedError)(nil); errors.As(err, &refused) ||
		errors.Is(err, safehttp.ErrScheme) || errors.Is(err, safehttp.ErrBodyElsewhere) {
		return executor.Permanent(err)
	}
	return err
}
