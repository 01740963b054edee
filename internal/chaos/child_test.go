package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/testenv"
)

func TestClockFollowsItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	now := clock(t.Context(), file)
	for _, step := range []time.Duration{0, 90 * time.Second, -3 * time.Second, 0} {
		if err := setClock(file, step); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 5*time.Second, func() bool {
			off := time.Until(now())
			return off > step-time.Second && off < step+time.Second
		})
	}
}
