package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// readyTimeout bounds the answer of /readyz: probes give up after a few seconds
// and would then not learn what is away.
const readyTimeout = 2 * time.Second

// Degraded marks the loss of something that the process can do without for a
// while, such as NATS: /readyz names it and answers 200. A nil err stays nil.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return degraded{err}
}

type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }

// A condition is a dependency's, and the whole process's, word in /readyz.
type condition string

const (
	conditionOK       condition = "ok"
	conditionDegraded condition = "degraded" // away, and the process goes on
	conditionAway     condition = "unavailable"
)

func conditionOf(err error) condition {
	var d degraded
	switch {
	case err == nil:
		return conditionOK
	case errors.As(err, &d):
		return conditionDegraded
	}
	return conditionAway
}

// A Health answers the probes of a process, on as many listeners as it has.
type Health struct {
	look  func(context.Context) map[string]error
	noted readiness
}

// NewHealth makes a Health. ready tells of each thing the process depends on whether
// it can be used (nil) or not; Degraded marks what it can do without. A nil ready is
// always ready. log takes a line for each change that a probe finds.
func NewHealth(ready func(context.Context) map[string]error, log *slog.Logger) *Health {
	return &Health{look: ready, noted: readiness{log: log}}
}

// Live answers /healthz: the process answers.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]condition{"status": conditionOK})
}

// Ready answers /readyz, with 503 when something is away that the process cannot
// work without. It tells anybody who asks what is away and not why: the errors name
// addresses. They are in the log.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	var found map[string]error
	if h.look != nil {
		found = h.look(ctx)
	}
	if r.Context().Err() == nil { // else the probe gave up, which says nothing about them
		h.noted.note(ctx, found)
	}

	whole, parts := conditionOK, make(map[string]condition, len(found))
	for name, err := range found {
		parts[name] = conditionOf(err)
		if parts[name] == conditionAway || whole == conditionOK {
			whole = parts[name]
		}
	}
	status := http.StatusOK
	if whole == conditionAway {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]any{"status": whole, "dependencies": parts})
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status = http.StatusInternalServerError // names and conditions can be encoded
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a probe that has gone needs no answer
}

// readiness remembers what was away at the last look, to log changes only.
type readiness struct {
	log  *slog.Logger
	mu   sync.Mutex
	away map[string]bool
}

func (r *readiness) note(ctx context.Context, found map[string]error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away == nil {
		r.away = map[string]bool{}
	}
	for name, err := range found {
		switch {
		case err != nil && !r.away[name]:
			r.log.WarnContext(ctx, "dependency lost", "dependency", name, "condition", conditionOf(err), "err", err)
		case err == nil && r.away[name]:
			r.log.InfoContext(ctx, "dependency is back", "dependency", name)
		}
		r.away[name] = err != nil
	}
}
