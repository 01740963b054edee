package store

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// Every script that changes a job, a group or the members of one counts the change
// in its partition, under this key. As long as the counters of the partitions that
// a group and its jobs lie in stay what they were, so does the group.
func editsKey(home string) string { return home + ":edits" }

// blueprintJobs bounds what a Store remembers of groups: about this many jobs, at
// most twice as many.
const blueprintJobs = 10_000

// A blueprint is a group with its jobs, and the counters it was read under. It is
// shared and never changed.
type blueprint struct {
	group core.Group
	jobs  []core.Job
	keys  []string // of the counters
	edits []string // their values
}

// blueprints remembers groups. It is safe for concurrent use.
type blueprints struct {
	mu         sync.Mutex
	young, old map[string]*blueprint
	jobs       int // of the young
}

func (b *blueprints) get(group string) *blueprint {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.young[group]; p != nil {
		return p
	}
	p := b.old[group]
	if p != nil {
		b.keep(p)
	}
	return p
}

func (b *blueprints) put(p *blueprint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep(p)
}

func (b *blueprints) keep(p *blueprint) {
	if b.young == nil || b.jobs > blueprintJobs {
		b.young, b.old, b.jobs = map[string]*blueprint{}, b.young, 0
	}
	b.young[p.group.UUID] = p
	b.jobs += len(p.jobs) + 1
}

// Blueprint gives a group and its jobs, in the order of its members, as they are
// now; NotFound when there is no such group. Jobs do not tell their group. It costs
// one small round trip while nothing was edited. The caller must not change what
// it gets.
func (s *Store) Blueprint(ctx context.Context, group string) (core.Group, []core.Job, error) {
	if known := s.drawn.get(group); known != nil {
		now, err := s.edits(ctx, known.keys)
		if err != nil {
			return core.Group{}, nil, err
		}
		if slices.Equal(now, known.edits) {
			return known.group, known.jobs, nil
		}
	}
	p, err := s.draw(ctx, group)
	if err != nil {
		return core.Group{}, nil, err
	}
	s.drawn.put(p)
	return p.group, p.jobs, nil
}

// draw reads a group and its jobs. The counters are read first: an edit that comes
// in between makes the next look differ.
func (s *Store) draw(ctx context.Context, group string) (*blueprint, error) {
	all := make([]string, s.opts.Partitions)
	for n := range all {
		all[n] = editsKey(root(n))
	}
	edits, err := s.edits(ctx, all)
	if err != nil {
		return nil, err
	}
	groups, err := s.Groups(ctx, []string{group})
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, core.Missing("job group", group)
	}
	p := &blueprint{group: groups[0]}
	note := func(uuid string) {
		if n := id.Partition(uuid, s.opts.Partitions); !slices.Contains(p.keys, all[n]) {
			p.keys, p.edits = append(p.keys, all[n]), append(p.edits, edits[n])
		}
	}
	note(group)
	uuids := make([]string, len(p.group.Members))
	for i, m := range p.group.Members {
		uuids[i] = m.Job
		note(m.Job)
	}
	p.jobs, err = s.jobRows(ctx, uuids)
	return p, err
}

// edits reads counters. They have a wire of their own: on that of the admissions they
// would wait for those of others, and be waited for.
func (s *Store) edits(ctx context.Context, keys []string) ([]string, error) {
	values, err := s.looks.Get(ctx, keys...)
	return values, unavailable("read counters of edits", err)
}

// jobRows gives jobs without their groups, in order; those that do not exist are
// left out.
func (s *Store) jobRows(ctx context.Context, uuids []string) ([]core.Job, error) {
	if len(uuids) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(uuids))
	for k, u := range uuids {
		rows[k] = pipe.HGet(ctx, s.home(u)+":job", u)
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read jobs", err)
	}
	out := make([]core.Job, 0, len(uuids))
	for _, row := range rows {
		if isNil(row.Err()) {
			continue
		}
		var j core.Job
		if err := decodeRow("job", row.Val(), &j); err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}
