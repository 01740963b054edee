package store

import (
	"context"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// outlineSteps bounds what a Store remembers of outlines: about this many steps, at
// most twice as many.
const outlineSteps = 100_000

// outlines remembers the outlines of plans, which are named by their content and so
// never go stale. It is safe for concurrent use.
type outlines struct {
	mu         sync.Mutex
	young, old map[string]core.Outline
	steps      int // of the young
}

func (m *outlines) get(plan string) (core.Outline, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.young[plan]; ok {
		return o, true
	}
	o, ok := m.old[plan]
	if ok {
		m.keep(plan, o)
	}
	return o, ok
}

func (m *outlines) put(plan string, o core.Outline) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(plan, o)
}

func (m *outlines) keep(plan string, o core.Outline) {
	if m.young == nil || m.steps > outlineSteps {
		m.young, m.old, m.steps = map[string]core.Outline{}, m.young, 0
	}
	m.young[plan] = o
	m.steps += len(o) + 1
}

// Outlines gives the outlines of runs by their plans; of a run it needs Plan and
// Target. A plan whose last run is gone by now may be left out.
func (s *Store) Outlines(ctx context.Context, runs []core.Run) (map[string]core.Outline, error) {
	out := make(map[string]core.Outline, 1)
	pipe := s.rdb.Pipeline()
	read := map[string]*redis.MapStringStringCmd{}
	for _, r := range runs {
		if out[r.Plan] != nil || read[r.Plan] != nil {
			continue
		}
		if o, ok := s.outlines.get(r.Plan); ok {
			out[r.Plan] = o
			continue
		}
		read[r.Plan] = pipe.HGetAll(ctx, s.home(r.Target.UUID)+":plan:"+r.Plan)
	}
	if len(read) == 0 {
		return out, nil
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read plans", err)
	}
	for plan, cmd := range read {
		if len(cmd.Val()) == 0 {
			continue
		}
		o, err := outlineOf(cmd.Val())
		if err != nil {
			return nil, err
		}
		s.outlines.put(plan, o)
		out[plan] = o
	}
	return out, nil
}

func outlineOf(rows map[string]string) (core.Outline, error) {
	o := make(core.Outline, len(rows))
	for field, row := range rows {
		i, ok := stepIndex(field)
		if !ok {
			continue // refs
		}
		job, err := jobOf(row)
		if err != nil {
			return nil, err
		}
		o[job] = i
	}
	return o, nil
}

// jobOf reads the job off a plan's row. It is the first of the row's members.
func jobOf(row string) (string, error) {
	_, text, _ := strings.Cut(row, "|")
	if rest, ok := strings.CutPrefix(text, `{"job":"`); ok {
		if job, _, ok := strings.Cut(rest, `"`); ok && !strings.Contains(job, `\`) {
			return strings.Clone(job), nil // the row is long
		}
	}
	p, err := decodePlanned(row)
	return p.Job, err
}

// JobTargets gives the targets whose runs may have steps of a job: the job itself
// and every group that it is in or was in, the latest last.
func (s *Store) JobTargets(ctx context.Context, job string) ([]string, error) {
	pipe := s.rdb.Pipeline()
	was := pipe.ZRange(ctx, wasKey(s.home(job), job), 0, -1)
	is := pipe.HGet(ctx, s.home(job)+":jobgroup", job)
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read groups of job", err)
	}
	out := append([]string{job}, was.Val()...)
	if g := is.Val(); g != "" { // its note is missing when an older version enrolled it
		out = append(out, g)
	}
	return distinct(out), nil
}

// wasKey holds the groups that have claimed a job, by the time of the claim: a job
// is in one group at most, but its history is also that of those before.
func wasKey(home, job string) string { return home + ":was:" + job }

func distinct(all []string) []string {
	seen := make(map[string]bool, len(all))
	out := all[:0]
	for _, x := range all {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}
