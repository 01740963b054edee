package redisconn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// asynqBench is a Redis with a client of asynq's that gathers, over a wire that
// notes which scripts are sent.
type asynqBench struct {
	server *testenv.RedisServer
	rdb    *redis.Client
	asynq  *asynq.Client
	fold   *Fold
	shas   *scriptLog
}

func newAsynqBench(t *testing.T) *asynqBench {
	t.Helper()
	t.Parallel()
	b := &asynqBench{server: testenv.Redis(t), shas: newScriptLog()}
	b.rdb = b.server.Client(t, Gathering{}, b.shas)
	b.asynq, b.fold = asynq.NewClientFromRedisClient(b.rdb), NewFold(b.rdb)
	return b
}

// A scriptLog counts the scripts that pass it, by SHA-1.
type scriptLog struct {
	wire
	counts map[string]int
}

func newScriptLog() *scriptLog { return &scriptLog{counts: map[string]int{}} }

func (s *scriptLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.note(cmd)
		return next(ctx, cmd)
	}
}

func (s *scriptLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.note(cmds...)
		return next(ctx, cmds)
	}
}

func (s *scriptLog) note(cmds ...redis.Cmder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cmd := range cmds {
		if cmd.Name() == "evalsha" {
			sha, _ := cmd.Args()[1].(string)
			s.counts[sha]++
		}
	}
}

func (s *scriptLog) count(sha string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[sha]
}

func task(id string) *asynq.Task { return asynq.NewTask("kind", []byte("payload of "+id)) }

func options(id, queue string) []asynq.Option {
	return []asynq.Option{asynq.TaskID(id), asynq.Queue(queue), asynq.MaxRetry(math.MaxInt32), asynq.Timeout(time.Minute)}
}

// send enqueues tasks in one Gather.
func (b *asynqBench) send(t *testing.T, queue string, ids ...string) error {
	t.Helper()
	g := &Gather{}
	for _, id := range ids {
		if _, err := b.asynq.EnqueueContext(g.Context(t.Context()), task(id), options(id, queue)...); err != nil {
			t.Fatalf("gather task %s: %v", id, err)
		}
	}
	return g.Send(t.Context(), b.fold)
}

// stored gives what stands in Redis, instants left out.
func stored(t *testing.T, rdb *redis.Client) map[string]any {
	t.Helper()
	ctx, out := t.Context(), map[string]any{}
	for _, key := range rdb.Keys(ctx, "*").Val() {
		switch kind := rdb.Type(ctx, key).Val(); kind {
		case "hash":
			row := rdb.HGetAll(ctx, key).Val()
			if _, ok := row["pending_since"]; ok {
				row["pending_since"] = "T"
			}
			out[key] = row
		case "list":
			out[key] = rdb.LRange(ctx, key, 0, -1).Val()
		case "set":
			members := rdb.SMembers(ctx, key).Val()
			slices.Sort(members)
			out[key] = members
		case "zset":
			out[key] = rdb.ZRange(ctx, key, 0, -1).Val()
		default:
			out[key] = rdb.Get(ctx, key).Val()
		}
	}
	return out
}

// What is gathered stands in Redis as asynq itself would have written it, and one
// call does it.
func TestGatherWritesWhatAsynqWrites(t *testing.T) {
	b := newAsynqBench(t)
	plain := testenv.Redis(t).Client(t)
	byHand := asynq.NewClientFromRedisClient(plain)
	ids := []string{"c", "a", "b"}
	for _, id := range ids {
		if _, err := byHand.Enqueue(task(id), options(id, "q")...); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.send(t, "q", ids...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stored(t, plain), stored(t, b.rdb)); diff != "" {
		t.Errorf("after a gathered sending (-asynq's own +ours):\n%s", diff)
	}
	since, err := b.rdb.HGet(t.Context(), "asynq:{q}:t:a", "pending_since").Int64()
	if at := time.Unix(0, since); err != nil || time.Since(at) > time.Minute || time.Until(at) > 0 {
		t.Errorf("task a has been pending since %v, %v", at, err)
	}
	// Once for NOSCRIPT, once for the work.
	if got := b.shas.count(enqueueScript.Hash()); got != 2 || b.shas.count(asynqEnqueue) != 0 {
		t.Errorf("sent ours %d times and asynq's %d times, want 2 and 0", got, b.shas.count(asynqEnqueue))
	}
}

func TestGatherLeavesATaskThatIsThereAlone(t *testing.T) {
	b := newAsynqBench(t)
	if err := b.send(t, "q", "a", "b"); err != nil {
		t.Fatal(err)
	}
	b.rdb.HSet(t.Context(), "asynq:{q}:t:a", "state", "active")
	for range 2 {
		if err := b.send(t, "q", "a", "new", "b", "new"); err != nil {
			t.Errorf("tasks that are there already: %v, want no error", err)
		}
	}
	if got := b.rdb.LRange(t.Context(), PendingKey("q"), 0, -1).Val(); !slices.Equal(got, []string{"new", "b", "a"}) {
		t.Errorf("pending are %q, want each once, new ones on the left", got)
	}
	if state := b.rdb.HGet(t.Context(), "asynq:{q}:t:a", "state").Val(); state != "active" {
		t.Errorf("the task that is there is %s now", state)
	}
	if _, err := b.asynq.Enqueue(task("a"), options("a", "q")...); !errors.Is(err, asynq.ErrTaskIDConflict) {
		t.Errorf("enqueued without a Gather: %v, want a conflict", err)
	}
}

// Only plain enqueues can be gathered; all else goes as it comes.
func TestGatherLetsOtherTasksPass(t *testing.T) {
	b := newAsynqBench(t)
	g := &Gather{}
	ctx := g.Context(t.Context())
	for id, extra := range map[string]asynq.Option{"later": asynq.ProcessIn(time.Hour), "only": asynq.Unique(time.Hour)} {
		if _, err := b.asynq.EnqueueContext(ctx, task(id), append(options(id, "q"), extra)...); err != nil {
			t.Fatal(err)
		}
		if b.rdb.Exists(ctx, "asynq:{q}:t:"+id).Val() != 1 {
			t.Errorf("task %s is not there at once", id)
		}
	}
	if len(g.items) != 0 {
		t.Errorf("%d tasks were gathered, want none", len(g.items))
	}
	if err := g.Send(ctx, b.fold); err != nil {
		t.Errorf("an empty Gather: %v", err)
	}
}

// A queue that cannot be written fails, and fails again: no task may look as if it
// had been sent. The others are sent.
func TestGatherNeverTellsOfATaskThatWasNotSent(t *testing.T) {
	b := newAsynqBench(t)
	ctx := t.Context()
	b.rdb.Set(ctx, PendingKey("bad"), "not a list", 0)
	for range 2 {
		g := &Gather{}
		for _, id := range []string{"1", "2", "3"} {
			for _, queue := range []string{"bad", "good"} {
				if _, err := b.asynq.EnqueueContext(g.Context(ctx), task(id), options(id, queue)...); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := g.Send(ctx, b.fold); !redis.HasErrorPrefix(err, "WRONGTYPE") {
			t.Errorf("Send = %v, want WRONGTYPE", err)
		}
		for _, item := range g.items {
			if bad := item.keys[0] == PendingKey("bad"); bad != (item.err != nil) {
				t.Errorf("a task for %s: %v", item.keys[0], item.err)
			}
		}
	}
	if got := b.rdb.LLen(ctx, PendingKey("good")).Val(); got != 3 {
		t.Errorf("%d tasks are in the good queue, want 3", got)
	}
	if left := b.rdb.Keys(ctx, "asynq:{bad}:t:*").Val(); len(left) != 0 {
		t.Errorf("tasks %q are in no list", left)
	}
}

func TestGatherTellsOfAnOutage(t *testing.T) {
	b := newAsynqBench(t)
	if err := b.send(t, "q", "a"); err != nil {
		t.Fatal(err)
	}
	b.server.Kill()
	if err := b.send(t, "q", "b", "c"); err == nil {
		t.Error("a sending without Redis succeeded")
	}
	b.server.Restart()
	if err := b.send(t, "q", "b", "c"); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

// What many send at a time is executed once each, and few calls do it.
func TestGatherAndDoneUnderAServer(t *testing.T) {
	b := newAsynqBench(t)
	const senders, waves, each = 16, 10, 5
	var mu sync.Mutex
	seen := map[string]int{}
	server, shas := doneServer(t, b.server, 64, func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		seen[string(task.Payload())]++
		return nil
	})
	defer server.Shutdown()
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for wave := range waves {
				var ids []string
				for n := range each {
					ids = append(ids, fmt.Sprintf("%d-%d-%d", sender, wave, n))
				}
				if err := b.send(t, "q", append(ids, ids[0])...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	const tasks = senders * waves * each
	testenv.Eventually(t, 20*time.Second, func() error { return allDone(b.rdb, "q", tasks) })
	if len(seen) != tasks {
		t.Errorf("%d tasks were executed, want %d", len(seen), tasks)
	}
	for payload, n := range seen {
		if n != 1 {
			t.Errorf("task with the %s was executed %d times", payload, n)
		}
	}
	if n := shas.count(asynqDone); n != 0 {
		t.Errorf("asynq's own done was sent %d times", n)
	}
	if n := shas.count(doneScript.Hash()); n == 0 || n > tasks {
		t.Errorf("%d calls of done for %d tasks", n, tasks)
	}
}

// doneServer starts asynq's server on a client whose ends are folded.
func doneServer(t *testing.T, redisServer *testenv.RedisServer, slots int, handle asynq.HandlerFunc) (*asynq.Server, *scriptLog) {
	t.Helper()
	shas := newScriptLog()
	rdb := redisServer.Client(t)
	rdb.AddHook(closedDone(t, NewDone(rdb)))
	rdb.AddHook(shas)
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: slots, Queues: map[string]int{"q": 1}, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel,
	})
	if err := server.Start(handle); err != nil {
		t.Fatal(err)
	}
	return server, shas
}

// allDone returns nil when so many tasks of a queue were processed and nothing of
// them is left.
func allDone(rdb *redis.Client, queue string, want int) error {
	ctx, root := context.Background(), "asynq:{"+queue+"}:"
	total, _ := rdb.Get(ctx, root+"processed").Int()
	today, _ := rdb.Get(ctx, root+"processed:"+time.Now().UTC().Format("2006-01-02")).Int()
	left := rdb.LLen(ctx, root+"pending").Val() + rdb.LLen(ctx, root+"active").Val() + rdb.ZCard(ctx, root+"lease").Val()
	hashes := len(rdb.Keys(ctx, root+"t:*").Val())
	if total != want || today != want || left != 0 || hashes != 0 {
		return fmt.Errorf("processed %d, today %d, want %d; %d entries and %d tasks are left", total, today, want, left, hashes)
	}
	return nil
}

// The tasks that end together are taken out in one call, and all that asynq keeps
// about them stands as after its own done.
func TestDoneLeavesWhatAsynqLeaves(t *testing.T) {
	t.Parallel()
	const tasks = 40
	left := map[bool]map[string]any{}
	for _, folded := range []bool{false, true} {
		server := testenv.Redis(t)
		rdb := server.Client(t)
		client := asynq.NewClientFromRedisClient(rdb)
		for n := range tasks {
			if _, err := client.Enqueue(task(fmt.Sprint(n)), options(fmt.Sprint(n), "q")...); err != nil {
				t.Fatal(err)
			}
		}
		// All are taken before the first ends.
		var taken atomic.Int32
		together := make(chan struct{})
		handle := asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
			if taken.Add(1) == tasks {
				close(together)
			}
			<-together
			return nil
		})
		var srv *asynq.Server
		if folded {
			srv, _ = doneServer(t, server, tasks, handle)
		} else {
			srv = asynq.NewServerFromRedisClient(server.Client(t), asynq.Config{Concurrency: tasks, Queues: map[string]int{"q": 1}, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel})
			if err := srv.Start(handle); err != nil {
				t.Fatal(err)
			}
		}
		testenv.Eventually(t, 20*time.Second, func() error { return allDone(rdb, "q", tasks) })
		srv.Shutdown()
		left[folded] = stored(t, rdb)
		day := "asynq:{q}:processed:" + time.Now().UTC().Format("2006-01-02")
		if ttl := rdb.TTL(t.Context(), day).Val(); ttl < 24*time.Hour {
			t.Errorf("folded %v: the day's counter goes in %v", folded, ttl)
		}
	}
	if diff := cmp.Diff(left[false], left[true]); diff != "" {
		t.Errorf("after all is done (-asynq's own +ours):\n%s", diff)
	}
}

// doneCall asks for done as asynq does.
func doneCall(rdb *redis.Client, id string) error {
	const root = "asynq:{q}:"
	keys := []string{root + "active", root + "lease", root + "t:" + id, root + "processed:2026-01-01", root + "processed"}
	return rdb.EvalSha(context.Background(), asynqDone, keys, id, time.Now().Add(time.Hour).Unix(), int64(math.MaxInt64)).Err()
}

// closedDone closes a Done at the end of the test.
func closedDone(t *testing.T, d *Done) *Done {
	t.Cleanup(func() { d.Close(context.Background()) })
	return d
}

// Ends that meet go in one call. A task that is not active is left alone, and one
// that ends twice counts once.
func TestDoneOfManyInOneCall(t *testing.T) {
	b := newFoldBench(t)
	ctx := t.Context()
	const root = "asynq:{q}:"
	rdb := b.server.Client(t)
	d := newDone(rdb)
	rdb.AddHook(d)
	rdb.Set(ctx, root+"processed", int64(math.MaxInt64), 0) // asynq counts from 1 again
	for n := range 20 {
		id := fmt.Sprint(n)
		rdb.LPush(ctx, root+"active", id)
		if n != 7 {
			rdb.ZAdd(ctx, root+"lease", redis.Z{Score: 1, Member: id})
		}
		if n != 8 {
			rdb.HSet(ctx, root+"t:"+id, "msg", "m")
		}
	}
	rdb.LPush(ctx, root+"active", "other")
	rdb.ZAdd(ctx, root+"lease", redis.Z{Score: 1, Member: "other"})
	rdb.HSet(ctx, root+"t:other", "msg", "m")
	rdb.HSet(ctx, root+"t:pending", "msg", "m")
	b.warm(t, doneScript)
	for n := range 30 { // the first ten twice
		if err := doneCall(rdb, fmt.Sprint(n%20)); err != nil {
			t.Errorf("done of %d: %v", n%20, err)
		}
	}
	for _, id := range []string{"pending", "unknown"} {
		if err := doneCall(rdb, id); err != nil {
			t.Errorf("done of %s: %v", id, err)
		}
	}
	go d.run()
	if left := d.Close(ctx); left != 0 {
		t.Errorf("%d ends are left", left)
	}
	want := map[string]any{
		root + "active": []string{"other"}, root + "lease": []string{"other"},
		root + "t:other": map[string]string{"msg": "m"}, root + "t:pending": map[string]string{"msg": "m"},
		root + "processed": "20", root + "processed:2026-01-01": "20",
	}
	if diff := cmp.Diff(want, stored(t, rdb)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	if n := b.calls(t, "evalsha"); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestDoneOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := testenv.DurableRedis(t)
	rdb := server.Client(t)
	rdb.AddHook(closedDone(t, NewDone(rdb)))
	rdb.LPush(ctx, "asynq:{q}:active", "a", "b")
	server.Kill()
	if err := doneCall(rdb, "a"); err != nil {
		t.Errorf("done without Redis: %v", err)
	}
	server.Restart()
	testenv.Eventually(t, 10*time.Second, func() bool { return rdb.LLen(ctx, "asynq:{q}:active").Val() == 1 })
}

func TestDoneIsClosed(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	rdb := server.Client(t)
	d := NewDone(rdb)
	rdb.AddHook(d)
	server.Kill()
	if err := doneCall(rdb, "a"); err != nil {
		t.Errorf("done without Redis: %v", err)
	}
	if left := d.Close(t.Context()); left != 1 {
		t.Errorf("%d ends are left, want 1", left)
	}
	if err := doneCall(rdb, "b"); err == nil {
		t.Error("an end after Close was taken, and nobody will send it")
	}
}
