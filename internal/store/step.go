package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/core"
)

// Steps gives all steps of a run with their attempts and outputs, in the order of
// the plan.
func (s *Store) Steps(ctx context.Context, run string) ([]core.Step, error) {
	home, ok := s.runHome(run)
	if !ok {
		return nil, core.Missing("run", run)
	}
	pipe := s.rdb.Pipeline()
	rowsCmd := pipe.HGetAll(ctx, home+":run:"+run)
	outCmd := pipe.HGetAll(ctx, home+":out:"+run)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read steps of run "+run, err)
	}
	rows, outputs := rowsCmd.Val(), outCmd.Val()
	if len(rows) == 0 {
		return nil, core.Missing("run", run)
	}
	plan, err := s.plan(ctx, home, rows["pl"])
	if err != nil {
		return nil, err
	}
	state, stretches := runStates[rows["st"]], stretchesOf(rows["together"])
	steps := make([]core.Step, len(plan))
	for i, p := range plan {
		steps[i] = core.Step{PlannedStep: p, Index: i, State: core.StepWaiting, Reason: rows["why"]}
		row := rowOf(rows["s"+strconv.Itoa(i)], stretches, i)
		if row == "" {
			if state.Ended() || state == core.RunCanceling {
				steps[i].State = core.StepCanceled
			}
			continue
		}
		if err := decodeStep(row, &steps[i]); err != nil {
			return nil, err
		}
	}
	addAttempts(steps, rows, outputs)
	return steps, nil
}

func decodeStep(row string, st *core.Step) error {
	f := strings.SplitN(row, "|", 12)
	if len(f) != 12 {
		return fmt.Errorf("read step row %q", row)
	}
	n := make([]int64, 12)
	for _, i := range []int{1, 3, 4, 5, 8, 9, 10} {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return fmt.Errorf("read step row %q: %w", row, err)
		}
		n[i] = v
	}
	st.State, st.Fence, st.Queue, st.Worker, st.Reason = stepStates[f[0]], core.Fence{Counter: n[1], Random: f[2]}, f[6], f[7], f[11]
	st.Failures, st.Lost, st.Started, st.Ended = int(n[4]), int(n[5]), fromMillis(n[8]), fromMillis(n[9])
	attempts := int(n[3])
	if attempts == 0 {
		return nil
	}
	st.Attempts = make([]core.Attempt, attempts)
	for k := range st.Attempts {
		st.Attempts[k].Number = k + 1
	}
	// The last attempt is told by the step's row, unless an archived row says more.
	last := &st.Attempts[attempts-1]
	last.State, last.Worker, last.Started, last.Ended = attemptStates[f[0]], f[7], st.Started, st.Ended
	last.ExitCode = int(n[10])
	if st.State != core.StepSucceeded {
		last.Error = st.Reason
	}
	return nil
}

// addAttempts reads the archived attempts, "state|worker|begin|end|code|text"
// under a<step>.<attempt>, and the outputs.
func addAttempts(steps []core.Step, rows, outputs map[string]string) {
	for field, row := range rows {
		if !strings.HasPrefix(field, "a") {
			continue
		}
		if a := attemptOf(steps, field[1:]); a != nil {
			decodeAttempt(row, a)
		}
	}
	for field, text := range outputs {
		if a := attemptOf(steps, field); a != nil {
			a.Output = text
		}
	}
}

// decodeAttempt reads the row of an archived attempt.
func decodeAttempt(row string, a *core.Attempt) {
	f := strings.SplitN(row, "|", 6)
	if len(f) != 6 {
		return
	}
	t0, _ := strconv.ParseInt(f[2], 10, 64)
	t1, _ := strconv.ParseInt(f[3], 10, 64)
	a.State, a.Worker, a.Started, a.Ended, a.Error = attemptStates[f[0]], f[1], fromMillis(t0), fromMillis(t1), f[5]
	a.ExitCode, _ = strconv.Atoi(f[4])
}

// stepIndex reads a field of a plan that is a step.
func stepIndex(field string) (int, bool) {
	i, err := strconv.Atoi(field)
	return i, err == nil && i >= 0
}

func attemptOf(steps []core.Step, field string) *core.Attempt {
	step, attempt, ok := strings.Cut(field, ".")
	i, err := strconv.Atoi(step)
	n, err2 := strconv.Atoi(attempt)
	if !ok || err != nil || err2 != nil || i >= len(steps) || n < 1 || n > len(steps[i].Attempts) {
		return nil
	}
	return &steps[i].Attempts[n-1]
}
