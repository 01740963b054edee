package store_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// A slowRedis answers so many scripts; then the caller's time is up.
type slowRedis struct {
	scripts atomic.Int64 // so far
	most    int64
	time    patience
}

// A patience is a context whose deadline passes when it is spent.
type patience struct {
	context.Context
	spent atomic.Bool
}

func (p *patience) Deadline() (time.Time, bool) {
	if p.spent.Load() {
		return time.Now(), true
	}
	return time.Now().Add(time.Hour), true
}

func (s *slowRedis) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			if strings.HasPrefix(c.Name(), "evalsha") && s.scripts.Add(1) > s.most {
				s.time.spent.Store(true)
				c.SetErr(os.ErrDeadlineExceeded) // what a connection says
				return c.Err()
			}
		}
		return next(ctx, cmds)
	}
}

func (s *slowRedis) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (s *slowRedis) DialHook(next redis.DialHook) redis.DialHook          { return next }

// A count that its caller's time did not suffice for is not begun anew.
func TestTallyGoesOnWhereItWasCutShort(t *testing.T) {
	h := newHistory(t, 300)
	h.store.TallyInSmallSpans(2)
	for _, run := range h.runs {
		if !run.State.Ended() {
			h.drive(run.ID)
		}
	}
	slow := &slowRedis{most: 1 << 40}
	h.rdb.AddHook(slow)
	whole := []time.Time{{}, time.Now().AddDate(1, 0, 0)}
	other := store.New(h.rdb, store.Options{})
	other.TallyInSmallSpans(2)
	must(other.Tally(t.Context(), core.RunFilter{}, whole))(h.world)
	all := slow.scripts.Swap(0)

	slow.most = 40
	slow.time.Context = t.Context()
	_, err := h.store.Tally(&slow.time, core.RunFilter{}, whole)
	if !core.Is(err, core.Unavailable) || !strings.Contains(core.Text(err), "ask again") {
		t.Fatalf("count in too little time: %v, want one that says to ask again", err)
	}
	slow.scripts.Store(0)
	slow.most = 1 << 40
	parts, err := h.store.Tally(t.Context(), core.RunFilter{}, whole)
	h.ok(err)
	rest := slow.scripts.Swap(0)
	runs := int64(0)
	for _, p := range parts[0] {
		runs += p.Runs
	}
	if runs != int64(len(h.runs)) {
		t.Errorf("%d runs counted, want %d", runs, len(h.runs))
	}
	if rest == 0 || rest > all-20 { // the newest of each partition are not remembered
		t.Errorf("the second count looked at %d spans of %d, after 40 in the first", rest, all)
	}
}
