package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// The tests run in bubbles of synctest: time is virtual, and a wait of ten
// seconds takes none.

var errAway = core.Errorf(core.Unavailable, "the store is away")

// A record is a write of a worker.
type record struct {
	what      string // begin, finish, release, redispatch
	dispatch  string
	outcome   core.Outcome
	permanent bool
	why       core.MoveReason
	at        time.Time
}

// A fakeEngine begins each dispatch once per fence, keeps what is written, and can
// be away.
type fakeEngine struct {
	mu      sync.Mutex
	step    core.PlannedStep
	stale   map[string]bool // dispatches to turn away
	away    int             // writes that fail before one goes through
	awayBy  error           // what they fail by; nil = errAway
	records []record
	lateErr bool // Finish finds that the step was taken over
}

func (e *fakeEngine) note(r record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away > 0 {
		e.away--
		if e.awayBy != nil {
			return e.awayBy
		}
		return errAway
	}
	r.at = time.Now()
	e.records = append(e.records, r)
	return nil
}

func (e *fakeEngine) Begin(_ context.Context, d core.Dispatch, _ string) (core.Begun, error) {
	if e.stale[d.ID()] {
		return core.Begun{}, core.Errorf(core.Stale, "another dispatch is the latest")
	}
	if err := e.note(record{what: "begin", dispatch: d.ID()}); err != nil {
		return core.Begun{}, err
	}
	return core.Begun{Attempt: 1, Step: e.step}, nil
}

func (e *fakeEngine) Finish(_ context.Context, d core.Dispatch, _ string, _ core.Begun, o core.Outcome, permanent bool) (core.Finished, error) {
	if err := e.note(record{what: "finish", dispatch: d.ID(), outcome: o, permanent: permanent}); err != nil {
		return core.Finished{}, err
	}
	if e.lateErr {
		return core.Finished{}, nil
	}
	return core.Finished{Step: core.StepSucceeded}, nil
}

func (e *fakeEngine) Release(_ context.Context, d core.Dispatch, _ string) error {
	return e.note(record{what: "release", dispatch: d.ID()})
}

func (e *fakeEngine) Redispatch(_ context.Context, why core.MoveReason, of []core.Under) error {
	return e.note(record{what: "redispatch", dispatch: of[0].Dispatch.ID(), why: why})
}

// all gives the writes of a kind.
func (e *fakeEngine) all(what string) (out []record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.records {
		if r.what == what {
			out = append(out, r)
		}
	}
	return out
}

func (e *fakeEngine) setAway(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = n
}

// A fakeStore takes heartbeats and logs.
type fakeStore struct {
	mu       sync.Mutex
	away     bool
	known    bool // the worker has announced itself
	beats    []core.Heartbeat
	announce []core.Worker
	stops    []string // to give with the next heartbeat
	left     int

	pieces   []logged
	cut      map[string]bool
	slow     time.Duration // of each log write
	logAway  bool
	nextID   int
	attempts int
}

type logged struct {
	id, text string
	end      bool
}

func (s *fakeStore) Beat(ctx context.Context, h core.Heartbeat, announce *core.Worker) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.away:
		return nil, errAway
	case announce != nil:
		s.announce = append(s.announce, *announce)
		s.known = true
	case !s.known:
		return nil, core.Missing("worker", h.Worker)
	}
	s.beats = append(s.beats, h)
	stops := s.stops
	s.stops = nil
	return stops, nil
}

func (s *fakeStore) Leave(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left++
	return nil
}

func (s *fakeStore) AppendLog(ctx context.Context, _ string, _, _ int, text string, end bool) (string, error) {
	s.mu.Lock()
	slow, away := s.slow, s.logAway
	s.attempts++
	s.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if away {
		return "", errAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	id := strconv.Itoa(s.nextID)
	s.pieces = append(s.pieces, logged{id, text, end})
	return id, nil
}

func (s *fakeStore) CutLog(_ context.Context, _ string, _, _ int, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == nil {
		s.cut = map[string]bool{}
	}
	for _, id := range ids {
		s.cut[id] = true
	}
	return nil
}

func (s *fakeStore) set(change func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeStore) lastBeat() core.Heartbeat {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.beats) == 0 {
		return core.Heartbeat{}
	}
	return s.beats[len(s.beats)-1]
}

// A bench is a worker on fakes.
type bench struct {
	*Worker
	t     *testing.T
	eng   *fakeEngine
	store *fakeStore
	stale int
	ended []core.AttemptState
	mu    sync.Mutex
}

func newBench(t *testing.T, slots int, ex executor.Func) *bench {
	b := &bench{
		t:     t,
		eng:   &fakeEngine{step: core.PlannedStep{Type: "work", Timeout: time.Minute}, stale: map[string]bool{}},
		store: &fakeStore{known: true},
	}
	b.Worker = New(b.eng, b.store, Options{
		Host: "host", Slots: slots, Queues: []string{"default"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Types: []executor.Type{{Spec: executor.Spec{Type: "work"}, Executor: ex}},
		Metrics: Metrics{
			Stale: func() { b.mu.Lock(); b.stale++; b.mu.Unlock() },
			Ended: func(_ string, s core.AttemptState, _ time.Duration) {
				b.mu.Lock()
				b.ended = append(b.ended, s)
				b.mu.Unlock()
			},
		},
	})
	return b
}

func dispatch(n int) core.Dispatch {
	return core.Dispatch{Run: "0123456789ab7cde8f00000000000000", Step: n, Fence: core.Fence{Counter: 1, Random: "feed"}}
}

// handle hands the worker a dispatch, as the queue does, and gives what the
// handler will have returned.
func (b *bench) handle(n int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.Handle(context.Background(), dispatch(n)) }()
	return done
}

// run starts the worker's own loop and gives what stops it and waits.
func (b *bench) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// pass lets virtual time pass, and all that is due then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) free() int { return cap(b.slots) - len(b.slots) }

// untilDone is an executor that works until its context ends and says why.
func untilDone(ctx context.Context, _ executor.Attempt) (executor.Result, error) {
	<-ctx.Done()
	return executor.Result{}, context.Cause(ctx)
}

func ok(context.Context, executor.Attempt) (executor.Result, error) {
	return executor.Result{Output: "fine", ExitCode: 3}, nil
}

func wantNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("the handler returned %v, want nil", err)
	}
}

// bubble runs a test in virtual time. It fails when the test leaves a goroutine
// behind that has not ended ten minutes later.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f(t)
		pass(10 * time.Minute)
	})
}

func (r record) String() string {
	return fmt.Sprintf("%s %s %s", r.what, r.dispatch, r.outcome.State)
}
