package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	carrier "github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/pkg/executor"
)

// A counted queue is asynq's, and counts what does not travel along.
type counted struct {
	*carrier.Client
	sends atomic.Int32
}

func (c *counted) Send(ctx context.Context, ds []core.Dispatch) error {
	c.sends.Add(1)
	return c.Client.Send(ctx, ds)
}

// travel gives the house an engine on a real queue.
func (h *house) travel() *counted {
	q := &counted{Client: carrier.NewClient(h.rdb)}
	h.eng = engine.New(h.faults, q, h.events, engine.Options{
		Types: []executor.Spec{noop, strict}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), FleetAge: time.Nanosecond,
	})
	return q
}

// pending gives the dispatches in the default queue.
func (h *house) pending() []core.Dispatch {
	h.Helper()
	var out []core.Dispatch
	for _, text := range h.rdb.LRange(h.Context(), "asynq:{default}:pending", 0, -1).Val() {
		out = append(out, must(core.ParseDispatch(text))(h))
	}
	return out
}

// begins takes all that is in the queue, begins it, and gives the runs of what could be.
func (h *house) begins() (runs []string) {
	h.Helper()
	for _, d := range h.pending() {
		switch _, err := h.eng.Begin(h.Context(), d, "w1"); {
		case err == nil:
			runs = append(runs, d.Run)
		case !core.Is(err, core.Stale):
			h.Errorf("begin %s: %v", d.ID(), err)
		}
	}
	h.rdb.Del(h.Context(), "asynq:{default}:pending")
	return runs
}

// TestDispatchesTravelAlong starts runs of a job one after another. From the second on
// its dispatch comes into its queue with the admission, whatever becomes of that: what is
// begun is what was admitted, once, and nothing is lost.
func TestDispatchesTravelAlong(t *testing.T) {
	type run = func(h *house, job, key string) (core.Run, error)
	start := func(o core.OverlapPolicy) run {
		return func(h *house, job, key string) (core.Run, error) {
			return h.eng.RunJob(h.ctx, job, key, core.Overlap{Policy: o})
		}
	}
	for _, row := range []struct {
		name  string
		again run
		sends int32 // of the second run
		tasks int   // that the second leaves in the queue
		begun int   // of these
		third int32 // sends of the run that is started after it
	}{
		{"as foreseen", start(core.OverlapAllow), 0, 1, 1, 0},
		{"refused", start(core.OverlapSkip), 0, 1, 0, 1},
		{"buffered", start(core.OverlapBufferOne), 0, 1, 0, 1},
		{"of another plan", func(h *house, job, key string) (core.Run, error) {
			must(h.eng.UpdateJob(h.ctx, job, 0, func(j *core.Job) error { j.Timeout = time.Hour; return nil }))(h)
			return start(core.OverlapAllow)(h, job, key)
		}, 1, 2, 1, 0},
		{"step by step", start(core.OverlapSkipSteps), 1, 1, 1, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			q, j := h.travel(), h.job("j")
			first := must(start(core.OverlapAllow)(h, j.UUID, "1"))(h)
			if got := h.begins(); !slices.Equal(got, []string{first.ID}) || q.sends.Load() != 1 {
				t.Fatalf("first run: begun %v by %d sends, want %s by one", got, q.sends.Load(), first.ID)
			}
			second, err := row.again(h, j.UUID, "2")
			if err != nil && !core.Is(err, core.Conflict) {
				t.Fatal(err)
			}
			wantEqual(t, "sends of the second run", q.sends.Load()-1, row.sends)
			wantEqual(t, "tasks of the second run", len(h.pending()), row.tasks)
			var want []string
			if row.begun > 0 {
				want = []string{second.ID}
			}
			wantEqual(t, "runs begun", h.begins(), want)
			before := q.sends.Load()
			third := must(start(core.OverlapAllow)(h, j.UUID, "3"))(h)
			wantEqual(t, "sends of the third run", q.sends.Load()-before, row.third)
			wantEqual(t, "runs begun at last", h.begins(), []string{third.ID})
		})
	}
}

// TestDispatchesThatTravelledAreRungFor counts the rings of runs whose dispatches travel
// along: one for each.
func TestDispatchesThatTravelledAreRungFor(t *testing.T) {
	h := newHouse(t)
	h.travel()
	j := h.job("j")
	const runs = 5
	for k := range runs {
		must(h.eng.RunJob(h.ctx, j.UUID, fmt.Sprint(k), core.Overlap{}))(h)
	}
	wantEqual(t, "rings", len(h.events.rung), runs)
}
