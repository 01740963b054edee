// Package client calls Takt's native API, /api/v1, from Go.
//
//	c, err := client.New("http://localhost:8080", client.Options{})
//	err = c.SignIn(ctx, "admin", password)
//	job, err := c.CreateJob(ctx, client.NewJob{Type: "httpRequest", ...})
//	run, err := c.RunJob(ctx, job.UUID, client.RunOptions{Key: "deploy-42"})
//	done, err := c.WaitRun(ctx, run.ID)
//
// Every method takes a context and returns a *Problem when the server refused.
// The package needs the standard library only.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options are the settings of a Client. The zero value is usable.
type Options struct {
	// Token is that of a session or an API token; SignIn replaces it.
	Token string
	// HTTP sends the requests; nil is a client of its own. It must set no
	// Timeout, which would cut followed logs off: contexts do that here.
	HTTP *http.Client
	// Timeout of one request that does not follow a log; 0 = 30 s.
	Timeout time.Duration
}

// A Client is safe for concurrent use.
type Client struct {
	base    string // ends in /api/v1
	http    *http.Client
	timeout time.Duration

	mu    sync.Mutex
	token string
}

// New makes a client of the server at an address such as https://takt.example.
func New(address string, opts Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("address %q must be an http or https URL", address)
	}
	c := &Client{base: strings.TrimSuffix(address, "/") + "/api/v1", http: opts.HTTP, timeout: opts.Timeout, token: opts.Token}
	if c.http == nil {
		c.http = &http.Client{}
	}
	if c.timeout == 0 {
		c.timeout = 30 * time.Second
	}
	return c, nil
}

// SignIn begins a session and uses it from now on.
func (c *Client) SignIn(ctx context.Context, name, password string) error {
	var s session
	if err := c.call(ctx, request{"POST", "/sessions", newSession{name, password}, nil}, &s); err != nil {
		return err
	}
	c.setToken(s.Token)
	return nil
}

// SignOut ends the session.
func (c *Client) SignOut(ctx context.Context) error {
	if err := c.call(ctx, request{method: "DELETE", path: "/sessions/current"}, nil); err != nil {
		return err
	}
	c.setToken("")
	return nil
}

// Me says who the client is signed in as.
func (c *Client) Me(ctx context.Context) (Me, error) {
	var me Me
	err := c.call(ctx, request{method: "GET", path: "/me"}, &me)
	return me, err
}

func (c *Client) setToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
}

// A Problem is what the server says of a request that it refused.
type Problem struct {
	Type      string `json:"type"` // "/problems/not_found", say: to be compared
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Field     string `json:"field,omitempty"`
	RequestID string `json:"requestId,omitempty"`

	// RetryAfter is how long to wait before trying again, where the server said so.
	RetryAfter time.Duration `json:"-"`
}

// Error gives the detail and the status.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("the server answered %d", p.Status)
	}
	return fmt.Sprintf("%s (%d)", p.Detail, p.Status)
}

// IsStatus reports whether err is a Problem with this HTTP status.
func IsStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// passing reports whether err may be gone when the request is sent again.
func passing(err error) (wait time.Duration, ok bool) {
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusTooManyRequests && p.Status != http.StatusServiceUnavailable {
		return 0, false
	}
	return max(p.RetryAfter, time.Second), true
}

// away reports whether err means that no answer came at all.
func away(err error) bool {
	var u *url.Error
	return errors.As(err, &u)
}

// A request is sent by call and open.
type request struct {
	method, path string
	body         any // nil for none
	header       http.Header
}

// call sends a request and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: read answer: %w", r.method, r.path, err)
	}
	return nil
}

// open sends a request and gives the answer, whose body the caller closes. An
// error status is a *Problem.
func (c *Client) open(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err // says method and address itself
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, problemOf(res)
}

func (c *Client) request(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// problemOf reads an error answer; what is between may have sent another than
// the server would.
func problemOf(res *http.Response) error {
	p := &Problem{}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if json.Unmarshal(text, p) != nil || p.Detail == "" {
		p.Title, p.Detail = res.Status, strings.TrimSpace(string(text))
	}
	p.Status = res.StatusCode
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
