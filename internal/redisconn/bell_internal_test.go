package redisconn

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

var queues = map[string]int{"critical": 6, "default": 3, "low": 1}

// A bench is a real asynq server whose client sleeps by a bell.
type bench struct {
	redis  *testenv.RedisServer
	bell   *Bell
	client *asynq.Client
	taken  chan string // payloads, sent by the handler
}

func newBench(t *testing.T, servers int) *bench {
	b := &bench{redis: testenv.Redis(t), bell: NewBell(), taken: make(chan string, 64)}
	b.bell.SetFallback(time.Hour) // only rings wake, unless a test says otherwise
	b.client = asynq.NewClientFromRedisClient(b.redis.Client(t))
	for range servers {
		b.serve(t)
	}
	return b
}

// serve starts one more asynq server and stops it at the test's end.
func (b *bench) serve(t *testing.T) *asynq.Server {
	t.Helper()
	client := b.redis.Client(t, b.bell.Hook(len(queues)))
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency:              4,
		Queues:                   queues,
		TaskCheckInterval:        time.Millisecond,
		DelayedTaskCheckInterval: time.Second,
		LogLevel:                 asynq.FatalLevel,
	})
	handler := asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		b.taken <- string(task.Payload())
		return nil
	})
	if err := server.Start(handler); err != nil {
		t.Fatalf("start asynq server: %v", err)
	}
	t.Cleanup(func() {
		b.bell.Close()
		server.Shutdown()
	})
	return server
}

func (b *bench) enqueue(t *testing.T, queue, payload string) {
	t.Helper()
	if _, err := b.client.Enqueue(asynq.NewTask("test", []byte(payload)), asynq.Queue(queue)); err != nil {
		t.Fatalf("enqueue: %v", err)
	}
}

// awaitSleep returns when this many servers sleep.
func (b *bench) awaitSleep(t *testing.T, servers int) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, func() bool { return b.bell.sleepers() == servers })
}

func (b *bench) awaitTask(t *testing.T, within time.Duration, want string) {
	t.Helper()
	select {
	case got := <-b.taken:
		if got != want {
			t.Fatalf("the handler got task %q, want %q", got, want)
		}
	case <-time.After(within):
		t.Fatalf("task %q was not taken within %v", want, within)
	}
}

func (b *Bell) sleepers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asleep)
}

func TestBellRingWakesASleepingServerAtOnce(t *testing.T) {
	b := newBench(t, 1)
	var took []time.Duration
	for range 50 {
		b.awaitSleep(t, 1)
		start := time.Now()
		b.enqueue(t, "low", "x")
		b.bell.Ring()
		b.awaitTask(t, 5*time.Second, "x")
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("enqueue to handler: p50 %v, max %v", took[len(took)/2], took[len(took)-1])
	if p50 := took[len(took)/2]; p50 > 5*time.Millisecond {
		t.Errorf("p50 of enqueue to handler = %v, want under 5ms", p50)
	}
}

// Each task is enqueued while the server is somewhere between its last task and
// its sleep; a ring missed there would leave it asleep for an hour.
func TestBellLosesNoWakeUp(t *testing.T) {
	b := newBench(t, 1)
	names := []string{"critical", "default", "low"}
	for i := range 2_000 {
		for end := time.Now().Add(rand.N(2 * time.Millisecond)); time.Now().Before(end); {
			// Busy, as a timer is too coarse to hit all points of a pass.
		}
		b.enqueue(t, names[i%len(names)], "x")
		b.bell.Ring()
		b.awaitTask(t, 5*time.Second, "x")
	}
}

func TestBellRingForNothing(t *testing.T) {
	b := newBench(t, 3)
	b.awaitSleep(t, 3)
	before := b.bell.count()
	b.bell.Ring()
	if got := b.bell.count(); got != before+1 {
		t.Errorf("count after a ring = %d, want %d", got, before+1)
	}
	b.awaitSleep(t, 3) // the one that woke found nothing and sleeps again
}

func TestBellCloseLetsShutdownThrough(t *testing.T) {
	b := newBench(t, 0)
	server := b.serve(t)
	b.awaitSleep(t, 1)
	start := time.Now()
	b.bell.Close()
	server.Shutdown()
	if took := time.Since(start); took > time.Second {
		t.Errorf("shutdown of a sleeping server took %v, want under 1s", took)
	}
	b.enqueue(t, "low", "x")
	select {
	case got := <-b.taken:
		t.Errorf("task %q was taken after Close", got)
	default:
	}
}

func TestBellCloseStopsTakingBeforeShutdown(t *testing.T) {
	b := newBench(t, 1)
	b.awaitSleep(t, 1)
	b.bell.Close()
	b.enqueue(t, "low", "x")
	b.bell.Ring()
	// asynq goes on asking: after some passes all of them were told "empty".
	client := b.redis.Client(t)
	n, err := client.LLen(t.Context(), PendingKey("low")).Result()
	if err != nil || n != 1 || len(b.taken) != 0 {
		t.Errorf("pending = %d, %v, taken = %d, want the task left in Redis", n, err, len(b.taken))
	}
}

func TestPollFindsWorkThatNobodyRangFor(t *testing.T) {
	b := newBench(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var poll sync.WaitGroup
	poll.Go(func() { b.bell.Poll(ctx, b.redis.Client(t), pendingKeys()) })
	defer poll.Wait()
	defer cancel()
	b.awaitSleep(t, 1)

	b.bell.SetFallback(20 * time.Millisecond) // NATS is gone
	b.enqueue(t, "default", "x")
	b.awaitTask(t, 2*time.Second, "x")
}

func TestWithoutPollTheFallbackWakes(t *testing.T) {
	b := newBench(t, 0)
	b.bell.SetFallback(20 * time.Millisecond)
	b.serve(t)
	b.awaitSleep(t, 1)
	b.enqueue(t, "default", "x")
	b.awaitTask(t, 2*time.Second, "x")
}

func TestBellOutlivesAnOutageAndAScriptFlush(t *testing.T) {
	b := newBench(t, 1)
	b.awaitSleep(t, 1)
	b.redis.Kill()
	b.bell.Ring() // the pass it starts fails
	b.redis.Restart()
	b.awaitSleep(t, 1)
	if err := b.redis.Client(t).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	b.enqueue(t, "critical", "x")
	b.bell.Ring()
	b.awaitTask(t, 5*time.Second, "x")
}

// Four idle servers with three queues each: what is left is one EXISTS a second
// for the whole process, and asynq's own forwarders and heartbeats.
func TestIdleCommandRate(t *testing.T) {
	b := newBench(t, 0)
	b.bell.SetFallback(time.Second)
	poller := b.redis.Client(t)
	var poll sync.WaitGroup
	poll.Go(func() { b.bell.Poll(t.Context(), poller, pendingKeys()) })
	defer poll.Wait()
	defer b.bell.Close()
	testenv.Eventually(t, 5*time.Second, func() bool {
		b.bell.mu.Lock()
		defer b.bell.mu.Unlock()
		return b.bell.pollers == 1
	})
	for range 4 {
		b.serve(t)
	}
	b.awaitSleep(t, 4)
	if err := poller.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	// Three polls take two to three seconds.
	testenv.Eventually(t, 10*time.Second, func() bool { return calls(t, poller, "exists") >= 3 })
	// asynq's dequeue script asks EXISTS too: these are all of Poll.
	if got := calls(t, poller, "exists"); got != 3 {
		t.Errorf("EXISTS was called %d times, want 3: a sleeping server has asked its queues", got)
	}
	if got := calls(t, poller, "rpoplpush"); got != 0 {
		t.Errorf("sleeping servers asked their queues %d times, want none", got)
	}
	// asynq alone would make 3,000 passes a second. Each forwarder asks twice
	// per queue and second.
	scripts, forwarders := calls(t, poller, "evalsha"), 4*len(queues)*2*3
	t.Logf("4 idle servers, 2 to 3 seconds: %d scripts", scripts)
	if scripts > forwarders {
		t.Errorf("%d scripts, want those of asynq's forwarders only (at most %d)", scripts, forwarders)
	}
}

func TestOtherCommandsPassASleepingHook(t *testing.T) {
	server := testenv.Redis(t)
	bell := NewBell()
	bell.SetFallback(time.Hour)
	client := server.Client(t, bell.Hook(1))
	var asleep sync.WaitGroup
	asleep.Go(func() {
		for range 2 { // the second sleeps
			client.Eval(context.Background(), "return nil", dequeueCallKeys("q"), "argv")
		}
	})
	testenv.Eventually(t, 5*time.Second, func() bool { return bell.sleepers() == 1 })
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("SET beside a sleeping dequeue: %v", err)
	}
	if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Eval(t.Context(), "return nil", dequeueCallKeys("q"))
		return nil
	}); err != redis.Nil {
		t.Errorf("pipeline beside a sleeping dequeue: %v, want redis.Nil", err)
	}
	bell.Ring()
	asleep.Wait()
}

func TestSleepEndsWithItsContext(t *testing.T) {
	bell := NewBell()
	bell.SetFallback(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var asleep sync.WaitGroup
	asleep.Go(func() { bell.sleep(ctx, bell.count()) })
	testenv.Eventually(t, 5*time.Second, func() bool { return bell.sleepers() == 1 })
	cancel()
	asleep.Wait()
}

func TestIsDequeue(t *testing.T) {
	ctx := t.Context()
	keys := dequeueCallKeys("low")
	rows := []struct {
		name string
		cmd  redis.Cmder
		want bool
	}{
		{"asynq's evalsha", redis.NewCmd(ctx, "evalsha", "sha", 4, keys[0], keys[1], keys[2], keys[3], 1, "prefix"), true},
		{"asynq's eval", redis.NewCmd(ctx, "eval", "lua", 4, keys[0], keys[1], keys[2], keys[3], 1, "prefix"), true},
		{"other command", redis.NewCmd(ctx, "del", "x", 4, keys[0], keys[1], keys[2], keys[3]), false},
		{"requeue: other order", redis.NewCmd(ctx, "evalsha", "sha", 4, keys[2], keys[3], keys[0], "asynq:{low}:t:1"), false},
		{"other count", redis.NewCmd(ctx, "evalsha", "sha", 3, keys[0], keys[1], keys[2], keys[3]), false},
		{"queues mixed", redis.NewCmd(ctx, "evalsha", "sha", 4, keys[0], "asynq:{top}:paused", keys[2], keys[3]), false},
		{"other prefix", redis.NewCmd(ctx, "evalsha", "sha", 4, "x"+keys[0], "x"+keys[1], "x"+keys[2], "x"+keys[3]), false},
		{"too short", redis.NewCmd(ctx, "evalsha", "sha"), false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := isDequeue(row.cmd); got != row.want {
				t.Errorf("isDequeue(%v) = %v, want %v", row.cmd, got, row.want)
			}
		})
	}
}

func TestAnyExists(t *testing.T) {
	single := testenv.Redis(t).Client(t)
	mini := miniredis.RunT(t)
	clustered := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{mini.Addr()}})
	defer clustered.Close()
	for name, client := range map[string]redis.UniversalClient{"single": single, "cluster": clustered} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if anyExists(ctx, client, pendingKeys()) {
				t.Error("anyExists on an empty Redis = true")
			}
			if err := client.LPush(ctx, PendingKey("low"), "id").Err(); err != nil {
				t.Fatal(err)
			}
			if !anyExists(ctx, client, pendingKeys()) {
				t.Error("anyExists with a pending task = false")
			}
		})
	}
}

func pendingKeys() (keys []string) {
	for queue := range queues {
		keys = append(keys, PendingKey(queue))
	}
	return keys
}

func dequeueCallKeys(queue string) (keys []string) {
	for _, end := range dequeueKeys {
		keys = append(keys, "asynq:{"+queue+"}"+end)
	}
	return keys
}

// calls returns how often Redis carried out a command since the statistics were reset.
func calls(t *testing.T, client *redis.Client, command string) int {
	t.Helper()
	info, err := client.InfoMap(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	stats := info["Commandstats"]["cmdstat_"+command]
	n := 0
	for field := range strings.SplitSeq(stats, ",") {
		if digits, ok := strings.CutPrefix(field, "calls="); ok {
			for _, d := range digits {
				n = n*10 + int(d-'0')
			}
		}
	}
	return n
}
