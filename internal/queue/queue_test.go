package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

func dispatch(step int, queue string) core.Dispatch {
	return core.Dispatch{Run: id.Run(time.Now(), 0), Step: step, Fence: core.Fence{Counter: 1, Random: id.Fence()}, Queue: queue, Timeout: time.Minute}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A logbook keeps what is logged.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

// A reader is a Server under test.
type reader struct {
	*Server
	bell *redisconn.Bell
	log  *logbook
}

func listen(t testing.TB, server *testenv.RedisServer, slots int, drain time.Duration, handle Handler, queues ...string) reader {
	t.Helper()
	r := reader{bell: redisconn.NewBell(), log: &logbook{}}
	weights := map[string]int{}
	var keys []string
	for _, q := range queues {
		weights[q] = 1
		keys = append(keys, redisconn.PendingKey(q))
	}
	var err error
	r.Server, err = Listen(ServerOptions{
		Open: func() (redis.UniversalClient, error) { return server.Client(t), nil }, Queues: weights,
		Slots: slots, Dequeuers: 2, Drain: drain, Bell: r.bell, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}, handle)
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	polled := make(chan struct{})
	go func() { defer close(polled); r.bell.Poll(ctx, server.Client(t), keys) }()
	t.Cleanup(func() { cancel(); <-polled; r.Close() })
	return r
}

func TestSendTwiceIsOneTask(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	d := dispatch(0, "default")
	for range 3 {
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
	}
	tasks, err := c.inspector.ListPendingTasks("default")
	must(t, err)
	if len(tasks) != 1 {
		t.Fatalf("%d tasks, want one", len(tasks))
	}
	got := tasks[0]
	if got.ID != d.ID() || string(got.Payload) != d.ID() || got.Type != TaskType {
		t.Errorf("task %s of type %s holds %q, want the dispatch's id and nothing else", got.ID, got.Type, got.Payload)
	}
	if got.Timeout != d.Timeout+beyond || got.MaxRetry != math.MaxInt32 || got.Retention != 0 {
		t.Errorf("timeout %s, retries %d, retention %s; want %s, %d and none", got.Timeout, got.MaxRetry, got.Retention, d.Timeout+beyond, math.MaxInt32)
	}
}

func TestSendMany(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	var ds []core.Dispatch
	for n := range 500 {
		ds = append(ds, dispatch(n, []string{"default", "low", "host-a"}[n%3]))
	}
	must(t, c.Send(t.Context(), ds))
	must(t, c.Send(t.Context(), nil))
	places, err := c.Where(t.Context(), ds)
	must(t, err)
	for i, p := range places {
		if p != Pending {
			t.Fatalf("dispatch %d is %s, want pending", i, p)
		}
	}
}

func TestSendPartly(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	ds := []core.Dispatch{dispatch(0, "default"), dispatch(1, "low"), dispatch(2, "default")}
	// Writes for one queue are refused.
	must(t, server.Client(t).Set(t.Context(), "asynq:{low}:t:"+ds[1].ID(), "not a hash", 0).Err())
	must(t, server.Client(t).Set(t.Context(), "asynq:{low}:pending", "not a list", 0).Err())
	server.Client(t).Del(t.Context(), "asynq:{low}:t:"+ds[1].ID())
	if err := c.Send(t.Context(), ds); !core.Is(err, core.Unavailable) {
		t.Errorf("Send returned %v, want unavailable", err)
	}
	places, err := c.Where(t.Context(), []core.Dispatch{ds[0], ds[2]})
	must(t, err)
	if places[0] != Pending || places[1] != Pending {
		t.Errorf("the others are %v, want them sent", places)
	}
}

func TestSendWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	server.Kill()
	for _, n := range []int{1, 5} {
		var ds []core.Dispatch
		for k := range n {
			ds = append(ds, dispatch(k, "default"))
		}
		if err := c.Send(t.Context(), ds); !core.Is(err, core.Unavailable) {
			t.Errorf("Send of %d returned %v, want unavailable", n, err)
		}
		if _, err := c.Where(t.Context(), ds); !core.Is(err, core.Unavailable) {
			t.Errorf("Where of %d returned %v, want unavailable", n, err)
		}
	}
}

// Where reads asynq's own keys; this pins their layout in the asynq version used.
func TestWhereAgreesWithAsynq(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t))
	ctx := t.Context()
	taken := make(chan struct{}, 8)
	hold := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(hold) }))
	d := map[asynq.TaskState]core.Dispatch{}
	put := func(state asynq.TaskState, queue string, opts ...asynq.Option) {
		d[state] = dispatch(len(d), queue)
		_, err := c.asynq.EnqueueContext(ctx, asynq.NewTask(TaskType, []byte(d[state].ID())),
			append([]asynq.Option{asynq.TaskID(d[state].ID()), asynq.Queue(queue)}, opts...)...)
		must(t, err)
	}
	put(asynq.TaskStatePending, "unread")
	put(asynq.TaskStateScheduled, "unread", asynq.ProcessIn(time.Hour))
	put(asynq.TaskStateActive, "work")
	put(asynq.TaskStateRetry, "work")
	put(asynq.TaskStateArchived, "work", asynq.MaxRetry(0))
	put(asynq.TaskStateCompleted, "work", asynq.Retention(time.Hour))
	srv := asynq.NewServerFromRedisClient(server.Client(t), asynq.Config{
		Concurrency: 4, Queues: map[string]int{"work": 1}, TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	must(t, srv.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		taken <- struct{}{}
		switch string(task.Payload()) {
		case d[asynq.TaskStateActive].ID():
			<-hold
		case d[asynq.TaskStateRetry].ID(), d[asynq.TaskStateArchived].ID():
			return errors.New("no")
		}
		return nil
	})))
	t.Cleanup(func() { srv.Shutdown() })
	t.Cleanup(sync.OnceFunc(func() { hold <- struct{}{} }))
	want := map[asynq.TaskState]Place{
		asynq.TaskStatePending: Pending, asynq.TaskStateActive: Active, asynq.TaskStateScheduled: Stuck,
		asynq.TaskStateRetry: Stuck, asynq.TaskStateArchived: Stuck, asynq.TaskStateCompleted: Stuck,
	}
	for state, d := range d {
		testenv.Eventually(t, 10*time.Second, func() error {
			info, err := c.inspector.GetTaskInfo(d.Queue, d.ID())
			if err == nil && info.State != state {
				err = fmt.Errorf("asynq has the task as %s, want %s", info.State, state)
			}
			return err
		})
		places, err := c.Where(ctx, []core.Dispatch{dispatch(99, "work"), d, dispatch(98, "nowhere")})
		must(t, err)
		if places[0] != Missing || places[1] != want[state] || places[2] != Missing {
			t.Errorf("Where says %v for a task that asynq has as %s, want it %s between two missing", places, state, want[state])
		}
	}
	// Remove takes out what waits and leaves what a worker has.
	for state, d := range d {
		must(t, c.Remove(ctx, d))
		places, err := c.Where(ctx, []core.Dispatch{d})
		must(t, err)
		left := Missing
		if state == asynq.TaskStateActive {
			left = Active
		}
		if places[0] != left {
			t.Errorf("after Remove a task that was %s is %s, want %s", state, places[0], left)
		}
	}
	must(t, c.Remove(ctx, dispatch(97, "work")))
	must(t, c.Remove(ctx, dispatch(96, "nowhere")))
}

// A cut lets the first answers of a pipeline through and breaks the connection then.
type cut struct{}

func (cut) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}
func (cut) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (cut) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		cmds[0].SetErr(redis.Nil)
		for _, cmd := range cmds[1:] {
			cmd.SetErr(net.ErrClosed)
		}
		return redis.Nil
	}
}

// What could not be read is not missing.
func TestWhereWithABrokenConnection(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := NewClient(server.Client(t, cut{}))
	if places, err := c.Where(t.Context(), []core.Dispatch{dispatch(0, "default"), dispatch(1, "default")}); !core.Is(err, core.Unavailable) {
		t.Errorf("Where gives %v, %v; want unavailable", places, err)
	}
}
