// Package lease spreads the shards of a role over the processes that play it.
//
// Each process renews once a second and is told which shards it holds. A lease
// lasts TTL from the moment the renewal was sent, by this process's monotonic
// clock, so a process that cannot reach the store stops trusting its shards
// before anybody else can take them:
//
//	renew sent ──────────── trust ────────────▶ trust ends   store lets go
//	     │◀──────────────── TTL − margin ──────────▶│◀─margin─▶│
//
// Holding a shard is a matter of efficiency, never of correctness: all that its
// holder does is a compare-and-set, so two holders at once do no harm.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Defaults of a Keeper.
const (
	TTL    = 3 * time.Second
	Renew  = time.Second
	margin = 500 * time.Millisecond
)

// A Store keeps the leases; package store implements it.
type Store interface {
	// Lease renews and shares; see store.Store.Lease.
	Lease(ctx context.Context, role, member string, shards int, ttl time.Duration) (map[int]int64, error)
}

// A Keeper holds this process's shards of one role.
type Keeper struct {
	store  Store
	role   string
	member string
	shards int
	log    *slog.Logger

	mu    sync.Mutex
	held  map[int]int64 // shard to generation
	until time.Time
	moved chan struct{} // closed and replaced when held changes

	// Of Run's goroutine alone: renewals that failed in a row, and since when.
	failed      int
	failedSince time.Time
}

// saidEach is how many failed renewals lie between two lines of the log about them.
const saidEach = 30

// New makes a Keeper; it holds nothing until Run.
func New(store Store, role, member string, shards int, log *slog.Logger) *Keeper {
	return &Keeper{store: store, role: role, member: member, shards: shards, log: log, held: map[int]int64{}, moved: make(chan struct{})}
}

// Run renews until ctx ends, then gives everything back.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(Renew)
	defer tick.Stop()
	for {
		k.renew(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			k.leave(ctx)
			return
		}
	}
}

func (k *Keeper) renew(ctx context.Context) {
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, TTL-margin)
	defer cancel()
	held, err := k.store.Lease(ctx, k.role, k.member, k.shards, TTL)
	k.tell(ctx, sent, err)
	if err != nil {
		k.expire(time.Now())
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// Whoever looked after the trust had ended saw nothing held.
	changed := len(held) != len(k.held) || time.Now().After(k.until)
	for n, generation := range held {
		if k.held[n] != generation {
			changed = true
		}
	}
	k.held, k.until = held, sent.Add(TTL-margin)
	if changed {
		k.wake()
	}
}

// tell logs that renewals fail, now and then that they still do, and that they succeed
// again.
func (k *Keeper) tell(ctx context.Context, sent time.Time, err error) {
	if err == nil {
		if k.failed > 0 {
			k.log.InfoContext(ctx, "leases are renewed again", "role", k.role, "after", sent.Sub(k.failedSince).Round(time.Millisecond))
		}
		k.failed = 0
		return
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the process ends
	}
	if k.failed == 0 {
		k.failedSince = sent
	}
	if k.failed%saidEach == 0 {
		k.log.WarnContext(ctx, "lease not renewed", "role", k.role, "times", k.failed+1, "err", err)
	}
	k.failed++
}

func (k *Keeper) expire(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.After(k.until) && len(k.held) > 0 {
		k.held = map[int]int64{}
		k.wake()
	}
}

func (k *Keeper) wake() {
	close(k.moved)
	k.moved = make(chan struct{})
}

func (k *Keeper) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := k.store.Lease(ctx, k.role, k.member, k.shards, 0); err != nil {
		k.log.WarnContext(ctx, "leases not given back, they expire", "role", k.role, "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.until = map[int]int64{}, time.Time{}
	k.wake()
}

// Held gives the shards that this process may trust now, with their generations.
func (k *Keeper) Held() map[int]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().After(k.until) {
		return nil
	}
	out := make(map[int]int64, len(k.held))
	for n, g := range k.held {
		out[n] = g
	}
	return out
}

// Shards gives the numbers of the shards held, in no order.
func (k *Keeper) Shards() []int {
	held := k.Held()
	out := make([]int, 0, len(held))
	for n := range held {
		out = append(out, n)
	}
	return out
}

// Holds reports whether this process may trust that it holds a shard.
func (k *Keeper) Holds(shard int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.held[shard]
	return ok && !time.Now().After(k.until)
}

// Changed gives a channel that is closed when the set of shards changes.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.moved
}
