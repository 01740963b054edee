package store

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// StepsOf gives some steps of runs in the order asked for, each with its first and
// its last attempt, and the last one's output if asked. It takes two round trips,
// however many runs. Steps of runs that are gone are zero.
func (s *Store) StepsOf(ctx context.Context, of []core.StepsOf, outputs bool) ([][]core.Step, error) {
	rows, err := s.stepRows(ctx, of)
	if err != nil {
		return nil, err
	}
	out := make([][]core.Step, len(of))
	for k, o := range of {
		if out[k], err = rows.steps(k, o); err != nil {
			return nil, err
		}
	}
	if outputs {
		err = s.addOutputs(ctx, of, out)
	}
	return out, err
}

// stepRows are rows as they were read.
type stepRows struct {
	runs  [][]*redis.SliceCmd // per run and chunk: st, why, together, then s<i> and a<i>.1 of each step
	plans map[plannedAt]core.PlannedStep
}

// stepRows reads the rows of steps and of what they are planned to do. The steps of
// one group's runs are planned alike: each plan's rows are read once.
func (s *Store) stepRows(ctx context.Context, of []core.StepsOf) (stepRows, error) {
	rows := stepRows{runs: make([][]*redis.SliceCmd, len(of)), plans: map[plannedAt]core.PlannedStep{}}
	planned := map[plannedAt]*redis.StringCmd{}
	pipe := s.rdb.Pipeline()
	for k, o := range of {
		home, ok := s.runHome(o.Run.ID)
		if !ok {
			continue
		}
		for from := 0; from < len(o.Steps); from += core.Chunk {
			fields := []string{"st", "why", "together"}
			for _, i := range o.Steps[from:min(from+core.Chunk, len(o.Steps))] {
				step := strconv.Itoa(i)
				fields = append(fields, "s"+step, "a"+step+".1")
				if at := (plannedAt{o.Run.Plan, i}); planned[at] == nil {
					planned[at] = pipe.HGet(ctx, home+":plan:"+o.Run.Plan, step)
				}
			}
			rows.runs[k] = append(rows.runs[k], pipe.HMGet(ctx, home+":run:"+o.Run.ID, fields...))
		}
	}
	if pipe.Len() == 0 {
		return rows, nil
	}
	if err := exec(ctx, pipe); err != nil {
		return rows, unavailable("read steps", err)
	}
	for at, cmd := range planned {
		if cmd.Err() != nil {
			continue // its last run is gone
		}
		p, err := decodePlanned(cmd.Val())
		if err != nil {
			return rows, err
		}
		rows.plans[at] = p
	}
	return rows, nil
}

// steps reads the steps of the k-th run.
func (rows stepRows) steps(k int, o core.StepsOf) ([]core.Step, error) {
	out := make([]core.Step, len(o.Steps))
	for n, i := range o.Steps {
		if len(rows.runs[k]) == 0 {
			break // not a run's id
		}
		got, at := rows.runs[k][n/core.Chunk].Val(), 3+2*(n%core.Chunk)
		planned, ok := rows.plans[plannedAt{o.Run.Plan, i}]
		if letter, _ := got[0].(string); letter != "" && ok {
			row := rowOf(text(got[at]), stretchesOf(text(got[2])), i)
			st, err := stepOf(i, planned, letter, text(got[1]), row, text(got[at+1]))
			if err != nil {
				return nil, err
			}
			out[n] = st
		}
	}
	return out, nil
}

func text(v any) string {
	t, _ := v.(string)
	return t
}

// stepOf reads one step of a run in state letter that waits for why. row is "" while
// the step is not made; first is "" unless its first attempt was followed by others.
func stepOf(index int, planned core.PlannedStep, letter, why, row, first string) (core.Step, error) {
	st := core.Step{PlannedStep: planned, Index: index, State: core.StepWaiting, Reason: why}
	if row == "" {
		if state := runStates[letter]; state.Ended() || state == core.RunCanceling {
			st.State = core.StepCanceled
		}
		return st, nil
	}
	if err := decodeStep(row, &st); err != nil {
		return st, err
	}
	if first != "" && len(st.Attempts) > 0 {
		decodeAttempt(first, &st.Attempts[0])
	}
	return st, nil
}

// addOutputs reads the outputs of the last attempts.
func (s *Store) addOutputs(ctx context.Context, of []core.StepsOf, steps [][]core.Step) error {
	pipe := s.rdb.Pipeline()
	read := map[*core.Attempt]*redis.StringCmd{}
	for k, o := range of {
		home, _ := s.runHome(o.Run.ID)
		for i := range steps[k] {
			st := &steps[k][i]
			if n := len(st.Attempts); n > 0 && st.State.Ended() {
				read[&st.Attempts[n-1]] = pipe.HGet(ctx, home+":out:"+o.Run.ID, strconv.Itoa(st.Index)+"."+strconv.Itoa(n))
			}
		}
	}
	if len(read) == 0 {
		return nil
	}
	if err := exec(ctx, pipe); err != nil {
		return unavailable("read outputs", err)
	}
	for a, cmd := range read {
		a.Output = cmd.Val()
	}
	return nil
}
