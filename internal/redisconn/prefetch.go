package redisconn

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// prefetchMost is how many tasks one fetch brings at most. More would gain
	// little, and what is fetched and not begun is lost for seconds with its worker.
	prefetchMost = 16

	// longestWait is how long a dequeue waits for a slot before asynq is to begin
	// another one: a sixth of asynq's lease.
	longestWait = 5 * time.Second

	// emptyFor is how long a look into a queue that found it empty holds good
	// while tasks of other queues wait here. It bounds both the round trips that
	// empty queues cost under load and what a task there may be late by.
	emptyFor = 2 * time.Millisecond
)

// A Prefetch lets one round trip of an asynq server bring several tasks. asynq
// takes tasks one by one from one goroutine, so a server alone is bound by round
// trips; with a Prefetch the first dequeue brings as many as the server has room
// for, and the next are answered from memory:
//
//	p := &redisconn.Prefetch{Client: client, Bell: bell, Queues: names, Slots: n, Took: …}
//	client.AddHook(bell.Hook(len(names))) // outside, so that it sees every dequeue
//	client.AddHook(p)
//	free := p.Enter() // when a task has come to its handler
//	free()            // when its slot is free: as the handler returns, or before
//
// A task holds a slot from its fetch on. While none is free a dequeue waits, as the
// server itself does while its pool is full. The pool is the larger of the two:
// handlers that have freed their slots and only record an end keep no task waiting.
//
// In the same round trip it looks whether the other queues are empty, so that a
// pass over idle queues costs one. asynq asks its queues in a random order; the first
// fetch of a pass goes to the queue that is likely to have tasks, whichever is asked,
// unless that one had some when it was last looked at. A task that was fetched is active for asynq;
// it waits here until asynq asks for it, which it does at once since there is
// room. GiveBack returns those that were not asked for.
//
// It serves one client of one asynq server. The fields are set before use.
type Prefetch struct {
	Client redis.UniversalClient
	Bell   *Bell    // of the client's other hook; a wait ends with it
	Queues []string // names of the queues that the server asks
	// Slots is how many tasks the server works on at a time. No more are fetched, so
	// that none waits here for a slot while another worker is idle.
	Slots int
	// Took is called with the ids of fetched tasks before the first is handed out.
	Took func(ids []string)

	mu      sync.Mutex
	ready   map[string][]fetched // by queue
	count   int                  // of all in ready
	handed  int                  // tasks handed out that have not come to a handler
	entered int                  // tasks in handlers whose slots are not free
	freed   chan struct{}        // closed as a slot is freed; nil while nobody waits
	empty   map[string]time.Time // when a queue was last found empty
	passed  int                  // queues answered with "empty" in this pass
	busy    map[string]bool      // queues that had more when last looked at
	likely  string               // the queue that had tasks last, or was rung for since
	heard   uint64               // rings of which likely knows
}

// A fetched task waits to be asked for.
type fetched struct{ id, message string }

// DialHook leaves dialling alone.
func (p *Prefetch) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

// ProcessPipelineHook leaves pipelines alone.
func (p *Prefetch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook answers asynq's dequeues.
func (p *Prefetch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		answer, ok := cmd.(*redis.Cmd)
		if !ok || !isDequeue(cmd) {
			return next(ctx, cmd)
		}
		if !isScript(cmd, asynqDequeue) {
			return p.plain(ctx, cmd, next)
		}
		message, err := p.answer(ctx, queueOf(cmd), cmd.Args()[3:])
		p.answered(err)
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		answer.SetVal(message)
		return nil
	}
}

// answer gives the next task of a queue; redis.Nil when it is empty.
func (p *Prefetch) answer(ctx context.Context, queue string, args []any) (string, error) {
	if p.knownEmpty(queue) {
		return "", redis.Nil
	}
	if t, ok := p.next(queue); ok {
		return t.message, nil
	}
	if !p.await(ctx) {
		return "", redis.Nil
	}
	if guess := p.guess(queue); guess != queue {
		if err := p.fetch(ctx, guess, args); err != nil {
			return "", err
		}
		if p.full() || p.knownEmpty(queue) {
			return "", redis.Nil
		}
	}
	if err := p.fetch(ctx, queue, args); err != nil {
		return "", err
	}
	if t, ok := p.next(queue); ok {
		return t.message, nil
	}
	return "", redis.Nil
}

// plain lets the dequeue of another version of asynq through once a slot is free.
func (p *Prefetch) plain(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	err := error(redis.Nil)
	if p.await(ctx) {
		err = next(ctx, cmd)
	}
	p.answered(err)
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handed++
	return nil
}

// await waits for a free slot and reports whether there is one. It does not wait
// while tasks of other queues wait here, which asynq is about to ask for, nor for
// each queue of a pass anew.
func (p *Prefetch) await(ctx context.Context) bool {
	p.mu.Lock()
	room := p.room() > 0
	if room || p.count > 0 || p.passed > 0 {
		p.mu.Unlock()
		return room
	}
	freed := make(chan struct{})
	p.freed = freed
	p.mu.Unlock()

	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case <-freed:
		return true
	case <-timer.C:
		p.askAnew()
	case <-ctx.Done():
	case <-p.Bell.closed:
	}
	return false
}

// askAnew ends a wait after which asynq's dequeue is too old: a lease is counted
// from when it began. The ring has asynq begin another instead of going to sleep.
// What was handed out before the wait and is in no handler yet never will be: asynq
// could not read it, and its slot is free.
func (p *Prefetch) askAnew() {
	p.mu.Lock()
	p.handed = 0
	p.mu.Unlock()
	p.Bell.Ring()
}

// room gives how many slots are free. p.mu is held.
func (p *Prefetch) room() int { return p.Slots - p.count - p.handed - p.entered }

// Enter notes that a task has come to its handler. free gives its slot back; it may
// be called again, to no effect.
func (p *Prefetch) Enter() (free func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handed = max(0, p.handed-1)
	p.entered++
	return sync.OnceFunc(p.free)
}

func (p *Prefetch) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entered--
	if p.freed != nil && p.room() > 0 {
		close(p.freed)
		p.freed = nil
	}
}

// answered follows the passes. What a pass finds empty is found anew in the next
// one if nothing waits here: before the server goes to sleep each queue has to
// have been empty at some moment after the pass began, or a ring could be lost.
func (p *Prefetch) answered(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, redis.Nil) {
		p.passed++
		if p.passed < len(p.Queues) {
			return
		}
	}
	p.passed = 0
	if p.count == 0 {
		clear(p.empty)
	}
}

// queueOf gives the queue of a dequeue.
func queueOf(cmd redis.Cmder) string {
	key, _ := cmd.Args()[3].(string)
	return strings.TrimSuffix(strings.TrimPrefix(key, "asynq:{"), "}"+dequeueKeys[0])
}

// knownEmpty reports whether asking the queue can be spared: it was found empty a
// moment ago.
func (p *Prefetch) knownEmpty(queue string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ready[queue]) > 0 {
		return false
	}
	return time.Since(p.empty[queue]) < emptyFor
}

func (p *Prefetch) next(queue string) (fetched, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.ready[queue]
	if len(waiting) == 0 {
		return fetched{}, false
	}
	p.ready[queue] = waiting[1:]
	p.count--
	p.handed++
	return waiting[0], true
}

// guess gives the queue to fetch from when asynq asks for this one. Only the first
// queue of a pass may have another fetched from: that one is then asked later in it.
func (p *Prefetch) guess(asked string) string {
	rings, rung := p.Bell.last()
	p.mu.Lock()
	defer p.mu.Unlock()
	if rings != p.heard {
		p.heard = rings
		if slices.Contains(p.Queues, rung) {
			p.likely = rung
		}
	}
	if p.passed > 0 || p.likely == "" || p.busy[asked] {
		return asked
	}
	return p.likely
}

func (p *Prefetch) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room() <= 0
}

// fetch takes tasks of a queue and looks into the other queues. args are those of a
// dequeue, from its keys on.
func (p *Prefetch) fetch(ctx context.Context, queue string, args []any) error {
	lease, rings := args[len(dequeueKeys)], p.Bell.count()
	for {
		pipe, most := p.Client.Pipeline(), p.most()
		took := takeScript.EvalSha(ctx, pipe, keysOf(queue), lease, taskPrefix(queue), most)
		looks := p.look(ctx, pipe, queue)
		_, _ = pipe.Exec(ctx) // it gives the first error only
		list, err := took.Slice()
		if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			if err := takeScript.Load(ctx, p.Client).Err(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		more := p.keep(queue, list, looks)
		if got := len(list) / 2; got < most && !more {
			p.Bell.settle(rings)
		}
		return nil
	}
}

// keysOf gives the keys of a queue's dequeue.
func keysOf(queue string) []string {
	keys := make([]string, len(dequeueKeys))
	for i, end := range dequeueKeys {
		keys[i] = "asynq:{" + queue + "}" + end
	}
	return keys
}

func taskPrefix(queue string) string { return "asynq:{" + queue + "}:t:" }

// most gives how many tasks may be fetched now.
func (p *Prefetch) most() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(1, min(prefetchMost, p.room()))
}

// look asks whether the other queues have tasks.
func (p *Prefetch) look(ctx context.Context, pipe redis.Pipeliner, asked string) map[string]*redis.IntCmd {
	looks := make(map[string]*redis.IntCmd, len(p.Queues))
	for _, q := range p.Queues {
		if q != asked {
			looks[q] = pipe.Exists(ctx, PendingKey(q))
		}
	}
	return looks
}

// keep notes what a fetch brought, and reports whether another queue has tasks.
func (p *Prefetch) keep(queue string, list []any, looks map[string]*redis.IntCmd) (more bool) {
	now := time.Now()
	var ids []string
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready == nil {
		p.ready, p.empty, p.busy = map[string][]fetched{}, map[string]time.Time{}, map[string]bool{}
	}
	for i := 0; i+1 < len(list); i += 2 {
		id, _ := list[i].(string)
		message, _ := list[i+1].(string)
		ids = append(ids, id)
		p.ready[queue] = append(p.ready[queue], fetched{id, message})
	}
	p.count += len(ids)
	p.busy[queue] = len(ids) > 0 && p.room() <= 0
	if len(ids) > 0 {
		p.likely = queue
	} else {
		p.empty[queue] = now
	}
	for q, look := range looks {
		p.busy[q] = look.Err() != nil || look.Val() > 0
		if !p.busy[q] {
			p.empty[q] = now
			continue
		}
		more = true
		delete(p.empty, q)
	}
	if len(ids) > 0 {
		p.Took(ids)
	}
	return more
}

// GiveBack returns the tasks that were fetched and not asked for to their queues,
// and gives their ids. It is called when the server has stopped asking. Those of a
// queue that Redis did not take back stay active; their leases end.
func (p *Prefetch) GiveBack(ctx context.Context) ([]string, error) {
	p.mu.Lock()
	waiting := p.ready
	p.ready, p.count = map[string][]fetched{}, 0
	p.mu.Unlock()
	var all []string
	var errs []error
	for queue, tasks := range waiting {
		if len(tasks) == 0 {
			continue
		}
		args := []any{taskPrefix(queue)}
		for k := len(tasks) - 1; k >= 0; k-- { // the first to come out goes back last
			args = append(args, tasks[k].id)
			all = append(all, tasks[k].id)
		}
		errs = append(errs, giveBackScript.Run(ctx, p.Client, keysOf(queue), args...).Err())
	}
	return all, errors.Join(errs...)
}
