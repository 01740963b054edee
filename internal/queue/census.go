package queue

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Queues counts what each queue holds, by name, in two round trips. asynq's
// inspector also measures memory by sampling, which is too dear for a look.
func (c *Client) Queues(ctx context.Context) ([]core.QueueState, error) {
	names, err := c.rdb.SMembers(ctx, "asynq:queues").Result()
	if err != nil {
		return nil, core.Wrap(core.Unavailable, err, "the queues cannot be read now")
	}
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	out := make([]core.QueueState, len(names))
	pipe := c.rdb.Pipeline()
	counts := map[*int64]*redis.IntCmd{}
	paused := make([]*redis.IntCmd, len(names))
	for i, name := range names {
		q, key := &out[i], "asynq:{"+name+"}:"
		q.Name = name
		counts[&q.Pending], counts[&q.Active] = pipe.LLen(ctx, key+"pending"), pipe.LLen(ctx, key+"active")
		counts[&q.Scheduled], counts[&q.Retry] = pipe.ZCard(ctx, key+"scheduled"), pipe.ZCard(ctx, key+"retry")
		counts[&q.Archived], counts[&q.Completed] = pipe.ZCard(ctx, key+"archived"), pipe.ZCard(ctx, key+"completed")
		paused[i] = pipe.Exists(ctx, key+"paused")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, core.Wrap(core.Unavailable, err, "the queues cannot be read now")
	}
	for into, cmd := range counts {
		*into = cmd.Val()
	}
	for i := range out {
		out[i].Paused = paused[i].Val() > 0
	}
	return out, nil
}
