package zstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
)

// An asked is a mutation as its receipt keeps it: what came, decoded, so that any
// replica can carry it out.
type asked struct {
	Call   string            `json:"call"`
	Path   map[string]string `json:"path,omitempty"`
	Query  string            `json:"query,omitempty"` // of a DELETE
	Fields map[string]any    `json:"fields,omitempty"`
	Loose  bool              `json:"loose,omitempty"` // the body had fields, none inside params
}

// A request is a mutation whose shape is right.
type request struct {
	asked   asked
	job     string // X-Job-UUID, or ""
	session string
	timeout time.Duration
	hook    *hook // nil: nobody is to be told
}

// read takes a mutation off the wire. All its errors are answered at once.
func (a *API) read(c *gin.Context, e endpoint) (request, error) {
	r := request{job: c.GetHeader("X-Job-UUID")}
	var err error
	if r.session, err = authorization(c.Request.Header); err != nil {
		return r, err
	}
	if err := checkJobUUID(r.job); err != nil {
		return r, err
	}
	if r.hook, err = a.hookOf(c); err != nil {
		return r, err
	}
	body, err := readBody(c)
	if err != nil {
		return r, err
	}
	k, fields, err := e.pick(body)
	if err != nil {
		return r, err
	}
	if r.timeout, err = timeoutOf(c, a.usualTimeout(k.name)); err != nil {
		return r, err
	}
	r.asked = asked{Call: k.name, Path: map[string]string{}, Fields: fields, Loose: e.loose(body)}
	for _, p := range c.Params {
		r.asked.Path[p.Key] = p.Value
	}
	if e.method == http.MethodDelete {
		r.asked.Query = c.Request.URL.RawQuery
	}
	return r, nil
}

// timeoutOf reads X-API-Timeout, in seconds. A client may have less patience than
// we, and up to maxTimeout more.
func timeoutOf(c *gin.Context, usual time.Duration) (time.Duration, error) {
	text := c.GetHeader("X-API-Timeout")
	if text == "" {
		return usual, nil
	}
	seconds, ok := wholeNumber(text)
	switch {
	case !ok:
		return 0, badRequest("[X-API-Timeout] field is excepted an int or long, but was [%s].", excerpt(text))
	case seconds <= 0: // the SDKs' way to say that none is meant
		return usual, nil
	}
	return time.Duration(min(seconds, int64(maxTimeout/time.Second))) * time.Second, nil
}

// prepare makes the operation of a request; key names it for its effects.
func (a *API) prepare(q asked, key string) (run operation, invalid *fault, err error) {
	k, ok := a.calls[q.Call]
	if !ok {
		return nil, nil, fmt.Errorf("prepare request: no call %q", q.Call)
	}
	in := &input{call: k.name, job: key, path: func(name string) string { return q.Path[name] }, fields: q.Fields, loose: q.Loose}
	if in.query, err = url.ParseQuery(q.Query); err != nil {
		return nil, nil, badRequest("the query string cannot be read: %v", err)
	}
	run = k.prepare(in)
	if in.mismatch != nil {
		return nil, nil, in.mismatch
	}
	return run, in.invalid, nil
}

// askedOf reads what a receipt keeps. Numbers stay as they were written.
func askedOf(stored []byte) (asked, error) {
	var q asked
	d := json.NewDecoder(bytes.NewReader(stored))
	d.UseNumber()
	if err := d.Decode(&q); err != nil {
		return q, fmt.Errorf("read stored request: %w", err)
	}
	return q, nil
}

// callsByName finds the call that a stored request means.
func callsByName(endpoints []endpoint) map[string]call {
	calls := map[string]call{}
	for _, e := range endpoints {
		for _, k := range e.calls {
			calls[k.name] = k
		}
	}
	return calls
}
