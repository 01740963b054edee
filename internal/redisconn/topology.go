package redisconn

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// A topologyHook has a cluster's client ask who holds the slots as soon as a
// master cannot be reached. go-redis by itself asks after MOVED and READONLY, which
// a dead master does not answer, and once a minute: until then every command for
// its slots would go to it, though its replica had taken over in seconds. Asking
// does not hold the command up, and go-redis asks at most five times a second.
type topologyHook struct{ client *redis.ClusterClient }

func (h topologyHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h topologyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if unreached(err) {
			h.client.ReloadState(ctx)
		}
		return err
	}
}

func (h topologyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if unreached(cmd.Err()) {
				h.client.ReloadState(ctx)
				break
			}
		}
		return err
	}
}

// unreached reports whether a command got no answer: the server refuses connections,
// or does not answer in time.
func unreached(err error) bool {
	var failed net.Error
	return errors.As(err, &failed)
}
