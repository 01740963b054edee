package store

import "sync"

// A tallyMemory keeps what spans of the past were found to hold. It is safe for
// concurrent use.
type tallyMemory struct {
	mu    sync.Mutex
	spans generations[span, tallied]
	leaf  int64 // runs that one script looks at; 0 = tallyRuns
}

func (m *tallyMemory) get(s span) (tallied, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spans.get(s, tallySpans)
}

func (m *tallyMemory) put(s span, t tallied) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spans.put(s, t, tallySpans)
}
