package witness

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

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
