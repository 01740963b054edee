package httpreq

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// TypeName is the job type that this package executes.
const TypeName = "httpRequest"

const (
	defaultTimeout   = 30 * time.Second
	defaultMaxOutput = 16 << 10
)

// Names of parameters.
const (
	paramURL       = "url"
	paramMethod    = "method"
	paramHeaders   = "headers"
	paramBody      = "body"
	paramExpect    = "expect"
	paramTimeout   = "timeout"
	paramFollow    = "followRedirects"
	paramMaxOutput = "maxOutput"
)

// Spec describes the type. Its Check needs no client, so that an API process
// refuses a malformed request when the job is created. Whether the address may
// be reached is known only to the worker, at the time of the call.
func Spec() executor.Spec {
	return executor.Spec{
		Type:        TypeName,
		Description: "Makes an HTTP request and succeeds if the answer's status is an expected one.",
		Parameters: []executor.Parameter{
			{Name: paramURL, Kind: executor.String, Required: true, Description: "Absolute http or https URL. Credentials belong into headers."},
			{Name: paramMethod, Kind: executor.String, Default: http.MethodGet, Description: "Request method."},
			{Name: paramHeaders, Kind: executor.StringMap, Secret: true, Description: "Request headers. Idempotency-Key is added unless set."},
			{Name: paramBody, Kind: executor.String, Secret: true, Description: "Request body. Without a Content-Type header it is sent as JSON if it is JSON, else as plain text."},
			{Name: paramExpect, Kind: executor.String, Default: `["2xx"]`, Description: `JSON array of statuses that count as success: [200,204], ["2xx",404].`},
			{Name: paramTimeout, Kind: executor.Duration, Default: defaultTimeout.String(), Description: "Limit for the whole exchange."},
			{Name: paramFollow, Kind: executor.Boolean, Default: "true", Description: "Follow up to five redirects. If false, a redirect is the answer: expect its status."},
			{Name: paramMaxOutput, Kind: executor.Integer, Default: fmt.Sprint(defaultMaxOutput), Description: "Bytes of the answer's body that are kept, at most 65536."},
		},
		Check: func(parameters map[string]string) error {
			_, err := parse(parameters)
			return err
		},
	}
}

// A call is what the parameters ask for.
type call struct {
	url       *url.URL
	method    string
	header    http.Header
	body      string
	expect    expectation
	timeout   time.Duration
	follow    bool
	maxOutput int
}

// parse reads the parameters; errors are *executor.ParameterError.
func parse(parameters map[string]string) (call, error) {
	c := call{body: parameters[paramBody], follow: parameters[paramFollow] != "false"}
	steps := []struct {
		name string
		read func(value string) error
	}{
		{paramURL, c.readURL},
		{paramMethod, c.readMethod},
		{paramHeaders, c.readHeaders},
		{paramExpect, c.readExpect},
		{paramTimeout, c.readTimeout},
		{paramMaxOutput, c.readMaxOutput},
	}
	for _, s := range steps {
		if err := s.read(parameters[s.name]); err != nil {
			return call{}, &executor.ParameterError{Parameter: s.name, Reason: err.Error()}
		}
	}
	return c, nil
}

func (c *call) readURL(value string) error {
	u, err := url.Parse(strings.TrimSpace(value))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return errors.New("must be an absolute http or https URL, such as https://example.com/path")
	}
	if u.User != nil {
		return errors.New("must not hold a user or password; set an Authorization header, which is stored encrypted")
	}
	c.url = u
	return nil
}

func (c *call) readMethod(value string) error {
	c.method = strings.ToUpper(value)
	if value == "" {
		c.method = http.MethodGet
	}
	if !isToken(c.method) || c.method == http.MethodConnect {
		return fmt.Errorf("%.32q is not a request method such as GET or POST", value)
	}
	return nil
}

// fixedHeaders are set by the client from the URL and the body, or speak about
// the connection. A second opinion on them makes two servers read two requests.
var fixedHeaders = []string{
	"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func (c *call) readHeaders(value string) error {
	c.header = http.Header{}
	if value == "" {
		return nil
	}
	headers, err := executor.ParseStringMap(value)
	if err != nil {
		return err
	}
	for name, v := range headers {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !isToken(name):
			return fmt.Errorf("%.64q is not a header name", name)
		case slices.Contains(fixedHeaders, canonical):
			return fmt.Errorf("header %s is set by Takt", canonical)
		case !isHeaderValue(v):
			return fmt.Errorf("the value of header %s holds a line break or another control character", canonical)
		case c.header[canonical] != nil:
			return fmt.Errorf("header %s is set twice", canonical)
		}
		c.header.Set(canonical, v)
	}
	return nil
}

func (c *call) readExpect(value string) (err error) {
	c.expect, err = parseExpectation(value)
	return err
}

func (c *call) readTimeout(value string) (err error) {
	if value == "" {
		return nil
	}
	if c.timeout, err = time.ParseDuration(value); err != nil || c.timeout <= 0 {
		return errors.New("must be a positive duration such as 30s")
	}
	return nil
}

func (c *call) readMaxOutput(value string) error {
	c.maxOutput = defaultMaxOutput
	if value == "" {
		return nil
	}
	n, err := executor.ParseInteger(value)
	if err != nil || n < 0 || n > executor.MaxOutputBytes {
		return fmt.Errorf("must be a number of bytes from 0 to %d", executor.MaxOutputBytes)
	}
	c.maxOutput = int(n)
	return nil
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isHeaderValue reports whether s is a field value of RFC 9110, 5.5.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
