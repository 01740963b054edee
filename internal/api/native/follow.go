package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// Following a log is a stream of server-sent events:
//
//	id: 1767225600000-0        the position, to go on from
//	event: log
//	data: {"text":"line\n"}    JSON, since a log may hold any line ends
//
// then one "end" when the log or the attempt has ended, or one "problem" when the
// stream breaks off. A stream is polled from the store rather than waited for: a
// blocked read would hold a Redis connection per follower, and a few open
// browser windows would starve the rest of the API.
const (
	shortPause = 50 * time.Millisecond  // after new text
	longPause  = 500 * time.Millisecond // when nothing has come for long
	stateEvery = time.Second            // how often an idle log's run is looked at
	stepsEvery = 5                      // and, every so many times, its attempt
	// writeLimit is how long a client may take to accept what is sent.
	writeLimit = 30 * time.Second
)

// errGone means that the client takes nothing any more.
var errGone = errors.New("the client has gone")

// A follower sends one log to one client.
type follower struct {
	api   *API
	c     *gin.Context
	out   *http.ResponseController
	of    attemptLog
	after string

	begun   bool // the answer has begun
	looks   int  // at the state of the run
	looked  time.Time
	pulse   time.Time     // when something was sent last
	pause   time.Duration // before the next poll
	runTold core.RunState
}

func (a *API) follow(c *gin.Context, of attemptLog, after string) error {
	select {
	case a.followers <- struct{}{}:
		defer func() { <-a.followers }()
	default:
		return core.Errorf(core.Exhausted, "%d logs are being followed already; read the log without following, or try again later", cap(a.followers))
	}
	f := &follower{api: a, c: c, out: http.NewResponseController(c.Writer), of: of, after: after, pause: shortPause}
	ctx := c.Request.Context()
	err := f.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the server may have ended the stream and say why
	}
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		return nil // nobody is left to tell
	}
	if err == nil || !f.begun {
		return err
	}
	p := problemOf(err)
	p.RequestID = requestID(c)
	return errors.Join(err, f.event("", "problem", p))
}

// run sends until the log has ended. Once the attempt is seen to have ended, one
// more look finds what was written before that.
func (f *follower) run(ctx context.Context) error {
	over := false
	for {
		pieces, err := f.api.eng.Log(ctx, f.of.run, f.of.step, f.of.attempt, f.after)
		if err != nil {
			return err
		}
		done, err := f.send(pieces)
		if done || err != nil {
			return err
		}
		if len(pieces) > 0 {
			f.pause = shortPause
			continue
		}
		if over {
			return f.end()
		}
		if over, err = f.over(ctx); err != nil {
			return err
		}
		if over {
			continue
		}
		if err := f.begin(); err != nil {
			return err
		}
		if err := f.wait(ctx); err != nil {
			return err
		}
	}
}

// begin sends the head of the answer, once, so that the client knows it is
// listening before the first line comes.
func (f *follower) begin() error {
	if f.begun {
		return nil
	}
	f.begun = true
	h := f.c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the stream back
	f.c.Writer.WriteHeader(http.StatusOK)
	return f.write(": following\n\n")
}

// send sends pieces and reports whether the log's end was among them.
func (f *follower) send(pieces []core.LogPiece) (done bool, err error) {
	if len(pieces) == 0 {
		return false, nil
	}
	if err := f.begin(); err != nil {
		return false, err
	}
	for _, p := range pieces {
		f.after = p.Position
		if p.Text != "" {
			if err := f.event(p.Position, "log", LogText{p.Text}); err != nil {
				return false, err
			}
		}
		if p.End {
			return true, f.end()
		}
	}
	return false, nil
}

// end says that nothing follows. A client that comes back after the end is told
// to stop by 204, which is how a browser's EventSource learns it.
func (f *follower) end() error {
	if !f.begun && f.after != "" {
		return noContent(f.c)
	}
	if err := f.begin(); err != nil {
		return err
	}
	if f.runTold == "" {
		r, err := f.api.eng.Run(f.c.Request.Context(), f.of.run)
		if err != nil {
			return err
		}
		f.runTold = r.State
	}
	return f.event(f.after, "end", LogEnd{Attempt: f.of.attempt, Run: f.runTold})
}

// over reports whether nothing more will be written, although the log itself does
// not say so: its worker may have died. It looks seldom.
func (f *follower) over(ctx context.Context) (bool, error) {
	if time.Since(f.looked) < stateEvery {
		return false, nil
	}
	f.looked = time.Now()
	r, err := f.api.eng.Run(ctx, f.of.run)
	if err != nil {
		return false, err
	}
	if f.runTold = ""; r.State.Ended() {
		f.runTold = r.State
		return true, nil
	}
	f.looks++
	if f.looks%stepsEvery != 1 {
		return false, nil
	}
	steps, err := f.api.eng.Steps(ctx, f.of.run)
	if err != nil || f.of.step >= len(steps) {
		return false, err
	}
	st := steps[f.of.step]
	begun := len(st.Attempts) >= f.of.attempt
	return st.State.Ended() || begun && st.Attempts[f.of.attempt-1].State.Ended(), nil
}

// wait lets time pass until the next poll, longer each time, and shows in
// between that the stream is alive, as long as the client may still see it.
func (f *follower) wait(ctx context.Context) error {
	timer := time.NewTimer(f.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.api.closing.Done():
		return core.Errorf(core.Unavailable, "the server is stopping; follow the log again from the last event")
	}
	f.pause = min(2*f.pause, longPause)
	if time.Since(f.pulse) < f.api.opts.Heartbeat {
		return nil
	}
	if _, _, err := f.api.auth.Validate(ctx, identityOf(f.c).text); err != nil {
		return err
	}
	return f.write(": alive\n\n")
}

func (f *follower) event(id, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return f.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, name, text))
}

// write sends at once. It moves the server's limit on writing along, which is
// meant for answers that end.
func (f *follower) write(text string) error {
	// Not every writer has deadlines; those that have none need none moved.
	_ = f.out.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := f.c.Writer.WriteString(text); err != nil {
		return errGone
	}
	f.pulse = time.Now()
	if err := f.out.Flush(); err != nil {
		return errGone
	}
	return nil
}
