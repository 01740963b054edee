package zstack

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/id"
)

// Whatever a body holds, reading it and preparing every call by it either refuses
// the request with 400 or leaves an operation, and blames an argument with a
// business failure. Nothing is carried out here.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"params":null}`, `{"params":{}}`, `{"params":[]}`, `{} {}`,
		`{"params":{"name":"g","type":"startVm","parameters":{"a":1,"b":[null],"c":{"d":true}},"resourceUuid":"x","tagUuids":["t"]},"systemTags":["a::b"],"userTags":"u"}`,
		`{"params":{"name":"t","schedulerType":"simple","schedulerInterval":3600.0,"repeatCount":"0","startTime":1.510669257141E12,"stopTime":-1e300}}`,
		`{"params":{"schedulerJobUuids":["a","a",null],"priorities":{"a":1}}}`, `{"params":{"schedulerJobUuids":"[a,b]"}}`,
		`{"updateSchedulerJob":{"name":"","parameters":{"k":"***"}}}`, `{"updateSchedulerJobGroup":{"state":"enable","name":null}}`,
		`{"updateSchedulerTrigger":{"cron":"0 0 1 * * ?","schedulerType":"cron","repeatCount":0}}`, `{"runSchedulerTrigger":{"jobUuids":["{uuid}"]}}`,
		`{"changeSchedulerState":{"stateEvent":"enable"},"deleteMode":"Enforcing","force":true}`, `{"params":{"triggerNow":"maybe"}}`,
		"{\"params\":{\"name\":\"\xff\\ud800\"}}", `{"params":{"startTime":99999999999999999999}}`,
	} {
		f.Add(seed, "deleteMode=Permissive&schedulerJobUuids.0=a", "{uuid}")
	}
	gin.SetMode(gin.ReleaseMode)
	a := New(nil, nil, Options{Log: slog.New(slog.DiscardHandler)})
	calls := a.mutations()
	f.Fuzz(func(t *testing.T, body, query, path string) {
		c, _ := gin.CreateTestContext(httptest.NewRecorder())
		c.Request = httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		fields, err := readBody(c)
		if err != nil {
			refused(t, err, http.StatusBadRequest)
			return
		}
		values, _ := url.ParseQuery(query)
		for _, e := range calls {
			prepareAll(t, e, fields, values, path)
		}
	})
}

// prepareAll prepares every call of an endpoint, whatever the body asks for.
func prepareAll(t *testing.T, e endpoint, body map[string]any, query url.Values, path string) {
	t.Helper()
	for _, k := range e.calls {
		chosen, fields, err := endpoint{e.method, e.path, []call{k}}.pick(body)
		if err != nil {
			refused(t, err, http.StatusBadRequest)
			continue
		}
		in := &input{call: chosen.name, path: func(string) string { return path }, fields: fields}
		if e.method == http.MethodDelete {
			in.query = query
		}
		if chosen.prepare(in) == nil {
			t.Fatalf("%s has no operation", chosen.name)
		}
		if in.mismatch != nil {
			refused(t, in.mismatch, http.StatusBadRequest)
		}
		if in.invalid != nil {
			refused(t, in.invalid, http.StatusServiceUnavailable)
		}
		if in.mismatch == nil && in.invalid == nil && strings.Contains(e.path, ":uuid") && !strings.Contains(e.path, "sessions") && !id.Valid(strings.TrimSpace(path)) {
			t.Fatalf("%s takes %q for a uuid", chosen.name, path)
		}
	}
}

// refused checks an error as the wire would show it.
func refused(t *testing.T, err error, status int) {
	t.Helper()
	var f *fault
	if !errors.As(err, &f) || f.status != status || descriptions[f.code] == "" {
		t.Fatalf("got %v, want a fault with %d", err, status)
	}
	if text := string(f.body()); !utf8.ValidString(text) || len(text) > 4096 {
		t.Fatalf("the error body is %d bytes or no text: %.200q", len(text), text)
	}
}
