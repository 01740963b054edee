package store

import (
	"context"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// The truth about membership is the group's list. A job's claim, kept beside the
// job, says that it is in a group or about to be, so that it is in one at most;
// SettleMember makes the claim agree with the list.

// CreateGroup stores a new group with version 1; Exists when its uuid is taken.
func (s *Store) CreateGroup(ctx context.Context, g core.Group) error {
	g.Version = 1
	return s.put(ctx, "job group", g.UUID, g, 0, 1)
}

// UpdateGroup replaces a group that still has the version g was read with.
func (s *Store) UpdateGroup(ctx context.Context, g core.Group) error {
	expect := g.Version
	g.Version++
	return s.put(ctx, "job group", g.UUID, g, expect, g.Version)
}

// DeleteGroup deletes a group and gives the jobs and triggers that must forget
// it; ok is false when there was none.
func (s *Store) DeleteGroup(ctx context.Context, uuid string) (jobs, triggers []string, ok bool, err error) {
	r, err := s.call(ctx, dropGroupScript, s.home(uuid), uuid)
	if err != nil {
		return nil, nil, false, unavailable("delete job group", err)
	}
	return reply(r).list(1), reply(r).list(2), reply(r).number(0) == 1, nil
}

// Groups gives the groups with these uuids and their members, in order; those
// that do not exist are left out.
func (s *Store) Groups(ctx context.Context, uuids []string) ([]core.Group, error) {
	if len(uuids) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(uuids))
	members := make([]*redis.ZSliceCmd, len(uuids))
	for k, u := range uuids {
		rows[k] = pipe.HGet(ctx, s.home(u)+":group", u)
		members[k] = pipe.ZRangeWithScores(ctx, s.home(u)+":members:"+u, 0, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, unavailable("read job groups", err)
	}
	out := make([]core.Group, 0, len(uuids))
	for k := range uuids {
		if isNil(rows[k].Err()) {
			continue
		}
		g, err := decodeGroup(rows[k].Val(), members[k].Val())
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

func decodeGroup(row string, members []redis.Z) (core.Group, error) {
	var g core.Group
	if err := decodeRow("job group", row, &g); err != nil {
		return g, err
	}
	for _, z := range members {
		job, _ := z.Member.(string)
		g.Members = append(g.Members, core.Member{Job: job, Added: fromMillis(int64(z.Score))})
	}
	return g, nil
}

// ListGroups gives every group with its members, in no order.
func (s *Store) ListGroups(ctx context.Context) ([]core.Group, error) {
	rows, err := s.all(ctx, root, ":group")
	if err != nil {
		return nil, err
	}
	return s.Groups(ctx, slices.Sorted(maps.Keys(rows)))
}

// Claim claims jobs for a group. NotFound names a job that does not exist,
// Conflict one that is in another group; claims made before are then undone by
// the outbox, or by SettleMember.
func (s *Store) Claim(ctx context.Context, group string, jobs []string) error {
	for home, part := range s.byHome(jobs) {
		r, err := s.call(ctx, claimScript, home, append([]any{group}, part...)...)
		if err != nil {
			return unavailable("claim jobs", err)
		}
		switch reply(r).text(0) {
		case "missing":
			return core.Missing("job", reply(r).text(1))
		case "taken":
			return core.Errorf(core.Conflict, "job %q is in job group %q already; a job is in one group at most, remove it there first", reply(r).text(1), reply(r).text(2))
		}
	}
	return nil
}

func (s *Store) byHome(uuids []string) map[string][]any {
	out := map[string][]any{}
	for _, u := range uuids {
		out[s.home(u)] = append(out[s.home(u)], u)
	}
	return out
}

// Enroll lists claimed jobs in a group of at most most members.
func (s *Store) Enroll(ctx context.Context, group string, jobs []string, most int) error {
	args := []any{group, most}
	for _, j := range jobs {
		args = append(args, j)
	}
	r, err := s.call(ctx, enrollScript, s.home(group), args...)
	if err != nil {
		return unavailable("add jobs to group", err)
	}
	switch reply(r).text(0) {
	case "missing":
		return core.Missing("job group", group)
	case "full":
		have := int(reply(r).number(1))
		return core.Errorf(core.Exhausted, "job group has contained %d job, only %d seats left", have, max(0, most-have))
	}
	return nil
}

// Withdraw takes jobs out of a group's list and gives how many were in it.
func (s *Store) Withdraw(ctx context.Context, group string, jobs []string) (int, error) {
	args := []any{group}
	for _, j := range jobs {
		args = append(args, j)
	}
	r, err := s.call(ctx, withdrawScript, s.home(group), args...)
	return int(reply(r).number(0)), unavailable("remove jobs from group", err)
}

// SettleMember makes a job's claim agree with the group's list. It may be done
// any number of times.
func (s *Store) SettleMember(ctx context.Context, group, job string) error {
	pipe := s.rdb.Pipeline()
	listed := pipe.ZScore(ctx, s.home(group)+":members:"+group, job)
	exists := pipe.HExists(ctx, s.home(job)+":job", job)
	claim := pipe.HGet(ctx, s.home(job)+":jobgroup", job)
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return unavailable("read membership", err)
	}
	var err error
	switch in := listed.Err() == nil; {
	case in && !exists.Val():
		err = s.rdb.ZRem(ctx, s.home(group)+":members:"+group, job).Err()
	case in && claim.Val() == "":
		err = s.rdb.HSetNX(ctx, s.home(job)+":jobgroup", job, group).Err()
	case in && claim.Val() != group:
		// Another group took the job while this one was being written: the claim wins.
		err = s.rdb.ZRem(ctx, s.home(group)+":members:"+group, job).Err()
	case !in && claim.Val() == group:
		err = s.rdb.HDel(ctx, s.home(job)+":jobgroup", job).Err()
	}
	if err != nil {
		return unavailable("settle membership", err)
	}
	effect := []string{"member", group, job}
	if err := s.Done(ctx, id.Partition(job, s.opts.Partitions), effect); err != nil {
		return err
	}
	return s.Done(ctx, id.Partition(group, s.opts.Partitions), effect)
}
