package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

var overlapLetters = map[core.OverlapPolicy]string{
	"": "a", core.OverlapAllow: "a", core.OverlapSkip: "s", core.OverlapBufferOne: "1",
	core.OverlapBufferAll: "b", core.OverlapCancel: "o", core.OverlapSkipSteps: "j",
}

// Admit decides about a run once and for all under a.Run.Request, and makes the
// run and its first steps. Asked again, it returns the stored decision. The
// effects are the caller's to do; whoever dies before leaves them to Repair. Nobody may
// change the plan any more.
func (s *Store) Admit(ctx context.Context, a core.Admission) (core.Admitted, error) {
	home, ok := s.runHome(a.Run.ID)
	if !ok || home != s.home(a.Run.Target.UUID) {
		return core.Admitted{}, fmt.Errorf("admit run %s: its id does not name the partition of target %s", a.Run.ID, a.Run.Target.UUID)
	}
	if len(a.Plan) == 0 || len(a.Plan) > core.MaxSteps {
		return core.Admitted{}, core.Errorf(core.Invalid, "the run would have %d steps; a run has from 1 to %d", len(a.Plan), core.MaxSteps)
	}
	var err error
	if a.Run.Plan, err = s.planName(a.Run.Target.UUID, a.Plan); err != nil {
		return core.Admitted{}, err
	}
	random := cmp.Or(a.Random, id.Fence())
	args, err := s.admitArgs(a, random)
	if err != nil {
		return core.Admitted{}, err
	}
	for {
		r, err := s.fold.Call(ctx, admitScript, []string{home}, args...)
		if err != nil {
			return core.Admitted{}, unavailable("admit run "+a.Run.ID, err)
		}
		if got := replyOf(r); got.text(0) != "noplan" {
			return admitted(got, a, random), nil
		}
		if err := s.putPlan(ctx, home, a.Plan); err != nil {
			return core.Admitted{}, err
		}
		// Dispatches may have gone along with the question, and be turned away just now.
		random = id.Fence()
		if args, err = s.admitArgs(a, random); err != nil {
			return core.Admitted{}, err
		}
	}
}

// Decision gives what Admit decided about a target under a request, if it did and
// still remembers.
func (s *Store) Decision(ctx context.Context, target, request string) (core.Admitted, bool, error) {
	text, err := s.rdb.Get(ctx, s.home(target)+":req:"+request).Result()
	if isNil(err) {
		return core.Admitted{}, false, nil
	}
	if err != nil {
		return core.Admitted{}, false, unavailable("read decision", err)
	}
	parts := strings.SplitN(text, "|", 3)
	if len(parts) != 3 {
		return core.Admitted{}, false, fmt.Errorf("read decision %q", text)
	}
	return core.Admitted{Word: core.AdmitWord(parts[0]), Again: true, Run: parts[1], Reason: parts[2]}, true, nil
}

func (s *Store) admitArgs(a core.Admission, random string) ([]any, error) {
	meta, err := encodeMeta(a.Run)
	if err != nil {
		return nil, err
	}
	limit := a.Overlap.Limit
	if limit == 0 {
		limit = 100
	}
	policy := overlapLetters[a.Overlap.Policy]
	args := []any{
		a.Run.Request, a.Run.ID, a.Run.Target.UUID, policy, limit,
		len(a.Plan), a.Run.Plan, meta, random, a.Run.Trigger, a.Timeout.Milliseconds(),
		s.opts.Backlog, a.Remember.Milliseconds(), cmp.Or(a.Keep, s.opts.RunRetention).Milliseconds(),
	}
	args = appendRoutes(args, a.Routes)
	if policy == "j" {
		args = appendJobs(args, a.Plan[:len(a.Routes)])
	}
	return args, nil
}

// appendRoutes appends the number of stretches of steps that go one way, and the
// stretches: steps, queue, wait reason.
func appendRoutes(args []any, routes []core.Route) []any {
	at := len(args)
	args = append(args, 0)
	stretches := 0
	for from := 0; from < len(routes); stretches++ {
		to := from + 1
		for to < len(routes) && routes[to] == routes[from] {
			to++
		}
		args = append(args, to-from, routes[from].Queue, routes[from].Wait)
		from = to
	}
	args[at] = stretches
	return args
}

func appendJobs(args []any, plan []core.PlannedStep) []any {
	for _, p := range plan {
		args = append(args, p.Job)
	}
	return args
}

func admitted(r reply, a core.Admission, random string) core.Admitted {
	word, again := r.text(0), false
	if len(word) > 6 && word[:6] == "again-" {
		word, again = word[6:], true
	}
	out := core.Admitted{
		Word: core.AdmitWord(word), Again: again, Run: r.text(1), Reason: r.text(2), Made: made(r, a),
		Effects: core.Effects{Stops: stops(r.list(4)), Expand: r.list(5)},
	}
	if out.Word == core.AdmitStarted && !again {
		out.Sends = firstSends(a.Run.ID, 0, a.Routes, random, r.list(3))
	}
	return out
}

// firstSends gives the first dispatches of the steps that a script made, numbered
// from from on: of those that have a queue and were not skipped.
func firstSends(run string, from int, routes []core.Route, random string, skipped []string) []core.Dispatch {
	out := make([]core.Dispatch, 0, len(routes))
	for k, r := range routes {
		if r.Queue == "" || len(skipped) > 0 && slices.Contains(skipped, strconv.Itoa(from+k)) {
			continue
		}
		out = append(out, core.Dispatch{Run: run, Step: from + k, Fence: core.Fence{Counter: 1, Random: random}, Queue: r.Queue})
	}
	return out
}

// made gives the run that an admission made, as Run would at that moment.
func made(r reply, a core.Admission) core.Run {
	if r.number(6) == 0 {
		return core.Run{}
	}
	run := a.Run
	run.State, run.Created, run.Counts.Total = core.RunPending, fromMillis(r.number(6)), len(a.Plan)
	if core.AdmitWord(r.text(0)) == core.AdmitBuffered {
		run.Reason = r.text(2)
	}
	if a.Timeout > 0 {
		run.Deadline = fromMillis(r.number(7) + a.Timeout.Milliseconds())
	}
	return run
}

// Expand makes the steps [from, from+len(routes)) of a run that is at that index;
// it returns no effects when somebody else did so before.
func (s *Store) Expand(ctx context.Context, run string, plan []core.PlannedStep, from int, routes []core.Route) (core.Effects, error) {
	home, ok := s.runHome(run)
	if !ok {
		return core.Effects{}, core.Missing("run", run)
	}
	random := id.Fence()
	args := appendJobs(appendRoutes([]any{run, from, random}, routes), plan[from:from+len(routes)])
	got, err := s.call(ctx, expandScript, home, args...)
	if err != nil {
		return core.Effects{}, unavailable("expand run "+run, err)
	}
	r := reply(got)
	if r.text(0) != "ok" {
		return core.Effects{}, nil
	}
	return core.Effects{Sends: firstSends(run, from, routes, random, r.list(1)), Expand: r.list(2)}, nil
}

func (s *Store) putPlan(ctx context.Context, home string, plan []core.PlannedStep) error {
	rows, hash, err := encodePlan(plan)
	if err != nil {
		return err
	}
	for from := 0; from < len(rows); from += core.Chunk {
		args := []any{hash, from}
		for _, row := range rows[from:min(from+core.Chunk, len(rows))] {
			args = append(args, row)
		}
		if _, err := s.call(ctx, planScript, home, args...); err != nil {
			return unavailable("store plan", err)
		}
	}
	return nil
}

// planName gives the hash that names the plan of a target.
func (s *Store) planName(target string, plan []core.PlannedStep) (string, error) {
	if name, ok := s.names.recall(target, plan); ok {
		return name, nil
	}
	_, name, err := encodePlan(plan)
	if err == nil {
		s.names.note(target, plan, name)
	}
	return name, err
}

// encodePlan gives the rows of a plan, "<timeout in ms>|<JSON>", and the hash
// that names it.
func encodePlan(plan []core.PlannedStep) ([]string, string, error) {
	rows := make([]string, len(plan))
	sum := sha256.New()
	for i, p := range plan {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, "", fmt.Errorf("encode plan: %w", err)
		}
		rows[i] = strconv.FormatInt(p.Timeout.Milliseconds(), 10) + "|" + string(b)
		fmt.Fprintf(sum, "%d:%s", len(rows[i]), rows[i])
	}
	return rows, hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// runMeta is what of a run never changes. Short names: it is kept per run.
type runMeta struct {
	Account string          `json:"a,omitempty"`
	Dialect core.Dialect    `json:"d,omitempty"`
	Kind    core.TargetKind `json:"k"`
	Name    string          `json:"n,omitempty"`
	Type    string          `json:"y,omitempty"`
	Fire    string          `json:"f,omitempty"`
	Request string          `json:"q,omitempty"`
	RetryOf string          `json:"r,omitempty"`
}

func encodeMeta(r core.Run) (string, error) {
	m := runMeta{Account: r.Account, Dialect: r.Dialect, Kind: r.Target.Kind, Name: r.Name, Type: r.Type, Request: r.Request, RetryOf: r.RetryOf}
	if !r.Fire.IsZero() {
		m.Fire = r.Fire.Entry()
	}
	b, err := json.Marshal(m)
	return string(b), err
}

func sends(pairs []string) []core.Dispatch {
	out := make([]core.Dispatch, 0, len(pairs)/2)
	for k := 0; k+1 < len(pairs); k += 2 {
		d, err := core.ParseDispatch(pairs[k])
		if err != nil {
			continue // scripts write no other ids
		}
		d.Queue = pairs[k+1]
		out = append(out, d)
	}
	return out
}

func stops(pairs []string) []core.Stop {
	out := make([]core.Stop, 0, len(pairs)/2)
	for k := 0; k+1 < len(pairs); k += 2 {
		out = append(out, core.Stop{Worker: pairs[k], Dispatch: pairs[k+1]})
	}
	return out
}

// Cancel asks a run to stop. end is RunCanceled or RunTimedOut. It returns
// whether the run had ended before.
func (s *Store) Cancel(ctx context.Context, run, reason string, end core.RunState) (ended bool, eff core.Effects, err error) {
	home, ok := s.runHome(run)
	if !ok {
		return false, eff, core.Missing("run", run)
	}
	letter, timer := "x", ""
	if end == core.RunTimedOut {
		letter, timer = "t", "deadline|"+run
	}
	for first := true; ; first = false {
		r, err := s.call(ctx, cancelScript, home, run, clean(reason), letter, timer)
		if err != nil {
			return false, eff, unavailable("cancel run "+run, err)
		}
		if reply(r).text(0) == "missing" {
			return false, eff, core.Missing("run", run)
		}
		if first {
			ended = runStates[reply(r).text(1)].Ended()
		}
		eff.Add(core.Effects{Stops: stops(reply(r).list(2)), Expand: reply(r).list(3)})
		if reply(r).text(0) == "done" {
			return ended, eff, nil
		}
	}
}

// Forget removes an ended run at the end of its retention.
func (s *Store) Forget(ctx context.Context, run string) error {
	home, ok := s.runHome(run)
	if !ok {
		return nil
	}
	_, err := s.call(ctx, forgetScript, home, run)
	return unavailable("forget run "+run, err)
}

// DropPlan removes a plan of a partition that no run was admitted with.
func (s *Store) DropPlan(ctx context.Context, partition int, hash string) error {
	_, err := s.call(ctx, dropPlanScript, root(partition), hash)
	return unavailable("drop plan", err)
}
