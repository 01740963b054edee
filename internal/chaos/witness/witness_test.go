package witness

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

func TestExecutions(t *testing.T) {
	dir := t.TempDir()
	w, err := Open(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	a := executor.Attempt{ID: "aa:3:2-f", Key: "aa:3", Number: 2, Run: "aa", Log: io.Discard, Parameters: map[string]string{Work: "1ms"}}
	if _, err := w.Executor.Execute(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(executor.ErrReleased)
	a.Key, a.ID = "aa:4", "aa:4:1-f"
	if _, err := w.Executor.Execute(ended, a); !errors.Is(err, executor.ErrReleased) {
		t.Errorf("an execution cut short gave %v, want its cause", err)
	}
	lines, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		event Event
		step  int
		cause string
	}{{Began, 3, ""}, {Done, 3, ""}, {Began, 4, ""}, {Stopped, 4, "released"}}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %+v", len(lines), len(want), lines)
	}
	for i, l := range lines {
		if l.Event != want[i].event || l.Step != want[i].step || l.Cause != want[i].cause || l.Run != "aa" || l.Attempt != 2 || l.Host != "a" || l.At == 0 {
			t.Errorf("line %d is %+v, want %+v", i, l, want[i])
		}
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name, text string
		lines      int
		fails      bool
	}{
		{name: "whole", text: "{\"run\":\"a\"}\n{\"run\":\"b\"}\n", lines: 2},
		{name: "torn end", text: "{\"run\":\"a\"}\n{\"run\":", lines: 1},
		{name: "torn in the middle", text: "{\"run\":\n{\"run\":\"b\"}\n", fails: true},
		{name: "empty", text: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.1.jsonl"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			lines, err := Read(dir)
			if len(lines) != test.lines || (err != nil) != test.fails {
				t.Errorf("got %d lines and %v, want %d lines, an error: %v", len(lines), err, test.lines, test.fails)
			}
		})
	}
}

func TestAtWork(t *testing.T) {
	ago := func(age time.Duration) int64 { return time.Now().Add(-age).UnixNano() }
	middle := (usual + longest/2) / 2
	for _, test := range []struct {
		name  string
		lines []Line
		want  bool
	}{
		{"in the middle of a long one", []Line{{Event: Began, Dispatch: "1", Host: "a", At: ago(middle)}}, true},
		{"it has ended", []Line{{Event: Began, Dispatch: "1", Host: "a", At: ago(middle)}, {Event: Done, Dispatch: "1", Host: "a"}}, false},
		{"it may end at once", []Line{{Event: Began, Dispatch: "1", Host: "a", At: ago(0)}}, false},
		{"it was cut off", []Line{{Event: Began, Dispatch: "1", Host: "a", At: ago(2 * longest)}}, false},
		{"another host", []Line{{Event: Began, Dispatch: "1", Host: "b", At: ago(middle)}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			var text []byte
			for _, l := range test.lines {
				line, err := json.Marshal(l)
				if err != nil {
					t.Fatal(err)
				}
				text = append(append(text, line...), '\n')
			}
			if err := os.WriteFile(filepath.Join(dir, "x.1.jsonl"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := AtWork(dir, "a"); err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}
