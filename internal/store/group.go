package store

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
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
	if err := exec(ctx, pipe); err != nil {
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

// settleTries bounds how often SettleMember follows a membership that changes
// under its hands; what then remains stays in the outbox.
const settleTries = 8

// SettleMember makes a job's claim agree with the group's list. It may be done
// any number of times.
func (s *Store) SettleMember(ctx context.Context, group, job string) error {
	for range settleTries {
		m, err := s.membership(ctx, group, job)
		if err != nil {
			return unavailable("read membership", err)
		}
		agreed, err := s.agree(ctx, group, job, m)
		if err != nil {
			return unavailable("settle membership", err)
		}
		if agreed {
			return s.confirmMember(ctx, group, job, m)
		}
	}
	return nil
}

// A membership is what the two sides say of a job and a group.
type membership struct {
	listed, exists       bool
	claim                string // the group that claims the job, or ""
	jobSince, groupSince string // age of the effect in the outbox of each side, or ""
}

func (s *Store) membership(ctx context.Context, group, job string) (membership, error) {
	effect := memberEffect(group, job)
	pipe := s.rdb.Pipeline()
	// The outboxes are read first: an effect that comes after is not confirmed.
	jobSince := pipe.ZScore(ctx, s.home(job)+":outbox", effect)
	groupSince := pipe.ZScore(ctx, s.home(group)+":outbox", effect)
	listed := pipe.ZScore(ctx, s.home(group)+":members:"+group, job)
	exists := pipe.HExists(ctx, s.home(job)+":job", job)
	claim := pipe.HGet(ctx, s.home(job)+":jobgroup", job)
	if err := exec(ctx, pipe); err != nil {
		return membership{}, err
	}
	return membership{listed.Err() == nil, exists.Val(), claim.Val(), scoreText(jobSince), scoreText(groupSince)}, nil
}

// agree takes one step towards agreement; true means that there is nothing to do.
func (s *Store) agree(ctx context.Context, group, job string, m membership) (bool, error) {
	members, claims := s.home(group)+":members:"+group, s.home(job)+":jobgroup"
	switch {
	case m.listed && (!m.exists || m.claim != "" && m.claim != group):
		// The job is gone, or another group took it while this list was being
		// written: the claim wins.
		_, err := s.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.ZRem(ctx, members, job)
			tx.Incr(ctx, editsKey(s.home(group)))
			return nil
		})
		return false, err
	case m.listed && m.claim == "":
		return false, s.rdb.HSetNX(ctx, claims, job, group).Err()
	case !m.listed && m.claim == group:
		return false, unclaimScript.Run(ctx, s.rdb, []string{claims}, job, group).Err()
	}
	return true, nil
}

func (s *Store) confirmMember(ctx context.Context, group, job string, m membership) error {
	effect := memberEffect(group, job)
	for _, side := range []struct{ key, since string }{{s.home(job) + ":outbox", m.jobSince}, {s.home(group) + ":outbox", m.groupSince}} {
		if side.since == "" {
			continue
		}
		if err := confirmScript.Run(ctx, s.rdb, []string{side.key}, effect, side.since).Err(); err != nil {
			return unavailable("confirm effect", err)
		}
	}
	return nil
}

func memberEffect(group, job string) string { return "member|" + group + "|" + job }

// scoreText writes a score as a script reads it, "" for none.
func scoreText(score *redis.FloatCmd) string {
	if score.Err() != nil {
		return ""
	}
	return strconv.FormatInt(int64(score.Val()), 10)
}
