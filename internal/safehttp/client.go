// Package safehttp is the HTTP client for addresses that users choose: those of
// the httpRequest executor, of web hooks, and by DialContext of mail servers.
//
// A user's URL must not become a way into the operator's network. So each
// connection is checked where it is made, after the name was looked up: a name
// that resolves to an inner address, at once or only the second time, gets no
// further than the address itself. Only public addresses are reached unless the
// Policy lists others. Redirects are followed five times at most, each checked
// like the first request; another origin sees neither credentials nor bodies.
// Proxies of the environment are not used: they would hide the address.
//
// Answers are bounded in bytes and time, so that no server can hold a worker.
package safehttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout = 30 * time.Second
	DefaultMaxBody = 1 << 20
)

// A RefusedError says that the policy does not let an address be reached.
type RefusedError struct {
	Address string // ip:port, after look-up
	Reason  string
	Setting string // where it can be allowed; "" is AllowKey
}

// Error gives the reason and how the operator can allow the address.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is refused: it is %s; to allow it, list its network, its address or host:port in %s",
		e.Address, e.Reason, cmp.Or(e.Setting, AllowKey))
}

// A TimeoutError says that the answer was not complete in time.
type TimeoutError struct{ After time.Duration }

// Error names the limit.
func (e *TimeoutError) Error() string { return fmt.Sprintf("no complete answer within %v", e.After) }

// Timeout marks the error as one for net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// A Client makes requests that keep its Policy. It may be used by several
// goroutines at once.
type Client struct {
	policy    Policy
	dialer    net.Dialer
	transport *http.Transport
}

// New returns a client. CloseIdle releases the connections that it keeps.
func New(policy Policy) *Client {
	c := &Client{
		policy: policy,
		dialer: net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second},
	}
	c.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            c.DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the limits count what is received
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		MaxConnsPerHost:        64,
		IdleConnTimeout:        30 * time.Second,
	}
	return c
}

// CloseIdle closes the connections that wait for another request.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// DialContext connects to a TCP address if the policy allows it, else it returns
// an error that wraps a *RefusedError.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := c.dialer
	if !c.policy.allowsHostPort(address) {
		// Control sees the address that was found by look-up, once per attempt to
		// connect, and nothing is looked up afterwards.
		dialer.Control = c.control
	}
	return dialer.DialContext(ctx, network, address)
}

func (c *Client) control(network, address string, _ syscall.RawConn) error {
	peer, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return &RefusedError{Address: address, Reason: "not a TCP address", Setting: c.policy.Setting}
	}
	return c.policy.check(peer)
}

// Options bound one request. The zero value is good for a web hook.
type Options struct {
	// Timeout bounds the whole exchange, from look-up to the answer's last byte;
	// zero is DefaultTimeout.
	Timeout time.Duration
	// MaxBody bounds the bytes of the answer's body that are read; zero is
	// DefaultMaxBody.
	MaxBody int64
	// KeepRedirects returns a redirect as the answer instead of following it.
	KeepRedirects bool
}

// An Answer is a response that was read to its end or to Options.MaxBody.
type Answer struct {
	Status    int
	Header    http.Header
	Body      []byte
	Truncated bool // there was more
}

// Do sends the request and reads the answer, whatever its status. The request's
// context ends it early, and then the error wraps context.Cause. Other errors
// wrap a *RefusedError, a *TimeoutError, ErrScheme, ErrRedirects,
// ErrBodyElsewhere or what the network said. No error holds the URL's query. An
// answer that breaks off is returned as far as it came, beside the error.
func (c *Client) Do(req *http.Request, o Options) (*Answer, error) {
	if err := checkURL(req.URL); err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(req.Context(), timeout, &TimeoutError{timeout})
	defer cancel()
	answer, err := c.exchange(req.WithContext(ctx), o)
	if err == nil {
		return answer, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, fmt.Errorf("%s %s: %w", req.Method, Target(req.URL), err)
}

func (c *Client) exchange(req *http.Request, o Options) (*Answer, error) {
	client := http.Client{Transport: c.transport, CheckRedirect: checkRedirect}
	if o.KeepRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		// The *url.Error repeats the URL with its query.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	answer := &Answer{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return answer, nil // the body is the bare connection, which no context ends
	}
	answer.Body, answer.Truncated, err = readBounded(resp.Body, o.MaxBody)
	return answer, err
}

func readBounded(r io.Reader, limit int64) (body []byte, more bool, err error) {
	if limit <= 0 {
		limit = DefaultMaxBody
	}
	body, err = io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(body)) > limit {
		return body[:limit], true, nil
	}
	return body, false, err
}
