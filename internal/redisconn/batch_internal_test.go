package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// A wire stands below the batcher. It notes the size of everything sent and
// holds up whatever names the key "hold" until released.
type wire struct {
	entered, release chan struct{}

	mu   sync.Mutex
	sent []int // 1 for a command alone, n for a pipeline of n
}

func newWire() *wire {
	return &wire{entered: make(chan struct{}), release: make(chan struct{})}
}

func (w *wire) note(cmds ...redis.Cmder) {
	if name := cmds[0].Name(); name == "hello" || name == "client" {
		return // the set-up of a connection
	}
	w.mu.Lock()
	w.sent = append(w.sent, len(cmds))
	w.mu.Unlock()
	for _, cmd := range cmds {
		if slices.Contains(cmd.Args(), any("panic")) {
			panic("a hook that panics")
		}
		if slices.Contains(cmd.Args(), any("hold")) {
			w.entered <- struct{}{}
			<-w.release
		}
	}
}

func (w *wire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.note(cmd)
		return next(ctx, cmd)
	}
}

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w.note(cmds...)
		return next(ctx, cmds)
	}
}

// A batchBench is a client with a batcher over a wire.
type batchBench struct {
	server *testenv.RedisServer
	client *redis.Client
	wire   *wire
	hook   *batcher
	wg     sync.WaitGroup
}

func newBatchBench(t *testing.T) *batchBench {
	b := &batchBench{server: testenv.Redis(t), wire: newWire()}
	b.client = b.server.Client(t)
	b.hook = NewBatcher(b.client).(*batcher)
	b.client.AddHook(b.hook)
	b.client.AddHook(b.wire)
	return b
}

// holdWire puts a command on the wire that stays there until letGo.
func (b *batchBench) holdWire(t *testing.T) {
	t.Helper()
	b.wg.Go(func() { b.client.Get(context.Background(), "hold") })
	<-b.wire.entered
}

func (b *batchBench) letGo() {
	close(b.wire.release)
	b.wg.Wait()
}

// awaitQueue returns when this many commands wait for the wire.
func (b *batchBench) awaitQueue(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() error {
		b.hook.mu.Lock()
		defer b.hook.mu.Unlock()
		if got := len(b.hook.waiting); got != n {
			return fmt.Errorf("%d commands wait, want %d", got, n)
		}
		return nil
	})
}

func TestBatcherGathersWhatComesWhileTheWireIsBusy(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	const callers = 10
	got := make([]int64, callers)
	for i := range callers {
		b.wg.Go(func() { got[i] = b.client.IncrBy(t.Context(), fmt.Sprint("k", i), int64(i)).Val() })
	}
	b.awaitQueue(t, callers)
	b.letGo()
	for i, n := range got {
		if n != int64(i) {
			t.Errorf("caller %d got reply %d, want %d", i, n, i)
		}
	}
	if diff := cmp.Diff([]int{1, callers}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
}

func TestBatcherSendsAtOnceWhenTheWireIsIdle(t *testing.T) {
	b := newBatchBench(t)
	for range 3 {
		if err := b.client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{1, 1, 1}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
}

func TestBatcherGivesEachCallerItsOwnReply(t *testing.T) {
	b := newBatchBench(t)
	ctx := t.Context()
	echo := redis.NewScript("return ARGV[1]")
	if err := b.client.Set(ctx, "text", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for caller := range 32 {
		b.wg.Go(func() {
			for i := range 100 {
				want := fmt.Sprint(caller, "-", i)
				if got, err := echo.Run(ctx, b.client, nil, want).Text(); err != nil || got != want {
					t.Errorf("script = %q, %v, want %q", got, err, want)
				}
				if err := b.client.Set(ctx, "k"+want, want, 0).Err(); err != nil {
					t.Errorf("SET: %v", err)
				}
				if got, err := b.client.Get(ctx, "k"+want).Result(); err != nil || got != want {
					t.Errorf("GET = %q, %v, want %q", got, err, want)
				}
				if err := b.client.Get(ctx, "missing").Err(); err != redis.Nil {
					t.Errorf("GET of a missing key: %v, want redis.Nil", err)
				}
				if err := b.client.HSet(ctx, "text", "f", "v").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
					t.Errorf("HSET on a string: %v, want WRONGTYPE", err)
				}
			}
		})
	}
	b.wg.Wait()
	if largest := slices.Max(b.wire.sent); largest < 2 || largest > batchLimit {
		t.Errorf("the largest batch had %d commands, want 2 to %d", largest, batchLimit)
	}
}

func TestBatcherNeverExceedsItsLimit(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	for range batchLimit + 10 {
		b.wg.Go(func() { b.client.Incr(t.Context(), "n") })
	}
	b.awaitQueue(t, batchLimit+10)
	b.letGo()
	if diff := cmp.Diff([]int{1, batchLimit, 10}, b.wire.sent); diff != "" {
		t.Errorf("sizes of what was sent (-want +got):\n%s", diff)
	}
}

func TestBatcherPassesNOSCRIPTOn(t *testing.T) {
	b := newBatchBench(t)
	ctx := t.Context()
	script := redis.NewScript("return 'made by ' .. ARGV[1]")
	for round := range 2 {
		b.wire.entered, b.wire.release = make(chan struct{}), make(chan struct{})
		b.holdWire(t)
		for i := range 5 {
			b.wg.Go(func() {
				want := fmt.Sprint("made by ", i)
				if got, err := script.Run(ctx, b.client, []string{"k"}, i).Text(); err != nil || got != want {
					t.Errorf("round %d: script = %q, %v, want %q", round, got, err, want)
				}
			})
		}
		b.awaitQueue(t, 5)
		b.letGo()
		if err := b.client.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBatcherTakesACommandBackWhenItsContextEnds(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	var stays, goes error
	b.wg.Go(func() { stays = b.client.Set(t.Context(), "stays", 1, 0).Err() })
	b.awaitQueue(t, 1)
	var gone sync.WaitGroup
	gone.Go(func() { goes = b.client.Set(ctx, "goes", 1, 0).Err() })
	b.awaitQueue(t, 2)
	cancel()
	gone.Wait() // while the wire is still held
	if !errors.Is(goes, context.Canceled) {
		t.Errorf("the cancelled SET: %v, want context.Canceled", goes)
	}
	b.letGo()
	if stays != nil {
		t.Errorf("the other SET: %v", stays)
	}
	if n := b.client.Exists(t.Context(), "goes").Val(); n != 0 {
		t.Error("the cancelled SET was carried out")
	}
}

func TestBatcherLeavesOtherCommandsAlone(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	ctx := t.Context()
	if err := b.client.Ping(ctx).Err(); err != nil {
		t.Errorf("PING beside a held wire: %v", err)
	}
	if err := b.client.BLMove(ctx, "from", "to", "left", "right", 10*time.Millisecond).Err(); err != redis.Nil {
		t.Errorf("BLMOVE beside a held wire: %v, want redis.Nil", err)
	}
	if _, err := b.client.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() }); err != nil {
		t.Errorf("transaction beside a held wire: %v", err)
	}
	b.letGo()
}

// A connection that cannot be set up fails with an answer of Redis, which
// go-redis does not note on each command of a pipeline.
func TestBatcherTellsEveryCallerOfAFailedConnection(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	admin := b.server.Client(t)
	if err := admin.ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 5)
	for i := range errs {
		b.wg.Go(func() { errs[i] = b.client.Set(t.Context(), "k", "v", 0).Err() })
	}
	b.awaitQueue(t, len(errs))
	b.letGo()
	for i, err := range errs {
		if err == nil {
			t.Errorf("caller %d was told that its SET succeeded", i)
		}
	}
}

func TestBatcherOutlivesAnOutage(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	errs := make([]error, 5)
	for i := range errs {
		b.wg.Go(func() { errs[i] = b.client.Set(t.Context(), "k", "v", 0).Err() })
	}
	b.awaitQueue(t, len(errs))
	b.server.Kill()
	b.letGo()
	for i, err := range errs {
		if err == nil {
			t.Errorf("caller %d was told that its SET succeeded", i)
		}
	}
	b.server.Restart()
	if err := b.client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("SET after the outage: %v", err)
	}
}

func TestBatcherOutlivesAPanic(t *testing.T) {
	b := newBatchBench(t)
	b.holdWire(t)
	errs := make([]error, 3)
	for i := range errs {
		b.wg.Go(func() {
			// The first in the queue sends the batch and meets the panic.
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("%v", r)
				}
			}()
			errs[i] = b.client.Get(t.Context(), "panic").Err()
		})
	}
	b.awaitQueue(t, len(errs))
	b.letGo()
	for i, err := range errs {
		if err == nil {
			t.Errorf("caller %d was told that its GET succeeded", i)
		}
	}
	if err := b.client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("SET after the panic: %v", err)
	}
}

func TestBatcherOnAClusterPassesThrough(t *testing.T) {
	mini := miniredis.RunT(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{mini.Addr()}})
	defer client.Close()
	client.AddHook(NewBatcher(client))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := client.Set(t.Context(), fmt.Sprint("k", i), i, 0).Err(); err != nil {
				t.Errorf("SET: %v", err)
			}
		})
	}
	wg.Wait()
	if got := len(mini.Keys()); got != 8 {
		t.Errorf("%d keys were set, want 8", got)
	}
}

func TestBatcherUnderAsynqsClient(t *testing.T) {
	b := newBatchBench(t)
	client := asynq.NewClientFromRedisClient(b.client)
	for worker := range 16 {
		b.wg.Go(func() {
			for i := range 50 {
				id := asynq.TaskID(fmt.Sprint(worker, ":", i))
				if _, err := client.Enqueue(asynq.NewTask("t", nil), id); err != nil {
					t.Errorf("enqueue: %v", err)
				}
				if _, err := client.Enqueue(asynq.NewTask("t", nil), id); !errors.Is(err, asynq.ErrTaskIDConflict) {
					t.Errorf("enqueue again: %v, want a task id conflict", err)
				}
			}
		})
	}
	b.wg.Wait()
	if n := b.client.LLen(t.Context(), PendingKey("default")).Val(); n != 16*50 {
		t.Errorf("%d tasks are pending, want %d", n, 16*50)
	}
}

// BenchmarkScripts shows what sharing pipelines gains: go test -bench Scripts.
func BenchmarkScripts(b *testing.B) {
	server := testenv.Redis(b)
	script := redis.NewScript(`return redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])`)
	for name, gather := range map[string]bool{"one by one": false, "batcher": true} {
		b.Run(name, func(b *testing.B) {
			client := server.Client(b)
			if gather {
				client.AddHook(NewBatcher(client))
			}
			b.SetParallelism(32)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := script.Run(context.Background(), client, []string{"h"}, "field", "value").Err(); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "scripts/s")
		})
	}
}
