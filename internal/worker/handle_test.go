package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		ex        executor.Func
		meanwhile func(b *bench) // while it executes
		want      core.AttemptState
		released  bool
		permanent bool
		reason    string
	}{
		{name: "success", ex: ok, want: core.AttemptSucceeded},
		{name: "failure", want: core.AttemptFailed, reason: "no luck", ex: func(context.Context, executor.Attempt) (executor.Result, error) {
			return executor.Result{ExitCode: 3, Output: "fine"}, errors.New("no luck")
		}},
		{name: "permanent failure", want: core.AttemptFailed, permanent: true, reason: "never", ex: func(context.Context, executor.Attempt) (executor.Result, error) {
			return executor.Result{}, fmt.Errorf("try: %w", executor.Permanent(errors.New("never")))
		}},
		{name: "panic", want: core.AttemptFailed, reason: "handle_test.go", ex: func(context.Context, executor.Attempt) (executor.Result, error) {
			panic("out of cheese")
		}},
		{name: "canceled", ex: untilDone, want: core.AttemptCanceled, reason: "canceled", meanwhile: func(b *bench) { b.Stop(dispatch(0).ID()) }},
		{name: "timed out", ex: untilDone, want: core.AttemptTimedOut, reason: "timed out after 1m0s", meanwhile: func(*bench) { pass(61 * time.Second) }},
		{name: "released", ex: untilDone, released: true, meanwhile: func(b *bench) { b.releaseAll(context.Background(), "test") }},
		{name: "succeeded all the same", want: core.AttemptSucceeded, meanwhile: func(b *bench) { b.releaseAll(context.Background(), "test") },
			ex: func(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
				<-ctx.Done()
				return executor.Result{}, nil
			}},
		{name: "canceled first, then released", ex: untilDone, want: core.AttemptCanceled, reason: "canceled", meanwhile: func(b *bench) {
			b.mu.Lock()
			a := b.running[dispatch(0).ID()]
			b.mu.Unlock()
			a.cancel(executor.ErrCanceled)
			a.cancel(executor.ErrReleased)
		}},
		{name: "a failure of its own before it was told to stop", want: core.AttemptFailed, reason: "own", meanwhile: func(b *bench) { b.Stop(dispatch(7).ID()); pass(time.Second) },
			ex: func(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
				<-time.After(time.Second)
				return executor.Result{}, errors.New("own")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, 2, c.ex)
				done := b.handle(0)
				synctest.Wait()
				if c.meanwhile != nil {
					c.meanwhile(b)
				}
				wantNil(t, <-done)
				finished, released := b.eng.all("finish"), b.eng.all("release")
				if c.released {
					if len(released) != 1 || len(finished) != 0 {
						t.Fatalf("written: %v %v, want one release", finished, released)
					}
					return
				}
				if len(finished) != 1 || len(released) != 0 {
					t.Fatalf("written: %v %v, want one finish", finished, released)
				}
				got := finished[0]
				if got.outcome.State != c.want || got.permanent != c.permanent {
					t.Errorf("outcome %s, permanent %v; want %s, %v", got.outcome.State, got.permanent, c.want, c.permanent)
				}
				if !strings.Contains(got.outcome.Reason, c.reason) {
					t.Errorf("reason %q does not contain %q", got.outcome.Reason, c.reason)
				}
				if len(b.ended) != 1 || b.ended[0] != c.want {
					t.Errorf("counted %v, want %s once", b.ended, c.want)
				}
				synctest.Wait()
				if b.free() != 2 {
					t.Errorf("%d slots are free, want 2", b.free())
				}
			})
		})
	}
}

func TestResultIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := strings.Repeat("x", executor.MaxOutputBytes+1)
		b := newBench(t, 1, func(_ context.Context, a executor.Attempt) (executor.Result, error) {
			if a.ID != dispatch(0).ID() || a.Key != dispatch(0).Key() || a.Number != 1 || a.Type != "work" || a.Log == nil {
				t.Errorf("the executor got %+v", a)
			}
			if until := time.Until(a.Deadline); until != time.Minute {
				t.Errorf("the deadline is in %s, want in 1m", until)
			}
			return executor.Result{Output: long, ExitCode: 7}, errors.New("no")
		})
		wantNil(t, <-b.handle(0))
		o := b.eng.all("finish")[0].outcome
		if o.ExitCode != 7 || len(o.Output) != executor.MaxOutputBytes {
			t.Errorf("exit code %d with %d bytes of output, want 7 with %d", o.ExitCode, len(o.Output), executor.MaxOutputBytes)
		}
	})
}

func TestTypeSaysHowMuchOutputIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const most = 2 * executor.MaxOutputBytes
		b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			return executor.Result{Output: strings.Repeat("é", most)}, nil
		})
		kind := b.types["work"]
		kind.MaxOutput = most - 1 // in the middle of a letter
		b.types["work"] = kind
		wantNil(t, <-b.handle(0))
		if got, want := b.eng.all("finish")[0].outcome.Output, strings.Repeat("é", most/2-1); got != want {
			t.Errorf("got %d bytes of output, want %d", len(got), len(want))
		}
	})
}

// The heartbeat tells the progress of what is executed, and of nothing that has ended.
func TestProgressIsInTheHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		told, end := make(chan struct{}), make(chan struct{})
		b := newBench(t, 2, func(_ context.Context, a executor.Attempt) (executor.Result, error) {
			if a.ID == dispatch(0).ID() {
				a.Progress(1, 10)
				a.Progress(3, 10)
			}
			told <- struct{}{}
			<-end
			return executor.Result{}, nil
		})
		first, second := b.handle(0), b.handle(1)
		<-told
		<-told
		want := map[string]core.Progress{dispatch(0).ID(): {Done: 3, Total: 10}}
		if got := b.heartbeat().Progress; !maps.Equal(got, want) {
			t.Errorf("got progress %v, want %v", got, want)
		}
		close(end)
		wantNil(t, <-first)
		wantNil(t, <-second)
		if got := b.heartbeat().Progress; len(got) != 0 {
			t.Errorf("after the end: got progress %v", got)
		}
	})
}

// Nothing is executed before Begin has answered, and nil goes to the queue only
// after Finish has.
func TestOrderOfWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b *bench
		b = newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			if len(b.eng.all("begin")) != 1 || len(b.eng.all("finish")) != 0 {
				t.Error("executed before Begin or after Finish")
			}
			return executor.Result{}, nil
		})
		wantNil(t, <-b.handle(0))
		if len(b.eng.all("finish")) != 1 {
			t.Error("the handler returned before Finish")
		}
	})
}

// slowRecord is an engine whose Finish waits.
type slowRecord struct {
	*fakeEngine
	finish chan struct{}
}

func (e slowRecord) Finish(ctx context.Context, d core.Dispatch, worker string, b core.Begun, o core.Outcome, permanent bool) (core.Finished, error) {
	<-e.finish
	return e.fakeEngine.Finish(ctx, d, worker, b, o, permanent)
}

// The queue brings the next dispatch when an executor has ended, not when its
// outcome is recorded. The heartbeat lists both.
func TestNextBeginsBeforeTheRecord(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	executes := make(chan struct{}, 2)
	hold := make(chan struct{})
	b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
		executes <- struct{}{}
		if len(executes) == 2 {
			<-hold
		}
		return executor.Result{}, nil
	})
	record := slowRecord{b.eng, make(chan struct{})}
	b.engine = record
	bell := redisconn.NewBell()
	srv, err := queue.Listen(queue.ServerOptions{
		Open: func() (redis.UniversalClient, error) { return server.Client(t), nil }, Queues: map[string]int{"default": 1},
		Slots: 1, Dequeuers: 1, Drain: time.Second, Bell: bell, Took: b.Took, GaveBack: b.GaveBack, Log: slog.New(slog.DiscardHandler),
	}, b.Handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(hold); close(record.finish) })
	client := queue.NewClient(server.Client(t))
	var ds []core.Dispatch
	for n := range 3 {
		d := dispatch(n)
		d.Queue, d.Timeout = "default", time.Minute
		ds = append(ds, d)
	}
	if err := client.Send(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return len(executes) == 2 })
	if f := b.eng.all("finish"); len(f) != 0 {
		t.Errorf("recorded %v, want nothing yet", f)
	}
	if h := b.heartbeat(); len(h.Running) != 2 || len(h.Taken) != 0 {
		t.Errorf("the heartbeat is %+v, want the two that have begun and not the third, which has no slot", h)
	}
}

// slowBegin is an engine whose Begin is answered late.
type slowBegin struct {
	*fakeEngine
	after time.Duration
}

func (e slowBegin) Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) {
	b, err := e.fakeEngine.Begin(ctx, d, worker)
	<-time.After(e.after)
	return b, err
}

// A process that stood still after it had begun something does not execute it: others
// may have done so.
func TestLateBeginIsReleased(t *testing.T) {
	for _, row := range []struct {
		name     string
		after    time.Duration
		executed int
	}{{"just in time", ContactLimit - time.Millisecond, 1}, {"too late", ContactLimit, 0}} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				executed := 0
				b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
					executed++
					return executor.Result{}, nil
				})
				b.engine = slowBegin{b.eng, row.after}
				wantNil(t, <-b.handle(0))
				synctest.Wait()
				if executed != row.executed || len(b.eng.all("finish")) != row.executed || len(b.eng.all("release")) != 1-row.executed {
					t.Errorf("executed %d times, written %v; want %d executions", executed, b.eng.records, row.executed)
				}
				if h := b.heartbeat(); b.free() != 1 || len(h.Taken)+len(h.Running) != 0 {
					t.Errorf("%d slots are free and the heartbeat is %+v, want all given back", b.free(), h)
				}
			})
		})
	}
}

func TestStaleDispatchIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			t.Error("a stale dispatch was executed")
			return executor.Result{}, nil
		})
		b.eng.stale[dispatch(0).ID()] = true
		wantNil(t, <-b.handle(0))
		synctest.Wait()
		if b.stale != 1 || b.free() != 1 {
			t.Errorf("%d stale dispatches counted, %d slots free; want 1 and 1", b.stale, b.free())
		}
		if h := b.heartbeat(); len(h.Taken)+len(h.Running) != 0 {
			t.Errorf("heartbeat %+v still lists it", h)
		}
	})
}

func TestBeginThatFailsComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, ok)
		b.eng.setAway(1)
		if err := <-b.handle(0); !core.Is(err, core.Unavailable) {
			t.Errorf("the handler returned %v, want unavailable", err)
		}
		synctest.Wait()
		if h := b.heartbeat(); len(h.Taken)+len(h.Running) != 0 || b.free() != 1 {
			t.Errorf("heartbeat %+v lists it and %d slots are free, want nothing and 1", h, b.free())
		}
		wantNil(t, <-b.handle(0))
		if len(b.eng.all("finish")) != 1 {
			t.Error("brought again it was not executed")
		}
	})
}

// What was executed is not executed again for want of a record.
func TestOutcomeIsRecordedOnceTheStoreIsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		executed := 0
		var b *bench
		b = newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			executed++
			b.eng.setAway(8)
			return executor.Result{}, nil
		})
		done := b.handle(0)
		pass(5 * time.Second)
		if h := b.heartbeat(); len(h.Running) != 1 {
			t.Errorf("while the record is owed the heartbeat is %+v, want it to list the attempt", h)
		}
		wantNil(t, <-done)
		if executed != 1 || len(b.eng.all("finish")) != 1 {
			t.Errorf("executed %d times and recorded %d times, want once each", executed, len(b.eng.all("finish")))
		}
	})
}

// A record that fails by no outage is given up in the end. Until then the attempt is
// listed, so that nobody takes its step over.
func TestOutcomeThatCannotBeRecorded(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		given bool
	}{
		{"the store is away", errAway, false},
		{"the store does not answer", fmt.Errorf("finish: %w", context.DeadlineExceeded), false},
		{"the store answers with an error", errors.New("WRONGTYPE Operation against a key"), true},
		{"the run cannot be worked on", core.Errorf(core.Invalid, "spoiled"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var b *bench
				b = newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
					b.eng.mu.Lock()
					defer b.eng.mu.Unlock()
					b.eng.away, b.eng.awayBy = 100, c.err // for some 200 s
					return executor.Result{}, nil
				})
				done := b.handle(0)
				pass(faultPatience - time.Second)
				if h := b.heartbeat(); len(h.Running) != 1 {
					t.Errorf("shortly before it is given up the heartbeat is %+v, want it to list the attempt", h)
				}
				pass(10 * time.Second)
				if listed := len(b.heartbeat().Running) == 1; listed == c.given {
					t.Errorf("a minute later it is listed: %v, want it given up: %v", listed, c.given)
				}
				wantNil(t, <-done)
				if recorded := len(b.eng.all("finish")) == 1; recorded == c.given {
					t.Errorf("recorded in the end: %v, want it given up: %v", recorded, c.given)
				}
			})
		})
	}
}

func TestRefusedOutcomeIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, ok)
		b.eng.lateErr = true
		wantNil(t, <-b.handle(0))
		if len(b.eng.all("finish")) != 1 {
			t.Error("a refused outcome was sent again")
		}
	})
}

// asynq brings a message again when its own lease has lapsed, though the handler
// is at work. Begin would allow it, since it is the same worker.
func TestMessageThatComesTwiceIsExecutedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		executed := 0
		b := newBench(t, 4, func(context.Context, executor.Attempt) (executor.Result, error) {
			executed++
			<-time.After(10 * time.Second)
			return executor.Result{}, nil
		})
		first := b.handle(0)
		synctest.Wait()
		wantNil(t, <-b.handle(0))
		if h := b.heartbeat(); len(h.Running) != 1 {
			t.Errorf("heartbeat is %+v, want it to list the attempt", h)
		}
		wantNil(t, <-first)
		if executed != 1 || len(b.eng.all("begin")) != 1 {
			t.Errorf("begun %d times and executed %d times, want once each", len(b.eng.all("begin")), executed)
		}
		wantNil(t, <-b.handle(0)) // and later it is Begin that decides
		if len(b.eng.all("begin")) != 2 {
			t.Error("after its end the worker still takes the dispatch for one at work")
		}
	})
}

func TestUnknownTypeIsReleased(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, 1, ok)
		b.eng.step.Type = "magic"
		wantNil(t, <-b.handle(0))
		synctest.Wait()
		if len(b.eng.all("release")) != 1 || len(b.eng.all("finish")) != 0 || b.free() != 1 {
			t.Errorf("released %d times, finished %d times, %d slots free; want 1, 0, 1", len(b.eng.all("release")), len(b.eng.all("finish")), b.free())
		}
	})
}

// An executor that does not hear its context keeps its slot, not its step.
func TestDeafExecutor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		wakes := make(chan struct{})
		b := newBench(t, 1, func(context.Context, executor.Attempt) (executor.Result, error) {
			<-wakes
			return executor.Result{Output: "too late"}, nil
		})
		began := time.Now()
		wantNil(t, <-b.handle(0))
		if took := time.Since(began); took != time.Minute+deafAfter {
			t.Errorf("the handler returned after %s, want %s", took, time.Minute+deafAfter)
		}
		if o := b.eng.all("finish")[0].outcome; o.State != core.AttemptTimedOut || o.Output != "" || !strings.Contains(o.Reason, "did not stop") {
			t.Errorf("outcome is %+v, want timed_out with a reason", o)
		}
		if b.free() != 0 {
			t.Fatal("the slot was given away while its executor is at work")
		}
		began = time.Now()
		wantNil(t, <-b.handle(1))
		if r := b.eng.all("redispatch"); len(r) != 1 || r[0].why != core.MoveSent || time.Since(began) != slotPatience {
			t.Errorf("without a slot: %v after %s, want it handed back after %s", r, time.Since(began), slotPatience)
		}
		close(wakes)
		synctest.Wait()
		if b.free() != 1 {
			t.Error("the slot is still taken after the executor's end")
		}
		wantNil(t, <-b.handle(2))
		if len(b.eng.all("finish")) != 2 {
			t.Error("the slot cannot be used again")
		}
	})
}

func TestSlotsAreNeverExceeded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const slots, load = 4, 100
		var mu sync.Mutex
		now, most := 0, 0
		b := newBench(t, slots, func(context.Context, executor.Attempt) (executor.Result, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-time.After(30 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return executor.Result{}, nil
		})
		var all []<-chan error
		for n := range load {
			all = append(all, b.handle(n))
		}
		for _, done := range all {
			wantNil(t, <-done)
		}
		if most != slots {
			t.Errorf("%d executed at a time, want %d", most, slots)
		}
		if got := len(b.eng.all("finish")) + len(b.eng.all("redispatch")); got != load {
			t.Errorf("%d of %d dispatches were executed or handed back", got, load)
		}
	})
}
