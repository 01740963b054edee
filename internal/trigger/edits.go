package trigger

import (
	"context"
	"maps"
	"sync"
	"time"
)

// look is how often the store is asked for edits: the net below the doorbell.
const look = 2 * time.Second

// crowded is a number of edits after which the store is asked again soon: it keeps
// only the latest.
const crowded = 500

// followEdits finds the edits whose doorbell was lost.
func (p *Process) followEdits(ctx context.Context) {
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		found, err := p.lookAround(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "edits not read", "err", err)
		}
		if found >= crowded {
			timer.Reset(look / 10)
		} else {
			timer.Reset(look)
		}
	}
}

// lookAround hands on the triggers that were edited since it last did and returns how
// many they are.
func (p *Process) lookAround(ctx context.Context) (found int, err error) {
	since := p.marks.all()
	edited, upTo, lost, err := p.store.Edits(ctx, since)
	if err != nil {
		return 0, err
	}
	for _, uuid := range edited {
		select {
		case p.changed <- uuid:
		case <-ctx.Done():
			return 0, nil
		}
	}
	for _, n := range lost {
		p.log.InfoContext(ctx, "edits were missed, the shard is loaded anew", "shard", n)
		select {
		case p.doubtful <- n:
		case <-ctx.Done():
			return 0, nil
		}
	}
	p.marks.move(since, upTo)
	return len(edited), nil
}

// marks are how far the edits of each loaded shard are known.
type marks struct {
	mu sync.Mutex
	of map[int]int64
}

func (m *marks) all() map[int]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.of)
}

func (m *marks) set(shard int, mark int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[int]int64{}
	}
	m.of[shard] = mark
}

func (m *marks) drop(shard int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, shard)
}

// move moves the marks on, but not those of shards that were loaded anew meanwhile.
func (m *marks) move(from, to map[int]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for shard, mark := range to {
		if now, ok := m.of[shard]; ok && now == from[shard] {
			m.of[shard] = mark
		}
	}
}
