package redisconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// weaker is what holds where replicas may take over: replication is not awaited.
const weaker = "after a fail-over acknowledged writes that were not replicated are lost: a step may run again, a slot may fire again"

// shape compares what the server is with how it is spoken to.
func shape(info map[string]string, member bool) Finding {
	switch {
	case info["role"] == "slave":
		return Finding{Problem, "shape", "this server is a replica and takes no writes", "name the master, or use redis-sentinel://"}
	case info["cluster_enabled"] == "1" && !member:
		return Finding{Problem, "shape", "this server is one of a cluster", "use a redis-cluster:// URL"}
	case member:
		return Finding{OK, "shape", "a cluster's master", ""}
	}
	return Finding{OK, "shape", "single server", ""}
}

// replicas looks at what a fail-over would fall back on.
func replicas(info map[string]string) Finding {
	if info["role"] == "slave" {
		return Finding{OK, "replicas", "this server is a replica itself", ""} // shape says what to do
	}
	n, guarded := number(info, "connected_slaves"), info["min_slaves_good_slaves"] != ""
	good := number(info, "min_slaves_good_slaves")
	text := fmt.Sprintf("%d replicas attached", n)
	switch {
	case guarded && good == 0:
		return Finding{Problem, "replicas", text + ", none of them in time: min-replicas-to-write lets redis refuse writes", "bring a replica back, or set min-replicas-to-write 0 until one is"}
	case n == 0:
		return Finding{OK, "replicas", "no replica attached: the records are on one machine", ""}
	case behind(info, n) > 0:
		return Finding{Warning, "replicas", fmt.Sprintf("%s, %d of them not in step", text, behind(info, n)), "look at the replica's log; a fail-over to it loses what it lacks"}
	case !guarded:
		return Finding{Warning, "replicas", text + ", min-replicas-to-write is 0: a master that is cut off goes on acknowledging what a fail-over drops", "set min-replicas-to-write 1 and min-replicas-max-lag 10. Replication is asynchronous all the same: " + weaker}
	}
	return Finding{OK, "replicas", text + ", min-replicas-to-write is set; " + weaker, ""}
}

// behind counts the replicas that are not online.
func behind(info map[string]string, n int64) (count int) {
	for i := range n {
		if row, ok := info["slave"+strconv.FormatInt(i, 10)]; ok && !strings.Contains(row, "state=online") {
			count++
		}
	}
	return count
}

const slots = "16384"

func clusterState(ctx context.Context, client redis.UniversalClient) Finding {
	raw, err := client.ClusterInfo(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return Finding{Warning, "shape", "the cluster's state cannot be read", "allow this user CLUSTER INFO"}
	}
	if err != nil {
		return Unreachable(err)
	}
	info := parseInfo(raw)
	covered := info["cluster_slots_ok"]
	switch state := info["cluster_state"]; {
	case state != "ok":
		return Finding{Problem, "shape", "the cluster's state is " + state, "look at CLUSTER NODES: all slots need a master that is alive"}
	case covered != slots:
		return Finding{Problem, "shape", "the cluster covers " + covered + " of " + slots + " slots: parts of the records cannot be reached", "look at CLUSTER NODES: all slots need a master that is alive"}
	}
	return Finding{OK, "shape", fmt.Sprintf("the cluster's state is ok, %s masters cover all slots", info["cluster_size"]), ""}
}

// clusterReplicas looks for masters that nobody could take over from.
func clusterReplicas(ctx context.Context, client redis.UniversalClient) Finding {
	ranges, err := client.ClusterSlots(ctx).Result()
	if err != nil {
		return Unreachable(err)
	}
	var alone []string
	for _, r := range ranges {
		if len(r.Nodes) == 1 && !slices.Contains(alone, r.Nodes[0].Addr) {
			alone = append(alone, r.Nodes[0].Addr)
		}
	}
	if len(alone) > 0 {
		slices.Sort(alone)
		return Finding{Warning, "replicas", "masters without a replica: " + strings.Join(alone, ", "), "give each master a replica: without one its partitions are away as long as it is"}
	}
	return Finding{OK, "replicas", "each master has a replica; " + weaker, ""}
}

// sentinels asks every Sentinel of the URL whether a fail-over could be made.
func sentinels(ctx context.Context, c Config, t target) Finding {
	config, err := c.tls(t)
	if err != nil {
		return Unreachable(err)
	}
	var away []string
	var seen Finding
	for _, addr := range t.addrs {
		found, ok := askSentinel(ctx, t, addr, config)
		if !ok {
			away = append(away, addr)
			continue
		}
		if seen.Severity == "" || found.Severity == Problem {
			seen = found
		}
	}
	switch {
	case seen.Severity == "":
		return Finding{Problem, "sentinel", "no Sentinel of the URL answers", "start them, or name others: without them nobody finds the master after a fail-over"}
	case seen.Severity == OK && len(away) > 0:
		return Finding{Warning, "sentinel", seen.Text + "; away: " + strings.Join(away, ", "), "start these Sentinels, or take them out of the URL"}
	}
	return seen
}

// askSentinel judges what one Sentinel knows; ok is false when it does not answer.
func askSentinel(ctx context.Context, t target, addr string, config *tls.Config) (found Finding, ok bool) {
	client := redis.NewSentinelClient(&redis.Options{
		Addr: addr, Username: t.sentinelUsername, Password: t.sentinelPassword, TLSConfig: config,
		DialTimeout: dialTimeout, ReadTimeout: replyTimeout, DisableIdentity: true, DialerRetries: 1,
	})
	defer func() { _ = client.Close() }()
	about, err := client.Master(ctx, t.master).Result()
	if err != nil {
		return Finding{}, false
	}
	others, _ := strconv.Atoi(about["num-other-sentinels"])
	text := fmt.Sprintf("%d Sentinels, quorum %s, %s replicas", others+1, about["quorum"], about["num-slaves"])
	if err := client.CkQuorum(ctx, t.master).Err(); err != nil {
		return Finding{Problem, "sentinel", fmt.Sprintf("%s: %v", text, err), "start the missing Sentinels: a fail-over needs the quorum, and a majority of them"}, true
	}
	switch {
	case about["num-slaves"] == "0":
		return Finding{Warning, "sentinel", text + ": there is nothing to fail over to", "attach a replica to the master"}, true
	case others < 2:
		return Finding{Warning, "sentinel", text + ": with fewer than three the loss of one stops fail-overs", "run three Sentinels on three machines"}, true
	}
	return Finding{OK, "sentinel", text, ""}, true
}
