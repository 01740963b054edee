package redisconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

func TestFoldDoesWhatWaitsInOneCall(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, addScript)
	b.holdWire()
	const callers = 100
	got := make([]any, callers)
	for i := range callers {
		b.wg.Go(func() {
			var err error
			if got[i], err = b.fold.Run(t.Context(), addScript, []string{"sum"}, 1, i); err != nil {
				t.Error(err)
			}
		})
	}
	b.awaitQueue(t, callers)
	b.letGo()
	for i, answer := range got {
		if answer != strconv.Itoa(i) {
			t.Errorf("caller %d got the answer %v", i, answer)
		}
	}
	if n := b.client.Get(t.Context(), "sum").Val(); n != "100" {
		t.Errorf("the sum is %s, want each item done once", n)
	}
	if diff := cmp.Diff([]int{1, 2}, b.wire.sent[:2]); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
	if n := b.calls(t, "evalsha"); n != 2 {
		t.Errorf("%d calls for %d items, want 2: at most %d go in one", n, callers, foldMost)
	}
}

func TestFoldSendsAtOnceWhenTheWireIsIdle(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, addScript)
	for range 3 {
		if _, err := b.fold.Run(t.Context(), addScript, []string{"sum"}, 1, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{1, 1, 1}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
}

func TestFoldGivesEachCallerItsOwnAnswer(t *testing.T) {
	b := newFoldBench(t)
	ctx := t.Context()
	plain := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
	const callers, rounds = 24, 60
	for caller := range callers {
		b.wg.Go(func() {
			own, before := fmt.Sprint("own", caller), 0
			for i := range rounds {
				want := fmt.Sprint(caller, "-", i)
				if got, err := b.fold.Run(ctx, addScript, []string{fmt.Sprint("sum", caller%3)}, 1, want); err != nil || got != want {
					t.Errorf("Run = %v, %v, want %q", got, err, want)
				}
				if got, err := b.fold.Call(ctx, plain, []string{own}, 1); err != nil || got != int64(i+1) {
					t.Errorf("Call = %v, %v, want %d", got, err, i+1)
				}
				// Own writes were made before the question, those of others may have been.
				got, err := b.fold.Get(ctx, own, "missing", fmt.Sprint("sum", caller%3))
				if err != nil || len(got) != 3 || got[0] != strconv.Itoa(i+1) || got[1] != "" {
					t.Errorf("Get = %q, %v, want %d, nothing and a sum", got, err, i+1)
					continue
				}
				if sum, _ := strconv.Atoi(got[2]); sum < before+1 {
					t.Errorf("Get gives the sum %d, want more than the %d that were there", sum, before)
				} else {
					before = sum
				}
			}
		})
	}
	b.wg.Wait()
	for n := range 3 {
		if got, want := b.client.Get(ctx, fmt.Sprint("sum", n)).Val(), strconv.Itoa(callers/3*rounds); got != want {
			t.Errorf("sum %d is %s, want %s", n, got, want)
		}
	}
	if n := b.calls(t, "evalsha"); n > 2*callers*rounds*9/10 {
		t.Errorf("%d calls for %d items: they do not meet", n, 2*callers*rounds)
	}
}

// Only what is alike goes in one call.
func TestFoldKeepsApartWhatDiffers(t *testing.T) {
	b := newFoldBench(t)
	three := redis.NewScript("local out = {}; for k = 1, #ARGV, 3 do out[#out + 1] = ARGV[k + 2] end; return out")
	b.warm(t, addScript, three, touchScript)
	b.holdWire()
	run := func(script *redis.Script, want string, key string, args ...any) {
		b.queue(t, func() {
			if got, err := b.fold.Run(t.Context(), script, []string{key}, args...); err != nil || got != want {
				t.Errorf("Run = %v, %v, want %q", got, err, want)
			}
		})
	}
	call := func(want int) {
		b.queue(t, func() {
			got, err := b.fold.Call(t.Context(), addScript, []string{"k1"}, 1, "called")
			if list, _ := got.([]any); err != nil || len(list) != want {
				t.Errorf("Call = %v, %v, want the whole reply", got, err)
			}
		})
	}
	run(addScript, "a", "k1", 1, "a")
	run(addScript, "b", "k2", 1, "b") // another key
	run(addScript, "c", "k1", 1, "c")
	run(three, "d", "k1", 1, 2, "d") // another script
	run(touchScript, "s1", "k1", "s1")
	call(1)
	call(1)
	run(addScript, "e", "k2", 1, "e")
	run(touchScript, "s2", "k1", "s2")
	b.letGo()
	if n := b.calls(t, "evalsha"); n != 6 {
		t.Errorf("%d calls, want 4 for what can be folded and 2 for what cannot", n)
	}
	if diff := cmp.Diff([]int{1, 6}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
}

func TestFoldBoundsTheCallersOfOneSending(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, addScript)
	b.holdWire()
	for range foldWire + 10 {
		b.wg.Go(func() {
			if _, err := b.fold.Run(t.Context(), addScript, []string{"sum"}, 1, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	b.awaitQueue(t, foldWire+10)
	b.letGo()
	if diff := cmp.Diff([]int{1, foldWire / foldMost, 1}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
	if n := b.client.Get(t.Context(), "sum").Val(); n != strconv.Itoa(foldWire+10) {
		t.Errorf("the sum is %s, want %d", n, foldWire+10)
	}
}

func TestFoldHealsNOSCRIPT(t *testing.T) {
	b := newFoldBench(t)
	ctx := t.Context()
	for round := range 3 {
		if err := b.client.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := b.fold.Run(ctx, addScript, []string{"sum"}, 1, "alone"); err != nil || got != "alone" {
			t.Errorf("round %d: Run = %v, %v", round, got, err)
		}
		b.client.ScriptFlush(ctx)
		b.holdWire()
		for i := range foldMost + 5 {
			b.wg.Go(func() {
				if got, err := b.fold.Run(ctx, addScript, []string{"sum"}, 1, i); err != nil || got != strconv.Itoa(i) {
					t.Errorf("round %d: Run = %v, %v, want %d", round, got, err, i)
				}
			})
		}
		b.wg.Go(func() {
			if got, err := b.fold.Call(ctx, touchScript, []string{"k"}, "s"); err != nil || fmt.Sprint(got) != "[s]" {
				t.Errorf("round %d: Call = %v, %v", round, got, err)
			}
		})
		b.awaitQueue(t, foldMost+6)
		b.letGo()
		if got, want := b.client.Get(ctx, "sum").Val(), strconv.Itoa((round+1)*(foldMost+6)); got != want {
			t.Errorf("round %d: the sum is %s, want %s", round, got, want)
		}
	}
}

func TestFoldTakesAnItemBackWhenItsContextEnds(t *testing.T) {
	b := newFoldBench(t)
	b.holdWire()
	ctx, cancel := context.WithCancel(t.Context())
	b.queue(t, func() {
		if _, err := b.fold.Run(t.Context(), touchScript, []string{"k"}, "stays"); err != nil {
			t.Errorf("the other: %v", err)
		}
	})
	gone := make(chan error)
	go func() {
		_, err := b.fold.Run(ctx, touchScript, []string{"k"}, "goes")
		gone <- err
	}()
	b.awaitQueue(t, 2)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) { // while the wire is still held
		t.Errorf("the cancelled item: %v, want context.Canceled", err)
	}
	b.letGo()
	if _, err := b.fold.Run(ctx, touchScript, []string{"k"}, "goes"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v, want context.Canceled", err)
	}
	if b.client.Exists(t.Context(), "goes").Val() != 0 || b.client.Exists(t.Context(), "stays").Val() != 1 {
		t.Error("want the cancelled item not done, and the other one done")
	}
}

// A context that ends when the item is on the wire changes nothing, be it the one
// of the caller who sends or of another.
func TestFoldAwaitsTheAnswerOnceSent(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, touchScript)
	b.holdWire()
	ctx, cancel := context.WithCancel(t.Context())
	for _, set := range []string{"a", "b", "hold"} {
		b.queue(t, func() {
			if got, err := b.fold.Run(ctx, touchScript, []string{"k"}, set); err != nil || got != set {
				t.Errorf("Run = %v, %v, want %q", got, err, set)
			}
		})
	}
	b.wire.release <- struct{}{} // the first sending; the next is held then
	<-b.wire.entered
	cancel()
	b.letGo()
}

// Two items of the same call cannot be done; the rest must not suffer.
func TestFoldAnswersTheOthersWhenAScriptFails(t *testing.T) {
	b := newFoldBench(t)
	b.client.Set(t.Context(), "text", "v", 0)
	b.holdWire()
	for _, set := range []string{"s1", "text", "s2", "break", "s3"} {
		b.queue(t, func() {
			got, err := b.fold.Run(t.Context(), touchScript, []string{"k"}, set)
			switch set {
			case "text":
				if !redis.HasErrorPrefix(err, "WRONGTYPE") {
					t.Errorf("a set that is a string: %v, want WRONGTYPE", err)
				}
			case "break":
				if err == nil || !strings.Contains(err.Error(), "arithmetic") {
					t.Errorf("a script that breaks: %v, want its error", err)
				}
			default:
				if err != nil || got != set {
					t.Errorf("%s = %v, %v, want it done", set, got, err)
				}
			}
		})
	}
	b.letGo()
	if n := b.client.Exists(t.Context(), "s1", "s2", "s3").Val(); n != 3 {
		t.Errorf("%d of 3 sets are there", n)
	}
}

func TestFoldRefusesAReplyOfAnotherLength(t *testing.T) {
	b := newFoldBench(t)
	short := redis.NewScript("return {'one'}")
	b.holdWire()
	for range 2 {
		b.queue(t, func() {
			if got, err := b.fold.Run(t.Context(), short, []string{"k"}, "x"); err == nil {
				t.Errorf("Run = %v, want an error: one answer came for two items", got)
			}
		})
	}
	b.letGo()
}

func TestGetIsAskedOnceForAll(t *testing.T) {
	b := newFoldBench(t)
	b.client.Set(t.Context(), "k", "v", 0)
	b.client.HSet(t.Context(), "hash", "f", "v")
	b.holdWire()
	for range 100 {
		b.wg.Go(func() {
			got, err := b.fold.Get(t.Context(), "k", "missing", "k")
			if diff := cmp.Diff([]string{"v", "", "v"}, got); err != nil || diff != "" {
				t.Errorf("Get: %v (-want +got):\n%s", err, diff)
			}
		})
	}
	b.wg.Go(func() {
		if got, err := b.fold.Get(t.Context(), "k", "hash"); !redis.HasErrorPrefix(err, "WRONGTYPE") {
			t.Errorf("Get of a hash = %q, %v, want WRONGTYPE", got, err)
		}
	})
	b.awaitQueue(t, 101)
	b.letGo()
	if n := b.calls(t, "get"); n != 4 {
		t.Errorf("%d times asked, want 4: the one that held the wire, and three keys", n)
	}
}

// An answer that is on its way when somebody asks is too old for the question.
func TestGetIsNotOlderThanTheQuestion(t *testing.T) {
	b := newFoldBench(t)
	other := b.server.Client(t)
	other.Set(t.Context(), "hold answer", "old", 0)
	b.holdAt("hold answer")
	other.Set(t.Context(), "hold answer", "new", 0)
	b.queue(t, func() {
		if got, err := b.fold.Get(t.Context(), "hold answer"); err != nil || got[0] != "new" {
			t.Errorf("Get = %q, %v, want what was there when it was asked", got, err)
		}
	})
	b.wire.release <- struct{}{}
	<-b.wire.entered
	b.letGo()
}

// askAll has five callers, of every kind, wait for the wire, breaks something, and
// returns what they were told.
func (b *foldBench) askAll(t *testing.T, breakIt func()) []error {
	t.Helper()
	b.holdWire()
	errs := make([]error, 5)
	for i := range errs {
		b.queue(t, func() {
			switch i {
			case 0:
				_, errs[i] = b.fold.Get(t.Context(), "k")
			case 1:
				_, errs[i] = b.fold.Call(t.Context(), addScript, []string{"sum"}, 1, "x")
			default:
				_, errs[i] = b.fold.Run(t.Context(), addScript, []string{"sum"}, 1, "x")
			}
		})
	}
	breakIt()
	b.letGo()
	return errs
}

func wantAllFail(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err == nil {
			t.Errorf("caller %d was told of a success", i)
		}
	}
}

func TestFoldTellsEveryCallerOfAWrongPassword(t *testing.T) {
	b := newFoldBench(t)
	wantAllFail(t, b.askAll(t, func() {
		admin := b.server.Client(t)
		if err := admin.ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
			t.Fatal(err)
		}
		// The connections there are have signed in already.
		if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestFoldOutlivesAnOutage(t *testing.T) {
	b := newFoldBench(t)
	wantAllFail(t, b.askAll(t, b.server.Kill))
	b.server.Restart()
	if got, err := b.fold.Run(t.Context(), addScript, []string{"sum"}, 1, "back"); err != nil || got != "back" {
		t.Errorf("after the outage: %v, %v", got, err)
	}
}

// Redis has taken the pipeline, or a part of it, and dies before it answers.
func TestFoldTellsEveryCallerThatRedisDied(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, addScript)
	b.holdAt("hold answer")
	b.server.Freeze()
	errs := make([]error, 5)
	for i := range errs {
		b.queue(t, func() { _, errs[i] = b.fold.Run(t.Context(), addScript, []string{fmt.Sprint("sum", i%2)}, 1, "x") })
	}
	close(b.wire.release)
	b.awaitQueue(t, 0)
	b.server.Kill()
	b.wg.Wait()
	wantAllFail(t, errs)
}

func TestFoldOutlivesAPanic(t *testing.T) {
	b := newFoldBench(t)
	b.holdWire()
	errs := make([]error, 3)
	for i := range errs {
		b.queue(t, func() {
			// The first in the queue sends for all and meets the panic.
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("%v", r)
				}
			}()
			_, errs[i] = b.fold.Get(t.Context(), "panic")
		})
	}
	b.letGo()
	wantAllFail(t, errs)
	if _, err := b.fold.Get(t.Context(), "k"); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func TestFoldOnACluster(t *testing.T) {
	t.Parallel()
	client, err := newClient(Config{URL: testenv.Cluster(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fold := NewFold(client)
	var wg sync.WaitGroup
	for caller := range 24 {
		wg.Go(func() {
			key := fmt.Sprintf("{%d}:sum", caller%8) // over all masters
			for i := range 20 {
				if caller == 0 && i == 10 {
					if err := client.ScriptFlush(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
				want := fmt.Sprint(caller, "-", i)
				if got, err := fold.Run(t.Context(), addScript, []string{key}, 1, want); err != nil || got != want {
					t.Errorf("Run = %v, %v, want %q", got, err, want)
				}
				if got, err := fold.Get(t.Context(), key, "missing"); err != nil || got[0] == "" || got[1] != "" {
					t.Errorf("Get = %q, %v, want a sum and nothing", got, err)
				}
			}
		})
	}
	wg.Wait()
	for n := range 8 {
		if got := client.Get(t.Context(), fmt.Sprintf("{%d}:sum", n)).Val(); got != "60" {
			t.Errorf("sum %d is %s, want 60", n, got)
		}
	}
}
