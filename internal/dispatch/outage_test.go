package dispatch

import (
	"context"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// The roles that turn each second or faster say once that Redis is away and once that
// it is back.
func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan struct{}, 2)
	go func() { r.roles.reconcile(ctx); ended <- struct{}{} }()
	go func() { r.roles.runTimers(ctx); ended <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-ended; <-ended })
	told := func(reconciler, timers string) {
		t.Helper()
		testenv.Eventually(t, 15*time.Second, func() bool { return r.log.count(reconciler) == 1 && r.log.count(timers) == 1 })
	}
	r.redis.Stop()
	told("reconciler waits", "timers wait")
	testenv.Eventually(t, 15*time.Second, func() bool { return r.log.count("lease not renewed") == 1 })
	r.redis.Restart()
	told("reconciler goes on", "timers are acted on again")
	told("reconciler waits", "timers wait")
}
