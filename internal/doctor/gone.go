package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
)

// A presence is a process that was heard of: a worker by its heartbeats, the others by
// their cards. A process that stops in good order takes its record along, so one that is
// there and silent was killed, or is cut off from Redis. Its record is kept for a day.
type presence struct {
	kind, host    string
	started, seen time.Time
	silent        bool
}

// gone tells who has vanished and was not replaced.
func (c *chart) gone(now time.Time, cards []core.Card, fleet core.Fleet) {
	all := presences(now, cards, fleet)
	var lost []string
	for _, p := range all {
		if p.silent && !replaced(p, all) {
			lost = append(lost, fmt.Sprintf("%s on %s, last heard %v ago (%s)", p.kind, p.host, now.Sub(p.seen).Round(time.Second), p.seen.UTC().Format("15:04:05Z")))
		}
	}
	if len(lost) == 0 {
		c.ok(Processes, "vanished", "no process has vanished without being replaced")
		return
	}
	const most = 5
	text := strings.Join(lost[:min(len(lost), most)], "; ")
	if len(lost) > most {
		text += fmt.Sprintf("; and %d more", len(lost)-most)
	}
	c.sign(redisconn.Warning, "vanished", plural(len(lost), "process has", "processes have")+" vanished without stopping: "+text,
		"see there whether it was killed (for want of memory?) or runs and does not reach Redis, and start it again; said for a day, or until one of its kind is started on that host")
}

// presences are all processes of whom there is a record, the latest heard first.
func presences(now time.Time, cards []core.Card, fleet core.Fleet) []presence {
	var all []presence
	for _, card := range cards {
		if card.Role != "worker" { // heartbeats tell sooner
			all = append(all, presence{card.Role, card.Host, card.Started, card.Seen, now.Sub(card.Seen) > core.CardLife})
		}
	}
	for _, w := range fleet.Workers {
		all = append(all, presence{"worker", w.Host, w.Started, w.Seen, !w.Live})
	}
	slices.SortFunc(all, func(a, b presence) int {
		return cmp.Or(b.seen.Compare(a.seen), cmp.Compare(a.kind, b.kind), cmp.Compare(a.host, b.host))
	})
	return all
}

// replaced reports whether one of the same kind was started on the same host since, by
// the clocks of both, which may differ a little.
func replaced(p presence, all []presence) bool {
	return slices.ContainsFunc(all, func(q presence) bool {
		return q.kind == p.kind && q.host == p.host && q.started.After(p.seen.Add(-skewProblem)) && q.seen.After(p.seen)
	})
}
