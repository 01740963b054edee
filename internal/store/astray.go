package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// checkSteps looks for open steps of started runs that no dispatch, attempt,
// parking place or timer stands for: nothing would ever move them.
func (w *walk) checkSteps(ctx context.Context) error {
	rows, makers, err := w.readSteps(ctx)
	if err != nil || len(rows) == 0 {
		return err
	}
	pipe := w.rdb.Pipeline()
	type open struct {
		of    string
		state core.StepState
		held  []redis.Cmder
	}
	var steps []open
	for run, cmd := range rows {
		if n, _ := strconv.Atoi(w.known[run].steps); makers[run].Err() != nil && cmd.Val()["cur"] != "" && cmd.Val()["cur"] != strconv.Itoa(n) {
			w.found(core.OrphanStep, "run:"+run, run, "its steps are not all made, and nobody is to make them")
		}
		for _, t := range stretchesOf(cmd.Val()["together"]) {
			if i := t.firstOf(cmd.Val()); i >= 0 {
				steps = append(steps, open{run + ":" + strconv.Itoa(i), core.StepDispatched, []redis.Cmder{pipe.ZScore(ctx, w.root+":sent", t.member(run))}})
			}
		}
		for field, row := range cmd.Val() {
			var st core.Step
			index, isStep := strings.CutPrefix(field, "s")
			if _, err := strconv.Atoi(index); !isStep || err != nil || decodeStep(row, &st) != nil || st.State.Ended() {
				continue
			}
			key := run + ":" + index
			steps = append(steps, open{key, st.State, w.holders(ctx, pipe, key, st)})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for _, step := range steps {
		if !anyHolds(step.held) {
			run, _, _ := strings.Cut(step.of, ":")
			w.found(core.OrphanStep, "run:"+run, step.of, "the step is "+string(step.state)+" and nothing will move it")
		}
	}
	return nil
}

// readSteps reads the rows of some open runs, and whether somebody is still to
// make steps of theirs.
func (w *walk) readSteps(ctx context.Context) (rows map[string]*redis.MapStringStringCmd, makers map[string]*redis.FloatCmd, err error) {
	rows, makers = map[string]*redis.MapStringStringCmd{}, map[string]*redis.FloatCmd{}
	pipe := w.rdb.Pipeline()
	for run, marks := range w.known {
		if n, _ := strconv.Atoi(marks.steps); !marks.open() || marks.started == "" || n > openSteps {
			continue
		}
		if len(rows) == openRuns {
			w.Stopped = true
			break
		}
		rows[run] = pipe.HGetAll(ctx, w.root+":run:"+run)
		makers[run] = pipe.ZScore(ctx, w.root+":outbox", "expand|"+run)
	}
	if len(rows) == 0 {
		return nil, nil, nil
	}
	return rows, makers, exec(ctx, pipe)
}

// holders asks the places where a step in its state has to stand.
func (w *walk) holders(ctx context.Context, pipe redis.Pipeliner, key string, st core.Step) []redis.Cmder {
	id := key + ":" + st.Fence.String()
	switch st.State {
	case core.StepDispatched:
		return []redis.Cmder{pipe.ZScore(ctx, w.root+":sent", id)}
	case core.StepRunning, core.StepCanceling:
		return []redis.Cmder{pipe.HGet(ctx, w.root+":live", id)}
	default:
		timer := "retry|" + key + ":" + strconv.FormatInt(st.Fence.Counter, 10)
		return []redis.Cmder{pipe.ZScore(ctx, w.root+":parked", key), pipe.ZScore(ctx, w.root+":timers", timer)}
	}
}

func anyHolds(held []redis.Cmder) bool {
	for _, cmd := range held {
		if cmd.Err() == nil {
			return true
		}
	}
	return false
}
