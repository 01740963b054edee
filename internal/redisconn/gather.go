package redisconn

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Gather collects tasks for asynq's queues, so that all of them travel at once:
//
//	client.AddHook(redisconn.Gathering{}) // once
//	g := &redisconn.Gather{}
//	c.EnqueueContext(g.Context(ctx), …)   // any number of times; nothing is sent
//	g.Put(queue, id, message)             // the same, for who has the message already
//	err := g.Send(ctx, fold)
//
// asynq is told that each task was enqueued; what became of it stands in what Send
// returns. With a version of asynq whose script is another one nothing is gathered
// and the tasks are enqueued as they come. A Gather serves one goroutine, once.
type Gather struct {
	items []*folded
	now   string // Unix nanoseconds
	last  []byte

	aboard bool // a Call has taken the items along; see Behind
}

type gatherKey struct{}

// Context gives the context under which tasks are gathered.
func (g *Gather) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, gatherKey{}, g)
}

// Put adds a task whose message the caller has made as asynq makes it. That the queue
// exists is the caller's to see to; asynq's client does so with the first task that it
// enqueues there.
func (g *Gather) Put(queue, id, message string) { g.put(PendingKey(queue), id, message) }

func (g *Gather) put(pending, id string, message any) {
	if g.now == "" {
		g.now = strconv.FormatInt(time.Now().UnixNano(), 10)
	}
	for _, item := range g.items {
		if item.keys[0] == pending && item.parts < foldMost {
			item.parts, item.args = item.parts+1, append(item.args, id, message, g.now)
			return
		}
	}
	g.items = append(g.items, &folded{
		script: enqueueScript, keys: []string{pending}, parts: 1,
		args: append(make([]any, 0, 3*gatherUsually), id, message, g.now), err: errFoldBroken,
	})
}

// gatherUsually is how many tasks for one queue need no further memory.
const gatherUsually = 8

// Last gives the message of the task that asynq's client enqueued last, nil when none
// was gathered.
func (g *Gather) Last() []byte { return g.last }

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
		if !gathers || !ok || !isScript(cmd, asynqEnqueue) || !g.keep(cmd.Args()) {
			return next(ctx, cmd)
		}
		answer.SetVal(int64(1))
		return nil
	}
}

// keep gathers the task of asynq's arguments,
//
//	EVALSHA sha 2 task-key pending-list message id now
//
// unless they are others.
func (g *Gather) keep(args []any) bool {
	if len(args) != 8 {
		return false
	}
	task, _ := args[3].(string)
	pending, _ := args[4].(string)
	message, isBytes := args[5].([]byte)
	id, _ := args[6].(string)
	queue, isList := strings.CutSuffix(pending, "pending")
	if !isBytes || !isList || task != queue+"t:"+id {
		return false
	}
	g.last = message
	g.put(pending, id, message)
	return true
}
