package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

const shards = 16

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A member is a keeper and what stops it.
type member struct {
	*Keeper
	leave func() // in good order
	die   func() // without giving anything back
}

// A mortal store takes nothing any more once it is dead.
type mortal struct {
	Store
	mu   sync.Mutex
	dead bool
}

func (m *mortal) Lease(ctx context.Context, role, name string, n int, ttl time.Duration) (map[int]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errors.New("dead")
	}
	return m.Store.Lease(ctx, role, name, n, ttl)
}

func join(t *testing.T, s Store, name string) member {
	t.Helper()
	m := &mortal{Store: s}
	k := New(m, "role", name, shards, quiet)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	leave := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(leave)
	return member{k, leave, func() {
		m.mu.Lock()
		m.dead = true
		m.mu.Unlock()
		leave()
	}}
}

func redisStore(t *testing.T) (*testenv.RedisServer, Store) {
	t.Helper()
	server := testenv.Redis(t)
	return server, store.New(server.Client(t, testenv.SameSlot(t)), store.Options{})
}

// shared fails until the members hold all shards between them, each one once and
// nobody more than most.
func shared(most int, members ...member) func() error {
	return func() error {
		owner := map[int]int{}
		for i, m := range members {
			held := m.Held()
			if len(held) > most {
				return fmt.Errorf("member %d holds %d shards, want at most %d", i, len(held), most)
			}
			for n := range held {
				if other, twice := owner[n]; twice {
					return fmt.Errorf("shard %d is held by members %d and %d", n, other, i)
				}
				owner[n] = i
			}
		}
		if len(owner) != shards {
			return fmt.Errorf("%d shards are held, want %d", len(owner), shards)
		}
		return nil
	}
}

func TestShardsAreShared(t *testing.T) {
	t.Parallel()
	_, s := redisStore(t)
	var members []member
	for n := 1; n <= 4; n++ {
		members = append(members, join(t, s, fmt.Sprint("m", n)))
		testenv.Eventually(t, 6*time.Second, shared((shards+n-1)/n, members...))
	}
	// One leaves in good order: the others have its shards with their next renewal.
	members[0].leave()
	if held := members[0].Held(); len(held) != 0 {
		t.Errorf("a member that left holds %v", held)
	}
	testenv.Eventually(t, 2500*time.Millisecond, shared(6, members[1:]...))
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	_, s := redisStore(t)
	one, two := join(t, s, "one"), join(t, s, "two")
	testenv.Eventually(t, 6*time.Second, shared(8, one, two))
	before := one.Held()
	one.die()
	died := time.Now()
	testenv.Eventually(t, 5*time.Second, shared(shards, two))
	if took := time.Since(died); took > 4200*time.Millisecond {
		t.Errorf("the takeover took %s, want at most 4s", took)
	}
	after := two.Held()
	for n, generation := range before {
		if after[n] <= generation {
			t.Errorf("shard %d has generation %d with its new owner, want more than %d", n, after[n], generation)
		}
	}
}

// A member that the store does not answer stops trusting its shards before the
// store would give them to another.
func TestTrustEndsFirst(t *testing.T) {
	t.Parallel()
	server, s := redisStore(t)
	m := join(t, s, "m")
	testenv.Eventually(t, 6*time.Second, shared(shards, m))
	moved := m.Changed()
	server.Freeze()
	froze := time.Now()
	testenv.Eventually(t, TTL, func() bool { return !m.Holds(0) && len(m.Held()) == 0 && len(m.Shards()) == 0 })
	if took := time.Since(froze); took > TTL-margin+50*time.Millisecond {
		t.Errorf("it trusted its shards for %s, want at most %s", took, TTL-margin)
	}
	server.Thaw()
	testenv.Eventually(t, 6*time.Second, shared(shards, m))
	select {
	case <-moved:
	default:
		t.Error("whoever watches was not told of the shards that went and came")
	}
}

// A script is a store that answers as told, in virtual time.
type script struct {
	mu     sync.Mutex
	answer func() (map[int]int64, error)
	slow   time.Duration
	ttls   []time.Duration
}

func (s *script) Lease(ctx context.Context, _, _ string, _ int, ttl time.Duration) (map[int]int64, error) {
	s.mu.Lock()
	s.ttls = append(s.ttls, ttl)
	answer, slow := s.answer, s.slow
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return answer()
}

func (s *script) set(slow time.Duration, answer func() (map[int]int64, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow, s.answer = slow, answer
}

func holding(held map[int]int64) func() (map[int]int64, error) {
	return func() (map[int]int64, error) { return held, nil }
}

func away() (map[int]int64, error) { return nil, errors.New("away") }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The change is signalled when the set changes, by shard or by generation, and
// only then.
func TestChanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func() (map[int]int64, error)
		after  func() (map[int]int64, error)
		want   bool
	}{
		{"the same", holding(map[int]int64{1: 1, 2: 1}), holding(map[int]int64{1: 1, 2: 1}), false},
		{"nothing, still", holding(nil), holding(nil), false},
		{"one more", holding(map[int]int64{1: 1}), holding(map[int]int64{1: 1, 2: 1}), true},
		{"one less", holding(map[int]int64{1: 1, 2: 1}), holding(map[int]int64{1: 1}), true},
		{"another one", holding(map[int]int64{1: 1}), holding(map[int]int64{2: 1}), true},
		{"another generation", holding(map[int]int64{1: 1}), holding(map[int]int64{1: 3}), true},
		{"away for long", holding(map[int]int64{1: 1}), away, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answer: c.before}
				k := New(s, "role", "m", shards, quiet)
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() { defer close(ended); k.Run(ctx) }()
				pass(Renew / 2)
				moved := k.Changed()
				s.set(0, c.after)
				pass(TTL + Renew)
				if got := closed(moved); got != c.want {
					t.Errorf("changed is %v, want %v", got, c.want)
				}
				cancel()
				<-ended
				if len(k.Held()) != 0 {
					t.Error("it holds shards after its end")
				}
				if last := s.ttls[len(s.ttls)-1]; last != 0 {
					t.Errorf("the last lease was for %s, want it given back", last)
				}
			})
		})
	}
}

// Trust counts from when the renewal was sent, not from when its answer came.
func TestTrustCountsFromSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(2*time.Second, holding(map[int]int64{3: 1}))
		k := New(s, "role", "m", shards, quiet)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); k.Run(ctx) }()
		pass(2*time.Second + time.Millisecond)
		if !k.Holds(3) || k.Holds(4) {
			t.Errorf("after the answer Holds(3) is %v and Holds(4) is %v, want true and false", k.Holds(3), k.Holds(4))
		}
		s.set(0, away)
		pass(400 * time.Millisecond)
		if !k.Holds(3) {
			t.Error("the trust ended early")
		}
		pass(200 * time.Millisecond)
		if k.Holds(3) {
			t.Errorf("it trusts its shards %s after it asked, want %s", 2600*time.Millisecond, TTL-margin)
		}
		cancel()
		<-ended
	})
}

// A store that hangs holds up neither the renewals for ever nor the end.
func TestStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(time.Hour, away)
		k := New(s, "role", "m", shards, quiet)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); k.Run(ctx) }()
		pass(10 * time.Second)
		if n := len(s.ttls); n < 3 {
			t.Errorf("%d renewals in 10 s, want one every %s", n, TTL-margin)
		}
		began := time.Now()
		cancel()
		<-ended
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s to end, want at most 1s", took)
		}
	})
}

// Renewals that fail each second are told of once in a while, and that they succeed
// again.
func TestOutageIsNotLoud(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		s := &script{}
		k := New(s, "role", "m", shards, slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		s.set(0, away)
		go func() { defer close(ended); k.Run(ctx) }()
		pass(40*time.Second + 500*time.Millisecond)
		s.set(0, holding(nil))
		pass(5 * time.Second)
		cancel()
		<-ended
		failed, back := strings.Count(text.String(), "lease not renewed"), strings.Count(text.String(), "leases are renewed again")
		if failed != 2 || back != 1 || !strings.Contains(text.String(), "after=41s") {
			t.Errorf("%d lines of failures, %d of the return; want 2, and 1 with after=41s:\n%s", failed, back, &text)
		}
	})
}
