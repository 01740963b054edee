package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// put writes the row of a job or a job group, "<version>|<JSON>".
func (s *Store) put(ctx context.Context, noun, uuid string, row any, expect, version int64) error {
	key, other := s.home(uuid)+":job", s.home(uuid)+":group"
	if noun != "job" {
		key, other = other, key
	}
	b, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode %s: %w", noun, err)
	}
	n, err := putScript.Run(ctx, s.rdb, []string{key, other, editsKey(s.home(uuid))}, uuid, expect, b, version).Int()
	if err != nil {
		return unavailable("write "+noun, err)
	}
	return putResult(n, noun, uuid, expect)
}

// putResult turns what a writing script returns into an error.
func putResult(n int, noun, uuid string, expect int64) error {
	switch {
	case n == 1:
		return nil
	case n == 0:
		return core.Errorf(core.Stale, "the %s was changed by somebody else; read it again and repeat the change", noun)
	case expect == 0:
		return core.Errorf(core.Exists, "uuid %q is taken; choose another one for the %s or leave it out", uuid, noun)
	}
	return core.Missing(noun, uuid)
}

// decodeRow reads "<version>|<JSON>" into row and gives the JSON's own account of
// the version, which equals the prefix.
func decodeRow(noun, text string, row any) error {
	_, body, ok := strings.Cut(text, "|")
	if !ok {
		return fmt.Errorf("read %s row: no version", noun)
	}
	if err := json.Unmarshal([]byte(body), row); err != nil {
		return fmt.Errorf("read %s row: %w", noun, err)
	}
	return nil
}

// CreateJob stores a new job with version 1; Exists when its uuid is taken.
func (s *Store) CreateJob(ctx context.Context, j core.Job) error {
	j.Version = 1
	return s.put(ctx, "job", j.UUID, j, 0, 1)
}

// UpdateJob replaces a job that still has the version j was read with; the new
// version is one more.
func (s *Store) UpdateJob(ctx context.Context, j core.Job) error {
	expect := j.Version
	j.Version++
	return s.put(ctx, "job", j.UUID, j, expect, j.Version)
}

// DeleteJob deletes a job and gives the group and the triggers that must forget
// it; ok is false when there was none.
func (s *Store) DeleteJob(ctx context.Context, uuid string) (group string, triggers []string, ok bool, err error) {
	// A run that has begun may go on for its timeout, and is kept for its retention.
	history := s.opts.RunRetention + core.MaxTimeout
	r, err := s.call(ctx, dropJobScript, s.home(uuid), uuid, history.Milliseconds())
	if err != nil {
		return "", nil, false, unavailable("delete job", err)
	}
	for k := 2; k < len(r); k++ {
		triggers = append(triggers, reply(r).text(k))
	}
	return reply(r).text(1), triggers, reply(r).number(0) == 1, nil
}

// Jobs gives the jobs with these uuids, in order; those that do not exist are
// left out.
func (s *Store) Jobs(ctx context.Context, uuids []string) ([]core.Job, error) {
	if len(uuids) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.StringCmd, len(uuids))
	groups := make([]*redis.StringCmd, len(uuids))
	for k, u := range uuids {
		rows[k] = pipe.HGet(ctx, s.home(u)+":job", u)
		groups[k] = pipe.HGet(ctx, s.home(u)+":jobgroup", u)
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read jobs", err)
	}
	out := make([]core.Job, 0, len(uuids))
	for k := range uuids {
		if isNil(rows[k].Err()) {
			continue
		}
		var j core.Job
		if err := decodeRow("job", rows[k].Val(), &j); err != nil {
			return nil, err
		}
		j.Group = groups[k].Val()
		out = append(out, j)
	}
	return out, nil
}

// ListJobs gives every job, in no order.
func (s *Store) ListJobs(ctx context.Context) ([]core.Job, error) {
	rows, err := s.all(ctx, root, ":job")
	if err != nil {
		return nil, err
	}
	groups, err := s.all(ctx, root, ":jobgroup")
	if err != nil {
		return nil, err
	}
	out := make([]core.Job, 0, len(rows))
	for uuid, text := range rows {
		var j core.Job
		if err := decodeRow("job", text, &j); err != nil {
			return nil, err
		}
		j.Group = groups[uuid]
		out = append(out, j)
	}
	return out, nil
}

// all reads one hash of every partition.
func (s *Store) all(ctx context.Context, root func(int) string, suffix string) (map[string]string, error) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, s.opts.Partitions)
	for n := range cmds {
		cmds[n] = pipe.HGetAll(ctx, root(n)+suffix)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("read all of "+suffix[1:], err)
	}
	out := map[string]string{}
	for _, cmd := range cmds {
		for k, v := range cmd.Val() {
			out[k] = v
		}
	}
	return out, nil
}
