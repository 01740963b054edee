package store

import (
	"regexp"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

// TestLettersAgree checks that scripts and Go mean the same by a state letter:
// the head of lib.lua lists them in words.
func TestLettersAgree(t *testing.T) {
	t.Parallel()
	lib, err := luaFiles.ReadFile("lua/lib.lua")
	if err != nil {
		t.Fatal(err)
	}
	head := strings.NewReplacer("--", "", "\n", " ").Replace(string(lib[:strings.Index(string(lib), "local R")]))
	_, letters, _ := strings.Cut(head, "State letters:")
	steps, runs, ok := strings.Cut(letters, ";")
	if !ok {
		t.Fatalf("lib.lua lists no state letters: %q", letters)
	}
	words := map[string]core.StepState{}
	for _, m := range regexp.MustCompile(`(\w) (\w+)(?: (out))?(?:,|$)`).FindAllStringSubmatch(steps, -1) {
		word := m[2]
		if m[3] != "" {
			word += "_" + m[3]
		}
		words[m[1]] = core.StepState(word)
	}
	wantStates(t, "steps", words, stepStates, core.StepStates())
	named := map[string]core.RunState{"p": core.RunPending}
	for _, letter := range regexp.MustCompile(`\b[a-z]\b`).FindAllString(runs, -1) {
		if letter != "p" {
			named[letter] = core.RunState(words[letter])
		}
	}
	wantStates(t, "runs", named, runStates, core.RunStates())
	for letter, state := range attemptStates {
		if letter == "l" || letter == "R" {
			continue // an attempt may be lost or released, a step may not
		}
		want := core.AttemptState(words[letter])
		if letter == "c" {
			want = core.AttemptRunning
		}
		if state != want {
			t.Errorf("attempts: letter %s is %s, want %s", letter, state, want)
		}
	}
	for state, letter := range attemptLetters {
		if attemptStates[letter] != state {
			t.Errorf("outcomes: letter %s of %s reads as %s", letter, state, attemptStates[letter])
		}
	}
}

// wantStates checks that each state has one letter, and the one lib.lua says.
func wantStates[S ~string](t *testing.T, what string, lua, golang map[string]S, all []S) {
	t.Helper()
	if len(golang) != len(all) || len(lua) != len(all) {
		t.Errorf("%s: %d letters in lib.lua, %d in Go, %d states", what, len(lua), len(golang), len(all))
	}
	for letter, state := range golang {
		if lua[letter] != state {
			t.Errorf("%s: letter %s is %s in Go and %q in lib.lua", what, letter, state, lua[letter])
		}
	}
}

// TestScriptsSayWhatTheyTake keeps the promise that each script says its keys,
// arguments and returns at its head.
func TestScriptsSayWhatTheyTake(t *testing.T) {
	t.Parallel()
	files, err := luaFiles.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		src, err := luaFiles.ReadFile("lua/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		head := string(src[:strings.Index(string(src), "\nlocal")+1])
		if !strings.HasPrefix(head, "--") {
			head, _, _ = strings.Cut(string(src), "\nif ")
		}
		prelude := f.Name() == "lib.lua" || f.Name() == "head.lua" || f.Name() == "ledger.lua"
		for _, word := range []string{"KEYS[1]", "ARGV", "Returns"} {
			if !prelude && !strings.Contains(head, word) && !strings.Contains(string(src[:min(len(src), 1500)]), "-- "+word) {
				t.Errorf("%s does not say its %s", f.Name(), word)
			}
		}
	}
}
