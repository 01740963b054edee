package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/trigger"
	"github.com/takt-dev/takt/pkg/client"
)

// 100,000 triggers on real Redis and NATS. One is made through the api; the others
// are its copies, written with the store's own PutTrigger, as the api would: same
// script, same row. They have no targets, so that a fire is published, consumed,
// decided ("no targets") and acknowledged, but starts no run; the api process with
// its dispatcher runs beside the trigger process, as without it undecided fires
// would be published again after 5 s.
//
// Lateness is from the slot to JetStream's ack, as the trigger process measures it
// itself: of the first, and so latest, fire of a message, counted for all of them.
const (
	manyTriggers = 100_000
	interval     = 62 * time.Second // about 1,600 fires/s
)

// published collects what the trigger process tells of its work.
type published struct {
	mu     sync.Mutex
	late   []float64 // ms, one for each fire
	fires  atomic.Int64
	shards chan struct{}
	once   sync.Once
}

func newPublished() *published { return &published{shards: make(chan struct{})} }

func (p *published) metrics() trigger.Metrics {
	return trigger.Metrics{
		Published: func(n int, late time.Duration) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for range n {
				p.late = append(p.late, ms(late))
			}
			p.fires.Add(int64(n))
		},
		Shards: func(held int) {
			if held == partitions {
				p.once.Do(func() { close(p.shards) })
			}
		},
	}
}

// take gives the latenesses so far and begins anew.
func (p *published) take() []float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.late
	p.late = nil
	return out
}

// copyTriggers writes copies of a trigger; start gives the first slot of each.
func copyTriggers(ctx context.Context, s *store.Store, of core.Trigger, n int, start func(i int) time.Time) error {
	var next atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				t := of
				t.UUID, t.Version = id.New(), 0
				t.Schedule.Start = start(i).UTC()
				t.Next = t.Schedule.Start
				if err := s.PutTrigger(ctx, t, time.Time{}, false, nil, nil); err != nil {
					failed.Store(err)
				}
			}
		})
	}
	wg.Wait()
	err, _ := failed.Load().(error)
	return err
}

// templateTrigger makes a trigger through the api that never fires, and reads it
// as it was stored.
func templateTrigger(ctx context.Context, h *house.House, s *store.Store, every time.Duration) (core.Trigger, error) {
	t, err := h.Client.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
		Name:     "every minute or so",
		Schedule: client.Schedule{Kind: "simple", Interval: client.Duration(every), Start: time.Now().Add(24 * time.Hour)},
	}})
	if err != nil {
		return core.Trigger{}, err
	}
	return s.Trigger(ctx, t.UUID, false)
}

func triggers(ctx context.Context, e env) ([]result, error) {
	n := e.size(manyTriggers, 2000)
	var heapP99 []float64
	for range e.rounds {
		late := bareHeap(ctx, n, func(i int) time.Duration { return time.Duration(i) * interval / time.Duration(n) }, 2*time.Second)
		heapP99 = append(heapP99, stat.Percentile(late, 99))
	}
	h, err := house.Open(ctx, house.Options{NoWorker: true})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	of, err := templateTrigger(ctx, h, s, interval)
	if err != nil {
		return nil, err
	}
	before, err := h.Redis.Number(ctx, "memory", "used_memory")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	lead := time.Duration(n)*50*time.Microsecond + 4*time.Second
	first := began.Add(lead)
	if err := copyTriggers(ctx, s, of, n, func(i int) time.Time {
		return first.Add(time.Duration(i) * interval / time.Duration(n)).Truncate(time.Millisecond)
	}); err != nil {
		return nil, err
	}
	e.tell("%d triggers written in %s", n, time.Since(began).Round(time.Millisecond))
	after, err := h.Redis.Number(ctx, "memory", "used_memory")
	if err != nil {
		return nil, err
	}
	bytes := (after - before) / float64(n)

	p := newPublished()
	arming := time.Now()
	if err := h.WatchTrigger(ctx, p.metrics()); err != nil {
		return nil, err
	}
	select {
	case <-p.shards:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	armed := time.Since(arming)
	e.tell("armed in %s; %s bytes each", armed.Round(time.Millisecond), number(bytes))
	if time.Now().After(first) {
		return nil, fmt.Errorf("the triggers were not written in time: the first slot was due before all were armed")
	}
	if err := pause(ctx, time.Until(first)); err != nil {
		return nil, err
	}
	var p50, p99 []float64
	rate := 0.0
	for round := range e.rounds {
		stop, err := e.profiled(round)
		if err != nil {
			return nil, err
		}
		p.take()
		err = pause(ctx, time.Duration(e.smokeOr(6, 2))*time.Second)
		stop()
		if err != nil {
			return nil, err
		}
		late := p.take()
		rate = float64(len(late)) / float64(e.smokeOr(6, 2))
		p50, p99 = append(p50, stat.Percentile(late, 50)), append(p99, stat.Percentile(late, 99))
		e.tell("%s fires/s: p50 %s, p99 %s, most %s ms", number(rate), number(stat.Percentile(late, 50)), number(stat.Percentile(late, 99)), number(slices.Max(late)))
	}
	return []result{
		{
			Measure: fmt.Sprintf("%s triggers, %s fires/s: slot → published, p99", number(float64(n)), number(rate)), Unit: "ms", Values: p99,
			Bar: within(5), Aim: within(1.5), Notes: []note{{"p50", "ms", p50}, {"a bare timer heap, p99", "ms", heapP99}},
		},
		{Measure: "Redis memory per trigger", Unit: "bytes", Values: []float64{bytes}, Bar: atMost(600), Aim: atMost(350)},
		{Measure: fmt.Sprintf("%s triggers armed", number(float64(n))), Unit: "s", Values: []float64{armed.Seconds()}, Bar: within(1.5), Aim: within(0.6)},
	}, nil
}

// burst is all triggers due at one instant, again and again.
func burst(ctx context.Context, e env) ([]result, error) {
	n := e.size(manyTriggers, 2000)
	h, err := house.Open(ctx, house.Options{NoWorker: true})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	of, err := templateTrigger(ctx, h, s, burstEvery)
	if err != nil {
		return nil, err
	}
	p := newPublished()
	slot := time.Now().Add(time.Duration(n)*50*time.Microsecond + 4*time.Second).Truncate(time.Second)
	if err := copyTriggers(ctx, s, of, n, func(int) time.Time { return slot }); err != nil {
		return nil, err
	}
	if err := h.WatchTrigger(ctx, p.metrics()); err != nil {
		return nil, err
	}
	var took, heap, redisCPU, alone []float64
	for round := range e.rounds {
		stop, err := e.profiled(round)
		if err != nil {
			return nil, err
		}
		one, used, err := oneBurst(ctx, e, h, p, slot, n)
		stop()
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		took, redisCPU = append(took, one.Seconds()), append(redisCPU, micro(used.Redis)/float64(n))
		heap = append(heap, slices.Max(bareHeap(ctx, n, func(int) time.Duration { return 0 }, 0))/1000)
		slot = slot.Add(burstEvery)
	}
	if !e.smoke {
		if err := h.StopAPI(); err != nil {
			return nil, err
		}
		one, _, err := oneBurst(ctx, e, h, p, slot, n)
		if err != nil {
			return nil, fmt.Errorf("without an api: %w", err)
		}
		alone = append(alone, one.Seconds())
	}
	return []result{{
		Measure: fmt.Sprintf("%s slots due at one instant: published and advanced", number(float64(n))), Unit: "s", Values: took, Bar: within(1), Aim: within(0.4),
		Notes: []note{
			{"while nobody consumes them", "s", alone}, {"a bare timer heap: all popped", "s", heap}, {"Redis CPU per slot meanwhile", "µs", redisCPU},
		},
	}}, nil
}

// burstEvery is the time between two bursts: enough to decide all fires of one.
const burstEvery = 14 * time.Second

// oneBurst waits for the slot of all triggers and returns how long after it the
// last was published and advanced, and what was used meanwhile.
func oneBurst(ctx context.Context, e env, h *house.House, p *published, slot time.Time, n int) (took time.Duration, used house.Usage, err error) {
	if time.Now().After(slot) {
		return 0, used, fmt.Errorf("the slot was due before the last one had been worked off")
	}
	p.fires.Store(0)
	if err := pause(ctx, time.Until(slot)-20*time.Millisecond); err != nil {
		return 0, used, err
	}
	before, err := h.Usage(ctx)
	if err != nil {
		return 0, used, err
	}
	if err := house.Await(ctx, time.Millisecond, burstEvery, func() (bool, error) { return p.fires.Load() >= int64(n), nil }); err != nil {
		return 0, used, fmt.Errorf("%d of %d fires published: %w", p.fires.Load(), n, err)
	}
	out := time.Since(slot)
	if err := house.Await(ctx, time.Millisecond, burstEvery, func() (bool, error) { return advanced(ctx, h, slot) }); err != nil {
		return 0, used, err
	}
	took = time.Since(slot)
	e.tell("published after %s, advanced after %s", out.Round(time.Millisecond), took.Round(time.Millisecond))
	after, err := h.Usage(ctx)
	return took, after.Sub(before), err
}

// anyDue tells whether one of the triggers whose next slots KEYS[1] holds stands at
// ARGV[1] (ms) or before.
var anyDue = redis.NewScript(`
local last = tonumber(ARGV[1])
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
  if tonumber(string.match(entry, '%.(%d+)$')) <= last then return 1 end
end
return 0`)

// advanced reports whether no trigger stands at slot or before. It asks for all of them
// only when a sample of each partition has passed the slot.
func advanced(ctx context.Context, h *house.House, slot time.Time) (bool, error) {
	key := func(part int) string { return fmt.Sprintf("takt:{t:%d}:next", part) }
	for part := range partitions {
		sample, err := h.Redis.Client.HRandFieldWithValues(ctx, key(part), -32).Result()
		if err != nil {
			return false, err
		}
		for _, of := range sample {
			next, err := core.ParseEntry(of.Key, of.Value)
			if err != nil || !next.Slot.After(slot) {
				return false, err
			}
		}
	}
	for part := range partitions {
		due, err := anyDue.Run(ctx, h.Redis.Client, []string{key(part)}, slot.UnixMilli()).Bool()
		if err != nil || due {
			return false, err
		}
	}
	return true, nil
}
