package executor

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxParameterBytes bounds one parameter's value.
const MaxParameterBytes = 256 << 10

// A Parameter describes one entry of a job's parameter map.
type Parameter struct {
	Name        string   `json:"name"`
	Kind        Kind     `json:"kind"`
	Required    bool     `json:"required,omitempty"` // a blank value counts as missing
	Secret      bool     `json:"secret,omitempty"`   // never shown again once stored, nor in errors
	Enum        []string `json:"enum,omitempty"`
	Default     string   `json:"default,omitempty"` // for display; the executor applies it
	Description string   `json:"description,omitempty"`
}

// A Spec describes a job type as data. Workers announce the specs of their
// types; the API validates jobs by them.
type Spec struct {
	Type        string      `json:"type"`
	Description string      `json:"description,omitempty"`
	Parameters  []Parameter `json:"parameters,omitempty"`
	// Open types take parameters that the spec does not list.
	Open bool `json:"open,omitempty"`
	// Check, if set, looks at all parameters together after each one was found
	// well-formed. It is used only where the executor's code is linked in.
	Check func(parameters map[string]string) error `json:"-"`
}

// A ParameterError says which parameter is wrong and what would be right.
type ParameterError struct {
	Parameter string
	Reason    string
}

// Error gives the parameter's name and the reason in one sentence.
func (e *ParameterError) Error() string {
	return fmt.Sprintf("parameter %q: %s", e.Parameter, e.Reason)
}

// Validate returns a *ParameterError for the first parameter, in the order of
// names, that is missing, unknown or malformed, or else what Check returns. An
// empty value of an optional parameter is always well-formed: it asks for the
// default.
func (s Spec) Validate(parameters map[string]string) error {
	known := make(map[string]Parameter, len(s.Parameters))
	names := make([]string, 0, len(s.Parameters)+len(parameters))
	for _, p := range s.Parameters {
		known[p.Name] = p
		names = append(names, p.Name)
	}
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		p, ok := known[name]
		if !ok && !s.Open {
			return &ParameterError{name, fmt.Sprintf("is not one of job type %s, which takes: %s", s.Type, s.parameterNames())}
		}
		if p.Required && strings.TrimSpace(parameters[name]) == "" {
			return &ParameterError{name, "is required by job type " + s.Type}
		}
		if reason := p.fault(parameters[name]); reason != "" {
			return &ParameterError{name, reason}
		}
	}
	if s.Check == nil {
		return nil
	}
	return s.Check(parameters)
}

func (s Spec) parameterNames() string {
	if len(s.Parameters) == 0 {
		return "no parameters"
	}
	names := make([]string, len(s.Parameters))
	for i, p := range s.Parameters {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// fault returns what is wrong with the value, or "". Secret values are not
// repeated, because errors are shown and logged.
func (p Parameter) fault(value string) string {
	if len(value) > MaxParameterBytes {
		return fmt.Sprintf("is %d bytes long, at most %d are taken", len(value), MaxParameterBytes)
	}
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	if value == "" {
		return ""
	}
	if !p.Kind.holds(value) {
		return p.subject(value) + "must be " + p.Kind.shape()
	}
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, value) {
		return p.subject(value) + "must be one of " + strings.Join(p.Enum, ", ")
	}
	return ""
}

// subject repeats a value that is short enough to help the reader.
func (p Parameter) subject(value string) string {
	if p.Secret || len(value) > 64 {
		return ""
	}
	return fmt.Sprintf("%q ", value)
}
