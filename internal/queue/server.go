package queue

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
)

// ServerOptions configure a Server.
type ServerOptions struct {
	// Open makes a Redis client; each dequeuer has one of its own.
	Open      func() (redis.UniversalClient, error)
	Queues    map[string]int // name to weight
	Slots     int            // attempts at a time
	Dequeuers int            // asynq servers; each is bound by round trips
	Drain     time.Duration  // how long Close waits for handlers
	Bell      *redisconn.Bell
	// Took is told of dispatches that were taken from a queue and wait here for
	// their handlers, GaveBack of those that went back unhandled. Who says what it
	// holds has to name them.
	Took, GaveBack func(ids []string)
	Log            *slog.Logger
}

// A Server takes dispatches from queues. It consists of several asynq servers.
type Server struct {
	dequeuers []dequeuer
	done      *redisconn.Done // of tasks, whichever dequeuer took them
	bell      *redisconn.Bell
	gaveBack  func(ids []string)
	log       *slog.Logger
	asynqs    *logger
}

// A dequeuer is one asynq server with a client of its own.
type dequeuer struct {
	server   *asynq.Server
	client   redis.UniversalClient
	prefetch *redisconn.Prefetch
}

// A Handler carries a dispatch out. It returns nil when what became of it is
// recorded, or when there is nothing to do; an error means that it could not be
// recorded, and asynq brings the message again a second later.
type Handler func(ctx context.Context, d core.Dispatch) error

// Listen starts taking dispatches.
func Listen(o ServerOptions, handle Handler) (*Server, error) {
	quiet := func([]string) {}
	if o.Took == nil {
		o.Took = quiet
	}
	s := &Server{bell: o.Bell, gaveBack: o.GaveBack, log: o.Log, asynqs: newLogger(o.Log)}
	if s.gaveBack == nil {
		s.gaveBack = quiet
	}
	n := max(1, min(o.Dequeuers, o.Slots))
	for i := range n {
		slots := o.Slots / n
		if i < o.Slots%n {
			slots++
		}
		if err := s.add(o, slots, handle); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// add starts one more dequeuer.
func (s *Server) add(o ServerOptions, slots int, handle Handler) error {
	rdb, err := o.Open()
	if err != nil {
		return fmt.Errorf("connect dequeuer: %w", err)
	}
	d := dequeuer{client: rdb, prefetch: &redisconn.Prefetch{
		Client: rdb, Bell: o.Bell, Queues: slices.Collect(maps.Keys(o.Queues)), Slots: slots, Took: o.Took,
	}}
	rdb.AddHook(o.Bell.Hook(len(o.Queues)))
	rdb.AddHook(d.prefetch)
	if s.done == nil {
		s.done = redisconn.NewDone(rdb)
	}
	rdb.AddHook(s.done)
	d.server = asynq.NewServerFromRedisClient(rdb, config(o, slots, len(s.dequeuers) == 0, s.asynqs))
	s.dequeuers = append(s.dequeuers, d)
	if err := d.server.Start(taskHandler(handle, d.prefetch.Enter, o.Log)); err != nil {
		return fmt.Errorf("start dequeuer: %w", err)
	}
	return nil
}

// poolFor is how many handlers asynq has for each slot. A handler that has freed its
// slot needs two more round trips, the record of the end and asynq's own; a no-op
// needs as many before it. The pool is no limit then, the slots are.
const poolFor = 2

// config sets asynq up so that its own retry means only "could not record": one
// second, for ever, never archived. The bell makes the 1 ms check interval free.
// One server of the process looks after the retry set each second, the others
// rarely: each look costs two scripts a queue.
func config(o ServerOptions, slots int, first bool, log asynq.Logger) asynq.Config {
	forward := time.Minute
	if first {
		forward = time.Second
	}
	return asynq.Config{
		Concurrency:              poolFor * slots,
		Queues:                   o.Queues,
		TaskCheckInterval:        time.Millisecond,
		DelayedTaskCheckInterval: forward,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		IsFailure:                func(error) bool { return false },
		ShutdownTimeout:          o.Drain,
		Logger:                   log,
		LogLevel:                 asynq.WarnLevel,
	}
}

func taskHandler(handle Handler, enter func() (free func()), log *slog.Logger) asynq.HandlerFunc {
	return func(ctx context.Context, t *asynq.Task) error {
		free := enter()
		defer free()
		ctx = context.WithValue(ctx, slotKey{}, free)
		d, err := core.ParseDispatch(string(t.Payload()))
		if err != nil {
			log.ErrorContext(ctx, "message dropped: it is not a dispatch", "err", err)
			return nil
		}
		d.Queue, _ = asynq.GetQueueName(ctx)
		return handle(ctx, d)
	}
}

type slotKey struct{}

// FreeSlot is called by a handler, with its own context, when the work is done and
// only the record is not: the server may take another dispatch in its stead. When
// the handler returns its slot is free in any case.
func FreeSlot(ctx context.Context) {
	if free, ok := ctx.Value(slotKey{}).(func()); ok {
		free()
	}
}

// giveBackWait bounds the return of what was taken and not handled.
const giveBackWait = 2 * time.Second

// Stop takes no more dispatches and returns those that no handler has to their
// queues; handlers go on.
func (s *Server) Stop() {
	s.bell.Close()
	for _, d := range s.dequeuers {
		d.server.Stop()
	}
	s.giveBack()
}

func (s *Server) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackWait)
	defer cancel()
	for _, d := range s.dequeuers {
		ids, err := d.prefetch.GiveBack(ctx)
		if err != nil {
			s.log.WarnContext(ctx, "dispatches not given back, the reconciler sends them anew", "count", len(ids), "err", err)
		}
		if len(ids) > 0 {
			s.gaveBack(ids)
		}
	}
}

// Close stops, waits for the handlers as long as Drain says, hands back what
// asynq has taken and not handed out, and closes the connections.
func (s *Server) Close() {
	s.bell.Close()
	var wg sync.WaitGroup
	for _, d := range s.dequeuers {
		wg.Go(d.server.Shutdown)
	}
	wg.Wait()
	s.settle()
	s.giveBack()
	for _, d := range s.dequeuers {
		_ = d.client.Close()
	}
}

// settle has the last tasks that are done taken out of their queues.
func (s *Server) settle() {
	if s.done == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveBackWait)
	defer cancel()
	if left := s.done.Close(ctx); left > 0 {
		s.log.WarnContext(ctx, "handled messages stay in their queues until their leases end, and are dropped then", "count", left)
	}
}
