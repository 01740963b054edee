package e2e

import (
	"testing"
	"time"
)

// The servers below the processes die too: Redis by SIGKILL, with everything it
// had acknowledged on disk, and NATS. Every slot must still be covered once and
// every step executed to its end.
func TestServersKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		outage func(h *house, d time.Duration)
	}{
		{"redis", func(h *house, d time.Duration) {
			h.pause(d / 3)
			h.redis.Kill()
			h.pause(2 * time.Second)
			h.redis.Restart()
		}},
		{"redis hangs longer than heartbeats live", func(h *house, d time.Duration) {
			h.pause(d / 3)
			h.redis.Freeze()
			h.pause(7 * time.Second)
			h.redis.Thaw()
		}},
		{"nats", func(h *house, d time.Duration) {
			h.pause(d / 3)
			h.nats.Stop()
			h.pause(4 * time.Second)
			h.nats.Restart()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brief.Spec)
			for _, host := range []string{"one", "two"} {
				h.child(orders{Role: "api-process"})
				h.child(orders{Role: "worker-process", Host: host})
				h.child(orders{Role: "trigger-process"})
			}
			h.released = true
			h.fireFor(20*time.Second, func(d time.Duration) { c.outage(h, d) })
		})
	}
}
