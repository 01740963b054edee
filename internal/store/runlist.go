package store

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// maxScan bounds the index rows that one page looks at, so that a filter which
// matches nothing cannot read the whole history; the page then comes back short
// with a cursor.
const maxScan = 5000

// ListRuns gives a page of runs, newest first unless the filter says oldest.
func (s *Store) ListRuns(ctx context.Context, f core.RunFilter) (core.RunPage, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	at, err := parseCursor(f.Cursor)
	if err != nil {
		return core.RunPage{}, err
	}
	keys, err := s.indexes(ctx, f)
	if err != nil {
		return core.RunPage{}, err
	}
	merge := newMerge(s, keys, f, min(limit+1, 200))
	if f.Cursor == "" {
		at = merge.first()
	}
	page := core.RunPage{}
	for page.Looked < maxScan {
		refs, err := merge.next(ctx, at)
		if err != nil {
			return page, err
		}
		if len(refs) == 0 {
			return page, nil
		}
		page.Looked += len(refs)
		matching, err := s.matching(ctx, refs, f)
		if err != nil {
			return page, err
		}
		for _, ref := range refs {
			r, ok := matching[ref.run]
			if ok && len(page.Runs) == limit {
				page.Next = at.cursor()
				return page, nil
			}
			if ok {
				page.Runs = append(page.Runs, r)
			}
			at = ref
		}
	}
	page.Next = at.cursor()
	return page, nil
}

// matching reads runs and gives those that the filter selects.
func (s *Store) matching(ctx context.Context, refs []runRef, f core.RunFilter) (map[string]core.Run, error) {
	ids := make([]string, len(refs))
	for k, r := range refs {
		ids[k] = r.run
	}
	runs, err := s.runs(ctx, ids)
	if err != nil {
		return nil, err
	}
	runs = slices.DeleteFunc(runs, func(r core.Run) bool { return !matches(r, f) })
	if len(f.Jobs) > 0 {
		plans, err := s.Outlines(ctx, runs)
		if err != nil {
			return nil, err
		}
		runs = slices.DeleteFunc(runs, func(r core.Run) bool {
			return !slices.ContainsFunc(f.Jobs, func(job string) bool { _, ok := plans[r.Plan][job]; return ok })
		})
	}
	out := make(map[string]core.Run, len(runs))
	for _, r := range runs {
		out[r.ID] = r
	}
	return out, nil
}

func matches(r core.Run, f core.RunFilter) bool {
	if f.Account != "" && r.Account != f.Account || f.Kind != "" && r.Target.Kind != f.Kind ||
		f.Dialect != "" && r.Dialect != f.Dialect || f.Trigger != "" && r.Trigger != f.Trigger ||
		f.Target != "" && r.Target.UUID != f.Target {
		return false
	}
	return within(f.States, r.State) && within(f.Kinds, r.Target.Kind) && within(f.Targets, r.Target.UUID) && within(f.Triggers, r.Trigger)
}

// within reports whether a list that selects all when it is empty selects x.
func within[T comparable](list []T, x T) bool { return len(list) == 0 || slices.Contains(list, x) }

// indexes gives the narrowest indexes of all partitions that may hold a match.
func (s *Store) indexes(ctx context.Context, f core.RunFilter) ([]index, error) {
	targets, triggers := slices.Clone(f.Targets), slices.Clone(f.Triggers)
	if f.Target != "" {
		targets = []string{f.Target}
	}
	if f.Trigger != "" {
		triggers = []string{f.Trigger}
	}
	if len(targets) == 0 {
		for _, job := range f.Jobs {
			more, err := s.JobTargets(ctx, job)
			if err != nil {
				return nil, err
			}
			targets = append(targets, more...)
		}
	}
	var out []index
	for _, t := range distinct(targets) {
		out = append(out, index{s.home(t), ":runs:" + t, true})
	}
	if len(targets) > 0 {
		return out, nil
	}
	for n := range s.opts.Partitions {
		for _, t := range distinct(triggers) {
			out = append(out, index{root(n), ":runs:by:" + t, true})
		}
		if len(triggers) == 0 {
			out = append(out, index{root(n), ":runs", false})
		}
	}
	return out, nil
}

// A runRef is a place in the order of all runs: by creation stamp, then by partition,
// within which stamps are distinct.
type runRef struct {
	stamp int64
	run   string
}

func (r runRef) compare(o runRef) int { // oldest first
	if r.stamp != o.stamp {
		return cmp.Compare(r.stamp, o.stamp)
	}
	a, _ := id.RunPartition(r.run)
	b, _ := id.RunPartition(o.run)
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(r.run, o.run))
}

func (r runRef) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(r.stamp, 10) + "." + r.run))
}

func parseCursor(c string) (runRef, error) {
	if c == "" {
		return runRef{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	stamp, run, ok := strings.Cut(string(b), ".")
	n, err2 := strconv.ParseInt(stamp, 10, 64)
	if err != nil || err2 != nil || !ok {
		return runRef{}, core.InvalidField("cursor", "the cursor is not one that this server gave; leave it out to start at the first page")
	}
	return runRef{n, run}, nil
}

// An indexMerge reads several indexes as one, in either direction, from low until
// before high.
type indexMerge struct {
	store     *Store
	keys      []index
	low, high int64
	page      int
	oldest    bool
}

func newMerge(s *Store, keys []index, f core.RunFilter, page int) *indexMerge {
	m := &indexMerge{store: s, keys: keys, high: 1 << 52, page: page, oldest: f.Oldest}
	if !f.After.IsZero() {
		m.low = millisFrom(f.After)
	}
	if !f.Before.IsZero() {
		m.high = millisFrom(f.Before)
	}
	return m
}

// first is the place before all others.
func (m *indexMerge) first() runRef {
	if m.oldest {
		return runRef{stamp: m.low - 1}
	}
	return runRef{stamp: m.high}
}

// after reports whether ref follows at.
func (m *indexMerge) after(ref, at runRef) bool {
	order := ref.compare(at)
	if at.run == "" { // no run, but a bound: what has its stamp is outside
		order = cmp.Compare(ref.stamp, at.stamp)
	}
	return m.oldest && order > 0 || !m.oldest && order < 0
}

// next gives the refs that follow at: as many as are certain to be in order.
func (m *indexMerge) next(ctx context.Context, at runRef) ([]runRef, error) {
	pipe := m.store.rdb.Pipeline()
	cmds := make([]*redis.ZSliceCmd, len(m.keys))
	for k, x := range m.keys {
		// Runs of one partition have distinct stamps, so at most one ref of a
		// partition has the cursor's own stamp.
		by := &redis.ZRangeBy{Min: strconv.FormatInt(m.low, 10), Max: strconv.FormatInt(m.high-1, 10), Count: int64(m.page + 1)}
		if m.oldest {
			by.Min = strconv.FormatInt(max(m.low, at.stamp), 10)
			cmds[k] = pipe.ZRangeByScoreWithScores(ctx, x.home+x.suffix, by)
		} else {
			by.Max = strconv.FormatInt(min(m.high-1, at.stamp), 10)
			cmds[k] = pipe.ZRevRangeByScoreWithScores(ctx, x.home+x.suffix, by)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("list runs", err)
	}
	h := &refHeap{oldest: m.oldest}
	for _, cmd := range cmds {
		refs := make([]runRef, 0, len(cmd.Val()))
		for _, z := range cmd.Val() {
			run, _ := z.Member.(string)
			if ref := (runRef{int64(z.Score), run}); m.after(ref, at) {
				refs = append(refs, ref)
			}
		}
		if len(refs) > 0 {
			h.lists = append(h.lists, refs)
		}
	}
	heap.Init(h)
	var out []runRef
	for h.Len() > 0 && len(out) < m.page {
		first := h.lists[0]
		out = append(out, first[0])
		if len(first) == 1 {
			heap.Pop(h)
		} else {
			h.lists[0] = first[1:]
			heap.Fix(h, 0)
		}
	}
	return out, nil
}

// A refHeap has the list on top whose first ref comes first.
type refHeap struct {
	lists  [][]runRef
	oldest bool
}

func (h *refHeap) Len() int { return len(h.lists) }
func (h *refHeap) Less(i, j int) bool {
	order := h.lists[i][0].compare(h.lists[j][0])
	return h.oldest && order < 0 || !h.oldest && order > 0
}
func (h *refHeap) Swap(i, j int) { h.lists[i], h.lists[j] = h.lists[j], h.lists[i] }
func (h *refHeap) Push(x any)    { h.lists = append(h.lists, x.([]runRef)) }
func (h *refHeap) Pop() any {
	last := h.lists[len(h.lists)-1]
	h.lists = h.lists[:len(h.lists)-1]
	return last
}
