package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Grace is what an attempt may overrun its timeout before the reconciler ends it
// in the worker's stead.
const Grace = 30 * time.Second

var attemptLetters = map[core.AttemptState]string{
	core.AttemptSucceeded: "s", core.AttemptFailed: "f", core.AttemptCanceled: "x", core.AttemptTimedOut: "t",
}

// Begin begins the attempt that d names. A Stale error means that d is not the
// step's latest dispatch or the step no longer waits for it: drop it.
func (s *Store) Begin(ctx context.Context, d core.Dispatch, worker string) (core.Begun, error) {
	home, ok := s.runHome(d.Run)
	if !ok {
		return core.Begun{}, core.Errorf(core.Stale, "dispatch %s names no partition", d.ID())
	}
	plan, timeout := "", ""
	known, step, ok := s.plans.recall(d.Run, d.Step)
	if ok {
		plan, timeout = known, strconv.FormatInt(step.Timeout.Milliseconds(), 10)
	}
	r, err := s.fold.Run(ctx, beginScript, []string{home}, d.Run, d.Step, d.Fence.String(), worker, Grace.Milliseconds(), plan, timeout)
	if err != nil {
		return core.Begun{}, unavailable("begin "+d.ID(), err)
	}
	told, isText := r.(string)
	if got := replyOf(r); !isText {
		told = got.text(0)
		if step, err = s.learn(d, got.text(1), got.text(2)); err != nil {
			return core.Begun{}, err
		}
	}
	if told == "stale" {
		return core.Begun{}, core.Errorf(core.Stale, "dispatch %s is not the step's latest", d.ID())
	}
	n, err := numbers(told, 3)
	if err != nil {
		return core.Begun{}, fmt.Errorf("begin %s: %w", d.ID(), err)
	}
	step.Parameters = maps.Clone(step.Parameters) // executors may do with them what they like
	return core.Begun{Attempt: int(n[0]), Failures: int(n[1]), Step: step, Now: fromMillis(n[2])}, nil
}

// learn reads the planned step of a dispatch, whose JSON is text, and remembers it.
func (s *Store) learn(d core.Dispatch, plan, text string) (core.PlannedStep, error) {
	if p, ok := s.plans.plan(d.Run, plan, d.Step); ok {
		return p, nil
	}
	var p core.PlannedStep
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("read plan of %s: %w", d.ID(), err)
	}
	s.plans.note(plan, d.Step, p)
	return p, nil
}

// Finish records how the attempt that d names ended at worker. It may be called
// again when its reply was lost.
func (s *Store) Finish(ctx context.Context, d core.Dispatch, worker string, o core.Outcome) (core.Finished, error) {
	letter, ok := attemptLetters[o.State]
	home, ok2 := s.runHome(d.Run)
	if !ok || !ok2 {
		return core.Finished{}, fmt.Errorf("finish %s: outcome %q", d.ID(), o.State)
	}
	retry := int64(-1)
	if o.Retry >= 0 {
		retry = o.Retry.Milliseconds()
	}
	r, err := s.ends.Run(ctx, finishScript, []string{home}, d.Run, d.Step, d.Fence.String(), worker, letter, o.ExitCode, clean(o.Reason), o.Output, retry)
	if err != nil {
		return core.Finished{}, unavailable("finish "+d.ID(), err)
	}
	told, isText := r.(string)
	var expand []string
	if got := replyOf(r); !isText {
		told, expand = got.text(0), got.texts(1)
	}
	word, rest, _ := strings.Cut(told, "|")
	step, run, _ := strings.Cut(rest, "|")
	return core.Finished{
		Step: stepStates[step], Run: runStates[run], Late: word == "late", Effects: core.Effects{Expand: expand},
	}, nil
}

// Move dispatches steps of one partition again. Steps that have moved on
// meanwhile are left alone.
func (s *Store) Move(ctx context.Context, why core.MoveReason, moves []core.Move) (core.Effects, error) {
	var eff core.Effects
	for home, part := range s.byRun(moves) {
		for from := 0; from < len(part); from += core.Chunk {
			args := []any{string(why), id.Fence(), core.MaxLost}
			for _, m := range part[from:min(from+core.Chunk, len(part))] {
				args = append(args, m.Dispatch.ID(), m.Worker, m.Route.Queue, m.Route.Wait)
			}
			r, err := s.call(ctx, moveScript, home, args...)
			if err != nil {
				return eff, unavailable("dispatch again", err)
			}
			eff.Add(core.Effects{Sends: sends(reply(r).list(1)), Expand: reply(r).list(2)})
		}
	}
	return eff, nil
}

func (s *Store) byRun(moves []core.Move) map[string][]core.Move {
	out := map[string][]core.Move{}
	for _, m := range moves {
		if home, ok := s.runHome(m.Dispatch.Run); ok {
			out[home] = append(out[home], m)
		}
	}
	return out
}

// clean keeps a reason in one bounded piece of valid text.
func clean(text string) string {
	const most = 4 << 10
	if len(text) > most {
		text = text[:most] + " …"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
