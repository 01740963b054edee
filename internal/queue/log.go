package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// While Redis is away asynq's goroutines complain at every turn, each in its own words
// and each of every dequeuer. Of a complaint the first is logged and then one in
// complaintsPer, until it has not come for complaintRests: it is news again then. That
// Redis is back asynq does not say; the worker's heartbeats do.
const (
	complaintsPer  = 30
	complaintRests = 30 * time.Second
	complaintsKept = 64 // kinds; asynq has fewer, but for those that name a task
)

// A logger passes asynq's own messages on; all dequeuers share it.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]complaint
}

// A complaint is how often a message came in a row, and when it did last.
type complaint struct {
	times int
	last  time.Time
}

func newLogger(log *slog.Logger) *logger { return &logger{log: log, kinds: map[string]complaint{}} }

// Debug passes on what nobody waits for.
func (l *logger) Debug(args ...any) { l.log.Debug("asynq", "text", fmt.Sprint(args...)) }

// Info is Debug: asynq has it for starts and stops.
func (l *logger) Info(args ...any) { l.Debug(args...) }

// Warn passes a warning on unless it came a moment ago.
func (l *logger) Warn(args ...any) { l.complain(slog.LevelWarn, fmt.Sprint(args...)) }

// Error passes an error on unless it came a moment ago.
func (l *logger) Error(args ...any) { l.complain(slog.LevelError, fmt.Sprint(args...)) }

// Fatal is Error; the process lives on.
func (l *logger) Fatal(args ...any) { l.Error(args...) }

func (l *logger) complain(level slog.Level, text string) {
	times := l.count(text)
	switch {
	case times == 1:
		l.log.Log(context.Background(), level, "asynq", "text", text)
	case times%complaintsPer == 0:
		l.log.Log(context.Background(), level, "asynq", "text", text, "times", times)
	}
}

// count gives how often a message of this kind came in a row. What stands before the
// first colon is the kind: behind it is the cause, with addresses that vary.
func (l *logger) count(text string) int {
	kind, _, _ := strings.Cut(text, ":")
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c, known := l.kinds[kind]
	if !known && len(l.kinds) >= complaintsKept {
		clear(l.kinds)
	}
	if now.Sub(c.last) >= complaintRests {
		c.times = 0
	}
	c.times, c.last = c.times+1, now
	l.kinds[kind] = c
	return c.times
}
