package redisconn

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A Gather collects the tasks that asynq's client enqueues, one by one, so that all
// of them travel at once:
//
//	client.AddHook(redisconn.Gathering{}) // once
//	g := &redisconn.Gather{}
//	c.EnqueueContext(g.Context(ctx), …)   // any number of times; nothing is sent
//	errs := g.Send(ctx, fold)
//
// asynq is told that each task was enqueued; what became of it stands in what Send
// returns. With a version of asynq whose script is another one nothing is gathered
// and the tasks are enqueued as they come. A Gather serves one goroutine, once.
type Gather struct{ items []*folded }

type gatherKey struct{}

// Context gives the context under which tasks are gathered.
func (g *Gather) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, gatherKey{}, g)
}

// Send enqueues what was gathered and gives the first error. A task that exists
// already is none.
func (g *Gather) Send(ctx context.Context, fold *Fold) error {
	if len(g.items) == 0 {
		return nil
	}
	if err := fold.do(ctx, g.items); err != nil {
		return err
	}
	for _, item := range g.items {
		if item.err != nil {
			return item.err
		}
	}
	return nil
}

// Gathering is the hook of a client whose enqueues can be gathered.
type Gathering struct{}

// DialHook leaves dialling alone.
func (Gathering) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (Gathering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook keeps enqueues whose context has a Gather.
func (Gathering) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g, gathers := ctx.Value(gatherKey{}).(*Gather)
		answer, ok := cmd.(*redis.Cmd)
		if !gathers || !ok || !isScript(cmd, asynqEnqueue) || len(cmd.Args()) != 8 {
			return next(ctx, cmd)
		}
		// EVALSHA sha 2 task-key pending-list message id now
		args := cmd.Args()
		g.items = append(g.items, &folded{
			script: enqueueScript, keys: []string{fmt.Sprint(args[4])}, args: []any{args[3], args[5], args[6], args[7]},
			err: errFoldBroken,
		})
		answer.SetVal(int64(1))
		return nil
	}
}
