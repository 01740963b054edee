package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/executor"
)

// On a Redis Cluster every script and every transaction has to stay within one
// slot; one node that owns all slots refuses what does not, as a large one would.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brief.Spec) // for its NATS
	url := startCluster(t)
	rdb, err := redisconn.Open(t.Context(), redisconn.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	if h.store, err = store.Open(t.Context(), rdb, store.Options{Partitions: 16}); err != nil {
		t.Fatal(err)
	}
	h.eng = engine.New(h.store, queue.NewClient(rdb), h.bus(), engine.Options{Log: h.log, Types: []executor.Spec{brief.Spec}})
	for _, role := range []string{"api-process", "worker-process", "trigger-process"} {
		h.childAt(url, orders{Role: role, Host: "one"})
	}
	h.awaitWorkers(1)

	g := h.group("brief", 8)
	r, err := h.eng.RunGroup(h.ctx, g, "key", core.Overlap{Policy: core.OverlapBufferOne})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := h.eng.CreateTrigger(h.ctx, core.Trigger{
		Meta: core.Meta{Name: "t"}, Enabled: true, Overlap: core.Overlap{Policy: core.OverlapSkipSteps},
		Schedule: schedule.Spec{Kind: schedule.Cron, Dialect: schedule.Quartz, Expression: "* * * * * ?"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.eng.Bind(h.ctx, tr.UUID, core.Target{Kind: core.GroupTarget, UUID: g}, true); err != nil {
		t.Fatal(err)
	}
	if r = h.await(r.ID, 10*time.Second); r.State != core.RunSucceeded {
		t.Errorf("run ended as %s (%s)", r.State, r.Reason)
	}
	testenv.Eventually(t, 15*time.Second, func() error {
		fired := 0
		for _, e := range h.ledger(tr) {
			if e.Decision == core.Fired || e.Decision == core.Late {
				fired++
			}
		}
		if fired < 3 {
			return fmt.Errorf("%d fires are decided", fired)
		}
		return nil
	})
	if ok, err := h.eng.DeleteTrigger(h.ctx, tr.UUID); !ok || err != nil {
		t.Errorf("delete trigger: %v, %v", ok, err)
	}
	for id := range h.allRuns(tr) {
		if r := h.await(id, 10*time.Second); r.State != core.RunSucceeded {
			t.Errorf("run %s ended as %s (%s)", id, r.State, r.Reason)
		}
	}
	if ok, err := h.eng.DeleteGroup(h.ctx, g); !ok || err != nil {
		t.Errorf("delete group: %v, %v", ok, err)
	}
}

// startCluster starts a Redis Cluster of one node and returns its URL.
func startCluster(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--dir", t.TempDir(), "--save", "", "--cluster-require-full-coverage", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	node := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	defer node.Close()
	ctx := context.Background()
	testenv.Eventually(t, 10*time.Second, func() error { return node.Ping(ctx).Err() })
	if err := node.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		info, err := node.ClusterInfo(ctx).Result()
		if err == nil && !strings.Contains(info, "cluster_state:ok") {
			err = fmt.Errorf("cluster is not up: %s", info)
		}
		return err
	})
	return "redis-cluster://127.0.0.1:" + port
}
