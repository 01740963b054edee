package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

var runStates = map[string]core.RunState{
	"p": core.RunPending, "r": core.RunRunning, "c": core.RunCanceling, "s": core.RunSucceeded,
	"f": core.RunFailed, "x": core.RunCanceled, "t": core.RunTimedOut,
}

var stepStates = map[string]core.StepState{
	"w": core.StepWaiting, "d": core.StepDispatched, "r": core.StepRunning, "c": core.StepCanceling,
	"s": core.StepSucceeded, "f": core.StepFailed, "x": core.StepCanceled, "t": core.StepTimedOut, "k": core.StepSkipped,
}

var attemptStates = map[string]core.AttemptState{
	"r": core.AttemptRunning, "c": core.AttemptRunning, "s": core.AttemptSucceeded, "f": core.AttemptFailed,
	"x": core.AttemptCanceled, "t": core.AttemptTimedOut, "l": core.AttemptLost, "R": core.AttemptReleased,
}

// runFields are the fields of a run's hash that tell about the run itself.
var runFields = []string{"m", "st", "cr", "t0", "t1", "n", "cs", "cf", "cx", "ct", "ck", "why", "dl", "pl", "tg", "tr", "cur", "go"}

// Run gives one run, or a NotFound error.
func (s *Store) Run(ctx context.Context, run string) (core.Run, error) {
	runs, err := s.runs(ctx, []string{run})
	if err != nil {
		return core.Run{}, err
	}
	if len(runs) == 0 {
		return core.Run{}, core.Missing("run", run)
	}
	return runs[0], nil
}

// runs reads runs in one pipeline, in order; those that are gone are left out.
func (s *Store) runs(ctx context.Context, ids []string) ([]core.Run, error) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.SliceCmd, 0, len(ids))
	known := make([]string, 0, len(ids))
	for _, run := range ids {
		home, ok := s.runHome(run)
		if !ok {
			continue
		}
		known = append(known, run)
		cmds = append(cmds, pipe.HMGet(ctx, home+":run:"+run, runFields...))
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read runs", err)
	}
	out := make([]core.Run, 0, len(cmds))
	for k, cmd := range cmds {
		if cmd.Val()[1] == nil {
			continue
		}
		r, err := decodeRun(known[k], cmd.Val())
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func decodeRun(run string, v []any) (core.Run, error) {
	text := func(i int) string { t, _ := v[i].(string); return t }
	number := func(i int) int { n, _ := strconv.Atoi(text(i)); return n }
	r := core.Run{
		ID: run, State: runStates[text(1)], Reason: text(11), Plan: text(13), Trigger: text(15),
		Created: fromMillis(int64(number(2))), Started: fromMillis(int64(number(3))), Ended: fromMillis(int64(number(4))),
		Deadline: fromMillis(int64(number(12))), Target: core.Target{UUID: text(14)},
		Counts: core.StepCounts{
			Total: number(5), Succeeded: number(6), Failed: number(7), Canceled: number(8), TimedOut: number(9), Skipped: number(10),
		},
	}
	err := decodeMeta(text(0), &r)
	return r, err
}

func decodeMeta(text string, r *core.Run) error {
	var m runMeta
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return fmt.Errorf("read run %s: %w", r.ID, err)
	}
	r.Account, r.Dialect, r.Target.Kind, r.Name, r.Type = m.Account, m.Dialect, m.Kind, m.Name, m.Type
	r.Request, r.RetryOf = m.Request, m.RetryOf
	if m.Fire != "" {
		f, err := core.ParseEntry(r.Trigger, m.Fire)
		if err != nil {
			return err
		}
		r.Fire = f
	}
	return nil
}

// Plan gives the planned steps [from, to) of a run, the index at which the
// making of steps has arrived, and whether the run may start at all.
func (s *Store) Plan(ctx context.Context, run string) (plan []core.PlannedStep, made int, started bool, err error) {
	home, ok := s.runHome(run)
	if !ok {
		return nil, 0, false, core.Missing("run", run)
	}
	h, err := s.rdb.HMGet(ctx, home+":run:"+run, "pl", "cur", "go", "n").Result()
	if err != nil {
		return nil, 0, false, unavailable("read run "+run, err)
	}
	hash, _ := h[0].(string)
	if hash == "" {
		return nil, 0, false, core.Missing("run", run)
	}
	cur, _ := h[1].(string)
	made, _ = strconv.Atoi(cur)
	plan, err = s.plan(ctx, home, hash)
	return plan, made, h[2] != nil, err
}

func (s *Store) plan(ctx context.Context, home, hash string) ([]core.PlannedStep, error) {
	rows, err := s.rdb.HGetAll(ctx, home+":plan:"+hash).Result()
	if err != nil {
		return nil, unavailable("read plan", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	plan := make([]core.PlannedStep, len(rows)-1)
	for field, row := range rows {
		i, err := strconv.Atoi(field)
		if err != nil || i >= len(plan) {
			continue // refs
		}
		if plan[i], err = decodePlanned(row); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func decodePlanned(row string) (core.PlannedStep, error) {
	var p core.PlannedStep
	_, text, _ := strings.Cut(row, "|")
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("read planned step: %w", err)
	}
	return p, nil
}

// PlannedSteps gives what single steps, of any runs, are to do. Steps whose run
// is gone are left out.
func (s *Store) PlannedSteps(ctx context.Context, of []core.Dispatch) (map[string]core.PlannedStep, error) {
	out := make(map[string]core.PlannedStep, len(of))
	pipe := s.rdb.Pipeline()
	hashes := make([]*redis.StringCmd, len(of))
	for k, d := range of {
		home, _ := s.runHome(d.Run)
		hashes[k] = pipe.HGet(ctx, home+":run:"+d.Run, "pl")
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read runs", err)
	}
	pipe = s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(of))
	for k, d := range of {
		home, _ := s.runHome(d.Run)
		rows[k] = pipe.HGet(ctx, home+":plan:"+hashes[k].Val(), strconv.Itoa(d.Step))
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read plans", err)
	}
	for k, d := range of {
		if rows[k].Err() != nil {
			continue
		}
		p, err := decodePlanned(rows[k].Val())
		if err != nil {
			return nil, err
		}
		out[d.Key()] = p
	}
	return out, nil
}
