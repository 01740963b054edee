package trigger

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/schedule"
)

// Tests on the fakes run in bubbles of synctest: time is virtual.

var errAway = core.Errorf(core.Unavailable, "away")

const shards = 4

// A fakeStore holds triggers, their next slots and their ledger as the scripts do.
type fakeStore struct {
	mu        sync.Mutex
	triggers  map[string]core.Trigger
	ledger    map[string]map[string]core.LedgerEntry // by trigger and entry id
	undecided map[string]time.Time                   // by fire, when it is undecided for 5 s at last
	away      bool
	slow      time.Duration // of each Advance
	advances  int           // calls that came through
	lost      bool          // the leases are somebody else's
	edits     []string      // the triggers that were edited, in order
	forgetful bool          // it does not keep them
}

func newStore() *fakeStore {
	return &fakeStore{triggers: map[string]core.Trigger{}, ledger: map[string]map[string]core.LedgerEntry{}, undecided: map[string]time.Time{}}
}

func (s *fakeStore) Partitions() int { return shards }

func (s *fakeStore) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func (s *fakeStore) Lease(_ context.Context, _, _ string, n int, ttl time.Duration) (map[int]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := map[int]int64{}
	for k := 0; k < n && ttl > 0 && !s.lost; k++ {
		held[k] = 1
	}
	return held, nil
}

func (s *fakeStore) Triggers(_ context.Context, uuids []string) (map[string]core.Trigger, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]core.Trigger{}
	for _, uuid := range uuids {
		if t, ok := s.triggers[uuid]; ok {
			out[uuid] = t
		}
	}
	return out, nil
}

func (s *fakeStore) ListTriggers(_ context.Context, n int) (out []core.Trigger, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uuid, t := range s.triggers {
		if id.Partition(uuid, shards) == n {
			out = append(out, t)
		}
	}
	return out, nil
}

func (s *fakeStore) Edits(_ context.Context, since map[int]int64) (uuids []string, upTo map[int]int64, lost []int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	upTo = map[int]int64{}
	for n, mark := range since {
		upTo[n] = int64(len(s.edits))
		if s.forgetful {
			lost = append(lost, n)
			continue
		}
		for _, uuid := range s.edits[mark:] {
			if id.Partition(uuid, shards) == n {
				uuids = append(uuids, uuid)
			}
		}
	}
	return uuids, upTo, lost, nil
}

func (s *fakeStore) EditMark(context.Context, int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.edits)), nil
}

func (s *fakeStore) Advance(ctx context.Context, items []core.Advance) ([]bool, error) {
	s.mu.Lock()
	slow, away := s.slow, s.away
	s.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	if away {
		return nil, errAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advances++
	out := make([]bool, len(items))
	for k, a := range items {
		t := s.triggers[a.Trigger]
		if t.Revision != a.Revision || !t.Next.Equal(a.From) {
			continue
		}
		t.Next = a.Next
		s.triggers[a.Trigger] = t
		out[k] = true
		for _, e := range a.Entries {
			s.put(a.Trigger, e)
		}
	}
	return out, nil
}

func (s *fakeStore) put(trigger string, e core.LedgerEntry) {
	if s.ledger[trigger] == nil {
		s.ledger[trigger] = map[string]core.LedgerEntry{}
	}
	if _, known := s.ledger[trigger][e.ID]; !known {
		s.ledger[trigger][e.ID] = e
	}
}

func (s *fakeStore) Undecided(_ context.Context, n int, before time.Time) (out []core.FireID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text, at := range s.undecided {
		f, err := core.ParseFireID(text)
		if err == nil && id.Partition(f.Trigger, shards) == n && !at.After(before) {
			out = append(out, f)
		}
	}
	return out, nil
}

func (s *fakeStore) PutOffUndecided(_ context.Context, _ int, fires []core.FireID, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fires {
		s.undecided[f.String()] = until
	}
	return nil
}

func (s *fakeStore) set(change func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// add stores a trigger with a slot each interval from next on.
func (s *fakeStore) add(interval time.Duration, next time.Time, m schedule.Misfire) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := core.Trigger{Meta: core.Meta{UUID: id.New()}, Enabled: true, Revision: 1, Next: next, Misfire: m,
		Schedule: schedule.Spec{Kind: schedule.Simple, Interval: interval, Start: next, Zone: "UTC"}}
	s.triggers[t.UUID] = t
	s.edits = append(s.edits, t.UUID)
	return t.UUID
}

// entries gives a trigger's ledger in the order of its slots.
func (s *fakeStore) entries(trigger string) []core.LedgerEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []core.LedgerEntry
	for _, e := range s.ledger[trigger] {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].From.Before(out[j].From) })
	return out
}

// A fakeBus keeps what is published.
type fakeBus struct {
	mu      sync.Mutex
	away    bool
	fires   map[string][]time.Time // when each fire was published
	again   map[string][]time.Time // and when again
	changed func(string)
}

func newBus() *fakeBus {
	return &fakeBus{fires: map[string][]time.Time{}, again: map[string][]time.Time{}}
}

func (b *fakeBus) PublishFires(_ context.Context, fires []core.FireID) error {
	return b.publish(b.fires, fires)
}

func (b *fakeBus) Republish(_ context.Context, fires []core.FireID) error {
	return b.publish(b.again, fires)
}

func (b *fakeBus) publish(in map[string][]time.Time, fires []core.FireID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errAway
	}
	if len(fires) > message {
		return fmt.Errorf("%d fires in one message", len(fires))
	}
	for _, f := range fires {
		in[f.String()] = append(in[f.String()], time.Now())
	}
	return nil
}

func (b *fakeBus) OnTrigger(changed func(string)) error {
	b.changed = changed
	return nil
}

func (b *fakeBus) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

// at gives when a slot was published.
func (b *fakeBus) at(trigger string, slot time.Time) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fires[core.FireID{Trigger: trigger, Revision: 1, Slot: slot}.String()]
}

// pass lets virtual time pass, and all that is due then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// bubble runs a trigger process on fakes, in virtual time.
func bubble(t *testing.T, prepare func(s *fakeStore, b *fakeBus), test func(t *testing.T, s *fakeStore, b *fakeBus)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := newStore(), newBus()
		prepare(s, b)
		p := New(s, b, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		synctest.Wait()
		test(t, s, b)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if p.Shards() != 0 {
			t.Errorf("%d shards are held after the end, want none", p.Shards())
		}
	})
}

// coverage is the decision of each slot, by its Unix milliseconds.
type coverage map[int64]core.Decision

func (c coverage) of(slot time.Time) core.Decision { return c[slot.UnixMilli()] }

// covers checks that entries cover each slot of [from, to], one each interval,
// exactly once, and gives the decision of each: "" is to fire.
func covers(t *testing.T, entries []core.LedgerEntry, from, to time.Time, interval time.Duration) coverage {
	t.Helper()
	out := coverage{}
	for _, e := range entries {
		n := 0
		for slot := e.From; !slot.After(e.To); slot = slot.Add(interval) {
			if before, twice := out[slot.UnixMilli()]; twice {
				t.Errorf("slot %s is covered twice, as %q and %q", slot, before, e.Decision)
			}
			out[slot.UnixMilli()] = e.Decision
			n++
		}
		if n != e.Count {
			t.Errorf("entry from %s to %s counts %d slots, want %d", e.From, e.To, e.Count, n)
		}
	}
	for slot := from; !slot.After(to); slot = slot.Add(interval) {
		if _, ok := out[slot.UnixMilli()]; !ok {
			t.Errorf("slot %s is covered by no entry", slot)
		}
	}
	return out
}
