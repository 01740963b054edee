package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

func (s *site) start(t *testing.T, account string) answer {
	t.Helper()
	return s.do(t, request{"GET", "/", "", []string{"Cookie", cookie(s.session(t, account)), "Accept", "text/html"}})
}

func TestStartPage(t *testing.T) {
	s := newSite(t, nil)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.verbs.fleet = core.Fleet{Now: now, Workers: map[string]core.Worker{
		"w1": {ID: "w1", Host: "host-a", Live: true, Slots: 16, Busy: 3, Version: "1.2"},
		"w2": {ID: "w2", Host: "host-b", Live: true, Draining: true, Slots: 4},
		"w3": {ID: "w3", Host: "host-gone", Slots: 8},
	}}
	for i := range 25 {
		s.verbs.runs = append(s.verbs.runs, core.Run{
			ID: fmt.Sprintf("run-%02d", i), Name: "nightly", State: core.RunSucceeded, Created: now,
			Started: now, Ended: now.Add(1500 * time.Millisecond), Counts: core.StepCounts{Total: 3, Succeeded: 3},
		})
	}
	s.verbs.runs[0].State, s.verbs.runs[0].Name = core.RunFailed, `<script>alert("x")</script>`
	s.verbs.runs[1].State, s.verbs.runs[1].Ended, s.verbs.runs[1].Started = core.RunRunning, time.Time{}, now.Add(-time.Minute)

	a := s.start(t, "operator")
	if a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for _, want := range []string{
		"operator <small>operator</small>", `href="/monitoring"`, `href="/api/v1/openapi.json"`, `action="/logout"`,
		"The last 25 runs", "<strong>23</strong> succeeded", "<strong>1</strong> failed", "<strong>1</strong> running", "<strong>0</strong> pending",
		"2 alive, 3 of 20 slots busy", "host-a", "draining", "run-00", "run-19", "3 of 3", "2026-03-01T12:00:00Z", "1.5s", "1m0s", "&lt;script&gt;",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, no := range []string{"run-20", "host-gone", "<script"} {
		if strings.Contains(a.body, no) {
			t.Errorf("the page has %q", no)
		}
	}
	for _, path := range []string{"/assets/console.css", "/assets/icon.svg"} {
		if !strings.Contains(a.body, path) || s.do(t, request{"GET", path, "", nil}).status != http.StatusOK {
			t.Errorf("%s is not on the page or not served without sign-in", path)
		}
	}
}

func TestStartPageOfViewersHasNoQueues(t *testing.T) {
	s := newSite(t, nil)
	a := s.start(t, "viewer")
	if a.status != http.StatusOK || strings.Contains(a.body, `href="/monitoring"`) {
		t.Errorf("got %d, want 200 without a link to the queues: %s", a.status, a.body)
	}
	if !strings.Contains(a.body, "No runs yet.") || !strings.Contains(a.body, "No worker is alive.") {
		t.Errorf("an empty installation is not told as one: %s", a.body)
	}
}

func TestStartPageWithoutRecords(t *testing.T) {
	s := newSite(t, nil)
	s.verbs.err = core.Errorf(core.Unavailable, "the records cannot be reached")
	a := s.start(t, "admin")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "Not everything can be shown: the records cannot be reached") {
		t.Errorf("got %d %s, want 503 and what is missing", a.status, a.body)
	}
}

func TestPagesOfErrors(t *testing.T) {
	s := newSite(t, nil)
	for _, tt := range []struct {
		name, method, path, accept string
		status                     int
		contentType, text          string
	}{
		{"no page, browser", "GET", "/nowhere", "text/html", 404, "text/html; charset=utf-8", "<h1>Not Found</h1>"},
		{"no page, program", "GET", "/nowhere", "*/*", 404, "application/problem+json", `"detail":"There is nothing at this address."`},
		{"no method", "PUT", "/login", "", 405, "application/problem+json", `"status":405`},
		{"start page, browser", "GET", "/", "text/html", 303, "", ""},
		{"start page, program", "GET", "/", "", 401, "application/problem+json", `"detail":"Sign in first."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, request{tt.method, tt.path, "", []string{"Accept", tt.accept}})
			if a.status != tt.status || a.header.Get("Content-Type") != tt.contentType && tt.contentType != "" || !strings.Contains(a.body, tt.text) {
				t.Errorf("got %d %s %s, want %d %s %s", a.status, a.header.Get("Content-Type"), a.body, tt.status, tt.contentType, tt.text)
			}
		})
	}
}
