package native_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
)

// begin starts a run of one step and its attempt, which the test then ends.
func (e *env) begin() (run string, finish func(core.Outcome)) {
	e.t.Helper()
	e.alive()
	r := e.run(e.group("g", e.job("j")))
	d := e.queue.take()[0]
	b, err := e.eng.Begin(e.t.Context(), d, worker)
	if err != nil {
		e.t.Fatalf("begin: %v", err)
	}
	return r.ID, func(o core.Outcome) {
		if _, err := e.eng.Finish(context.WithoutCancel(e.t.Context()), d, worker, b, o, true); err != nil {
			e.t.Errorf("finish: %v", err)
		}
	}
}

func TestTail(t *testing.T) {
	e := start(t, native.Options{})
	run, _ := e.begin()
	path := "/runs/" + run + "/steps/0/log"
	if text := e.admin().get(path).want(200).text; text != "" {
		t.Errorf("a log without lines is %q", text)
	}
	e.log(run, 0, 1, "first\n", false)
	e.log(run, 0, 1, "zweite: größer\n", false)
	for range 600 { // more than the engine gives at once
		e.log(run, 0, 1, ".", false)
	}
	last := e.log(run, 0, 1, "", true)
	all := "first\nzweite: größer\n" + strings.Repeat(".", 600)
	tests := []struct{ name, query, want string }{
		{"all", "", all},
		{"the last bytes", "?tail=3", "..."},
		{"never half a character", "?tail=604", "er\n" + strings.Repeat(".", 600)},
		{"more than there is", "?tail=100000", all},
		{"of attempt 1", "?attempt=1", all},
		{"after the end", "?after=" + last, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := e.admin().get(path + tt.query).want(200)
			if res.text != tt.want {
				t.Errorf("log %q, want %q", res.text, tt.want)
			}
			if res.header.Get("Log-Position") != last || res.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("Log-Position %q, want %q; Content-Type %q", res.header.Get("Log-Position"), last, res.header.Get("Content-Type"))
			}
		})
	}
	for _, bad := range []string{"/runs/" + run + "/steps/1/log", "/runs/" + run + "/steps/x/log", path + "?attempt=2"} {
		e.admin().get(bad).want(404)
	}
	for _, bad := range []string{"?after=x", "?after=1-", "?after=99999999999999999999999-0", "?tail=0", "?follow=yes", "?attempt=0"} {
		e.admin().get(path + bad).want(400)
	}
}

// A log that was compressed is read on from its position too: there is nothing after it.
func TestTailOfACompressedLog(t *testing.T) {
	e := start(t, native.Options{})
	run, finish := e.begin()
	e.log(run, 0, 1, "text\n", true)
	finish(core.Outcome{State: core.AttemptSucceeded})
	if err := e.store.ArchiveLog(t.Context(), run, 0, 1); err != nil {
		t.Fatal(err)
	}
	path := "/runs/" + run + "/steps/0/log"
	first := e.admin().get(path).want(200)
	if first.text != "text\n" {
		t.Errorf("log %q, want all of it", first.text)
	}
	position := first.header.Get("Log-Position")
	for _, query := range []string{"?after=" + position, "?follow=true&after=" + position} {
		if text := e.admin().get(path + query).want(map[bool]int{true: 204, false: 200}[strings.Contains(query, "follow")]).text; text != "" {
			t.Errorf("log after its own position %q is %q, want nothing", position, text)
		}
	}
}

// A listener follows a log as a browser does.
type listener struct {
	t       *testing.T
	res     *http.Response
	lines   *bufio.Scanner
	comment func(string) // of each comment line
}

type event struct{ ID, Name, Data string }

func (e *env) listen(t *testing.T, path string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", e.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("follow %s: %v", path, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return &listener{t: t, res: res, lines: bufio.NewScanner(res.Body), comment: func(string) {}}
}

// next gives the next event; ok is false at the end of the stream.
func (l *listener) next() (ev event, ok bool) {
	l.t.Helper()
	for l.lines.Scan() {
		name, value, _ := strings.Cut(l.lines.Text(), ": ")
		switch name {
		case "id":
			ev.ID = value
		case "event":
			ev.Name = value
		case "data":
			ev.Data = value
		case "":
			if value != "" {
				l.comment(value)
			} else if ev != (event{}) {
				return ev, true
			}
		}
	}
	return event{}, false
}

func (l *listener) want(id, name, data string) {
	l.t.Helper()
	ev, ok := l.next()
	if diff := cmp.Diff(event{id, name, data}, ev); !ok || diff != "" {
		l.t.Fatalf("event (-want +got):\n%s", diff)
	}
}

func (l *listener) wantClosed() {
	l.t.Helper()
	if ev, ok := l.next(); ok {
		l.t.Fatalf("event %+v after the end", ev)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{})
	run, finish := e.begin()
	path := "/runs/" + run + "/steps/0/log"
	first := e.log(run, 0, 1, "one\r\ntwo\n", false)
	l := e.listen(t, path, "Accept", "text/event-stream")
	if l.res.StatusCode != 200 || l.res.Header.Get("Content-Type") != "text/event-stream" || l.res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, headers %v", l.res.StatusCode, l.res.Header)
	}
	l.want(first, "log", `{"text":"one\r\ntwo\n"}`)
	second := e.log(run, 0, 1, "three\n", false) // written while it listens
	l.want(second, "log", `{"text":"three\n"}`)
	last := e.log(run, 0, 1, "bye\n", true)
	l.want(last, "log", `{"text":"bye\n"}`)
	l.want(last, "end", `{"attempt":1,"run":"running"}`)
	l.wantClosed()

	finish(core.Outcome{State: core.AttemptSucceeded})
	t.Run("it resumes after Last-Event-ID", func(t *testing.T) {
		l := e.listen(t, path+"?follow=true&after=0-0", "Last-Event-ID", second)
		l.want(last, "log", `{"text":"bye\n"}`)
		l.want(last, "end", `{"attempt":1,"run":"succeeded"}`)
		l.wantClosed()
	})
	t.Run("it resumes after a position", func(t *testing.T) {
		l := e.listen(t, path+"?follow=true&after="+first)
		l.want(second, "log", `{"text":"three\n"}`)
	})
	t.Run("nothing left tells a browser to stop", func(t *testing.T) {
		e.admin().with("Accept", "text/event-stream").with("Last-Event-ID", last).get(path).want(204)
	})
	t.Run("of nothing and nobody", func(t *testing.T) {
		e.as("").get(path + "?follow=true").want(401)
		e.admin().get("/runs/" + run + "/steps/7/log?follow=true").want(404)
		e.admin().with("Last-Event-ID", "x").get(path + "?follow=true").want(400)
	})
}

func TestFollowEndsWithTheRun(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{})
	run, finish := e.begin()
	l := e.listen(t, "/runs/"+run+"/steps/0/log?follow=true")
	position := e.log(run, 0, 1, "working\n", false)
	l.want(position, "log", `{"text":"working\n"}`)
	finish(core.Outcome{State: core.AttemptFailed, Reason: "no end was written to the log"})
	l.want(position, "end", `{"attempt":1,"run":"failed"}`)
	l.wantClosed()
}

func TestFollowEndsWithALostAttempt(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{})
	e.alive()
	r := e.run(e.group("g", e.job("j")))
	d := e.queue.take()[0]
	if _, err := e.eng.Begin(t.Context(), d, worker); err != nil {
		t.Fatalf("begin: %v", err)
	}
	if err := e.eng.Redispatch(t.Context(), core.MoveLost, []core.Under{{Dispatch: d, Worker: worker}}); err != nil {
		t.Fatalf("lose the attempt: %v", err)
	}
	l := e.listen(t, "/runs/"+r.ID+"/steps/0/log?follow=true&attempt=1")
	l.want("", "end", `{"attempt":1,"run":"running"}`)
	l.wantClosed()
}

func TestFollowFromBeforeTheBegin(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{})
	e.alive()
	r := e.run(e.group("g", e.job("j")))
	l := e.listen(t, "/runs/"+r.ID+"/steps/0/log?follow=true")
	e.work(succeed) // writes a line and ends
	ev, ok := l.next()
	if !ok || ev.Name != "log" || ev.Data != `{"text":"attempt 1 of j\n"}` {
		t.Fatalf("event %+v", ev)
	}
	l.want(ev.ID, "end", `{"attempt":1,"run":"succeeded"}`)
}

func TestFollowShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{Heartbeat: time.Millisecond})
	run, _ := e.begin()
	token := e.signIn("admin", "admin's own")
	l := e.listen(t, "/runs/"+run+"/steps/0/log?follow=true", "Authorization", "Bearer "+token)
	beats := 0
	l.comment = func(text string) {
		if text != "alive" {
			return
		}
		if beats++; beats == 2 { // who signs out hears no more
			e.as(token).del("/sessions/current").want(204)
		}
	}
	ev, ok := l.next()
	var p native.Problem
	if !ok || ev.Name != "problem" || json.Unmarshal([]byte(ev.Data), &p) != nil || p.Status != 401 {
		t.Errorf("event %+v, want a problem 401", ev)
	}
	if beats < 2 {
		t.Errorf("%d signs of life, want 2", beats)
	}
	l.wantClosed()
}

func TestCloseEndsFollowing(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{})
	run, _ := e.begin()
	l := e.listen(t, "/runs/"+run+"/steps/0/log?follow=true")
	e.api.Close()
	ev, _ := l.next()
	var p native.Problem
	if ev.Name != "problem" || json.Unmarshal([]byte(ev.Data), &p) != nil || p.Status != 503 {
		t.Errorf("event %+v, want a problem 503", ev)
	}
	l.wantClosed()
}

func TestFollowersAreLimited(t *testing.T) {
	t.Parallel()
	e := start(t, native.Options{MaxFollowers: 1})
	run, finish := e.begin()
	path := "/runs/" + run + "/steps/0/log?follow=true"
	l := e.listen(t, path)
	res := e.admin().get(path).want(429)
	if res.header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	finish(core.Outcome{State: core.AttemptSucceeded})
	l.want("", "end", `{"attempt":1,"run":"succeeded"}`)
	l.wantClosed()
	e.listen(t, path).want("", "end", `{"attempt":1,"run":"succeeded"}`) // its place is free again
}
