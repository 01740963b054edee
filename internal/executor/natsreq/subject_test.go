package natsreq

import (
	"errors"
	"strings"
	"testing"

	"github.com/takt-dev/takt/pkg/executor"
)

func TestSpecChecks(t *testing.T) {
	tests := []struct {
		name, parameter, value string
		want                   string // part of the reason; "" means valid
	}{
		{"subject", "subject", "orders.create.v1", ""},
		{"one token", "subject", "orders", ""},
		{"token like a reserved one", "subject", "taktik.x", ""},
		{"reserved token not in front", "subject", "orders.takt", ""},
		{"star", "subject", "orders.*", "wildcard"},
		{"rest", "subject", "orders.>", "wildcard"},
		{"wildcard within a token", "subject", "orders.a*b", "wildcard"},
		{"blank", "subject", "orders create", "blank"},
		{"line break", "subject", "orders\r\nPUB x", "blank"},
		{"tab", "subject", "orders\tx", "blank"},
		{"null byte", "subject", "orders\x00", "control"},
		{"empty token", "subject", "orders..create", "not a subject"},
		{"final dot", "subject", "orders.", "not a subject"},
		{"first dot", "subject", ".orders", "not a subject"},
		{"too long", "subject", strings.Repeat("x", maxSubject+1), "at most"},
		{"system", "subject", "$SYS.REQ.SERVER.PING", "never allowed"},
		{"JetStream", "subject", "$JS.API.STREAM.DELETE.x", "never allowed"},
		{"replies", "subject", "_INBOX.abc.def", "never allowed"},
		{"Takt", "subject", "takt.stop.worker", "never allowed"},
		{"Takt alone", "subject", "takt", "never allowed"},
		{"headers", "headers", `{"Trace-Id":"a b"}`, ""},
		{"header with a colon", "headers", `{"A:":"b"}`, "not a header name"},
		{"header without a name", "headers", `{"":"b"}`, "not a header name"},
		{"line break in a header", "headers", `{"A":"hunter2\r\nB: c"}`, "value of header A"},
		{"timeout", "timeout", "1m", ""},
		{"no time", "timeout", "0s", "positive"},
		{"mode", "mode", "publish", ""},
		{"other mode", "mode", "stream", "request, publish"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parameters := map[string]string{"subject": "orders.create"}
			parameters[tt.parameter] = tt.value
			err := Spec().Validate(parameters)
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

func TestAllowList(t *testing.T) {
	tests := []struct {
		pattern, subject string
		want             bool
	}{
		{"orders.create", "orders.create", true},
		{"orders.create", "orders.delete", false},
		{"orders.create", "orders", false},
		{"orders.create", "orders.create.now", false},
		{"orders.create", "Orders.create", false},
		{"orders.*", "orders.create", true},
		{"orders.*", "orders", false},
		{"orders.*", "orders.create.now", false},
		{"*.create", "orders.create", true},
		{"orders.*.now", "orders.create.now", true},
		{"orders.>", "orders.create.now", true},
		{"orders.>", "orders", false},
		{"orders.>", "ordersx.create", false},
		{">", "anything.at.all", true},
		{">", "$KV.bucket.key", false},
		{"*.bucket.key", "$KV.bucket.key", false},
		{"*", "_own", false},
		{"$KV.bucket.>", "$KV.bucket.key", true},
	}
	for _, tt := range tests {
		t.Run(tt.pattern+" "+tt.subject, func(t *testing.T) {
			patterns, err := parsePatterns([]string{"unrelated", tt.pattern})
			if err != nil {
				t.Fatal(err)
			}
			err = allowed(patterns, tt.subject)
			if (err == nil) != tt.want {
				t.Errorf("allowed = %v, want %v", err, tt.want)
			}
			if err != nil && (!executor.IsPermanent(err) || !strings.Contains(err.Error(), AllowKey)) {
				t.Errorf("error %v, want a permanent one that names %s", err, AllowKey)
			}
		})
	}
}

func TestNewRefusesPatterns(t *testing.T) {
	for _, entry := range []string{"", "a..b", "a b", "a.>.b", "a.b*", "a>", "$SYS.>", "$JS.API.>", "_INBOX.>", "takt.>"} {
		if _, err := New(nil, []string{"ok.>", entry}); err == nil || !strings.Contains(err.Error(), AllowKey+" entry 2") {
			t.Errorf("New with %q = %v, want an error that names entry 2 of %s", entry, err, AllowKey)
		}
	}
}
