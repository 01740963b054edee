package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// LogOf names the log of an attempt.
type LogOf struct {
	Run     string
	Step    int // its index
	Attempt int // 0 is the latest
}

func (l LogOf) path(query string) string {
	path := "/runs/" + url.PathEscape(l.Run) + "/steps/" + strconv.Itoa(l.Step) + "/log?" + query
	if l.Attempt > 0 {
		path += "&attempt=" + strconv.Itoa(l.Attempt)
	}
	return path
}

// Log gives what there is of a log.
func (c *Client) Log(ctx context.Context, of LogOf) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.open(ctx, request{method: "GET", path: of.path("follow=false")})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	return string(text), nil
}

// Waiting after a followed log has broken off, and how often without anything
// new in between.
const (
	resumeAfter = time.Second
	resumeTries = 10
)

// errBroken means that a stream ended without saying so.
var errBroken = errors.New("the followed log broke off")

// FollowLog writes a log to w as it is written, until the log, its attempt or its
// run has ended. When the connection breaks it goes on where it was. An error of
// w ends it and is returned.
func (c *Client) FollowLog(ctx context.Context, of LogOf, w io.Writer) error {
	after := ""
	for tries := 0; ; tries++ {
		before := after
		err := c.follow(ctx, of, &after, w)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if after != before {
			tries = 0
		}
		wait, ok := passing(err)
		broken := errors.Is(err, errBroken) || after != "" && away(err)
		if !ok && !broken || tries >= resumeTries {
			return err
		}
		if err := sleep(ctx, max(wait, resumeAfter)); err != nil {
			return err
		}
	}
}

// follow reads one stream and moves after along.
func (c *Client) follow(ctx context.Context, of LogOf, after *string, w io.Writer) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if *after != "" {
		header.Set("Last-Event-ID", *after)
	}
	res, err := c.open(ctx, request{method: "GET", path: of.path("follow=true"), header: header})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return nil // nothing was left
	}
	lines := bufio.NewReader(res.Body)
	for {
		ev, err := readEvent(lines)
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		if done, err := ev.take(w); done || err != nil {
			return err
		}
		if ev.id != "" {
			*after = ev.id
		}
	}
}

// An event is one server-sent event of a log.
type event struct{ id, name, data string }

// readEvent reads up to the blank line that ends an event; comments are passed
// over.
func readEvent(lines *bufio.Reader) (event, error) {
	var ev event
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return ev, err
		}
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			ev.id = value
		case "event":
			ev.name = value
		case "data":
			ev.data += value
		}
		if line == "" && ev.name != "" {
			return ev, nil
		}
	}
}

// take acts on an event and reports whether it is the last.
func (ev event) take(w io.Writer) (done bool, err error) {
	switch ev.name {
	case "end":
		return true, nil
	case "problem":
		p := &Problem{}
		if err := json.Unmarshal([]byte(ev.data), p); err != nil {
			return false, fmt.Errorf("read event: %w", err)
		}
		return false, p
	case "log":
		var t logText
		if err := json.Unmarshal([]byte(ev.data), &t); err != nil {
			return false, fmt.Errorf("read event: %w", err)
		}
		_, err := io.WriteString(w, t.Text)
		return false, err
	}
	return false, nil
}
