package worker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/core"
)

const (
	logHead  = 32 << 10 // kept from the start of a log
	logTail  = 96 << 10 // kept from its end
	logPiece = 8 << 10  // written at once
	logPace  = 200 * time.Millisecond
	// logBuffer bounds what waits to be written: beyond it output is dropped, so
	// that a slow store never holds up a command.
	logBuffer = 256 << 10
)

type logStore interface {
	AppendLog(ctx context.Context, run string, step, attempt int, text string, end bool) (string, error)
	CutLog(ctx context.Context, run string, step, attempt int, ids []string) error
}

// An attemptLog is the live log of one attempt: a writer whose pieces go to the
// store a few times a second.
type attemptLog struct {
	store   logStore
	log     *slog.Logger
	d       core.Dispatch
	attempt int

	mu      sync.Mutex
	buf     []byte
	dropped int
	closed  bool
	used    bool // something was written, so there is a log
	wake    chan struct{}
	done    chan struct{}

	// The fields below belong to the writing goroutine.
	headLen int
	tail    []piece
	tailLen int
}

type piece struct {
	id  string
	len int
}

func newLog(store logStore, log *slog.Logger, d core.Dispatch, attempt int) *attemptLog {
	return &attemptLog{store: store, log: log, d: d, attempt: attempt}
}

// Write takes output; it never fails and never waits for the store.
func (l *attemptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	if !l.used {
		l.used = true
		l.wake, l.done = make(chan struct{}, 1), make(chan struct{})
		go l.write()
	}
	room := max(0, logBuffer-len(l.buf))
	l.buf = append(l.buf, p[:min(room, len(p))]...)
	l.dropped += max(0, len(p)-room)
	if len(l.buf) >= logPiece {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// Close writes what is left and marks the end. It waits for that at most 2 s.
func (l *attemptLog) Close() {
	l.mu.Lock()
	l.closed = true
	used := l.used
	l.mu.Unlock()
	if !used {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case <-l.done:
	case <-time.After(2 * time.Second):
		l.log.Warn("live log not complete", "dispatch", l.d.ID())
	}
}

func (l *attemptLog) write() {
	defer close(l.done)
	tick := time.NewTicker(logPace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.wake:
		}
		text, closed := l.next()
		if text != "" || closed {
			l.append(text, closed)
		}
		if closed {
			return
		}
	}
}

// next takes what waits to be written and says whether it is the last of all.
func (l *attemptLog) next() (text string, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	whole := len(l.buf)
	if !l.closed && l.dropped == 0 {
		whole -= unfinished(l.buf)
	}
	text = strings.ToValidUTF8(string(l.buf[:whole]), "\uFFFD")
	l.buf = append(l.buf[:0], l.buf[whole:]...)
	if l.dropped > 0 {
		text += "\n[… output was faster than it could be stored; some is missing …]\n"
		l.dropped = 0
	}
	return text, l.closed
}

// unfinished gives how many bytes at the end of b are a character whose rest is still
// to come.
func unfinished(b []byte) int {
	for k := 1; k <= min(utf8.UTFMax-1, len(b)); k++ {
		if tail := b[len(b)-k:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return k
		}
	}
	return 0
}

// cut gives how much of a text goes into one piece: whole characters only, since
// readers get pieces one by one.
func cut(text string) int {
	if len(text) <= logPiece {
		return len(text)
	}
	n := logPiece
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

// append stores pieces and keeps head and tail within their bounds.
func (l *attemptLog) append(text string, end bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for first := true; first || text != ""; first = false {
		part := text[:cut(text)]
		text = text[len(part):]
		id, err := l.store.AppendLog(ctx, l.d.Run, l.d.Step, l.attempt, part, end && text == "")
		if err != nil {
			l.log.Warn("live log not written", "dispatch", l.d.ID(), "err", err)
			return
		}
		l.bound(ctx, piece{id, len(part)})
	}
}

func (l *attemptLog) bound(ctx context.Context, p piece) {
	if l.headLen < logHead {
		l.headLen += p.len
		return
	}
	l.tail = append(l.tail, p)
	l.tailLen += p.len
	var ids []string
	for l.tailLen > logTail && len(l.tail) > 1 {
		ids = append(ids, l.tail[0].id)
		l.tailLen -= l.tail[0].len
		l.tail = l.tail[1:]
	}
	if len(ids) == 0 {
		return
	}
	if err := l.store.CutLog(ctx, l.d.Run, l.d.Step, l.attempt, ids); err != nil {
		l.log.Warn("live log not cut", "dispatch", l.d.ID(), "err", err)
	}
}
