package redisconn

import (
	"context"
	"slices"
	"sync"
)

// A relay lets goroutines share round trips: while one sends, what others want to
// send gathers, and all of it goes in the next sending. Who finds it idle sends at
// once and alone, so a relay adds no delay.
//
// It has no goroutine of its own: one caller at a time holds the wire; when what
// it sent is answered it passes the wire to the caller that has waited longest,
// who sends everything that waits by then.
type relay[T any] struct {
	mu      sync.Mutex
	held    bool // somebody holds the wire
	waiting []*turn[T]
}

// A turn is an item that waits to be sent.
type turn[T any] struct {
	item T
	// mine receives once: true when the item's caller now holds the wire and sends
	// it itself, false when another has sent it and the answer is there.
	mine chan bool
}

// do has item sent, alone or with at most most-1 others. send answers each of its
// items before it returns; the caller's own is the last. When ctx ends before the
// item was sent, it is taken back and the error is ctx's; once sent, the answer is
// awaited.
func (r *relay[T]) do(ctx context.Context, item T, most int, send func(items []T)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := r.enter(item)
	if t == nil {
		defer r.pass()
		send([]T{item})
		return nil
	}
	holds, err := r.await(ctx, t)
	turns.Put(t.mine)
	if !holds {
		return err
	}
	defer r.pass()
	if err := ctx.Err(); err != nil {
		return err // it ended while the wire was on its way to us
	}
	others := r.take(most - 1)
	defer func() { // also should send panic
		for _, other := range others {
			other.mine <- false
		}
	}()
	items := make([]T, 0, len(others)+1)
	for _, other := range others {
		items = append(items, other.item)
	}
	send(append(items, item))
	return nil
}

// turns are the channels of turns that are over: each passes one value at most, and
// is empty then.
var turns = sync.Pool{New: func() any { return make(chan bool, 1) }}

// enter takes the wire and returns nil, or queues the item for its turn.
func (r *relay[T]) enter(item T) *turn[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		r.held = true
		return nil
	}
	t := &turn[T]{item: item, mine: turns.Get().(chan bool)}
	r.waiting = append(r.waiting, t)
	return t
}

// await waits for the item's turn. It reports whether the caller now holds the
// wire; if not, the item was sent, or ctx ended before that.
func (r *relay[T]) await(ctx context.Context, t *turn[T]) (holds bool, err error) {
	select {
	case holds = <-t.mine:
		return holds, nil
	case <-ctx.Done():
	}
	if r.withdraw(t) {
		return false, ctx.Err()
	}
	// On the wire already, or the wire is on its way to us.
	return <-t.mine, nil
}

// withdraw takes an item back and reports whether it was still waiting.
func (r *relay[T]) withdraw(t *turn[T]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, t)
	if i < 0 {
		return false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	return true
}

// take returns at most n items that wait now.
func (r *relay[T]) take(n int) []*turn[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(len(r.waiting), n)
	taken := slices.Clone(r.waiting[:n])
	r.waiting = slices.Delete(r.waiting, 0, n)
	return taken
}

// pass gives the wire to the caller that has waited longest, or lets it rest.
func (r *relay[T]) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.held = false
		return
	}
	first := r.waiting[0]
	r.waiting = slices.Delete(r.waiting, 0, 1)
	first.mine <- true
}
