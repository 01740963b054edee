package httpreq_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/executor/httpreq"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestSpecChecks(t *testing.T) {
	tests := []struct {
		name, parameter, value string
		want                   string // part of the reason; "" means valid
	}{
		{"plain URL", "url", "http://example.com", ""},
		{"inner address, for the worker to judge", "url", "http://10.0.0.1/", ""},
		{"URL with blanks around", "url", " https://example.com/a?b=c ", ""},
		{"relative URL", "url", "/path", "absolute"},
		{"other scheme", "url", "ftp://example.com/", "absolute"},
		{"no host", "url", "http:///path", "absolute"},
		{"only a port", "url", "http://:80/", "absolute"},
		{"no URL at all", "url", "http://%zz/", "absolute"},
		{"URL with a password", "url", "https://user:hunter2@example.com/", "Authorization"},
		{"method", "method", "PATCH", ""},
		{"own method", "method", "purge", ""},
		{"method with a blank", "method", "GET /", "request method"},
		{"method with a line break", "method", "GET\r\nX: y", "request method"},
		{"tunnel", "method", "connect", "request method"},
		{"headers", "headers", `{"X-A":"b","Accept":"c, d\te"}`, ""},
		{"header name with a blank", "headers", `{"X A":"b"}`, "not a header name"},
		{"header name with a colon", "headers", `{"X:":"b"}`, "not a header name"},
		{"empty header name", "headers", `{"":"b"}`, "not a header name"},
		{"line break in a header", "headers", `{"X-A":"hunter2\r\nHost: evil"}`, "X-A holds a line break"},
		{"lone line feed in a header", "headers", `{"X-A":"hunter2\n"}`, "line break"},
		{"null byte in a header", "headers", `{"X-A":"hunter2\u0000"}`, "control character"},
		{"host header", "headers", `{"host":"evil"}`, "header Host is set by Takt"},
		{"length header", "headers", `{"content-length":"0"}`, "set by Takt"},
		{"framing header", "headers", `{"Transfer-Encoding":"chunked"}`, "set by Takt"},
		{"one header twice", "headers", `{"X-A":"hunter2","x-a":"hunter2"}`, "set twice"},
		{"statuses", "expect", `[200, 404]`, ""},
		{"classes", "expect", `["2xx","3XX"]`, ""},
		{"no status", "expect", `[]`, "JSON array"},
		{"status out of range", "expect", `[600]`, "JSON array"},
		{"fraction of a status", "expect", `[200.5]`, "JSON array"},
		{"class out of range", "expect", `["6xx"]`, "JSON array"},
		{"class without a digit", "expect", `["xx"]`, "JSON array"},
		{"status alone", "expect", `200`, "JSON array"},
		{"null as statuses", "expect", `null`, "JSON array"},
		{"nested statuses", "expect", `[[200]]`, "JSON array"},
		{"timeout", "timeout", "90s", ""},
		{"zero timeout", "timeout", "0s", "positive"},
		{"negative timeout", "timeout", "-1s", "positive"},
		{"redirects", "followRedirects", "false", ""},
		{"redirects maybe", "followRedirects", "maybe", "true or false"},
		{"largest output", "maxOutput", "65536", ""},
		{"too much output", "maxOutput", "65537", "65536"},
		{"negative output", "maxOutput", "-1", "from 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parameters := map[string]string{"url": "https://example.com"}
			parameters[tt.parameter] = tt.value
			err := httpreq.Spec().Validate(parameters)
			if tt.want == "" {
				if err != nil {
					t.Errorf("Validate = %v, want nil", err)
				}
				return
			}
			var pe *executor.ParameterError
			if !errors.As(err, &pe) || pe.Parameter != tt.parameter || !strings.Contains(pe.Reason, tt.want) {
				t.Errorf("Validate = %v, want a ParameterError of %s with %q", err, tt.parameter, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows a value", err)
			}
		})
	}
}

// The parameters were valid when the job was made, perhaps by another version.
func TestExecuteDoesNotTrustTheSpec(t *testing.T) {
	typ := httpreq.New(nil, 0)
	_, err := typ.Executor.Execute(t.Context(), executor.Attempt{Parameters: map[string]string{"url": "file:///etc/passwd"}})
	if !executor.IsPermanent(err) {
		t.Errorf("Execute = %v, want a permanent error", err)
	}
}
