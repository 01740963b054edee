package redisconn

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// What is owed to a queue by a script may travel with it: Gather.Behind hands what was
// gathered to the next Call of a Fold, which sends it in the same pipeline, behind the
// scripts of all who share that pipeline. One server does the commands of a connection
// in their order, so whoever finds a task finds what its script wrote. Nobody looks at
// the script's answer in between: the tasks are enqueued also where it refused, and who
// takes one of those has to find out. On a cluster, whose nodes know no order among
// them, nothing is taken along.

type behindKey struct{}

// Behind gives a context under which the next Call of a Fold takes along what was
// gathered. Nothing more may be gathered then.
func (g *Gather) Behind(ctx context.Context) context.Context {
	return context.WithValue(ctx, behindKey{}, g)
}

// Went reports whether a Call took the tasks along and all of them are in their queues.
// Where it is false they may be sent, as if Behind had never been called.
func (g *Gather) Went() bool {
	failed := func(item *folded) bool { return item.err != nil }
	return g.aboard && !slices.ContainsFunc(g.items, failed)
}

// along gives what is to be taken along under ctx, to the first that asks.
func (f *Fold) along(ctx context.Context) []*folded {
	g, _ := ctx.Value(behindKey{}).(*Gather)
	if g == nil || g.aboard || !f.inOrder {
		return nil
	}
	g.aboard = true
	for _, item := range g.items {
		item.behind = true
	}
	return g.items
}

// inTurn puts what goes behind to the end. Calls of one script and key become one,
// which must not stand before the script that a later caller's tasks are owed by.
func inTurn(items []*folded) []*folded {
	rank := map[bool]int{true: 1}
	if slices.ContainsFunc(items, func(item *folded) bool { return item.behind }) {
		slices.SortStableFunc(items, func(a, b *folded) int { return cmp.Compare(rank[a.behind], rank[b.behind]) })
	}
	return items
}

var errOvertook = errors.New("was enqueued before the script that it is owed by")

// overtake takes tasks that went behind for not gone when a script before them is made
// again: Redis did not know it, as after a restart, but knew how to enqueue. Whoever found
// them has dropped them by now, since what the script writes was not there.
func overtake(calls, again [][]*folded) {
	before := func(call []*folded) bool { return call[0].script != nil && !call[0].behind }
	if !slices.ContainsFunc(again, before) {
		return
	}
	for _, call := range calls {
		for _, item := range call {
			if item.behind && item.err == nil {
				item.err = errOvertook
			}
		}
	}
}
