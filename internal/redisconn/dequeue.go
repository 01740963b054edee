package redisconn

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Hook returns the hook for the client of one asynq server that serves this
// many queues. Each server needs a client and a hook of its own, and a
// TaskCheckInterval of 1 ms: after an empty pass asynq sleeps by itself and
// hears no ring then, so its sleep has to be short and ours does the waiting.
//
// A pass is asynq asking each of its queues once, in shuffled order, until one
// has a task. After a pass in which all were empty the first dequeue of the
// next pass sleeps until the bell rings. Every other command, such as those of
// asynq's heartbeat, forwarder and recoverer, goes through untouched.
func (b *Bell) Hook(queues int) redis.Hook {
	return &dequeueHook{bell: b, queues: max(queues, 1)}
}

// A dequeueHook follows the passes of one asynq server. The server asks from
// one goroutine; mu guards against a client that is shared all the same.
type dequeueHook struct {
	bell   *Bell
	queues int

	mu    sync.Mutex
	empty int    // queues found empty in this pass
	seen  uint64 // the bell's count when this pass began
}

func (h *dequeueHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(ctx, network, addr)
	}
}

func (h *dequeueHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *dequeueHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !isDequeue(cmd) {
			return next(ctx, cmd)
		}
		h.before(ctx)
		if h.bell.isClosed() {
			cmd.SetErr(redis.Nil)
			return redis.Nil
		}
		err := next(ctx, cmd)
		h.after(err)
		return err
	}
}

// before sleeps when the last pass found nothing, and begins a pass.
func (h *dequeueHook) before(ctx context.Context) {
	h.mu.Lock()
	over, seen := h.empty >= h.queues, h.seen
	h.mu.Unlock()
	if over {
		h.bell.sleep(ctx, seen)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if over {
		h.empty = 0
	}
	if h.empty == 0 {
		// Before the first queue is asked: a ring from now on counts.
		h.seen = h.bell.count()
	}
}

// after keeps count of the queues found empty.
func (h *dequeueHook) after(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, redis.Nil):
		h.empty++
	case err != nil && redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq asks the same queue again by EVAL: still the same pass.
	case err == nil:
		h.empty = 0
		h.bell.wakeNext()
	default:
		// An error on which asynq gives the pass up.
		h.empty = 0
	}
}

// dequeueKeys are the ends of the four keys of asynq v0.26's dequeue script
// (internal/rdb/rdb.go, dequeueCmd). No other of its scripts has these.
var dequeueKeys = [4]string{":pending", ":paused", ":active", ":lease"}

// isDequeue recognises asynq's dequeue call by its shape: EVALSHA or EVAL with
// the four keys of one queue.
func isDequeue(cmd redis.Cmder) bool {
	args := cmd.Args()
	if name := cmd.Name(); name != "evalsha" && name != "eval" || len(args) < 3+len(dequeueKeys) {
		return false
	}
	if n, ok := args[2].(int); !ok || n != len(dequeueKeys) {
		return false
	}
	first, ok := args[3].(string)
	if !ok || !strings.HasPrefix(first, "asynq:{") {
		return false
	}
	queue, ok := strings.CutSuffix(first, dequeueKeys[0])
	if !ok {
		return false
	}
	for i, end := range dequeueKeys {
		key, ok := args[3+i].(string)
		if !ok || len(key) != len(queue)+len(end) || key[:len(queue)] != queue || key[len(queue):] != end {
			return false
		}
	}
	return true
}
