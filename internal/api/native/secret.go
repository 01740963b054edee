package native

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/pkg/executor"
)

// mask stands for a secret that is stored and not shown.
const mask = "***"

// A masker hides the secrets among parameters. Secret is what the job type's
// spec says, the credentials in a map of headers, and everything of a type whose
// spec is not known.
type masker map[string]executor.Spec

func (a *API) masker(ctx context.Context) (masker, error) { return a.eng.Types(ctx) }

// show gives parameters as they may leave the server.
func (m masker) show(jobType string, parameters map[string]string) map[string]string {
	if len(parameters) == 0 {
		return nil
	}
	out := make(map[string]string, len(parameters))
	for name, value := range parameters {
		switch {
		case value == "":
			out[name] = "" // nothing to hide, and good to know
		case m.secret(jobType, name):
			out[name] = mask
		case strings.EqualFold(name, "headers"):
			out[name] = showHeaders(value)
		default:
			out[name] = value
		}
	}
	return out
}

func (m masker) secret(jobType, name string) bool {
	spec, known := m[jobType]
	if !known {
		return true
	}
	for _, p := range spec.Parameters {
		if p.Name == name {
			return p.Secret
		}
	}
	return false
}

func showHeaders(value string) string {
	headers, err := executor.ParseStringMap(value)
	if err != nil {
		return mask
	}
	for name := range headers {
		if safehttp.SecretHeader(name) {
			headers[name] = mask
		}
	}
	text, _ := json.Marshal(headers) // texts only: cannot fail
	return string(text)
}

// unmask puts the stored secrets where given holds the mask. A mask for which
// nothing is stored is Invalid: it would be kept as the secret itself.
func (m masker) unmask(jobType string, given, stored map[string]string) (map[string]string, error) {
	out := maps.Clone(given)
	for name, value := range given {
		switch {
		case m.secret(jobType, name) && value == mask:
			kept := stored[name]
			if kept == "" || kept == mask {
				return nil, maskError(name)
			}
			out[name] = kept
		case strings.EqualFold(name, "headers"):
			kept, err := unmaskHeaders(name, value, stored[name])
			if err != nil {
				return nil, err
			}
			out[name] = kept
		}
	}
	return out, nil
}

func unmaskHeaders(parameter, given, stored string) (string, error) {
	headers, err := executor.ParseStringMap(given)
	if err != nil {
		return given, nil // for the engine to refuse
	}
	kept, _ := executor.ParseStringMap(stored)
	changed := false
	for name, value := range headers {
		if value != mask || !safehttp.SecretHeader(name) {
			continue
		}
		if kept[name] == "" || kept[name] == mask {
			return "", maskError(parameter)
		}
		headers[name], changed = kept[name], true
	}
	if !changed {
		return given, nil
	}
	text, err := json.Marshal(headers)
	return string(text), err
}

func maskError(parameter string) error {
	return core.InvalidField("parameters."+parameter, "parameters.%s is %q, which stands for a stored secret, and none is stored; give the value itself", parameter, mask)
}

// restore is unmask for the parameters of a merge patch. It gives another patch.
func (m masker) restore(jobType string, p mergePatch, stored map[string]string) (mergePatch, error) {
	members, ok := p["parameters"].(map[string]any)
	if !ok {
		return p, nil
	}
	given := map[string]string{}
	for name, value := range members {
		if text, isText := value.(string); isText {
			given[name] = text
		}
	}
	given, err := m.unmask(jobType, given, stored)
	if err != nil {
		return nil, err
	}
	members = maps.Clone(members)
	for name, value := range given {
		members[name] = value
	}
	p = maps.Clone(p)
	p["parameters"] = members
	return p, nil
}
