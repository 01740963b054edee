package engine

import "sync"

// A memory holds what was noted lately, in two generations: when the young one is full it
// becomes the old one, and what that held is forgotten. The zero value is empty.
type memory[K comparable, V any] struct {
	mu         sync.Mutex
	young, old map[K]V
}

// mostNoted bounds what a memory holds, to at most twice as much.
const mostNoted = 8192

func (m *memory[K, V]) of(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.young[k]; ok {
		return v, true
	}
	v, ok := m.old[k]
	return v, ok
}

func (m *memory[K, V]) note(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.young == nil || len(m.young) >= mostNoted {
		m.young, m.old = map[K]V{}, m.young
	}
	m.young[k] = v
}

func (m *memory[K, V]) forget(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, k)
	delete(m.old, k)
}
