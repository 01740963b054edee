package testenv

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The shape of the cluster.
const (
	clusterMasters = 3
	clusterSlots   = 16_384
)

// A RedisCluster is a Redis Cluster of three masters with a replica each. It is
// in memory: what a killed master had not sent to its replica is lost.
type RedisCluster struct {
	// URL is where clients connect: redisconn.Open takes it.
	URL string

	t     testing.TB
	nodes []*node // the first three began as masters
}

// Cluster starts the six processes, joins them and returns when all know all and
// every master has its replica.
func Cluster(t testing.TB) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t}
	conf := "cluster-enabled yes\ncluster-node-timeout 1500\ncluster-replica-validity-factor 0\nrepl-diskless-sync-delay 0\n" +
		"requirepass " + nodePassword + "\nmasterauth " + nodePassword
	var hosts []string
	for range 2 * clusterMasters {
		n := startNode(t, conf)
		c.nodes = append(c.nodes, n)
		hosts = append(hosts, n.addr)
	}
	c.join()
	c.URL = "redis-cluster://:" + nodePassword + "@" + strings.Join(hosts, ",")
	return c
}

func (c *RedisCluster) join() {
	c.t.Helper()
	ctx := c.t.Context()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatalf("join the cluster: %v", err)
		}
	}
	share := clusterSlots / clusterMasters
	for i, n := range c.nodes[:clusterMasters] {
		last := (i+1)*share - 1
		if i == clusterMasters-1 {
			last = clusterSlots - 1
		}
		must(n.client.ClusterAddSlotsRange(ctx, i*share, last).Err())
	}
	for i, n := range c.nodes {
		must(n.client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		must(c.nodes[0].client.Do(ctx, append([]any{"CLUSTER", "MEET"}, hostPort(n.addr)...)...).Err())
	}
	Eventually(c.t, startTimeout, func() error { return c.all(ctx, "cluster_known_nodes:6") })
	for i, n := range c.nodes[clusterMasters:] {
		master, err := c.nodes[i].client.ClusterMyID(ctx).Result()
		must(err)
		must(n.client.ClusterReplicate(ctx, master).Err())
	}
	Eventually(c.t, startTimeout, func() error { return c.all(ctx, "cluster_state:ok") })
	for _, n := range c.nodes[:clusterMasters] {
		n.replicated(c.t, 1)
	}
	Eventually(c.t, startTimeout, func() error { return c.replicasKnown(ctx) })
}

func hostPort(addr string) []any {
	host, port, _ := strings.Cut(addr, ":")
	return []any{host, port}
}

// all returns nil when CLUSTER INFO of every living node holds a text.
func (c *RedisCluster) all(ctx context.Context, text string) error {
	for _, n := range c.nodes {
		if n.ended() {
			continue
		}
		info, err := n.client.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, text) {
			return fmt.Errorf("%s does not say %s", n.addr, text)
		}
	}
	return nil
}

// replicasKnown returns nil when every node knows the replicas as such.
func (c *RedisCluster) replicasKnown(ctx context.Context) error {
	for _, n := range c.nodes {
		nodes, err := n.client.ClusterNodes(ctx).Result()
		if err != nil {
			return err
		}
		if got := strings.Count(nodes, "slave "); got != clusterMasters {
			return fmt.Errorf("%s knows %d replicas", n.addr, got)
		}
	}
	return nil
}

// holder gives the master of a key's slot as a living node sees it, nil if that
// was killed.
func (c *RedisCluster) holder(key string) *node {
	ctx := c.t.Context()
	for _, asked := range c.nodes {
		if asked.ended() {
			continue
		}
		slot, err := asked.client.ClusterKeySlot(ctx, key).Result()
		if err != nil {
			return nil
		}
		nodes, err := asked.client.ClusterNodes(ctx).Result()
		if err != nil {
			return nil
		}
		return c.living(ownerOf(nodes, int(slot)))
	}
	return nil
}

// ownerOf reads CLUSTER NODES and gives the address of the node that says it has a
// slot.
func ownerOf(nodes string, slot int) string {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 9 || strings.Contains(fields[2], "fail") {
			continue
		}
		for _, text := range fields[8:] {
			first, last := 0, 0
			n, _ := fmt.Sscanf(text, "%d-%d", &first, &last)
			if n == 1 {
				last = first
			}
			if n > 0 && first <= slot && slot <= last {
				addr, _, _ := strings.Cut(fields[1], "@")
				return addr
			}
		}
	}
	return ""
}

func (c *RedisCluster) living(addr string) *node {
	for _, n := range c.nodes {
		if n.addr == addr && !n.ended() {
			return n
		}
	}
	return nil
}

// Replicated returns when the replicas have all that was acknowledged so far.
func (c *RedisCluster) Replicated() {
	c.t.Helper()
	for _, n := range c.nodes {
		if role, err := n.info(c.t, "replication", "role"); err == nil && role == "master" {
			n.replicated(c.t, 1)
		}
	}
}

// FailOver ends the master that holds a key as kill -9 does, and returns when its
// replica has taken its slots and every living node says that the cluster is
// whole: when it was killed, and when that was so.
func (c *RedisCluster) FailOver(key string) (killed, back time.Time) {
	c.t.Helper()
	c.holder(key).kill()
	killed = time.Now()
	Eventually(c.t, failOverWithin, func() error {
		if c.holder(key) == nil {
			return fmt.Errorf("no replica has taken the slots of the killed master")
		}
		return c.all(c.t.Context(), "cluster_state:ok")
	})
	return killed, time.Now()
}
