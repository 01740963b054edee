package redisconn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/testenv"
)

// A relayBench is a relay of numbers. Number 0 stays on the wire until letGo; a
// negative one makes the sending panic.
type relayBench struct {
	relay   relay[int]
	entered chan struct{}
	release chan struct{}
	wg      sync.WaitGroup

	mu   sync.Mutex
	sent [][]int
}

func newRelayBench() *relayBench {
	return &relayBench{entered: make(chan struct{}), release: make(chan struct{})}
}

func (b *relayBench) send(items []int) {
	b.mu.Lock()
	b.sent = append(b.sent, slices.Clone(items))
	b.mu.Unlock()
	if slices.Contains(items, 0) {
		b.entered <- struct{}{}
		<-b.release
	}
	if i := slices.IndexFunc(items, func(n int) bool { return n < 0 }); i >= 0 {
		panic(fmt.Sprint("item ", items[i]))
	}
}

func (b *relayBench) do(ctx context.Context, item, most int) error {
	return b.relay.do(ctx, item, most, b.send)
}

// holdWire puts an item on the wire that stays there until letGo.
func (b *relayBench) holdWire() {
	b.wg.Go(func() { _ = b.do(context.Background(), 0, 1) })
	<-b.entered
}

func (b *relayBench) letGo() {
	close(b.release)
	b.wg.Wait()
}

// queue has an item wait and returns when it does.
func (b *relayBench) queue(t *testing.T, item, most int) {
	t.Helper()
	n := b.waiting()
	b.wg.Go(func() {
		if err := b.do(t.Context(), item, most); err != nil {
			t.Errorf("item %d: %v", item, err)
		}
	})
	b.awaitQueue(t, n+1)
}

func (b *relayBench) waiting() int {
	b.relay.mu.Lock()
	defer b.relay.mu.Unlock()
	return len(b.relay.waiting)
}

func (b *relayBench) awaitQueue(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() error {
		if got := b.waiting(); got != n {
			return fmt.Errorf("%d items wait, want %d", got, n)
		}
		return nil
	})
}

func (b *relayBench) wantSent(t *testing.T, want ...[]int) {
	t.Helper()
	if diff := cmp.Diff(want, b.sent); diff != "" {
		t.Errorf("what was sent (-want +got):\n%s", diff)
	}
}

// wantIdle checks that nobody holds the wire and nobody waits for it.
func (b *relayBench) wantIdle(t *testing.T) {
	t.Helper()
	if b.relay.held || len(b.relay.waiting) > 0 {
		t.Errorf("held is %v with %d waiting, want a wire at rest", b.relay.held, len(b.relay.waiting))
	}
}

func TestRelaySendsAtOnceWhenIdle(t *testing.T) {
	t.Parallel()
	b := newRelayBench()
	for item := range 3 {
		if err := b.do(t.Context(), item+1, 10); err != nil {
			t.Fatal(err)
		}
	}
	b.wantSent(t, []int{1}, []int{2}, []int{3})
	b.wantIdle(t)
}

// The caller that has waited longest sends for all; its own item is the last.
func TestRelayGathersWhatWaits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		most int
		want [][]int
	}{
		{1, [][]int{{0}, {1}, {2}, {3}, {4}, {5}}},
		{2, [][]int{{0}, {2, 1}, {4, 3}, {5}}},
		{4, [][]int{{0}, {2, 3, 4, 1}, {5}}},
		{5, [][]int{{0}, {2, 3, 4, 5, 1}}},
		{100, [][]int{{0}, {2, 3, 4, 5, 1}}},
	} {
		t.Run(fmt.Sprint("at most ", row.most), func(t *testing.T) {
			b := newRelayBench()
			b.holdWire()
			for item := range 5 {
				b.queue(t, item+1, row.most)
			}
			b.letGo()
			b.wantSent(t, row.want...)
			b.wantIdle(t)
		})
	}
}

func TestRelayTakesAnItemBackWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	b := newRelayBench()
	b.holdWire()
	b.queue(t, 1, 10)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- b.do(ctx, 2, 10) }()
	b.awaitQueue(t, 2)
	b.queue(t, 3, 10)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) { // while the wire is still held
		t.Errorf("the cancelled item: %v, want context.Canceled", err)
	}
	if err := b.do(ctx, 4, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("an item whose context had ended before: %v, want context.Canceled", err)
	}
	b.letGo()
	b.wantSent(t, []int{0}, []int{3, 1})
	b.wantIdle(t)
}

func TestRelayAwaitsTheAnswerOnceSent(t *testing.T) {
	t.Parallel()
	b := newRelayBench()
	b.holdWire()
	b.queue(t, 1, 10)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- b.do(ctx, 2, 10) }()
	b.awaitQueue(t, 2)
	taken := b.relay.take(10)[1:] // 2 is on the wire with somebody
	cancel()
	taken[0].mine <- false
	if err := <-answered; err != nil {
		t.Errorf("the item that was sent: %v, want its answer", err)
	}
}

// A context ends while the wire is being handed to its caller: the item is not
// sent, and the wire goes on to the next.
func TestRelayPassesTheWireOnWhenTheHolderIsGone(t *testing.T) {
	t.Parallel()
	b := newRelayBench()
	b.holdWire()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- b.do(ctx, 1, 10) }()
	b.awaitQueue(t, 1)
	b.queue(t, 2, 10)

	b.relay.mu.Lock() // nobody can take back meanwhile
	cancel()
	first := b.relay.waiting[0]
	b.relay.waiting = slices.Delete(b.relay.waiting, 0, 1)
	first.mine <- true
	b.relay.mu.Unlock()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled item: %v, want context.Canceled", err)
	}
	b.awaitQueue(t, 0)
	b.letGo()
	b.wantSent(t, []int{0}, []int{2})
	b.wantIdle(t)
}

func TestRelayOutlivesAPanic(t *testing.T) {
	t.Parallel()
	for name, items := range map[string][]int{"of the holder's item": {-1, 1, 2}, "of another's item": {1, -1, 2}} {
		t.Run(name, func(t *testing.T) {
			b := newRelayBench()
			b.holdWire()
			panics := atomic.Int32{}
			for i, item := range items {
				b.wg.Go(func() {
					defer func() {
						if recover() != nil {
							panics.Add(1)
						}
					}()
					_ = b.do(t.Context(), item, 10)
				})
				b.awaitQueue(t, i+1)
			}
			b.letGo()
			if n := panics.Load(); n != 1 {
				t.Errorf("%d callers met the panic, want the one that sent", n)
			}
			b.wantSent(t, []int{0}, append(slices.Clone(items[1:]), items[0]))
			b.wantIdle(t)
			if err := b.do(t.Context(), 7, 10); err != nil {
				t.Errorf("after the panic: %v", err)
			}
		})
	}
	b := newRelayBench()
	func() {
		defer func() { _ = recover() }()
		_ = b.do(t.Context(), -1, 10) // alone
	}()
	b.wantIdle(t)
}

// A parcel counts what became of an item.
type parcel struct {
	sent atomic.Int32
	done atomic.Bool // the sending that had it is over
	hurt bool        // its sending panics
}

// TestRelayUnderStress has callers come, give up and panic in every order. Each
// item is sent once, or not at all where its caller got an error; nobody returns
// before its sending is over; two never send at the same time; and no channel that
// is used again holds a value, which would let a caller go too early.
func TestRelayUnderStress(t *testing.T) {
	t.Parallel()
	var r relay[*parcel]
	var sending atomic.Int32
	send := func(items []*parcel) {
		if sending.Add(1) != 1 {
			t.Error("two send at the same time")
		}
		defer sending.Add(-1)
		hurt := false
		for _, p := range items {
			p.sent.Add(1)
			hurt = hurt || p.hurt
		}
		if hurt {
			for _, p := range items {
				p.done.Store(true)
			}
			panic("hurt")
		}
		for range rand.IntN(3) {
			runtime.Gosched()
		}
		for _, p := range items {
			p.done.Store(true)
		}
	}
	var wg sync.WaitGroup
	var gaveUp, met atomic.Int32
	for seed := range uint64(32) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 1))
			for range 1000 {
				p := &parcel{hurt: rnd.IntN(50) == 0}
				err := stressOnce(&r, rnd, p, send)
				switch n := p.sent.Load(); {
				case err != nil && n != 0:
					t.Errorf("an item taken back with %v was sent %d times", err, n)
				case err == nil && (n != 1 || !p.done.Load()):
					t.Errorf("an item without an error was sent %d times, its sending over: %v", n, p.done.Load())
				}
				if err != nil {
					gaveUp.Add(1)
				}
				if p.sent.Load() == 1 && p.hurt {
					met.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if r.held || len(r.waiting) > 0 {
		t.Errorf("at the end held is %v with %d waiting, want a wire at rest", r.held, len(r.waiting))
	}
	if gaveUp.Load() == 0 || met.Load() == 0 {
		t.Errorf("%d gave up and %d met a panic, want some of both", gaveUp.Load(), met.Load())
	}
	for range 1000 {
		if c := turns.Get().(chan bool); len(c) != 0 {
			t.Fatal("a channel in the pool holds a value")
		}
	}
}

// stressOnce sends a parcel under a context that may end at any moment.
func stressOnce(r *relay[*parcel], rnd *rand.Rand, p *parcel, send func([]*parcel)) error {
	defer func() { _ = recover() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch rnd.IntN(4) {
	case 0:
		go cancel()
	case 1:
		n := rnd.IntN(20)
		go func() {
			for range n {
				runtime.Gosched()
			}
			cancel()
		}()
	}
	return r.do(ctx, p, 1+rnd.IntN(8), send)
}
