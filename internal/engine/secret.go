package engine

import (
	"context"
	"errors"
	"maps"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/pkg/executor"
)

// Parameters that a job type marks as secret lie sealed in the store, in
// definitions and in plans. Verbs that give definitions open them, since their
// callers may have to show that they are unchanged; the dialects never show
// them. A worker opens them when an attempt begins.

// sealed gives the parameters as the store is to hold them.
func (e *Engine) sealed(spec executor.Spec, parameters map[string]string) map[string]string {
	if e.box == nil {
		return parameters
	}
	secret := map[string]bool{}
	for _, p := range spec.Parameters {
		secret[p.Name] = p.Secret
	}
	out := maps.Clone(parameters)
	for name, v := range out {
		// A plain text that looks sealed is sealed too, so that opening gives it back.
		if secret[name] && v != "" || seal.Sealed(v) {
			out[name] = e.box.Seal(v)
		}
	}
	return out
}

// opened gives the parameters as they were given to us. Unavailable: the key is
// missing or another one.
func (e *Engine) opened(parameters map[string]string) (map[string]string, error) {
	var out map[string]string
	for name, v := range parameters {
		if !seal.Sealed(v) {
			continue
		}
		plain, err := e.box.Open(v)
		if err != nil {
			return nil, core.Wrap(core.Unavailable, err, "parameter %q is sealed and this process cannot open it; set worker.secretKey and api.secretKey to the key it was sealed with", name)
		}
		if out == nil {
			out = maps.Clone(parameters)
		}
		out[name] = plain
	}
	if out == nil {
		return parameters, nil
	}
	return out, nil
}

// openBegun opens what an attempt needs. An attempt that this worker can never
// begin is ended as failed, and the dispatch is stale.
func (e *Engine) openBegun(ctx context.Context, d core.Dispatch, worker string, b core.Begun) (core.Begun, error) {
	open, err := e.opened(b.Step.Parameters)
	if err == nil {
		b.Step.Parameters = open
		return b, nil
	}
	_, ferr := e.Finish(ctx, d, worker, b, core.Outcome{State: core.AttemptFailed, Reason: core.Text(err)}, false)
	if ferr != nil {
		return b, errors.Join(err, ferr)
	}
	e.log.ErrorContext(ctx, "attempt failed before it began", "dispatch", d.ID(), "err", err)
	return b, core.Errorf(core.Stale, "%s", core.Text(err))
}
