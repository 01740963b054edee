package native

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// An attemptLog names one attempt of one step. It may not have begun: a log can
// be followed from before its first line.
type attemptLog struct {
	run           string
	step, attempt int
}

// positionHeader says up to where a log was read: a follower goes on from there.
const positionHeader = "Log-Position"

// stepLog gives the log of an attempt as text, or follows it.
func (a *API) stepLog(c *gin.Context) error {
	run, err := pathUUID(c, "id", "run")
	if err != nil {
		return err
	}
	q := queryOf(c)
	attempt, tail := q.number("attempt", 0, 1, 1<<20), q.number("tail", 0, 1, 1<<30)
	follow, after := q.flag("follow"), q.text("after")
	if header := c.GetHeader("Last-Event-ID"); header != "" {
		after = header // a browser that comes back repeats the address it began with
	}
	if q.err != nil {
		return q.err
	}
	of, err := a.findAttempt(c.Request.Context(), run, c.Param("n"), attempt)
	if err != nil {
		return err
	}
	if follow || strings.Contains(c.GetHeader("Accept"), "text/event-stream") {
		return a.follow(c, of, after)
	}
	return a.tail(c, of, after, tail)
}

// findAttempt finds an attempt of a step; 0 is the latest, or the first that is
// to come.
func (a *API) findAttempt(ctx context.Context, run, step string, attempt int) (attemptLog, error) {
	steps, err := a.eng.Steps(ctx, run)
	if err != nil {
		return attemptLog{}, err
	}
	n, err := strconv.Atoi(step)
	if err != nil || n < 0 || n >= len(steps) {
		return attemptLog{}, core.Errorf(core.NotFound, "run %q has no step %q; it has %d, counted from 0", run, step, len(steps))
	}
	last := max(1, len(steps[n].Attempts))
	if attempt > last {
		return attemptLog{}, core.Errorf(core.NotFound, "step %d has no attempt %d; its latest is %d", n, attempt, last)
	}
	if attempt == 0 {
		attempt = last
	}
	return attemptLog{run, n, attempt}, nil
}

// logChunk is how many pieces the engine gives at a time.
const logChunk = 500

// tail answers with what there is of a log, or its last most bytes.
func (a *API) tail(c *gin.Context, of attemptLog, after string, most int) error {
	var text strings.Builder
	for {
		pieces, err := a.eng.Log(c.Request.Context(), of.run, of.step, of.attempt, after)
		if err != nil {
			return err
		}
		for _, p := range pieces {
			text.WriteString(p.Text)
			after = p.Position
		}
		if len(pieces) < logChunk {
			break
		}
	}
	if after != "" {
		c.Header(positionHeader, after)
	}
	c.Data(http.StatusOK, "text/plain; charset=utf-8", []byte(lastBytes(text.String(), most)))
	return nil
}

// lastBytes gives at most the last most bytes of text, from the begin of a
// character; 0 is all.
func lastBytes(text string, most int) string {
	if most == 0 || len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return text
}
