package queue

import (
	"context"
	"fmt"
	"log/slog"
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
	Slots     int            // attempts at a time; asynq's pool is as large
	Dequeuers int            // asynq servers; each is bound by round trips
	Drain     time.Duration  // how long Close waits for handlers
	Bell      *redisconn.Bell
	Log       *slog.Logger
}

// A Server takes dispatches from queues. It consists of several asynq servers.
type Server struct {
	servers []*asynq.Server
	clients []redis.UniversalClient
	bell    *redisconn.Bell
}

// A Handler carries a dispatch out. It returns nil when what became of it is
// recorded, or when there is nothing to do; an error means that it could not be
// recorded, and asynq brings the message again a second later.
type Handler func(ctx context.Context, d core.Dispatch) error

// Listen starts taking dispatches.
func Listen(o ServerOptions, handle Handler) (*Server, error) {
	s := &Server{bell: o.Bell}
	n := max(1, min(o.Dequeuers, o.Slots))
	for i := range n {
		rdb, err := o.Open()
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("connect dequeuer: %w", err)
		}
		s.clients = append(s.clients, rdb)
		rdb.AddHook(o.Bell.Hook(len(o.Queues)))
		slots := o.Slots / n
		if i < o.Slots%n {
			slots++
		}
		srv := asynq.NewServerFromRedisClient(rdb, config(o, slots, i == 0))
		if err := srv.Start(taskHandler(handle, o.Log)); err != nil {
			s.Close()
			return nil, fmt.Errorf("start dequeuer: %w", err)
		}
		s.servers = append(s.servers, srv)
	}
	return s, nil
}

// config sets asynq up so that its own retry means only "could not record": one
// second, for ever, never archived. The bell makes the 1 ms check interval free.
// One server of the process looks after the retry set each second, the others
// rarely: each look costs two scripts a queue.
func config(o ServerOptions, slots int, first bool) asynq.Config {
	forward := time.Minute
	if first {
		forward = time.Second
	}
	return asynq.Config{
		Concurrency:              slots,
		Queues:                   o.Queues,
		TaskCheckInterval:        time.Millisecond,
		DelayedTaskCheckInterval: forward,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		IsFailure:                func(error) bool { return false },
		ShutdownTimeout:          o.Drain,
		Logger:                   logger{o.Log},
		LogLevel:                 asynq.WarnLevel,
	}
}

func taskHandler(handle Handler, log *slog.Logger) asynq.HandlerFunc {
	return func(ctx context.Context, t *asynq.Task) error {
		d, err := core.ParseDispatch(string(t.Payload()))
		if err != nil {
			log.ErrorContext(ctx, "message dropped: it is not a dispatch", "err", err)
			return nil
		}
		d.Queue, _ = asynq.GetQueueName(ctx)
		return handle(ctx, d)
	}
}

// Stop takes no more dispatches; handlers go on.
func (s *Server) Stop() {
	s.bell.Close()
	for _, srv := range s.servers {
		srv.Stop()
	}
}

// Close stops, waits for the handlers as long as Drain says, hands back what
// asynq has taken and not handed out, and closes the connections.
func (s *Server) Close() {
	s.bell.Close()
	done := make(chan struct{})
	for _, srv := range s.servers {
		go func() { srv.Shutdown(); done <- struct{}{} }()
	}
	for range s.servers {
		<-done
	}
	for _, c := range s.clients {
		_ = c.Close()
	}
}

// logger passes asynq's own messages on.
type logger struct{ log *slog.Logger }

func (l logger) Debug(args ...any) { l.log.Debug("asynq", "text", fmt.Sprint(args...)) }
func (l logger) Info(args ...any)  { l.log.Debug("asynq", "text", fmt.Sprint(args...)) }
func (l logger) Warn(args ...any)  { l.log.Warn("asynq", "text", fmt.Sprint(args...)) }
func (l logger) Error(args ...any) { l.log.Error("asynq", "text", fmt.Sprint(args...)) }
func (l logger) Fatal(args ...any) { l.log.Error("asynq", "text", fmt.Sprint(args...)) }
