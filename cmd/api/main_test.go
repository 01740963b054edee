package main

import "testing"

// --version needs no settings and no server, so it ends at once.
func TestVersion(t *testing.T) {
	if err := run(t.Context(), []string{"--version"}); err != nil {
		t.Errorf("api --version = %v, want the version", err)
	}
}
