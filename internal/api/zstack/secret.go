package zstack

import (
	"maps"
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/pkg/executor"
)

// mask stands for a secret that is stored and not shown.
const mask = "***"

// jobTypes are the known job types by name. Their specs say which parameters are
// secret; the credentials among headers always are, and so is everything of a type
// whose spec is not known.
type jobTypes map[string]executor.Spec

func (types jobTypes) secret(jobType, name string) bool {
	spec, known := types[jobType]
	for _, p := range spec.Parameters {
		if p.Name == name {
			return p.Secret
		}
	}
	return !known
}

// shown gives parameters as they may be seen.
func (types jobTypes) shown(jobType string, parameters map[string]string) map[string]string {
	out := make(map[string]string, len(parameters))
	for name, value := range parameters {
		switch {
		case value == "":
		case types.secret(jobType, name):
			value = mask
		case strings.EqualFold(name, "headers"):
			value = shownHeaders(value)
		}
		out[name] = value
	}
	return out
}

func shownHeaders(text string) string {
	headers, err := executor.ParseStringMap(text)
	if err != nil {
		return mask
	}
	for name := range headers {
		if safehttp.SecretHeader(name) {
			headers[name] = mask
		}
	}
	return string(encode(headers))
}

// kept gives parameters as a client means them that saw the stored ones masked: a
// secret that still is the mask stays what it was.
func (types jobTypes) kept(jobType string, given, stored map[string]string) (map[string]string, error) {
	out := maps.Clone(given)
	for name, value := range given {
		switch {
		case value == mask && types.secret(jobType, name):
			if out[name] = stored[name]; out[name] == "" {
				return nil, unkept(name)
			}
		case strings.EqualFold(name, "headers"):
			headers, err := keptHeaders(name, value, stored[name])
			if err != nil {
				return nil, err
			}
			out[name] = headers
		}
	}
	return out, nil
}

func keptHeaders(parameter, given, stored string) (string, error) {
	headers, err := executor.ParseStringMap(given)
	if err != nil || !strings.Contains(given, mask) {
		return given, nil // nothing to put back; what is malformed the engine refuses
	}
	before, err := executor.ParseStringMap(stored)
	for name, value := range headers {
		if value != mask || !safehttp.SecretHeader(name) {
			continue
		}
		if err != nil || before[name] == "" {
			return "", unkept(parameter)
		}
		headers[name] = before[name]
	}
	return string(encode(headers)), nil
}

func unkept(parameter string) error {
	return core.InvalidField("parameters."+parameter, "parameters[%s] is %s, which stands for a stored secret, and none is stored; give the value itself", parameter, mask)
}
