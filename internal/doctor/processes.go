package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
)

// Bounds of the difference between the clocks of two processes.
const (
	skewWarning = 200 * time.Millisecond
	skewProblem = 2 * time.Second
)

// processes looks at who has vanished, and at what the others say of themselves.
func (c *chart) processes(ctx context.Context, now time.Time, fleet core.Fleet) {
	cards, err := c.Records.Cards(ctx)
	if err != nil {
		c.unread(Processes, "cards", err)
		return
	}
	c.gone(now, cards, fleet)
	alive := slices.DeleteFunc(cards, func(card core.Card) bool { return now.Sub(card.Seen) > core.CardLife })
	if len(alive) == 0 {
		return // shards and workers have told who is missing
	}
	slices.SortFunc(alive, func(a, b core.Card) int { return int(a.Ahead - b.Ahead) })
	c.clocks(alive)
	c.versions(alive)
	c.zones(alive)
	c.clientZones(alive)
}

// shards looks at the leases of a role. A killed holder's are taken over within
// four seconds, which is waited for.
func (c *chart) shards(ctx context.Context, role, process, without string) {
	var table core.LeaseTable
	var err error
	again(ctx, func() bool {
		table, err = c.Records.Leases(ctx, role, c.Records.Partitions())
		return err == nil && (len(table.Members) == 0 || len(table.Free()) == 0)
	})
	check, free := process+" shards", table.Free()
	switch {
	case err != nil:
		c.unread(Processes, check, err)
	case len(table.Members) == 0:
		c.sign(redisconn.Problem, check, fmt.Sprintf("no %s process is alive: %s", process, without), fmt.Sprintf("start %s processes, two at best", process))
	case len(free) > 0:
		c.sign(redisconn.Problem, check, fmt.Sprintf("nobody holds shards %v, with %s alive", free, plural(len(table.Members), process+" process", process+" processes")),
			fmt.Sprintf("see the log of the %s processes for leases that are not renewed, and restart them", process))
	case len(table.Members) == 1:
		c.ok(Processes, check, fmt.Sprintf("one %s process holds all %d; a second one would take over from it", process, table.Shards))
	default:
		c.ok(Processes, check, fmt.Sprintf("%d %s processes hold all %d", len(table.Members), process, table.Shards))
	}
}

// workers looks at who is there to execute; t is nil where it is not known what waits.
func (c *chart) workers(t *tallyOf, fleet core.Fleet) {
	var live, draining, slots, busy int
	for _, w := range fleet.Workers {
		if !w.Live {
			continue
		}
		live++
		slots, busy = slots+w.Slots, busy+w.Busy
		if w.Draining {
			draining++
		}
	}
	severity, waits := redisconn.Warning, ""
	if t != nil && t.Sent+t.Parked > 0 {
		severity, waits = redisconn.Problem, ", and "+plural(t.Sent+t.Parked, "step waits", "steps wait")
	}
	text := fmt.Sprintf("%s alive, %d of %s in use", plural(live, "worker", "workers"), busy, plural(slots, "slot", "slots"))
	switch {
	case live == 0:
		c.sign(severity, "workers", "no worker is alive: nothing is executed"+waits,
			"start worker processes, two at best; where they run already they do not reach Redis, and their logs say why: a network that is cut, or a user or password that Redis refuses")
	case draining == live:
		c.add(Processes, "workers", severity, text+", all of them draining"+waits, "start worker processes")
	default:
		c.ok(Processes, "workers", text)
	}
}

// clocks compares the processes with each other, by what each measured of its
// own difference to Redis. alive is sorted by it.
func (c *chart) clocks(alive []core.Card) {
	slow, fast := alive[0], alive[len(alive)-1]
	apart := fast.Ahead - slow.Ahead - (fast.RoundTrip+slow.RoundTrip)/2
	text := fmt.Sprintf("the clocks of %s are at most %v apart", plural(len(alive), "process", "processes"), max(apart, 0).Round(time.Millisecond))
	if apart < skewWarning {
		c.ok(Processes, "clocks", text)
		return
	}
	severity := redisconn.Warning
	if apart >= skewProblem {
		severity = redisconn.Problem
	}
	c.add(Processes, "clocks", severity, fmt.Sprintf("%s: %s is %v ahead of Redis, %s %v", text, nameOf(fast), fast.Ahead.Round(time.Millisecond), nameOf(slow), slow.Ahead.Round(time.Millisecond)),
		"let all machines follow one time server (chrony, ntpd): slots are published by the trigger process's own clock")
}

func nameOf(card core.Card) string { return card.Role + " on " + card.Host }

// versions compares releases.
func (c *chart) versions(alive []core.Card) {
	count := map[string]int{}
	for _, card := range alive {
		count[card.Role+" "+card.Version]++
	}
	distinct := map[string]bool{}
	for _, card := range alive {
		distinct[card.Version] = true
	}
	if len(distinct) > 1 {
		c.warn(Processes, "versions", "processes of several versions run: "+tally(count), "finish the upgrade; side by side they work meanwhile")
		return
	}
	c.ok(Processes, "versions", "all processes run the same version: "+tally(count))
}

// zones compares the time zone rules of those who compute slots. A binary has its
// own and never looks at the host's, so they differ with the binaries only.
func (c *chart) zones(alive []core.Card) {
	count, hashes, version := map[string]int{}, map[string]bool{}, ""
	for _, card := range alive {
		if card.Role == "worker" {
			continue
		}
		count[fmt.Sprintf("%s with %s (%s)", nameOf(card), card.Zones, card.ZonesHash)]++
		hashes[card.ZonesHash] = true
		version = card.Zones
	}
	switch {
	case len(hashes) > 1:
		c.problem(Processes, "tzdata", "processes read time zones differently: "+tally(count), "run the same version everywhere: the rules are part of the binary, and two trigger processes must not compute different slots")
	case len(hashes) == 1:
		c.ok(Processes, "tzdata", "api and trigger processes have the rules of "+version+", built in")
	}
}

// clientZones compares what api processes take for the zone of ZStack's clients: where
// api.zstack.timezone is left out, each takes its host's.
func (c *chart) clientZones(alive []core.Card) {
	hosts := map[string][]string{}
	for _, card := range alive {
		if card.Zone != "" {
			hosts[card.Zone] = append(hosts[card.Zone], card.Host)
		}
	}
	zones := slices.Sorted(maps.Keys(hosts))
	switch len(zones) {
	case 0: // no api is alive, or it is older than this
	case 1:
		c.ok(Processes, "client zone", "ZStack's clients are answered in "+zones[0])
	default:
		for i, zone := range zones {
			zones[i] = zone + " by api on " + listed(hosts[zone])
		}
		c.warn(Processes, "client zone", "ZStack's clients are answered in different time zones: "+strings.Join(zones, "; "),
			"set api.zstack.timezone to the same for all api processes: a cron trigger made through ZStack's API gets the zone of whoever answers, and fires by it")
	}
}
