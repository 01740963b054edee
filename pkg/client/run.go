package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// RunOptions say how a run is started by hand. The zero value is usable.
type RunOptions struct {
	// Key makes the request repeatable: with the same key, of 1 to 128 visible
	// ASCII characters, the same run is returned.
	Key string
	// Overlap says what happens while an earlier run of the target goes on.
	Overlap Overlap
}

// RunGroup starts a run of a group.
func (c *Client) RunGroup(ctx context.Context, group string, opts RunOptions) (Run, error) {
	return c.start(ctx, "/groups/"+url.PathEscape(group)+"/runs", opts)
}

// RunJob starts a run of a job.
func (c *Client) RunJob(ctx context.Context, job string, opts RunOptions) (Run, error) {
	return c.start(ctx, "/jobs/"+url.PathEscape(job)+"/runs", opts)
}

func (c *Client) start(ctx context.Context, path string, opts RunOptions) (Run, error) {
	var r Run
	err := c.call(ctx, request{"POST", path, runRequest{opts.Overlap}, withKey(opts.Key)}, &r)
	return r, err
}

// Fire fires a trigger now, besides its schedule; targets limit it to some of its
// targets. Key is that of RunOptions, or "".
func (c *Client) Fire(ctx context.Context, trigger, key string, targets ...string) (LedgerEntry, error) {
	var e LedgerEntry
	err := c.call(ctx, request{"POST", "/triggers/" + url.PathEscape(trigger) + "/fire", fireRequest{targets}, withKey(key)}, &e)
	return e, err
}

func withKey(key string) http.Header {
	if key == "" {
		return nil
	}
	return http.Header{"Idempotency-Key": {key}}
}

// Run gives a run with its first 1000 steps.
func (c *Client) Run(ctx context.Context, id string) (RunDetail, error) {
	var r RunDetail
	err := c.call(ctx, request{method: "GET", path: "/runs/" + url.PathEscape(id)}, &r)
	return r, err
}

// Between two looks at a run that is waited for.
const (
	shortestLook = 50 * time.Millisecond
	longestLook  = 2 * time.Second
)

// WaitRun waits until a run has ended and returns it, however it ended. Once it
// has seen the run it bears with a server that is busy, or away for a short while.
func (c *Client) WaitRun(ctx context.Context, id string) (RunDetail, error) {
	known, failures := false, 0
	for look := shortestLook; ; look = min(2*look, longestLook) {
		r, err := c.look(ctx, id)
		switch {
		case err == nil && r.State.Ended():
			return c.Run(ctx, id)
		case err == nil:
			known, failures = true, 0
		default:
			failures++
			wait, ok := passing(err)
			if !ok && !away(err) || !known || failures > resumeTries {
				return r, err
			}
			look = max(look, wait)
		}
		if err := sleep(ctx, look); err != nil {
			return r, err
		}
	}
}

// look gives a run with no more than one step, as a run may have thousands.
func (c *Client) look(ctx context.Context, id string) (RunDetail, error) {
	var r RunDetail
	err := c.call(ctx, request{method: "GET", path: "/runs/" + url.PathEscape(id) + "?limit=1"}, &r)
	return r, err
}

// CancelRun asks a run to stop; reason may be "".
func (c *Client) CancelRun(ctx context.Context, id, reason string) (Run, error) {
	var r Run
	err := c.call(ctx, request{"POST", "/runs/" + url.PathEscape(id) + "/cancel", cancelRequest{reason}, nil}, &r)
	return r, err
}

// RetryRun runs the steps of an ended run again that did not succeed. Key is that
// of RunOptions, or "".
func (c *Client) RetryRun(ctx context.Context, id, key string) (Run, error) {
	var r Run
	err := c.call(ctx, request{method: "POST", path: "/runs/" + url.PathEscape(id) + "/retry", header: withKey(key)}, &r)
	return r, err
}

// RunFilter selects runs. Zero fields select all.
type RunFilter struct {
	Group, Job, Trigger string
	Kind                TargetKind
	States              []RunState
	From, To            time.Time // created at or after; before
}

// Runs gives runs, newest first, page by page as they are asked for. It ends with
// the first error.
func (c *Client) Runs(ctx context.Context, f RunFilter) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		q := f.query()
		for {
			var page runList
			if err := c.call(ctx, request{method: "GET", path: "/runs?" + q.Encode()}, &page); err != nil {
				yield(Run{}, err)
				return
			}
			for _, r := range page.Items {
				if !yield(r, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

func (f RunFilter) query() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("group", f.Group)
	set("job", f.Job)
	set("trigger", f.Trigger)
	set("kind", string(f.Kind))
	set("from", timeText(f.From))
	set("to", timeText(f.To))
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	return q
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// LedgerPage says which part of a ledger is asked for.
type LedgerPage struct {
	From, To    time.Time // first slots at or after; before
	Skip, Limit int       // Limit 0 = the server's 50
}

// Ledger gives a page of what became of a trigger's slots, newest first.
func (c *Client) Ledger(ctx context.Context, trigger string, p LedgerPage) (Ledger, error) {
	q := url.Values{"skip": {strconv.Itoa(p.Skip)}}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if !p.From.IsZero() {
		q.Set("from", timeText(p.From))
	}
	if !p.To.IsZero() {
		q.Set("to", timeText(p.To))
	}
	var l Ledger
	err := c.call(ctx, request{method: "GET", path: "/triggers/" + url.PathEscape(trigger) + "/ledger?" + q.Encode()}, &l)
	return l, err
}
