package shell

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
		{"absolute program", "argv", `["/bin/true"]`, ""},
		{"program by name", "argv", `["true","-x",""]`, ""},
		{"no program", "argv", `[]`, "no program"},
		{"empty program", "argv", `[""]`, "no program"},
		{"command line", "argv", `true -x`, "JSON array"},
		{"relative program", "argv", `["bin/true"]`, "clean absolute path"},
		{"program in the working directory", "argv", `["./true"]`, "clean absolute path"},
		{"path that climbs", "argv", `["/bin/../bin/true"]`, "clean absolute path"},
		{"null byte", "argv", `["/bin/true","a\u0000b"]`, "null byte"},
		{"environment", "env", `{"A_1":"b=c"}`, ""},
		{"variable with an equals sign", "env", `{"A=B":"c"}`, "not the name"},
		{"variable without a name", "env", `{"":"c"}`, "not the name"},
		{"variable with a line break", "env", `{"A\n":"c"}`, "not the name"},
		{"null byte in a variable", "env", `{"A":"hunter2\u0000"}`, "value of A holds a null byte"},
		{"directory", "dir", "/var/lib", ""},
		{"relative directory", "dir", "lib", "absolute"},
		{"codes", "expect", `[0, 255]`, ""},
		{"no codes", "expect", `[]`, "exit codes"},
		{"code out of range", "expect", `[256]`, "exit codes"},
		{"negative code", "expect", `[-1]`, "exit codes"},
		{"largest output", "maxOutput", "65536", ""},
		{"too much output", "maxOutput", "65537", "65536"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parameters := map[string]string{"argv": `["/bin/true"]`}
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
