package store

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Counting goes down a tree of spans of time: 32 days, days, hours, then halves,
// until a span holds few enough runs to be looked at in one script.
//
// What a span was found to hold is remembered by the process. It holds as long as
// the span holds as many runs: in the past of a partition no run is made any more
// (stamps ascend), so that the same number is the same runs; and what has ended does
// not change. So a count looks at new runs only, and asks Redis for the number of runs
// in the largest spans that it remembers. The first count of a process looks at
// all runs, at up to five microseconds each; one that is cut short goes on from there when
// it is asked for again.

const (
	// tallyRuns is how many runs one script looks at.
	tallyRuns = core.Chunk
	// tallyBatch is how many such scripts travel together. Redis does them one after
	// another before it turns to anybody else: these take it some 10 ms.
	tallyBatch = 4
	// tallySpans is how many spans are remembered, at most twice as many.
	tallySpans = 50_000
)

// Sizes of spans in ms, each a multiple of the next. Below the last they are halved.
const (
	hourSpan  = int64(3_600_000)
	daySpan   = 24 * hourSpan
	monthSpan = 32 * daySpan
)

// An index is one of the sets of runs by creation stamp.
type index struct {
	home, suffix string
	fine         bool // its tallies tell targets, triggers and plans apart
}

// A span is a part of an index: [lo, hi) in ms.
type span struct {
	index
	lo, hi int64
}

func (s span) within(low, high int64) bool { return low <= s.lo && s.hi <= high }

// counts are runs, steps and succeeded steps by what tally.lua calls their text.
type counts map[string][3]int64

func (c counts) add(other counts) {
	for text, n := range other {
		have := c[text]
		c[text] = [3]int64{have[0] + n[0], have[1] + n[1], have[2] + n[2]}
	}
}

// open reports whether any of the runs has not ended.
func (c counts) open() bool {
	for text := range c {
		if f := strings.SplitN(text, "\n", 5); len(f) < 4 || f[3] == string(core.RunOpen) {
			return true
		}
	}
	return false
}

// A tallied span holds so many runs, all of which have ended.
type tallied struct {
	runs  int64
	found counts
}

// A tallyNode is a span on the way down, for one of the columns asked for.
type tallyNode struct {
	span
	column int
	parent *tallyNode // covered by its column as well, or nil
	runs   int64
	seen   int64 // runs found by the nodes below
	found  counts
}

// Tally counts runs by account, dialect, type and class from each cut to the next,
// and by target, trigger and plan where the filter names targets, triggers or jobs.
// Everything else in the filter is left to the caller.
func (s *Store) Tally(ctx context.Context, f core.RunFilter, cuts []time.Time) ([][]core.Tally, error) {
	keys, err := s.indexes(ctx, f)
	if err != nil || len(cuts) < 2 {
		return nil, err
	}
	ends, err := s.indexEnds(ctx, keys)
	if err != nil {
		return nil, err
	}
	t := &tally{store: s, leaf: cmp.Or(s.tallied.leaf, tallyRuns), cuts: make([]int64, len(cuts)), ends: ends, columns: make([]counts, len(cuts)-1)}
	for i, at := range cuts {
		t.cuts[i] = millisFrom(at)
	}
	for i := range t.columns {
		t.columns[i] = counts{}
	}
	if err := t.run(ctx); err != nil {
		if overdue(ctx) {
			return nil, core.Wrap(core.Unavailable, err, "there are more runs to count than can be looked at in time; those that were are remembered: ask again, and the count goes on")
		}
		return nil, unavailable("count runs", err)
	}
	out := make([][]core.Tally, len(t.columns))
	for i, c := range t.columns {
		out[i] = c.tallies()
	}
	return out, nil
}

// overdue reports whether ctx has had its time.
func overdue(ctx context.Context) bool {
	due, ok := ctx.Deadline()
	return ok && !time.Now().Before(due)
}

// indexEnds gives the stamps of the oldest and the newest run of indexes that have any.
func (s *Store) indexEnds(ctx context.Context, keys []index) (map[index][2]int64, error) {
	pipe := s.rdb.Pipeline()
	first, last := make([]*redis.ZSliceCmd, len(keys)), make([]*redis.ZSliceCmd, len(keys))
	for k, x := range keys {
		first[k] = pipe.ZRangeWithScores(ctx, x.home+x.suffix, 0, 0)
		last[k] = pipe.ZRangeWithScores(ctx, x.home+x.suffix, -1, -1)
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, unavailable("read the ends of run lists", err)
	}
	ends := map[index][2]int64{}
	for k, x := range keys {
		if a, b := first[k].Val(), last[k].Val(); len(a) == 1 && len(b) == 1 {
			ends[x] = [2]int64{int64(a[0].Score), int64(b[0].Score)}
		}
	}
	return ends, nil
}

// A tally is one count under way.
type tally struct {
	store   *Store
	leaf    int64
	cuts    []int64
	ends    map[index][2]int64
	columns []counts
	inner   []*tallyNode
}

// run goes down the tree level by level, all columns and indexes together.
func (t *tally) run(ctx context.Context) error {
	for level := t.roots(); len(level) > 0; {
		if err := t.number(ctx, level); err != nil {
			return err
		}
		var below, leaves []*tallyNode
		for _, n := range level {
			switch known, ok := t.recall(n); {
			case n.runs == 0:
			case ok:
				t.found(n, known.runs, known.found)
			case n.runs <= t.leaf || n.hi-n.lo <= 1:
				leaves = append(leaves, n)
			default:
				below = append(below, t.split(n)...)
			}
		}
		for len(leaves) > 0 {
			part := leaves[:min(tallyBatch, len(leaves))]
			if err := t.look(ctx, part); err != nil {
				return err
			}
			leaves = leaves[len(part):]
		}
		level = below
	}
	for _, n := range t.inner {
		t.remember(n, n.seen, n.found)
	}
	return nil
}

// roots gives the largest spans that meet a column and hold runs.
func (t *tally) roots() (out []*tallyNode) {
	for column := range t.columns {
		for x, ends := range t.ends {
			low, high := max(t.cuts[column], ends[0]), min(t.cuts[column+1], ends[1]+1)
			if low < high {
				out = append(out, t.pieces(x, column, low, high, monthSpan, nil)...)
			}
		}
	}
	return out
}

// pieces gives the spans of a size that meet [low, high).
func (t *tally) pieces(x index, column int, low, high, size int64, parent *tallyNode) (out []*tallyNode) {
	for lo := low - (low%size+size)%size; lo < high; lo += size {
		out = append(out, &tallyNode{span: span{x, lo, lo + size}, column: column, parent: parent})
	}
	return out
}

func (t *tally) split(n *tallyNode) []*tallyNode {
	size := (n.hi - n.lo + 1) / 2
	switch {
	case n.hi-n.lo > daySpan:
		size = daySpan
	case n.hi-n.lo > hourSpan:
		size = hourSpan
	}
	var parent *tallyNode
	if t.covered(n) {
		parent = n
		n.found = counts{}
		t.inner = append(t.inner, n)
	}
	low, high := t.clip(n)
	var out []*tallyNode
	for lo := n.lo; lo < n.hi; lo += size {
		if hi := min(lo+size, n.hi); lo < high && low < hi {
			out = append(out, &tallyNode{span: span{n.index, lo, hi}, column: n.column, parent: parent})
		}
	}
	return out
}

func (t *tally) covered(n *tallyNode) bool { return n.within(t.cuts[n.column], t.cuts[n.column+1]) }

// clip gives the part of a span that its column covers.
func (t *tally) clip(n *tallyNode) (low, high int64) {
	return max(n.lo, t.cuts[n.column]), min(n.hi, t.cuts[n.column+1])
}

// number asks how many runs each span holds.
func (t *tally) number(ctx context.Context, level []*tallyNode) error {
	pipe := t.store.rdb.Pipeline()
	cmds := make([]*redis.IntCmd, len(level))
	for k, n := range level {
		low, high := t.clip(n)
		cmds[k] = pipe.ZCount(ctx, n.home+n.suffix, strconv.FormatInt(low, 10), strconv.FormatInt(high-1, 10))
	}
	if err := exec(ctx, pipe); err != nil {
		return err
	}
	for k, n := range level {
		n.runs = cmds[k].Val()
	}
	return nil
}

// look counts what leaves hold.
func (t *tally) look(ctx context.Context, leaves []*tallyNode) error {
	pipe := t.store.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(leaves))
	for k, n := range leaves {
		cmds[k] = tallyScript.EvalSha(ctx, pipe, []string{n.home}, t.args(n)...)
	}
	_, err := pipe.Exec(ctx)
	for k, n := range leaves {
		got, err := cmds[k].Slice()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			got, err = t.store.call(ctx, tallyScript, n.home, t.args(n)...)
		}
		if err != nil {
			return err
		}
		runs, found := reply(got).number(0), countsOf(got)
		t.found(n, runs, found)
		t.remember(n, runs, found)
	}
	if err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return err
	}
	return nil
}

func (t *tally) args(n *tallyNode) []any {
	low, high := t.clip(n)
	fine := ""
	if n.fine {
		fine = "1"
	}
	return []any{n.suffix, low, high - 1, fine}
}

func countsOf(r reply) counts {
	c := counts{}
	for k := 1; k+3 < len(r); k += 4 {
		c[r.text(k)] = [3]int64{r.number(k + 1), r.number(k + 2), r.number(k + 3)}
	}
	return c
}

// found adds what a span holds to its column and to the spans above it.
func (t *tally) found(n *tallyNode, runs int64, c counts) {
	t.columns[n.column].add(c)
	for up := n.parent; up != nil; up = up.parent {
		up.seen += runs
		up.found.add(c)
	}
}

func (t *tally) recall(n *tallyNode) (tallied, bool) {
	if !t.covered(n) {
		return tallied{}, false
	}
	known, ok := t.store.tallied.get(n.span)
	return known, ok && known.runs == n.runs
}

// remember keeps what a span holds, where that is the truth for good.
func (t *tally) remember(n *tallyNode, seen int64, c counts) {
	past := n.hi <= t.ends[n.index][1]+1
	if past && t.covered(n) && seen == n.runs && !c.open() {
		t.store.tallied.put(n.span, tallied{seen, c})
	}
}

// tallies gives counts as the caller wants them.
func (c counts) tallies() []core.Tally {
	out := make([]core.Tally, 0, len(c))
	for text, n := range c {
		f := append(strings.SplitN(text, "\n", 8), "", "", "", "", "", "", "", "")
		for i := range f {
			f[i] = bare(f[i])
		}
		out = append(out, core.Tally{
			Account: f[0], Dialect: core.Dialect(f[1]), Type: f[2], Class: core.RunClass(f[3]),
			Target: core.Target{Kind: core.TargetKind(f[4]), UUID: f[5]}, Trigger: f[6], Plan: f[7],
			Runs: n[0], Steps: n[1], Succeeded: n[2],
		})
	}
	return out
}

// bare gives a text that JSON holds without its escapes.
func bare(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var out string
	if err := json.Unmarshal([]byte(`"`+text+`"`), &out); err != nil {
		return text
	}
	return out
}
