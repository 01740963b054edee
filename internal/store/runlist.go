package store

import (
	"container/heap"
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// maxScan bounds the index rows that one page looks at, so that a filter which
// matches nothing cannot read the whole history; the page then comes back short
// with a cursor.
const maxScan = 5000

// ListRuns gives a page of runs, newest first.
func (s *Store) ListRuns(ctx context.Context, f core.RunFilter) (core.RunPage, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	at, err := parseCursor(f.Cursor)
	if err != nil {
		return core.RunPage{}, err
	}
	if at.stamp == 0 {
		at.stamp = 1 << 52
		if !f.Before.IsZero() {
			at.stamp = millisFrom(f.Before)
		}
	}
	low := int64(0)
	if !f.After.IsZero() {
		low = millisFrom(f.After)
	}
	merge := &indexMerge{store: s, keys: s.indexKeys(f), low: strconv.FormatInt(low, 10), page: min(limit+1, 200)}
	page := core.RunPage{}
	for scanned := 0; scanned < maxScan; {
		refs, err := merge.next(ctx, &at)
		if err != nil {
			return page, err
		}
		if len(refs) == 0 {
			return page, nil
		}
		ids := make([]string, len(refs))
		for k, r := range refs {
			ids[k] = r.run
		}
		runs, err := s.runs(ctx, ids)
		if err != nil {
			return page, err
		}
		byID := make(map[string]core.Run, len(runs))
		for _, r := range runs {
			byID[r.ID] = r
		}
		for _, ref := range refs {
			r, ok := byID[ref.run]
			if !ok || !matches(r, f) {
				at = ref
				continue
			}
			if len(page.Runs) == limit {
				page.Next = at.cursor()
				return page, nil
			}
			page.Runs = append(page.Runs, r)
			at = ref
		}
		scanned += len(refs)
	}
	page.Next = at.cursor()
	return page, nil
}

func matches(r core.Run, f core.RunFilter) bool {
	if f.Account != "" && r.Account != f.Account || f.Kind != "" && r.Target.Kind != f.Kind ||
		f.Dialect != "" && r.Dialect != f.Dialect || f.Trigger != "" && r.Trigger != f.Trigger ||
		f.Target != "" && r.Target.UUID != f.Target {
		return false
	}
	if len(f.States) == 0 {
		return true
	}
	for _, st := range f.States {
		if r.State == st {
			return true
		}
	}
	return false
}

// indexKeys gives the narrowest index of each partition that may hold a match.
func (s *Store) indexKeys(f core.RunFilter) []string {
	if f.Target != "" {
		return []string{s.home(f.Target) + ":runs:" + f.Target}
	}
	suffix := ":runs"
	if f.Trigger != "" {
		suffix = ":runs:by:" + f.Trigger
	}
	keys := make([]string, s.opts.Partitions)
	for n := range keys {
		keys[n] = root(n) + suffix
	}
	return keys
}

// A runRef is a place in the order of all runs: by creation stamp, then by id.
type runRef struct {
	stamp int64
	run   string
}

func (r runRef) before(o runRef) bool { // newer first
	if r.stamp != o.stamp {
		return r.stamp > o.stamp
	}
	return r.run > o.run
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

// An indexMerge reads the indexes of several partitions as one, newest first.
type indexMerge struct {
	store *Store
	keys  []string
	low   string
	page  int
}

// next gives the refs that follow at: as many as are certain to be in order.
func (m *indexMerge) next(ctx context.Context, at *runRef) ([]runRef, error) {
	pipe := m.store.rdb.Pipeline()
	cmds := make([]*redis.ZSliceCmd, len(m.keys))
	for k, key := range m.keys {
		// Runs of one partition have distinct stamps, so at most one ref of a
		// partition has the cursor's own stamp.
		cmds[k] = pipe.ZRevRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{
			Max: strconv.FormatInt(at.stamp, 10), Min: m.low, Count: int64(m.page + 1),
		})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("list runs", err)
	}
	h := &refHeap{}
	for _, cmd := range cmds {
		refs := make([]runRef, 0, len(cmd.Val()))
		for _, z := range cmd.Val() {
			run, _ := z.Member.(string)
			ref := runRef{int64(z.Score), run}
			if at.run == "" && ref.stamp < at.stamp || at.run != "" && at.before(ref) {
				refs = append(refs, ref)
			}
		}
		if len(refs) > 0 {
			*h = append(*h, refs)
		}
	}
	heap.Init(h)
	var out []runRef
	for h.Len() > 0 && len(out) < m.page {
		first := (*h)[0]
		out = append(out, first[0])
		if len(first) == 1 {
			heap.Pop(h)
		} else {
			(*h)[0] = first[1:]
			heap.Fix(h, 0)
		}
	}
	return out, nil
}

type refHeap [][]runRef

func (h refHeap) Len() int           { return len(h) }
func (h refHeap) Less(i, j int) bool { return h[i][0].before(h[j][0]) }
func (h refHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *refHeap) Push(x any)        { *h = append(*h, x.([]runRef)) }
func (h *refHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
