package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// gone waits until a dispatch's task has left asynq.
func gone(t testing.TB, c *Client, d core.Dispatch, within time.Duration) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		places, err := c.Where(t.Context(), []core.Dispatch{d})
		if err == nil && places[0] != Missing {
			err = fmt.Errorf("the task is %s", places[0])
		}
		return err
	})
}

func TestHandlerGetsDispatches(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	got := make(chan core.Dispatch, 10)
	listen(t, server, 2, time.Second, func(_ context.Context, d core.Dispatch) error { got <- d; return nil }, "default", "host-a")
	for n, q := range []string{"default", "host-a"} {
		d := dispatch(n, q)
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
		in := <-got
		if in.ID() != d.ID() || in.Queue != q {
			t.Errorf("got %s from %q, want %s from %q", in.ID(), in.Queue, d.ID(), q)
		}
		gone(t, c, d, 5*time.Second)
	}
}

// A message that is no dispatch is dropped, not tried for ever.
func TestGarbageIsDropped(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	r := listen(t, server, 1, time.Second, func(context.Context, core.Dispatch) error {
		t.Error("garbage reached the handler")
		return nil
	}, "default")
	d := dispatch(0, "default")
	_, err := c.asynq.EnqueueContext(t.Context(), asynq.NewTask("someone else's", []byte("garbage")), asynq.TaskID(d.ID()), asynq.Queue("default"))
	must(t, err)
	testenv.Eventually(t, 5*time.Second, func() bool { return r.log.has("message dropped") })
	gone(t, c, d, 5*time.Second)
}

// What could not be recorded comes again a second later, as often as it takes.
func TestErrorComesAgain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	const fails = 3
	var mu sync.Mutex
	var at []time.Time
	listen(t, server, 1, time.Second, func(context.Context, core.Dispatch) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		if len(at) == 2 {
			panic("of the handler")
		}
		if len(at) <= fails {
			return errors.New("the store is away")
		}
		return nil
	}, "default")
	d := dispatch(0, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{d}))
	testenv.Eventually(t, 5*time.Second, func() error {
		info, err := c.inspector.GetTaskInfo("default", d.ID())
		if err == nil && (info.State != asynq.TaskStateRetry || info.Retried != 0) {
			err = fmt.Errorf("the task is %s with %d retries counted", info.State, info.Retried)
		}
		return err
	})
	gone(t, c, d, 15*time.Second)
	mu.Lock()
	defer mu.Unlock()
	if len(at) != fails+1 {
		t.Fatalf("handled %d times, want %d", len(at), fails+1)
	}
	for k := 1; k < len(at); k++ {
		if wait := at[k].Sub(at[k-1]); wait < 900*time.Millisecond || wait > 4*time.Second {
			t.Errorf("it came again after %s, want after about a second", wait)
		}
	}
}

func TestRingIsHeardAtOnce(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	at := make(chan time.Time, 1)
	r := listen(t, server, 4, time.Second, func(context.Context, core.Dispatch) error { at <- time.Now(); return nil }, "critical", "default", "low", "host-a")
	r.bell.SetFallback(time.Minute) // nothing but a ring wakes it
	const rounds = 30
	slow := 0
	for n := range rounds {
		d := dispatch(n, "low")
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
		sent := time.Now()
		r.bell.Ring()
		if (<-at).Sub(sent) > 50*time.Millisecond {
			slow++
		}
		gone(t, c, d, 5*time.Second)
	}
	if slow > rounds/3 {
		t.Errorf("%d of %d messages took more than 50 ms after their ring", slow, rounds)
	}
}

func TestSlotsBoundThePool(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	var now, most, done atomic.Int32
	step := make(chan struct{})
	listen(t, server, 5, time.Second, func(context.Context, core.Dispatch) error {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-step
		now.Add(-1)
		done.Add(1)
		return nil
	}, "default")
	var ds []core.Dispatch
	for n := range 40 {
		ds = append(ds, dispatch(n, "default"))
	}
	must(t, c.Send(t.Context(), ds))
	testenv.Eventually(t, 5*time.Second, func() bool { return now.Load() == 5 })
	close(step)
	testenv.Eventually(t, 10*time.Second, func() bool { return done.Load() == 40 })
	if most.Load() != 5 {
		t.Errorf("%d handlers at a time, want 5", most.Load())
	}
}

// A handler that has only to record an end keeps nothing waiting; one that says
// nothing frees its slot as it returns.
func TestFreedSlotBringsTheNext(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	began, free, finish := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	listen(t, server, 2, time.Second, func(ctx context.Context, _ core.Dispatch) error {
		began <- struct{}{}
		select {
		case <-free:
			FreeSlot(ctx)
			FreeSlot(ctx) // to no effect
			<-finish
		case <-finish:
		}
		return nil
	}, "default")
	var ds []core.Dispatch
	for n := range 5 {
		ds = append(ds, dispatch(n, "default"))
	}
	must(t, c.Send(t.Context(), ds))
	awaitBegun := func(want int) {
		t.Helper()
		for n := range want {
			select {
			case <-began:
			case <-time.After(5 * time.Second):
				t.Fatalf("%d more have begun, want %d", n, want)
			}
		}
	}
	awaitBegun(2)
	free <- struct{}{}
	free <- struct{}{}
	awaitBegun(2)
	if len(began) != 0 {
		t.Error("a freed slot was given away twice")
	}
	close(finish)
	awaitBegun(1)
}

// Stop lets handlers end and takes nothing more; Close gives back what is left.
func TestStopAndClose(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	began := make(chan core.Dispatch, 10)
	finish := make(chan struct{})
	r := listen(t, server, 2, 300*time.Millisecond, func(context.Context, core.Dispatch) error { began <- core.Dispatch{}; <-finish; return nil }, "default")
	ends, hangs := dispatch(0, "default"), dispatch(1, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{ends, hangs}))
	<-began
	<-began
	r.Stop()
	later := dispatch(2, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{later}))
	r.bell.Ring()
	finish <- struct{}{} // one of the two ends after Stop
	testenv.Eventually(t, 5*time.Second, func() error {
		places, err := c.Where(t.Context(), []core.Dispatch{ends, hangs})
		if err == nil && (places[0] == Missing) == (places[1] == Missing) {
			err = fmt.Errorf("the two are %v, want one done", places)
		}
		return err
	})
	closed := time.Now()
	r.Close()
	if took := time.Since(closed); took > 3*time.Second {
		t.Errorf("Close took %s, want little more than its drain", took)
	}
	places, err := c.Where(t.Context(), []core.Dispatch{ends, hangs, later})
	must(t, err)
	if places[2] != Pending {
		t.Errorf("what was sent after Stop is %s, want it left pending", places[2])
	}
	if places[0] != Pending && places[1] != Pending {
		t.Errorf("the two are %v, want the one that hangs handed back", places[:2])
	}
	if len(began) != 0 {
		t.Error("something was taken after Stop")
	}
	close(finish)
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	var done atomic.Int32
	r := listen(t, server, 4, time.Second, func(context.Context, core.Dispatch) error { done.Add(1); return nil }, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{dispatch(0, "default"), dispatch(1, "default")}))
	r.bell.Ring()
	testenv.Eventually(t, 5*time.Second, func() bool { return done.Load() == 2 })
	r.Close()
	testenv.Eventually(t, 5*time.Second, func() error {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if n := strings.Count(string(stacks), "asynq.(*"); n > 0 {
			return fmt.Errorf("%d goroutines of asynq are left:\n%s", n, stacks)
		}
		return nil
	})
}

// Redis goes away while a handler succeeds and comes back: asynq never hears that
// it did (its issue 642), and brings the message again only when its lease has
// expired. Until then nothing is handled twice, and others are served.
func TestOutageWhileAHandlerSucceeds(t *testing.T) {
	t.Parallel()
	server := testenv.DurableRedis(t)
	c := NewClient(server.Client(t))
	began, finish := make(chan string, 10), make(chan struct{}, 10)
	var mu sync.Mutex
	handled := map[string]int{}
	listen(t, server, 2, time.Second, func(_ context.Context, d core.Dispatch) error {
		mu.Lock()
		handled[d.ID()]++
		mu.Unlock()
		began <- d.ID()
		<-finish
		return nil
	}, "default")
	d := dispatch(0, "default")
	must(t, c.Send(t.Context(), []core.Dispatch{d}))
	<-began
	server.Kill()
	finish <- struct{}{}
	away := time.Now()
	testenv.Eventually(t, 10*time.Second, func() bool { return time.Since(away) > 3*time.Second })
	server.Restart()
	other := dispatch(1, "default")
	finish <- struct{}{}
	testenv.Eventually(t, 10*time.Second, func() error { return c.Send(t.Context(), []core.Dispatch{other}) })
	gone(t, c, other, 15*time.Second)
	mu.Lock()
	defer mu.Unlock()
	if handled[d.ID()] != 1 || handled[other.ID()] != 1 {
		t.Errorf("handled %v, want each once", handled)
	}
}
