package redisconn

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Bell is one process's memory of "there may be work in a queue". It lets
// asynq servers, which can only poll, sleep while their queues are empty and
// wake within a round trip of a ring:
//
//	bell := redisconn.NewBell()
//	client.AddHook(bell.Hook(len(queues))) // one client and hook for each asynq server
//	go bell.Poll(ctx, plain, keys)         // one for the process
//	bell.RingFor(queue)                    // after each enqueue, and when NATS says so
//	bell.Close()                           // before asynq's Shutdown
//
// A ring is a hint. It may be lost on its way, so somebody has to look into the
// queues from time to time all the same: Poll does, once for the whole process.
//
// A ring wakes one server, and a server that finds a task wakes the next, unless the
// queues are known to be empty since the last ring: one task does not have all of them
// ask for it.
//
// No wake-up is lost between the look into the queues and the sleep: rings are
// counted, the count is read before the first queue is asked, and the sleep
// ends at once when it has moved since.
type Bell struct {
	mu       sync.Mutex
	rings    uint64          // how often it was rung
	queue    string          // that it was last rung for; "" = not known
	settled  uint64          // rings after which all queues were seen empty
	asleep   []chan struct{} // of servers asleep, the latest last; closed to wake one
	pollers  int             // Poll loops at work
	fallback time.Duration
	changed  chan struct{} // closed, and made anew, when fallback changes
	closed   chan struct{}
}

const (
	// defaultFallback is how stale a look into the queues may become where no
	// NATS carries rings from other processes.
	defaultFallback = 50 * time.Millisecond

	// longestSleep bounds a sleep while Poll watches the queues. It only matters
	// should Poll itself be stuck, and each server that wakes asks for all its queues.
	longestSleep = 20 * time.Second
)

// NewBell returns a Bell whose fallback is 50 ms, right for a process without NATS.
func NewBell() *Bell {
	return &Bell{
		fallback: defaultFallback,
		changed:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
}

// Ring wakes a sleeping server; those now asking their queues ask once more before
// they sleep. It never blocks.
func (b *Bell) Ring() { b.RingFor("") }

// RingFor is Ring for a queue by name, which is then asked first.
func (b *Bell) RingFor(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rings, b.queue = b.rings+1, queue
	b.wake()
}

// wakeNext is called by a server that was given a task: there may be more of them.
func (b *Bell) wakeNext() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled < b.rings {
		b.wake()
	}
}

// settle notes that all queues were empty at some moment after that many rings.
func (b *Bell) settle(rings uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = max(b.settled, rings)
}

// wake wakes the server that fell asleep last. b.mu is held.
func (b *Bell) wake() {
	if last := len(b.asleep) - 1; last >= 0 {
		close(b.asleep[last])
		b.asleep = b.asleep[:last]
	}
}

// SetFallback sets how long the queues may go unwatched while no ring comes: 1 s
// where NATS carries the rings, 50 ms where it does not. It may change at any
// time, as NATS comes and goes; Poll then looks at once.
func (b *Bell) SetFallback(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d <= 0 {
		d = defaultFallback
	}
	if d != b.fallback {
		b.fallback = d
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// Close wakes every sleeping server for good: from now on each dequeue answers
// "empty" without asking Redis, so that nothing more is taken and asynq's
// Shutdown is not held up. It may be called again.
func (b *Bell) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isClosed() {
		close(b.closed)
	}
}

func (b *Bell) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// count returns how often the bell was rung.
func (b *Bell) count() uint64 {
	rings, _ := b.last()
	return rings
}

// last returns how often the bell was rung and for which queue it last was.
func (b *Bell) last() (rings uint64, queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rings, b.queue
}

// sleep returns when the bell was rung more than seen times, the fallback time
// has passed, or ctx or the bell has ended.
func (b *Bell) sleep(ctx context.Context, seen uint64) {
	b.mu.Lock()
	if b.rings != seen {
		b.mu.Unlock()
		return
	}
	woken, limit := make(chan struct{}), b.fallback
	if b.pollers > 0 {
		limit = longestSleep
	}
	b.asleep = append(b.asleep, woken)
	b.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-woken:
		return
	case <-timer.C:
	case <-ctx.Done():
	case <-b.closed:
	}
	b.getUp(woken)
}

// getUp ends a sleep that no ring ended. One that came just now is for somebody else.
func (b *Bell) getUp(woken chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.asleep, woken); i >= 0 {
		b.asleep = slices.Delete(b.asleep, i, i+1)
	} else {
		b.wake()
	}
}
