package redisconn

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Poll is the look into the queues that makes lost rings harmless: once in each
// fallback time, if a server sleeps, it asks Redis whether any of the keys
// exists, and rings if so. keys are the queues' pending lists (PendingKey),
// client one without the bell's hooks. It returns when ctx or the bell ends. An
// error of Redis counts as "no": the servers would meet the same one.
func (b *Bell) Poll(ctx context.Context, client redis.UniversalClient, keys []string) {
	b.mu.Lock()
	b.pollers++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.pollers--
		b.mu.Unlock()
	}()

	for {
		idle, pause, changed := b.state()
		if idle && anyExists(ctx, client, keys) {
			b.Ring()
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			return
		case <-b.closed:
			return
		}
		timer.Stop()
	}
}

// state returns whether a server sleeps, the fallback time, and a channel that
// is closed when that changes.
func (b *Bell) state() (idle bool, fallback time.Duration, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asleep) > 0, b.fallback, b.changed
}

// anyExists reports whether one of keys exists, in one round trip.
func anyExists(ctx context.Context, client redis.UniversalClient, keys []string) bool {
	if _, ok := client.(*redis.ClusterClient); !ok {
		n, err := client.Exists(ctx, keys...).Result()
		return err == nil && n > 0
	}
	// Keys of several slots cannot go into one command of a cluster.
	answers, _ := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Exists(ctx, key)
		}
		return nil
	})
	for _, answer := range answers {
		if n, ok := answer.(*redis.IntCmd); ok && n.Val() > 0 {
			return true
		}
	}
	return false
}

// PendingKey returns the key of the list where asynq v0.26 keeps the tasks of a
// queue that wait for a worker.
func PendingKey(queue string) string {
	return "asynq:{" + queue + "}:pending"
}
