// Package raw is the reference of the throughput rows: one page of plain asynq,
// with nothing recorded beside asynq's own keys. Servers in one process share a
// queue; tasks are enqueued while others are executed, one call each, from many
// goroutines, as asynq's client is meant to be used.
package raw

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// Enqueuers is the number of goroutines that enqueue.
const Enqueuers = 32

// Options say what is run.
type Options struct {
	Redis   asynq.RedisConnOpt
	Servers int
	Slots   int // of all servers together
	Tasks   int
	Payload int // bytes of each
}

// Run executes no-op tasks and returns how long it took from the first enqueue to
// the last end.
func Run(ctx context.Context, o Options) (time.Duration, error) {
	var done atomic.Int64
	ended := make(chan struct{})
	handler := asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if done.Add(1) == int64(o.Tasks) {
			close(ended)
		}
		return nil
	})
	for range o.Servers {
		srv := asynq.NewServer(o.Redis, asynq.Config{
			Concurrency: o.Slots / o.Servers, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel,
		})
		if err := srv.Start(handler); err != nil {
			return 0, err
		}
		defer srv.Shutdown()
	}
	client := asynq.NewClient(o.Redis)
	defer func() { _ = client.Close() }()

	began := time.Now()
	if err := enqueue(ctx, client, o); err != nil {
		return 0, err
	}
	select {
	case <-ended:
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func enqueue(ctx context.Context, client *asynq.Client, o Options) error {
	payload := make([]byte, o.Payload)
	var next atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for range Enqueuers {
		wg.Go(func() {
			for next.Add(1) <= int64(o.Tasks) {
				if _, err := client.EnqueueContext(ctx, asynq.NewTask("noop", payload)); err != nil {
					failed.Store(err)
					return
				}
			}
		})
	}
	wg.Wait()
	err, _ := failed.Load().(error)
	return err
}
