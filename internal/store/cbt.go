package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/cbt"
	"github.com/takt-dev/takt/internal/core"
)

// A CBT task is one hash. Its transitions are begun here, by compare-and-set on the
// version, and ended by the script that ends their run (settle_run in lib.lua), however
// the run ends.

func (s *Store) cbtKey(task string) string { return s.home(task) + ":cbt:" + task }

// CreateCBT stores a new task with version 1 and the status Created; Exists when its uuid
// is taken. What it claimed is confirmed by SettleCBTClaim.
func (s *Store) CreateCBT(ctx context.Context, t core.CBTTask) error {
	t.Version = 1
	return s.putCBT(ctx, t, 0)
}

// UpdateCBT changes the name and the description of a task that still has the version it
// was read with; Stale, NotFound.
func (s *Store) UpdateCBT(ctx context.Context, t core.CBTTask) error {
	expect := t.Version
	t.Version++
	return s.putCBT(ctx, t, expect)
}

func (s *Store) putCBT(ctx context.Context, t core.CBTTask, expect int64) error {
	def, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode CBT task: %w", err)
	}
	n, err := cbtPutScript.Run(ctx, s.rdb, []string{s.home(t.UUID)}, t.UUID, expect, def).Int()
	if err != nil {
		return unavailable("write CBT task", err)
	}
	return putResult(n, "CBT task", t.UUID, expect)
}

// MoveCBT begins a transition of a task, or changes its status only. Stale when the task
// has another version than it was read with, or when a transition is under way already
// that is no look.
func (s *Store) MoveCBT(ctx context.Context, t core.CBTTask, m core.CBTMove) error {
	args, err := moveArgs(t, m)
	if err != nil {
		return err
	}
	n, err := cbtMoveScript.Run(ctx, s.rdb, []string{s.home(t.UUID)}, args...).Int()
	if err != nil {
		return unavailable("change CBT task", err)
	}
	return putResult(n, "CBT task", t.UUID, t.Version)
}

func moveArgs(t core.CBTTask, m core.CBTMove) ([]any, error) {
	p := m.Pending
	brief, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode transition: %w", err)
	}
	orders, err := json.Marshal(p.Orders)
	if err != nil {
		return nil, fmt.Errorf("encode orders: %w", err)
	}
	steps := make([]string, len(p.Orders))
	for i, o := range p.Orders {
		steps[i] = strconv.Itoa(t.Machine(o.Machine)) + "=" + o.Machine
	}
	only := ""
	if p.Look {
		only = strconv.Itoa(core.CBTGone)
	}
	args := []any{t.UUID, t.Version, string(m.Status), p.Run, brief, orders, strings.Join(steps, ","), string(p.Then), string(p.Else), only}
	if m.Seq > 0 {
		args = append(args, "seq", m.Seq)
	}
	if p.Op == core.CBTEnable {
		args = append(args, "since", m.Since, "orun", p.Run)
	}
	return args, nil
}

// DropCBT deletes a task without a run; Stale as MoveCBT. One that is gone is no error.
// What it claimed is released by SettleCBTClaim.
func (s *Store) DropCBT(ctx context.Context, t core.CBTTask) error {
	n, err := cbtDropScript.Run(ctx, s.rdb, []string{s.home(t.UUID)}, t.UUID, t.Version).Int()
	if err != nil {
		return unavailable("delete CBT task", err)
	}
	return putResult(n, "CBT task", t.UUID, t.Version)
}

// RestCBT puts off the next look at a task. One that is not to be looked at loses the
// timer.
func (s *Store) RestCBT(ctx context.Context, task string, wait time.Duration) error {
	err := cbtRestScript.Run(ctx, s.rdb, []string{s.home(task)}, task, wait.Milliseconds()).Err()
	return unavailable("put off the look at CBT task "+task, err)
}

// CBT gives one task; NotFound. since is when its outbox entry was written, for
// SettledCBT, or "".
func (s *Store) CBT(ctx context.Context, task string) (t core.CBTTask, since string, err error) {
	pipe := s.rdb.Pipeline()
	// The outbox is read first: an effect that comes after is not confirmed.
	effect := pipe.ZScore(ctx, s.home(task)+":outbox", "cbt|"+task)
	row := pipe.HGetAll(ctx, s.cbtKey(task))
	if err := exec(ctx, pipe); err != nil {
		return t, "", unavailable("read CBT task", err)
	}
	if len(row.Val()) == 0 {
		return t, scoreText(effect), core.Missing("CBT task", task)
	}
	t, err = decodeCBT(row.Val())
	return t, scoreText(effect), err
}

// SettledCBT takes a task's effect out of the outbox, unless it was written anew since.
func (s *Store) SettledCBT(ctx context.Context, task, since string) error {
	if since == "" {
		return nil
	}
	err := confirmScript.Run(ctx, s.rdb, []string{s.home(task) + ":outbox"}, "cbt|"+task, since).Err()
	return unavailable("confirm effect", err)
}

// ListCBT gives every task, in no order.
func (s *Store) ListCBT(ctx context.Context) ([]core.CBTTask, error) {
	pipe := s.rdb.Pipeline()
	sets := make([]*redis.StringSliceCmd, s.opts.Partitions)
	for n := range sets {
		sets[n] = pipe.SMembers(ctx, root(n)+":cbts")
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("list CBT tasks", err)
	}
	var rows []*redis.MapStringStringCmd
	pipe = s.rdb.Pipeline()
	for _, set := range sets {
		for _, task := range set.Val() {
			rows = append(rows, pipe.HGetAll(ctx, s.cbtKey(task)))
		}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read CBT tasks", err)
	}
	out := make([]core.CBTTask, 0, len(rows))
	for _, row := range rows {
		if len(row.Val()) == 0 {
			continue // deleted meanwhile
		}
		t, err := decodeCBT(row.Val())
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func decodeCBT(row map[string]string) (core.CBTTask, error) {
	var t core.CBTTask
	if err := json.Unmarshal([]byte(row["def"]), &t); err != nil {
		return t, fmt.Errorf("read CBT task: %w", err)
	}
	number := func(field string) int64 { n, _ := strconv.ParseInt(row[field], 10, 64); return n }
	t.Version, t.Updated = number("v"), fromMillis(number("up"))
	t.Status, t.Reason = core.CBTStatus(row["st"]), row["why"]
	t.Opened, t.Since, t.Seq = row["orun"], row["since"], int(number("seq"))
	t.Records = make([]cbt.Record, len(t.Machines))
	for i := range t.Records {
		if text := row["r"+strconv.Itoa(i)]; text != "" {
			if err := json.Unmarshal([]byte(text), &t.Records[i]); err != nil {
				return t, fmt.Errorf("read record %d of CBT task %s: %w", i, t.UUID, err)
			}
		}
	}
	return t, decodeMoves(row, &t)
}

// decodeMoves reads what is under way and what was.
func decodeMoves(row map[string]string, t *core.CBTTask) error {
	if text := row["p"]; text != "" {
		if err := json.Unmarshal([]byte(text), &t.Pending); err != nil {
			return fmt.Errorf("read transition of CBT task %s: %w", t.UUID, err)
		}
		if err := json.Unmarshal([]byte(row["ord"]), &t.Pending.Orders); err != nil {
			return fmt.Errorf("read orders of CBT task %s: %w", t.UUID, err)
		}
	}
	for line := range strings.SplitSeq(row["past"], "\n") {
		if line == "" {
			continue
		}
		var p struct {
			core.CBTPending
			State  string `json:"state"`
			Reason string `json:"reason"`
			Ended  int64  `json:"ended"`
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			return fmt.Errorf("read past of CBT task %s: %w", t.UUID, err)
		}
		past := p.CBTPending
		past.State, past.Reason, past.Ended = runStates[p.State], p.Reason, fromMillis(p.Ended)
		t.Past = append(t.Past, past)
	}
	if len(t.Past) > 0 {
		t.Last = t.Past[0]
	}
	return nil
}
