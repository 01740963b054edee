package redisconn

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// doneAgain is the wait before ends that did not reach Redis are sent again.
const doneAgain = time.Second

// Done is the hook of asynq servers' clients that takes the ends of tasks upon
// itself. asynq hears at once that a task is done, and its goroutine ends without
// having grown a stack for a round trip; one goroutine takes all that have ended out
// of their queues, many in a call, and again for as long as Redis is away. A process
// that dies meanwhile leaves tasks behind that are done: their leases end and they
// are brought again, as those are that end when a process dies before it can say so.
type Done struct {
	fold  *Fold
	wake  chan struct{} // has a value while something waits
	close func()
	quit  chan struct{}
	gone  chan struct{} // the goroutine has ended

	mu      sync.Mutex
	waiting []*folded
}

// NewDone starts a Done, which sends through the client. Close it after the servers,
// and before the client.
func NewDone(client redis.UniversalClient) *Done {
	d := newDone(client)
	go d.run()
	return d
}

func newDone(client redis.UniversalClient) *Done {
	d := &Done{fold: NewFold(client), wake: make(chan struct{}, 1), quit: make(chan struct{}), gone: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.quit) })
	return d
}

// DialHook leaves dialling alone.
func (d *Done) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (d *Done) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook answers asynq's done.
func (d *Done) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		answer, ok := cmd.(*redis.Cmd)
		if !ok || !isScript(cmd, asynqDone) || len(cmd.Args()) != 11 || !d.keep(cmd.Args()) {
			return next(ctx, cmd)
		}
		answer.SetVal("OK")
		return nil
	}
}

// keep notes the end that is told by asynq's arguments,
//
//	EVALSHA sha 5 active lease task-key day total id end-of-day greatest
//
// unless it comes after Close.
func (d *Done) keep(args []any) bool {
	keys := make([]string, 0, 4)
	for _, k := range [...]int{3, 4, 6, 7} {
		key, _ := args[k].(string)
		keys = append(keys, key)
	}
	item := &folded{script: doneScript, keys: keys, args: []any{args[5], args[8], args[9], args[10]}, err: errFoldBroken}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.quit:
		return false
	default:
	}
	d.waiting = append(d.waiting, item)
	d.ring()
	return true
}

func (d *Done) ring() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Done) run() {
	defer close(d.gone)
	for {
		select {
		case <-d.quit:
			d.send()
			return
		case <-d.wake:
		}
		if d.send() {
			continue
		}
		select {
		case <-d.quit:
			return // Redis is away
		case <-time.After(doneAgain):
			d.ring()
		}
	}
}

// send takes what waits out of its queues and reports whether Redis could be asked.
// A task that is no longer active is done: somebody was faster, by hand or as its
// lease had ended.
func (d *Done) send() bool {
	d.mu.Lock()
	items := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	if len(items) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.fold.send(ctx, items)
	failed := slices.DeleteFunc(items, func(item *folded) bool { return item.err == nil })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(failed, d.waiting...)
	return len(failed) == 0
}

// Close sends what waits and ends. What does not reach Redis any more, or not until
// ctx ends, is left to the leases of the tasks; their number is returned.
func (d *Done) Close(ctx context.Context) (left int) {
	d.close()
	select {
	case <-d.gone:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}
