package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// A larder is a Redis with one queue, and clients with a Prefetch that take from it.
type larder struct {
	redis  *testenv.RedisServer
	bell   *Bell
	client *asynq.Client
	plain  *redis.Client
}

func newLarder(t *testing.T) *larder {
	server := testenv.Redis(t)
	l := &larder{redis: server, bell: NewBell(), client: asynq.NewClientFromRedisClient(server.Client(t)), plain: server.Client(t)}
	l.bell.SetFallback(time.Hour) // only rings wake
	return l
}

// fill enqueues tasks whose ids are 0, 1, 2 …
func (l *larder) fill(t *testing.T, tasks int) {
	t.Helper()
	for n := range tasks {
		id := fmt.Sprint(n)
		if _, err := l.client.Enqueue(asynq.NewTask("test", []byte(id)), asynq.TaskID(id), asynq.Queue("q")); err != nil {
			t.Fatal(err)
		}
	}
}

// list gives the ids of a list of the queue, in the order in which they are taken.
func (l *larder) list(t *testing.T, end string) []string {
	t.Helper()
	ids, err := l.plain.LRange(t.Context(), "asynq:{q}"+end, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(ids)
	return ids
}

// taker gives a client that asks as asynq's server does.
func (l *larder) taker(t *testing.T, slots int) (*Prefetch, *redis.Client) {
	p := &Prefetch{Bell: l.bell, Queues: []string{"q"}, Slots: slots, Took: func([]string) {}}
	client := l.redis.Client(t, p)
	p.Client = client
	return p, client
}

// ask is asynq's dequeue.
func ask(ctx context.Context, client *redis.Client) error {
	return client.EvalSha(ctx, asynqDequeue, dequeueCallKeys("q"), time.Now().Add(30*time.Second).Unix(), "asynq:{q}:t:").Err()
}

func (p *Prefetch) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freed != nil
}

// An eater is a server under test: its handlers say that they began and wait to be told to
// free their slots, and then to return.
type eater struct {
	*Prefetch
	asked        *tally
	began        chan string
	free, finish chan struct{}
}

func (l *larder) serve(t *testing.T, slots int) *eater {
	t.Helper()
	e := &eater{asked: &tally{}, began: make(chan string, 1000), free: make(chan struct{}), finish: make(chan struct{})}
	p := &Prefetch{Bell: l.bell, Queues: []string{"q"}, Slots: slots, Took: func([]string) {}}
	e.Prefetch = p
	p.Client = l.redis.Client(t, e.asked, l.bell.Hook(1), p)
	server := asynq.NewServerFromRedisClient(p.Client, asynq.Config{
		Concurrency: 2 * slots, Queues: map[string]int{"q": 1}, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		free := p.Enter()
		defer free()
		e.began <- string(task.Payload())
		<-e.free
		free()
		<-e.finish
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.bell.Close(); server.Shutdown() })
	t.Cleanup(func() { closeOnce(e.free); closeOnce(e.finish) })
	return e
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// awaitBegun waits for this many handlers.
func (e *eater) awaitBegun(t *testing.T, tasks int) {
	t.Helper()
	for n := range tasks {
		select {
		case <-e.began:
		case <-time.After(5 * time.Second):
			t.Fatalf("%d tasks have begun, want %d", n, tasks)
		}
	}
}

// A tally counts dequeues, and the scripts of all commands, on their way through.
type tally struct {
	mu       sync.Mutex
	dequeues []string // their scripts
	scripts  map[string]bool
}

func (c *tally) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *tally) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *tally) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			sha, _ := cmd.Args()[1].(string)
			c.mu.Lock()
			if c.scripts == nil {
				c.scripts = map[string]bool{}
			}
			c.scripts[sha] = true
			if isDequeue(cmd) {
				c.dequeues = append(c.dequeues, sha)
			}
			c.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}

func (c *tally) asks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.dequeues)
}

func (c *tally) saw(sha string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scripts[sha]
}

// With another asynq this fails: then its scripts have to be read anew, and ours
// changed with them.
func TestAsynqsScriptsAreTheKnownOnes(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	sends, takes := &tally{}, &tally{}
	l.client = asynq.NewClientFromRedisClient(l.redis.Client(t, sends))
	server := asynq.NewServerFromRedisClient(l.redis.Client(t, takes), asynq.Config{
		Queues: map[string]int{"q": 1}, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	l.fill(t, 1)
	testenv.Eventually(t, 5*time.Second, func() bool { return takes.saw(asynqDone) })
	if !sends.saw(asynqEnqueue) {
		t.Errorf("asynq enqueued by %v, want by %s", sends.scripts, asynqEnqueue)
	}
	takes.mu.Lock()
	defer takes.mu.Unlock()
	for _, sha := range takes.dequeues {
		if sha != asynqDequeue {
			t.Fatalf("asynq dequeued by %s, want by %s", sha, asynqDequeue)
		}
	}
}

// What has no slot stays in Redis, for a worker that has one.
func TestNothingIsFetchedBeyondTheSlots(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	busy := l.serve(t, 3)
	l.fill(t, 7)
	l.bell.Ring()
	busy.awaitBegun(t, 3)
	testenv.Eventually(t, 5*time.Second, busy.waits)
	if left := l.list(t, ":pending"); len(left) != 4 {
		t.Errorf("%v are pending, want the four that have no slot", left)
	}
	idle := l.serve(t, 4)
	idle.awaitBegun(t, 4)
	if n := len(busy.began); n != 0 {
		t.Errorf("%d more began where all slots were busy", n)
	}
}

// A slot is free before its handler returns, and no ring is needed to use it.
func TestFreedSlotIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	e := l.serve(t, 1)
	l.fill(t, 2)
	l.bell.Ring()
	e.awaitBegun(t, 1)
	testenv.Eventually(t, 5*time.Second, e.waits)
	e.free <- struct{}{}
	e.awaitBegun(t, 1)
}

// Slots are freed at all moments of the dequeues; a wake-up that got lost would
// leave the server waiting.
func TestNoFreedSlotIsMissed(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	const tasks = 1000 // as many as began holds
	l.fill(t, tasks)
	e := l.serve(t, 2)
	close(e.free)
	close(e.finish)
	l.bell.Ring()
	began := time.Now()
	e.awaitBegun(t, tasks)
	if took := time.Since(began); took > longestWait {
		t.Errorf("%d empty tasks took %s, more than one wait", tasks, took)
	}
}

func TestFullServerDoesNotAsk(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	e := l.serve(t, 2)
	l.fill(t, 4)
	l.bell.Ring()
	e.awaitBegun(t, 2)
	testenv.Eventually(t, 5*time.Second, e.waits)
	before, since := e.asked.asks(), time.Now()
	testenv.Eventually(t, 5*time.Second, func() bool {
		l.bell.Ring() // of other processes
		return time.Since(since) > 300*time.Millisecond
	})
	if asks := e.asked.asks() - before; asks != 0 {
		t.Errorf("asynq asked %d times in 300 ms with all slots busy, want not once", asks)
	}
}

// A wait ends before the lease that asynq reckons with gets old, and a task that
// never came to a handler then holds its slot no longer.
func TestWaitEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &Prefetch{Bell: NewBell(), Slots: 2, Queues: []string{"q", "r"}, handed: 1, entered: 1}
		rings, began := p.Bell.count(), time.Now()
		if p.await(t.Context()) {
			t.Error("a slot was found where none is free")
		}
		if took := time.Since(began); took != longestWait {
			t.Errorf("it waited %s, want %s", took, longestWait)
		}
		if p.Bell.count() == rings {
			t.Error("no ring: asynq would sleep though nobody looked into the queues")
		}
		if !p.await(t.Context()) {
			t.Error("a message that cannot be read still holds its slot")
		}
	})
}

// The other queues of a pass are answered without another wait: a pass has one
// task at most to wait for.
func TestWaitIsOnceInAPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &Prefetch{Bell: NewBell(), Slots: 1, Queues: []string{"q", "r", "s"}, entered: 1}
		began := time.Now()
		for range p.Queues {
			if p.await(t.Context()) {
				t.Error("a slot was found where none is free")
			}
			p.answered(redis.Nil)
		}
		if took := time.Since(began); took != longestWait {
			t.Errorf("the pass took %s, want %s", took, longestWait)
		}
	})
}

// An asynq whose script is not known gets its own answers, by the same slots.
func TestUnknownDequeueKeepsToTheSlots(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	l.fill(t, 3)
	p, client := l.taker(t, 1)
	other := func() error {
		return client.Eval(t.Context(), "return redis.call('RPOP', KEYS[1])", dequeueCallKeys("q")).Err()
	}
	if err := other(); err != nil {
		t.Fatal(err)
	}
	free := p.Enter()
	got := make(chan error, 1)
	go func() { got <- other() }()
	testenv.Eventually(t, 5*time.Second, p.waits)
	if left := l.list(t, ":pending"); len(left) != 2 {
		t.Errorf("%v are pending, want the two that have no slot", left)
	}
	free()
	free() // to no effect
	if err := <-got; err != nil {
		t.Errorf("with a slot again: %v", err)
	}
	p.Enter()
	go func() { got <- other() }()
	testenv.Eventually(t, 5*time.Second, p.waits)
	closed := time.Now()
	l.bell.Close()
	if err := <-got; !errors.Is(err, redis.Nil) || time.Since(closed) > longestWait/2 {
		t.Errorf("the bell's end answers %v after %s, want redis.Nil at once", err, time.Since(closed))
	}
}

func TestGiveBack(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	l.fill(t, 4)
	p, client := l.taker(t, 3)
	if err := ask(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if active := l.list(t, ":active"); !slices.Equal(active, []string{"0", "1", "2"}) {
		t.Fatalf("%v are active, want as many as there are slots", active)
	}
	if _, err := p.GiveBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if active := l.list(t, ":active"); !slices.Equal(active, []string{"0"}) {
		t.Errorf("%v are active, want the one that was asked for", active)
	}
	if left := l.list(t, ":pending"); !slices.Equal(left, []string{"1", "2", "3"}) {
		t.Errorf("%v are pending, want the others in their old order", left)
	}
	if leases := l.plain.ZRange(t.Context(), "asynq:{q}:lease", 0, -1).Val(); !slices.Equal(leases, []string{"0"}) {
		t.Errorf("%v have leases, want the one that was asked for", leases)
	}
	if ids, err := p.GiveBack(t.Context()); len(ids) != 0 || err != nil {
		t.Errorf("a second time %v, %v went back, want nothing", ids, err)
	}
}

func TestTaskWithoutHashIsDropped(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	l.fill(t, 2)
	if err := l.plain.Del(t.Context(), "asynq:{q}:t:0").Err(); err != nil {
		t.Fatal(err)
	}
	_, client := l.taker(t, 4)
	if err := ask(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if active := l.list(t, ":active"); !slices.Equal(active, []string{"1"}) {
		t.Errorf("%v are active, want only the one that is whole", active)
	}
	if err := ask(t.Context(), client); !errors.Is(err, redis.Nil) {
		t.Errorf("then it answers %v, want redis.Nil", err)
	}
}

func TestPausedQueueGivesNothing(t *testing.T) {
	t.Parallel()
	l := newLarder(t)
	l.fill(t, 2)
	inspector := asynq.NewInspectorFromRedisClient(l.redis.Client(t))
	if err := inspector.PauseQueue("q"); err != nil {
		t.Fatal(err)
	}
	_, client := l.taker(t, 4)
	if err := ask(t.Context(), client); !errors.Is(err, redis.Nil) {
		t.Errorf("paused it answers %v, want redis.Nil", err)
	}
	if left := l.list(t, ":pending"); len(left) != 2 {
		t.Errorf("%v are pending, want both", left)
	}
	if err := inspector.UnpauseQueue("q"); err != nil {
		t.Fatal(err)
	}
	if err := ask(t.Context(), client); err != nil {
		t.Errorf("unpaused it answers %v", err)
	}
}
