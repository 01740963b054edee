package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/takt-dev/takt/internal/core"
)

// A machine is in one CBT task at most. The truth about which machines a task has is the
// task; a claim, kept in the machine's own partition, is taken before the task is made
// and goes when the task is gone.

// ClaimMachine claims a machine for a task, and gives the task that holds it: that one,
// or another whose claim stands.
func (s *Store) ClaimMachine(ctx context.Context, task, machine string) (holder string, err error) {
	void := ""
	for {
		row, err := cbtClaimScript.Run(ctx, s.rdb, []string{s.home(machine)}, machine, task, void, core.CBTClaimVoid.Milliseconds()).Text()
		if err != nil {
			return "", unavailable("claim machine", err)
		}
		if row == "" {
			return task, nil
		}
		holder, _, _ = strings.Cut(row, "|")
		if row == void {
			return holder, nil // it may be about to be made
		}
		if holds, err := s.holdsMachine(ctx, holder, machine); err != nil || holds {
			return holder, err
		}
		void = row
	}
}

// holdsMachine reports whether a task exists and has the machine.
func (s *Store) holdsMachine(ctx context.Context, task, machine string) (bool, error) {
	t, _, err := s.CBT(ctx, task)
	if core.Is(err, core.NotFound) {
		return false, nil
	}
	return t.Machine(machine) >= 0, err
}

// CBTOf gives the task that a machine is in, or "".
func (s *Store) CBTOf(ctx context.Context, machine string) (string, error) {
	row, err := s.rdb.HGet(ctx, s.home(machine)+":cbtvm", machine).Result()
	if isNil(err) {
		return "", nil
	}
	task, _, _ := strings.Cut(row, "|")
	return task, unavailable("read claim of machine", err)
}

// UnclaimMachine gives back a claim that is not confirmed.
func (s *Store) UnclaimMachine(ctx context.Context, task, machine string) error {
	claims := s.home(machine) + ":cbtvm"
	row, err := s.rdb.HGet(ctx, claims, machine).Result()
	if err != nil && !isNil(err) {
		return unavailable("read claim of machine", err)
	}
	if holder, at, _ := strings.Cut(row, "|"); holder != task || at == "1" {
		return nil
	}
	if err := swapScript.Run(ctx, s.rdb, []string{claims}, machine, row, "").Err(); err != nil {
		return unavailable("give machine back", err)
	}
	return s.claimSettled(ctx, task, machine)
}

// SettleCBTClaim makes a claim agree with whether its task exists: it is confirmed, or
// released. One whose task may yet be made is left to a later call.
func (s *Store) SettleCBTClaim(ctx context.Context, task, machine string) error {
	claims := s.home(machine) + ":cbtvm"
	row, err := s.rdb.HGet(ctx, claims, machine).Result()
	if err != nil && !isNil(err) {
		return unavailable("read claim of machine", err)
	}
	holder, ms, _ := strings.Cut(row, "|")
	if holder != task {
		return s.claimSettled(ctx, task, machine)
	}
	holds, err := s.holdsMachine(ctx, task, machine)
	if err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	made, _ := strconv.ParseInt(ms, 10, 64)
	agreed := task + "|1"
	switch {
	case !holds && now.Sub(fromMillis(made)) < core.CBTClaimVoid:
		return nil
	case !holds:
		agreed = ""
	}
	if err := swapScript.Run(ctx, s.rdb, []string{claims}, machine, row, agreed).Err(); err != nil {
		return unavailable("settle claim of machine", err)
	}
	return s.claimSettled(ctx, task, machine)
}

// claimSettled takes the effect out of the outboxes in which it may stand: of who claimed,
// and of who deleted the task.
func (s *Store) claimSettled(ctx context.Context, task, machine string) error {
	pipe := s.rdb.Pipeline()
	for _, home := range []string{s.home(machine), s.home(task)} {
		pipe.ZRem(ctx, home+":outbox", "cbtvm|"+task+"|"+machine)
	}
	return unavailable("confirm effect", exec(ctx, pipe))
}
