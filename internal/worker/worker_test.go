package worker

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

func working(d time.Duration) executor.Func {
	return func(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
		select {
		case <-time.After(d):
			return executor.Result{}, nil
		case <-ctx.Done():
			return executor.Result{}, context.Cause(ctx)
		}
	}
}

func deaf(d time.Duration) executor.Func {
	return func(context.Context, executor.Attempt) (executor.Result, error) {
		<-time.After(d)
		return executor.Result{}, nil
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		ex       executor.Func
		finished int
		released int
		took     time.Duration
	}{
		{"with nothing to wait for", nil, 0, 0, 0},
		{"waits for what ends in time", working(20 * time.Second), 1, 0, 20 * time.Second},
		{"releases what does not", working(50 * time.Second), 0, 1, 30 * time.Second},
		{"releases what is deaf", deaf(55 * time.Second), 0, 1, 30*time.Second + deafAfter},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, 2, c.ex)
				stop := b.run()
				var done <-chan error
				if c.ex != nil {
					done = b.handle(0)
				}
				synctest.Wait()
				began := time.Now()
				if err := stop(); err != nil {
					t.Errorf("Run returned %v", err)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				if done != nil {
					wantNil(t, <-done)
				}
				if f, r := len(b.eng.all("finish")), len(b.eng.all("release")); f != c.finished || r != c.released {
					t.Errorf("%d finished and %d released, want %d and %d", f, r, c.finished, c.released)
				}
				if b.store.left != 1 {
					t.Errorf("the worker left the fleet %d times, want once", b.store.left)
				}
				if c.took > time.Second && !b.store.lastBeat().Draining {
					t.Error("while it drained its heartbeats did not say so")
				}
			})
		})
	}
}

// A worker that cannot write its releases ends all the same.
func TestShutdownWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, working(time.Hour))
		b.eng.step.Timeout = 2 * time.Hour
		stop := b.run()
		done := b.handle(0)
		synctest.Wait()
		b.eng.setAway(100)
		began := time.Now()
		_ = stop()
		if took := time.Since(began); took > 50*time.Second {
			t.Errorf("it took %s to stop", took)
		}
		b.eng.setAway(0)
		wantNil(t, <-done)
	})
}

func TestDrainingWorkerHandsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 2, working(10*time.Second))
		stop := b.run()
		running := b.handle(0)
		synctest.Wait()
		go stop()
		synctest.Wait()
		wantNil(t, <-b.handle(1))
		if r := b.eng.all("redispatch"); len(r) != 1 || r[0].dispatch != dispatch(1).ID() || r[0].why != core.MoveSent {
			t.Errorf("written: %v, want the dispatch sent anew", r)
		}
		wantNil(t, <-running)
		synctest.Wait()
	})
}

func TestHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, deaf(100*time.Second))
		stop := b.run()
		done := b.handle(1)
		synctest.Wait()
		waits := b.handle(0) // no slot is free
		pass(600 * time.Millisecond)
		h := b.heartbeat()
		want := core.Heartbeat{Worker: b.ID(), Taken: []string{dispatch(0).ID()}, Running: []string{dispatch(1).ID()}}
		if h.Worker != want.Worker || !slices.Equal(h.Taken, want.Taken) || !slices.Equal(h.Running, want.Running) || h.Draining {
			t.Errorf("heartbeat is %+v, want %+v", h, want)
		}
		pass(10 * time.Second)
		wantNil(t, <-waits)
		b.store.set(func(s *fakeStore) {
			if n := len(s.beats); n < 10 || n > 11 {
				t.Errorf("%d heartbeats in 10.6 s, want one a second", n)
			}
		})
		wantNil(t, <-done)
		_ = stop()
	})
}

// A store that lost its memory asks, by NotFound, who is there.
func TestUnknownWorkerAnnouncesItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, ok)
		b.store.known = false
		stop := b.run()
		pass(1100 * time.Millisecond)
		b.store.set(func(s *fakeStore) {
			if len(s.announce) != 1 || len(s.beats) != 1 {
				t.Fatalf("%d announcements and %d heartbeats after a second, want one each", len(s.announce), len(s.beats))
			}
			a := s.announce[0]
			if a.ID != b.ID() || a.Host != "host" || a.Slots != 1 || !a.Executes("work") || !slices.Equal(a.Queues, []string{"default"}) {
				t.Errorf("announced %+v", a)
			}
		})
		pass(3 * time.Second)
		b.store.set(func(s *fakeStore) {
			if len(s.announce) != 1 {
				t.Errorf("%d announcements, want no more than the one that was asked for", len(s.announce))
			}
		})
		_ = stop()
	})
}

func TestStopByHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 2, untilDone)
		stop := b.run()
		done, other := b.handle(0), b.handle(1)
		synctest.Wait()
		b.store.set(func(s *fakeStore) { s.stops = []string{dispatch(0).ID(), dispatch(9).ID()} })
		pass(1100 * time.Millisecond)
		wantNil(t, <-done)
		f := b.eng.all("finish")
		if len(f) != 1 || f[0].outcome.State != core.AttemptCanceled || f[0].dispatch != dispatch(0).ID() {
			t.Errorf("written: %v, want the one attempt canceled", f)
		}
		b.Stop(dispatch(1).ID())
		wantNil(t, <-other)
		_ = stop()
	})
}

// A worker that nobody hears stops its executors before others take their steps
// over, and not sooner.
func TestContactLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 2, untilDone)
		b.eng.step.Timeout = time.Hour
		stop := b.run()
		done := b.handle(0)
		pass(3 * time.Second)
		lastHeard := time.Now()
		b.store.set(func(s *fakeStore) { s.away = true })
		wantNil(t, <-done)
		r := b.eng.all("release")
		if len(r) != 1 {
			t.Fatalf("%d releases, want one", len(r))
		}
		if after := r[0].at.Sub(lastHeard); after < ContactLimit-time.Second || after > ContactLimit+100*time.Millisecond {
			t.Errorf("released %s after the last heartbeat, want about %s", after, ContactLimit)
		}
		b.store.set(func(s *fakeStore) { s.away = false })
		again := b.handle(1)
		pass(10 * time.Second)
		if h := b.store.lastBeat(); len(h.Running) != 1 {
			t.Errorf("back in contact its heartbeat is %+v, want the new attempt", h)
		}
		_ = stop()
		wantNil(t, <-again)
	})
}

// The store is there again before a heartbeat has gone through: whoever judges the fleet
// then still takes this worker for gone, so it begins nothing.
func TestNothingIsBegunBeforeAHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 2, working(time.Second))
		stop := b.run()
		pass(3 * time.Second)
		b.store.set(func(s *fakeStore) { s.away = true })
		pass(10 * time.Second)
		begun := b.handle(0)
		pass(2 * time.Second)
		if n := len(b.eng.all("begin")); n != 0 {
			t.Fatalf("%d begins while nobody hears the worker, want none", n)
		}
		b.store.set(func(s *fakeStore) { s.away = false })
		wantNil(t, <-begun)
		if n := len(b.eng.all("finish")); n != 1 {
			t.Errorf("%d attempts are finished in contact again, want one", n)
		}
		b.store.set(func(s *fakeStore) { s.away = true })
		pass(10 * time.Second)
		if err := <-b.handle(1); !core.Is(err, core.Unavailable) || b.free() != 2 {
			t.Errorf("without contact for long: %v and %d slots, want it refused and its slot free", err, b.free())
		}
		_ = stop()
	})
}

func TestShortSilenceReleasesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, working(20*time.Second))
		stop := b.run()
		done := b.handle(0)
		pass(3 * time.Second)
		b.store.set(func(s *fakeStore) { s.away = true })
		pass(2500 * time.Millisecond)
		b.store.set(func(s *fakeStore) { s.away = false })
		wantNil(t, <-done)
		if len(b.eng.all("finish")) != 1 {
			t.Error("the attempt was released though the silence was short")
		}
		_ = stop()
	})
}

// A process that stood still, as a suspended machine does, is heard again at once;
// but its steps were taken over meanwhile.
func TestProcessThatStoodStillReleases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, untilDone)
		b.eng.step.Timeout = time.Hour
		ctx, cancel := context.WithCancel(context.Background())
		tick := make(chan time.Time)
		ended := make(chan struct{})
		go func() { defer close(ended); b.beat(ctx, tick) }()
		done := b.handle(0)
		for range 5 {
			pass(time.Second)
			tick <- time.Now()
		}
		synctest.Wait()
		if len(b.eng.all("release")) != 0 {
			t.Fatal("released though every heartbeat was sent")
		}
		pass(10 * time.Second) // no tick: nothing of the process runs
		tick <- time.Now()
		wantNil(t, <-done)
		if len(b.eng.all("release")) != 1 {
			t.Error("the attempt goes on though others have taken its step over")
		}
		cancel()
		<-ended
	})
}

func TestHostName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"node-1.example": "node-1.example", "büro 7": "b-ro-7", "": "unnamed", "a:b|c": "a-b-c"} {
		if got := HostName(in); got != want {
			t.Errorf("HostName(%q) = %q, want %q", in, got, want)
		}
	}
}

// Heartbeats that fail each second are told of now and then, and that they go through
// again.
func TestOutageIsNotLoud(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var text bytes.Buffer
		b := newBench(t, 1, working(time.Second))
		b.log = slog.New(slog.NewTextHandler(&text, nil))
		b.store.set(func(s *fakeStore) { s.away = true })
		stop := b.run()
		pass(40 * time.Second)
		b.store.set(func(s *fakeStore) { s.away = false })
		pass(5 * time.Second)
		wantNil(t, stop())
		failed, back := strings.Count(text.String(), "heartbeat not sent"), strings.Count(text.String(), "heartbeats go through again")
		if failed != 2 || back != 1 {
			t.Errorf("%d lines of failures and %d of the return, want 2 and 1:\n%s", failed, back, &text)
		}
	})
}
