package executor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/pkg/executor"
)

var sample = executor.Spec{
	Type: "sample",
	Parameters: []executor.Parameter{
		{Name: "url", Kind: executor.String, Required: true},
		{Name: "count", Kind: executor.Integer},
		{Name: "force", Kind: executor.Boolean},
		{Name: "wait", Kind: executor.Duration},
		{Name: "argv", Kind: executor.StringList},
		{Name: "headers", Kind: executor.StringMap},
		{Name: "expect", Kind: executor.IntList},
		{Name: "level", Kind: executor.String, Enum: []string{"low", "high"}},
		{Name: "pin", Kind: executor.Integer, Secret: true},
		{Name: "grade", Kind: executor.String, Secret: true, Enum: []string{"a", "b"}},
		{Name: "later", Kind: "kindOfANewerVersion"},
	},
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name        string
		parameter   string
		value       string
		wantReasons []string // all of them in the error; none: valid
	}{
		{"integer", "count", "-12", nil},
		{"whole float", "count", "3600.0", nil},
		{"fraction", "count", "1.5", []string{`"1.5"`, "an integer"}},
		{"not a number", "count", "NaN", []string{"an integer"}},
		{"infinity", "count", "Inf", []string{"an integer"}},
		{"hexadecimal", "count", "0x1p4", []string{"an integer"}},
		{"beyond exact floats", "count", "1e18", []string{"an integer"}},
		{"largest integer", "count", "9223372036854775807", nil},
		{"boolean", "force", "true", nil},
		{"boolean in capitals", "force", "True", []string{`"True"`, "true or false"}},
		{"duration", "wait", "1m30s", nil},
		{"duration without unit", "wait", "90", []string{"such as 30s"}},
		{"list", "argv", `["a",""]`, nil},
		{"empty list", "argv", `[]`, nil},
		{"list is null", "argv", `null`, []string{"JSON array of strings"}},
		{"list holds null", "argv", `["a",null]`, []string{"JSON array of strings"}},
		{"list holds a number", "argv", `["a",1]`, []string{"JSON array of strings"}},
		{"list with a remainder", "argv", `["a"] x`, []string{"JSON array of strings"}},
		{"map", "headers", `{"a":"b"}`, nil},
		{"map is null", "headers", `null`, []string{"JSON object"}},
		{"map holds null", "headers", `{"a":null}`, []string{"JSON object"}},
		{"map holds a map", "headers", `{"a":{}}`, []string{"JSON object"}},
		{"integers", "expect", `[200, 204.0]`, nil},
		{"integers as text", "expect", `["200"]`, []string{"JSON array of integers"}},
		{"integers hold null", "expect", `[null]`, []string{"JSON array of integers"}},
		{"integers are null", "expect", `null`, []string{"JSON array of integers"}},
		{"one of", "level", "low", nil},
		{"none of", "level", "middle", []string{`"middle"`, "low, high"}},
		{"empty asks for the default", "level", "", nil},
		{"kind of a newer version", "later", "anything", nil},
		{"not UTF-8", "later", "\xff", []string{"UTF-8"}},
		{"too long", "later", strings.Repeat("x", executor.MaxParameterBytes+1), []string{"262145 bytes", "at most 262144"}},
		{"unknown", "colour", "red", []string{"not one of job type sample", "url, count"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := sample.Validate(map[string]string{"url": "x", tt.parameter: tt.value})
			if len(tt.wantReasons) == 0 {
				if err != nil {
					t.Fatalf("Validate = %v, want nil", err)
				}
				return
			}
			var pe *executor.ParameterError
			if !errors.As(err, &pe) || pe.Parameter != tt.parameter {
				t.Fatalf("Validate = %v, want a ParameterError for %q", err, tt.parameter)
			}
			for _, want := range tt.wantReasons {
				if !strings.Contains(pe.Reason, want) {
					t.Errorf("reason %q does not contain %q", pe.Reason, want)
				}
			}
		})
	}
}

func TestValidateDoesNotRepeatSecrets(t *testing.T) {
	for _, name := range []string{"pin", "grade"} {
		err := sample.Validate(map[string]string{"url": "x", name: "hunter2"})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Validate of a bad %s = %v, want an error without the value", name, err)
		}
	}
}

func TestValidateDoesNotRepeatLongValues(t *testing.T) {
	err := sample.Validate(map[string]string{"url": "x", "count": strings.Repeat("9", 5000)})
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("Validate = %v, want a short error", err)
	}
}

func TestValidateRequired(t *testing.T) {
	for _, parameters := range []map[string]string{nil, {}, {"url": ""}, {"url": " \t"}} {
		var pe *executor.ParameterError
		if err := sample.Validate(parameters); !errors.As(err, &pe) || pe.Parameter != "url" {
			t.Errorf("Validate(%v) = %v, want a ParameterError for url", parameters, err)
		}
	}
}

func TestValidateNamesTheFirstByName(t *testing.T) {
	err := sample.Validate(map[string]string{"zz": "1", "count": "x", "wait": "x"})
	var pe *executor.ParameterError
	if !errors.As(err, &pe) || pe.Parameter != "count" {
		t.Errorf("Validate = %v, want the error of count", err)
	}
}

func TestValidateOpen(t *testing.T) {
	open := executor.Spec{Type: "open", Open: true}
	if err := open.Validate(map[string]string{"anything": "goes"}); err != nil {
		t.Errorf("Validate of an open type = %v, want nil", err)
	}
	closed := executor.Spec{Type: "closed"}
	if err := closed.Validate(map[string]string{"a": ""}); err == nil || !strings.Contains(err.Error(), "takes: no parameters") {
		t.Errorf("Validate of a closed type = %v, want an error that says it takes no parameters", err)
	}
}

func TestCheckSeesWellFormedParametersOnly(t *testing.T) {
	odd := errors.New("odd")
	calls := 0
	s := executor.Spec{
		Type:       "checked",
		Parameters: []executor.Parameter{{Name: "n", Kind: executor.Integer}},
		Check:      func(map[string]string) error { calls++; return odd },
	}
	if err := s.Validate(map[string]string{"n": "x"}); errors.Is(err, odd) || calls != 0 {
		t.Errorf("Validate of a malformed parameter = %v with %d calls of Check, want none", err, calls)
	}
	if err := s.Validate(map[string]string{"n": "1"}); !errors.Is(err, odd) || calls != 1 {
		t.Errorf("Validate = %v with %d calls of Check, want the error of one call", err, calls)
	}
}

func TestSpecTravelsAsJSON(t *testing.T) {
	data, err := json.Marshal(sample)
	if err != nil {
		t.Fatal(err)
	}
	var got executor.Spec
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Errorf("spec after a JSON round trip (-want +got):\n%s", diff)
	}
}

func TestPermanent(t *testing.T) {
	cause := errors.New("no such host")
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", executor.Permanent(nil), false},
		{"ordinary", cause, false},
		{"marked", executor.Permanent(cause), true},
		{"wrapped after the mark", fmt.Errorf("call: %w", executor.Permanent(cause)), true},
		{"wrapped before the mark", executor.Permanent(fmt.Errorf("call: %w", cause)), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := executor.IsPermanent(tt.err); got != tt.want {
				t.Errorf("IsPermanent(%v) = %v, want %v", tt.err, got, tt.want)
			}
			if tt.err != nil && !errors.Is(tt.err, cause) {
				t.Errorf("%v does not wrap its cause", tt.err)
			}
		})
	}
}
