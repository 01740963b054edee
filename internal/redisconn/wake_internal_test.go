package redisconn

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// TestRingWakesOne follows one ring through three sleepers.
func TestRingWakesOne(t *testing.T) {
	bell := NewBell()
	bell.SetFallback(time.Hour)
	var asleep sync.WaitGroup
	defer asleep.Wait()
	defer bell.Close()
	for n := range 3 {
		asleep.Go(func() { bell.sleep(t.Context(), 0) })
		testenv.Eventually(t, 5*time.Second, func() bool { return bell.sleepers() == n+1 })
	}
	steps := []struct {
		name string
		do   func()
		want int
	}{
		{"a ring wakes one", func() { bell.RingFor("q") }, 2},
		{"who finds a task wakes the next", bell.wakeNext, 1},
		{"not when all queues were empty since", func() { bell.settle(bell.count()); bell.wakeNext() }, 1},
		{"an older look is none", func() { bell.Ring(); bell.settle(bell.count() - 1) }, 0},
	}
	for _, s := range steps {
		s.do()
		if got := bell.sleepers(); got != s.want {
			t.Fatalf("%s: %d sleep, want %d", s.name, got, s.want)
		}
	}
}

// TestRingIsPassedOn wakes a sleeper that got up for another reason at that moment.
func TestRingIsPassedOn(t *testing.T) {
	bell := NewBell()
	bell.SetFallback(time.Hour)
	var asleep sync.WaitGroup
	defer asleep.Wait()
	asleep.Go(func() { bell.sleep(t.Context(), 0) })
	testenv.Eventually(t, 5*time.Second, func() bool { return bell.sleepers() == 1 })
	late := make(chan struct{}) // of one that was woken, and whose time was up as well
	bell.getUp(late)
	if got := bell.sleepers(); got != 0 {
		t.Errorf("%d sleep, want the other to have been woken", got)
	}
}

// TestManyServersShareABurst rings once for more tasks than one server has slots.
func TestManyServersShareABurst(t *testing.T) {
	l := newLarder(t)
	first, second := l.serve(t, 2), l.serve(t, 2)
	testenv.Eventually(t, 5*time.Second, func() bool { return l.bell.sleepers() == 2 })
	l.fill(t, 4)
	l.bell.RingFor("q")
	first.awaitBegun(t, 2)
	second.awaitBegun(t, 2)
}

// A pipes counts pipelines.
type pipes struct{ n atomic.Int64 }

func (*pipes) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (*pipes) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *pipes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.n.Add(1)
		return next(ctx, cmds)
	}
}

// TestFetchGoesWhereTasksAre asks two queues in either order and counts what that costs.
func TestFetchGoesWhereTasksAre(t *testing.T) {
	for _, row := range []struct {
		name  string
		tasks map[string]int
		rung  string
		pass  []string // what asynq asks for, until it gets a task
		trips int64
	}{
		{"the rung queue is asked second", map[string]int{"q": 1}, "q", []string{"r", "q"}, 1},
		{"the rung queue is asked first", map[string]int{"q": 1}, "q", []string{"q"}, 1},
		{"the ring was for the other", map[string]int{"q": 1}, "r", []string{"r", "q"}, 2},
		{"nobody knows which", map[string]int{"q": 1}, "", []string{"r", "q"}, 2},
		{"the queue that is asked has tasks too", map[string]int{"q": 1, "r": 1}, "q", []string{"r"}, 2},
		{"no slot is left for the queue that is asked", map[string]int{"q": 9, "r": 1}, "q", []string{"r", "q"}, 1},
		{"a ring for a queue of others", map[string]int{"q": 1}, "elsewhere", []string{"q"}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLarder(t)
			for queue, n := range row.tasks {
				for range n {
					if _, err := l.client.Enqueue(asynq.NewTask("test", nil), asynq.Queue(queue)); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := &Prefetch{Bell: l.bell, Queues: []string{"q", "r"}, Slots: 4, Took: func([]string) {}}
			counted := &pipes{}
			client := l.redis.Client(t, counted, p)
			p.Client = client
			if err := takeScript.Load(t.Context(), client).Err(); err != nil {
				t.Fatal(err)
			}
			l.bell.RingFor(row.rung)
			for i, queue := range row.pass {
				err := client.EvalSha(t.Context(), asynqDequeue, keysOf(queue), time.Now().Add(time.Minute).Unix(), taskPrefix(queue)).Err()
				last := i == len(row.pass)-1
				if last && err != nil || !last && !errors.Is(err, redis.Nil) {
					t.Fatalf("asked for %s: got %v", queue, err)
				}
			}
			if got := counted.n.Load(); got != row.trips {
				t.Errorf("the pass took %d round trips, want %d", got, row.trips)
			}
		})
	}
}

// TestBusyQueueIsAskedItself keeps asynq's weights: a queue that had tasks when it was
// last looked at is not put behind the one that had some before.
func TestBusyQueueIsAskedItself(t *testing.T) {
	p := &Prefetch{Bell: NewBell(), Queues: []string{"q", "r"}, likely: "q", busy: map[string]bool{"r": true}}
	if got := p.guess("r"); got != "r" {
		t.Errorf("got %s", got)
	}
	p.busy["r"] = false
	if got := p.guess("r"); got != "q" {
		t.Errorf("an idle queue: got %s", got)
	}
	p.passed = 1 // q may have been asked before in this pass, and would not be again
	if got := p.guess("r"); got != "r" {
		t.Errorf("later in a pass: got %s", got)
	}
}
