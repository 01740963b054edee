package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/testenv"
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

// Redis is away for three seconds, and a handler succeeds meanwhile. asynq's own
// retry of its "done" would lose that, and have the task executed again after 140 s
// (asynq.md, fact 6). Here the handler ends only when its outcome is recorded, and
// a message that comes again finds its step ended.
func TestOutageWhileAnExecutorSucceeds(t *testing.T) {
	t.Parallel()
	work := newHolder(true)
	h := newHouse(t, work.Spec)
	h.roles()
	h.worker("one", 2, work.Type)
	r := h.runJob("held", nil)
	run := work.next(t, 10*time.Second)
	d := h.dispatch(r.ID)
	h.redis.Kill()
	run.end <- "done"
	h.pause(3 * time.Second)
	h.redis.Restart()
	if r = h.await(r.ID, elsewhere); r.State != core.RunSucceeded {
		t.Errorf("run ended as %s (%s)", r.State, r.Reason)
	}
	if got := h.step(r.ID).Attempts; len(got) != 1 || got[0].Output != "done" {
		t.Errorf("attempts are %+v, want the one that succeeded", got)
	}
	h.quiet(r)
	h.bringAgain(d)
	work.none(t)
}

// bringAgain has the queue bring a message once more, and waits until a worker has
// dealt with it. Where a dead worker still has the task, its lease is made to lapse.
func (h *house) bringAgain(d core.Dispatch) {
	h.t.Helper()
	q := queue.NewClient(h.client())
	place := func() queue.Place {
		places, err := q.Where(h.ctx, []core.Dispatch{d})
		if err != nil {
			h.t.Fatal(err)
		}
		return places[0]
	}
	h.pause(100 * time.Millisecond) // asynq hears of the end after the store
	if place() == queue.Active {
		h.lapse(d)
	} else if err := q.Send(h.ctx, []core.Dispatch{d}); err != nil {
		h.t.Fatal(err)
	}
	testenv.Eventually(h.t, elsewhere, func() error {
		if at := place(); at != queue.Missing {
			return fmt.Errorf("task %s is %s", d.ID(), at)
		}
		return nil
	})
}

// lapse does what asynq's recoverer does, up to two minutes after a worker's death.
func (h *house) lapse(d core.Dispatch) {
	h.t.Helper()
	root := "asynq:{" + d.Queue + "}:"
	_, err := h.client().TxPipelined(h.ctx, func(p redis.Pipeliner) error {
		p.LRem(h.ctx, root+"active", 0, d.ID())
		p.ZRem(h.ctx, root+"lease", d.ID())
		p.HSet(h.ctx, root+"t:"+d.ID(), "state", "pending")
		p.LPush(h.ctx, root+"pending", d.ID())
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
