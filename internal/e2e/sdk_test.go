package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/id"
)

// brokenOff is the wait before what was broken off is tried again.
const brokenOff = 100 * time.Millisecond

const adminPassword = "correct horse battery staple"

// An sdk is a client with the habits of one of ZStack's SDKs:
//
//	java  each request has X-Job-UUID and X-JSON-Schema; a mutation must be answered
//	      202, anything else never; the first poll comes at once, then one a second;
//	      dates are read as Gson reads them; lists without a schema cannot be cast
//	go    neither header; a body with "location" is polled every 2 s, any other is
//	      the result, and must be an object
//
// Both give up on an answer after 10 s, rebuild the location on the address they
// were configured with, and poll with whatever authorization they have, "OAuth null"
// included. Where the connection breaks, the java one asks for its own job uuid, and
// repeats the request if that is unknown; the go one cannot know and must not be
// used while processes die.
type sdk struct {
	t       testing.TB
	java    bool
	base    string // http://host:port/zstack/v1
	session string
	key     [2]string // id and secret; "" = the session
	http    *http.Client
}

func newSDK(t testing.TB, java bool, base string) *sdk {
	return &sdk{t: t, java: java, base: base, http: &http.Client{Timeout: 10 * time.Second}}
}

// An sdkError is what the SDKs give their callers.
type sdkError struct{ Code, Description, Details string }

func (e *sdkError) Error() string { return e.Code + ": " + e.Details }

// A reply is a body that an SDK has accepted.
type reply map[string]any

// must ends the test when a call fails.
func (c *sdk) must(r reply, err error) reply {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// refused checks that a call fails with a code.
func (c *sdk) refused(code string, r reply, err error) {
	c.t.Helper()
	var e *sdkError
	if !errors.As(err, &e) || e.Code != code {
		c.t.Errorf("got %v, %v; want the error %s", r, err, code)
	}
}

func (c *sdk) login(name, password string) {
	c.t.Helper()
	sum := sha512.Sum512([]byte(password))
	body := map[string]any{"logInByAccount": map[string]any{"accountName": name, "password": hex.EncodeToString(sum[:])}}
	r := c.must(c.sync(http.MethodPut, "/accounts/login", body))
	c.session = c.uuid(r)
}

func (c *sdk) uuid(r reply) string {
	c.t.Helper()
	inventory, _ := r["inventory"].(map[string]any)
	text, _ := inventory["uuid"].(string)
	if len(text) != 32 {
		c.t.Fatalf("the answer has no uuid: %v", r)
	}
	return text
}

// create is a POST with params that makes something.
func (c *sdk) create(path string, params map[string]any) (reply, error) {
	return c.mutate(http.MethodPost, path, map[string]any{"params": params, "systemTags": []string{}, "userTags": []string{}})
}

// act is a PUT with the action's key.
func (c *sdk) act(path, action string, fields map[string]any) (reply, error) {
	return c.mutate(http.MethodPut, path, map[string]any{action: fields})
}

// remove is a DELETE; path may end with an argument.
func (c *sdk) remove(path string) (reply, error) {
	path, argument, _ := strings.Cut(path, "?")
	return c.mutate(http.MethodDelete, path+"?deleteMode=Permissive&"+argument, nil)
}

// list is a Query call. It gives the inventories.
func (c *sdk) list(path string, conditions ...string) []map[string]any {
	c.t.Helper()
	q := url.Values{"q": conditions}
	r := c.must(c.sync(http.MethodGet, path+"?"+q.Encode(), nil))
	list, ok := r["inventories"].([]any)
	if !ok {
		c.t.Fatalf("the answer has no inventories: %v", r)
	}
	schema, _ := r["schema"].(map[string]any)
	out := make([]map[string]any, len(list))
	for i, x := range list {
		out[i], _ = x.(map[string]any)
		if class, _ := schema[fmt.Sprintf("inventories[%d]", i)].(string); !strings.HasPrefix(class, "org.zstack.") {
			c.t.Errorf("inventories[%d] of %s has the class %q", i, path, class)
		}
	}
	return out
}

// sync is a call that must be answered at once. It repeats what reads.
func (c *sdk) sync(method, path string, body any) (reply, error) {
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, r, err := c.send(method, c.base+path, id.New(), body)
		if (err != nil || status == http.StatusBadGateway) && time.Now().Before(deadline) {
			<-time.After(brokenOff)
			continue
		}
		if err != nil {
			return nil, err
		}
		if status == http.StatusAccepted {
			c.t.Errorf("%s %s was answered 202, which the Java SDK throws on", method, path)
		}
		return c.result(status, r)
	}
}

// mutate is a call of the asynchronous protocol.
func (c *sdk) mutate(method, path string, body any) (reply, error) {
	job := id.New()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, r, err := c.send(method, c.base+path, job, body)
		if err != nil || status == http.StatusBadGateway {
			if !c.java || time.Now().After(deadline) {
				return nil, fmt.Errorf("%s %s: status %d, %w", method, path, status, err)
			}
			if status, _, err := c.send(http.MethodGet, c.base+"/api-jobs/"+job, job, nil); err == nil && status != http.StatusNotFound && status != http.StatusBadGateway {
				return c.poll(c.base + "/api-jobs/" + job)
			}
			<-time.After(brokenOff)
			continue
		}
		if status == http.StatusBadRequest && strings.Contains(fmt.Sprint(r), "Duplicate job uuid") {
			return c.poll(c.base + "/api-jobs/" + job) // what was broken off had come through
		}
		if c.java && status != http.StatusAccepted {
			return nil, fmt.Errorf("%s %s: direct answer %d %v", method, path, status, r)
		}
		location, ok := r["location"].(string)
		if !ok {
			return c.result(status, r)
		}
		_, uuid, ok := strings.Cut(location, "/zstack/v1/api-jobs/")
		if !ok {
			return nil, fmt.Errorf("location %q: the SDKs cannot cut it", location)
		}
		return c.poll(c.base + "/api-jobs/" + uuid)
	}
}

// poll asks for a result, at once and then in the SDK's rhythm.
func (c *sdk) poll(location string) (reply, error) {
	rhythm := 2 * time.Second
	if c.java {
		rhythm = time.Second
	}
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		status, r, err := c.send(http.MethodGet, location, "", nil)
		if err == nil && status != http.StatusAccepted && status != http.StatusBadGateway {
			return c.result(status, r)
		}
		<-time.After(rhythm)
	}
	return nil, fmt.Errorf("%s has no result after a minute", location)
}

// result turns an answer into what the caller gets.
func (c *sdk) result(status int, r reply) (reply, error) {
	c.t.Helper()
	if status == http.StatusOK {
		c.wantDates(r)
		return r, nil
	}
	e, _ := r["error"].(map[string]any)
	if len(r) != 1 || e == nil {
		return nil, fmt.Errorf("status %d with %v, want one key, error", status, r)
	}
	text := func(k string) string { s, _ := e[k].(string); return s }
	return nil, &sdkError{text("code"), text("description"), text("details")}
}

// send makes one request. The body of an answer must be an object.
func (c *sdk) send(method, address, job string, body any) (int, reply, error) {
	var payload []byte
	if body != nil {
		payload, _ = json.Marshal(body)
	}
	req, err := http.NewRequest(method, address, bytes.NewReader(payload))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if c.java {
		req.Header.Set("X-JSON-Schema", "true")
		if job != "" {
			req.Header.Set("X-Job-UUID", job)
		}
	} else {
		req.Header.Set("X-Session-Id", c.session)
	}
	c.authorize(req)
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode == http.StatusBadGateway {
		return res.StatusCode, nil, err
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil || r == nil {
		return res.StatusCode, nil, fmt.Errorf("%s %s: %d with %q, which is no object", method, address, res.StatusCode, text)
	}
	return res.StatusCode, r, nil
}

// authorize signs a request, or names the session. Polls of signed calls have none,
// and the Java SDK writes that down as "null".
func (c *sdk) authorize(req *http.Request) {
	polls := strings.Contains(req.URL.Path, "/api-jobs/")
	switch {
	case c.key[0] == "":
		req.Header.Set("Authorization", "OAuth "+c.session)
	case polls && c.java:
		req.Header.Set("Authorization", "OAuth null")
	default:
		date := time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05") + " Etc/UTC"
		if !c.java {
			date = time.Now().UTC().Format(time.RFC1123)
		}
		path := strings.TrimPrefix(req.URL.Path, "/zstack")
		mac := hmac.New(sha1.New, []byte(c.key[1]))
		_, _ = io.WriteString(mac, req.Method+"\n"+date+"\n"+path)
		req.Header.Set("Date", date)
		req.Header.Set("Authorization", "ZStack "+c.key[0]+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
}

// wantDates checks that the dates of an answer are of the only form that Gson's
// default and the Go SDK's layout both read.
func (c *sdk) wantDates(x any) {
	c.t.Helper()
	switch x := x.(type) {
	case reply:
		c.wantDates(map[string]any(x))
	case []any:
		for _, v := range x {
			c.wantDates(v)
		}
	case map[string]any:
		for k, v := range x {
			switch k {
			case "createDate", "lastOpDate", "expiredDate", "startTime", "stopTime":
				text, ok := v.(string)
				if _, err := time.Parse("Jan 2, 2006 3:04:05 PM", text); v != nil && (!ok || err != nil) {
					c.t.Errorf("%s is %v, which breaks the Java SDK", k, v)
				}
			default:
				c.wantDates(v)
			}
		}
	}
}
