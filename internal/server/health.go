package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
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

func healthz(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, gin.H{"status": conditionOK})
}

// readyz answers 503 when something is away that the process cannot work
// without. It tells anybody who asks what is away and not why: the errors name
// addresses. They are in the log.
func (s *Server) readyz(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	var found map[string]error
	if s.deps.Ready != nil {
		found = s.deps.Ready(ctx)
	}
	s.ready.note(ctx, found)

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
	c.Header("Cache-Control", "no-store")
	c.JSON(status, gin.H{"status": whole, "dependencies": parts})
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
