package redisconn

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// batchLimit bounds one shared pipeline, so that the first of a burst need not
// wait for the reply to the last.
const batchLimit = 256

// NewBatcher returns a hook that lets goroutines share pipelines: while one
// pipeline is on the wire, the commands of other goroutines gather, and all of
// them go in the next. A command that finds the wire idle goes at once and
// alone, so the hook adds no delay; under load it saves a round trip, two
// system calls and a connection for each command but one of a batch. It serves
// callers that enqueue or run scripts from many goroutines:
//
//	client.AddHook(redisconn.NewBatcher(client))
//
// Each caller gets the reply and error of its own command, NOSCRIPT included.
// Only scripts and plain commands on keys are gathered (see batched); blocking
// commands, transactions, the caller's own pipelines and everything else go
// their usual way. A context that ends before its command is sent takes the
// command back; once sent, the reply is awaited (up to the client's read
// timeout), since what the command did would be unknown.
//
// On a cluster's client the hook does nothing: the keys of a batch belong to
// several servers. It must not be used on a client whose Conn selects another
// database.
func NewBatcher(client redis.UniversalClient) redis.Hook {
	if single, ok := client.(*redis.Client); ok {
		return &batcher{client: single}
	}
	return passThrough{}
}

// batched lists the commands that may share a pipeline: they neither block nor
// depend on the state of their connection.
var batched = map[string]bool{
	"eval": true, "evalsha": true, "eval_ro": true, "evalsha_ro": true, "fcall": true, "fcall_ro": true,
	"get": true, "set": true, "del": true, "exists": true, "incr": true, "incrby": true, "expire": true, "pexpire": true,
	"hget": true, "hset": true, "hsetnx": true, "hmget": true, "hgetall": true, "hdel": true, "hincrby": true,
	"zadd": true, "zrem": true, "zscore": true, "zcard": true, "zrange": true,
	"sadd": true, "srem": true, "sismember": true, "scard": true,
	"lpush": true, "rpush": true, "llen": true, "xadd": true,
}

// A batcher gathers commands. It has no goroutine of its own: one caller at a
// time holds the wire; when its commands are answered it passes the wire to the
// caller that has waited longest, who sends everything that waits by then.
type batcher struct {
	client *redis.Client

	mu      sync.Mutex
	held    bool // somebody holds the wire
	waiting []*batchItem
}

// A batchItem is a command that waits for its turn.
type batchItem struct {
	cmd redis.Cmder
	// turn receives once: true when its caller now holds the wire and sends the
	// command itself, false when another has sent it and the reply is there.
	turn chan bool
}

func (b *batcher) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *batcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *batcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !batched[cmd.Name()] {
			return next(ctx, cmd)
		}
		item := b.enter(cmd)
		if item == nil {
			defer b.pass()
			return next(ctx, cmd)
		}
		holds, err := b.await(ctx, item)
		if !holds {
			return err
		}
		defer b.pass()
		others := b.take()
		if len(others) == 0 {
			return next(ctx, cmd)
		}
		b.send(ctx, append(others, item))
		return cmd.Err()
	}
}

// enter takes the wire and returns nil, or queues the command for its turn.
func (b *batcher) enter(cmd redis.Cmder) *batchItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.held {
		b.held = true
		return nil
	}
	item := &batchItem{cmd: cmd, turn: make(chan bool, 1)}
	b.waiting = append(b.waiting, item)
	return item
}

// await waits for the item's turn. It reports whether the caller now holds the
// wire; if not, the command is over with this error.
func (b *batcher) await(ctx context.Context, item *batchItem) (holds bool, err error) {
	select {
	case holds = <-item.turn:
		return holds, item.cmd.Err()
	case <-ctx.Done():
	}
	if b.withdraw(item) {
		item.cmd.SetErr(ctx.Err())
		return false, ctx.Err()
	}
	// On the wire already, or the wire is on its way to us.
	holds = <-item.turn
	return holds, item.cmd.Err()
}

// withdraw takes a command back and reports whether it was still waiting.
func (b *batcher) withdraw(item *batchItem) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, item)
	if i < 0 {
		return false
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	return true
}

// take returns the commands that wait now and may share the caller's pipeline.
func (b *batcher) take() []*batchItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), batchLimit-1)
	taken := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	return taken
}

// errBatchBroken is what a caller gets when its command's fate is unknown.
var errBatchBroken = errors.New("shared pipeline broke off")

// send carries out the commands in one pipeline. The last is the caller's own;
// the others' callers are told. The batch is not cut short by the context of
// the caller that happens to send it.
func (b *batcher) send(ctx context.Context, items []*batchItem) {
	err := errBatchBroken // stands should a hook panic
	defer func() {
		if err != nil {
			spread(err, items)
		}
		for _, item := range items[:len(items)-1] {
			item.turn <- false
		}
	}()
	pipe := b.client.Pipeline()
	ctx = context.WithoutCancel(ctx)
	for _, item := range items {
		_ = pipe.Process(ctx, item.cmd)
	}
	_, err = pipe.Exec(ctx)
}

// spread gives every command the pipeline's error if none has one of its own.
// go-redis leaves them without when Redis refused the connection (wrong
// password, still loading, too many clients): each would look like a success.
func spread(err error, items []*batchItem) {
	hasOwn := func(item *batchItem) bool { return item.cmd.Err() != nil }
	if !errors.Is(err, errBatchBroken) && slices.ContainsFunc(items, hasOwn) {
		return
	}
	for _, item := range items {
		item.cmd.SetErr(err)
	}
}

// pass gives the wire to the caller that has waited longest, or lets it rest.
func (b *batcher) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.held = false
		return
	}
	first := b.waiting[0]
	b.waiting = slices.Delete(b.waiting, 0, 1)
	first.turn <- true
}

// passThrough is a hook that does nothing.
type passThrough struct{}

func (passThrough) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (passThrough) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (passThrough) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
