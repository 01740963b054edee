package executortest

import (
	"bytes"
	"sync"
)

// A log is an Attempt's Log that remembers what was written and when.
type log struct {
	first chan struct{} // closed with the first output

	mu    sync.Mutex
	text  bytes.Buffer
	ended bool
	late  int // writes after the attempt's end
}

func newLog() *log { return &log{first: make(chan struct{})} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		l.late++
		return len(p), nil
	}
	if l.text.Len() == 0 && len(p) > 0 {
		close(l.first)
	}
	return l.text.Write(p)
}

func (l *log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) lateWrites() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late
}
