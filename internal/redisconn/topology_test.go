package redisconn_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

// startServer runs redis-server on a free port of loopback with this
// configuration beside the port and returns the port.
func startServer(t *testing.T, conf string, args ...string) int {
	t.Helper()
	path, _, ok := embedded.LookupRedis()
	if !ok {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	dir, port := t.TempDir(), freePort(t)
	file := filepath.Join(dir, "redis.conf")
	conf = fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n%s\n", port, dir, conf)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(path, append([]string{file}, args...)...)
	var log strings.Builder
	server.Stdout = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("redis-server %q said:\n%s", args, log.String())
		}
	})
	testenv.Eventually(t, 10*time.Second, func() error {
		conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return port
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestOpenFindsTheMasterThroughSentinel(t *testing.T) {
	master := startServer(t, "requirepass hunter2")
	sentinel := startServer(t, fmt.Sprintf("sentinel monitor takt 127.0.0.1 %d 1\nsentinel auth-pass takt hunter2", master), "--sentinel")

	client := open(t, redisconn.Config{URL: fmt.Sprintf("redis-sentinel://:hunter2@127.0.0.1:1,127.0.0.1:%d/takt/2", sentinel)})
	if _, ok := client.(*redis.Client); !ok {
		t.Errorf("Open returned a %T, want *redis.Client", client)
	}
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	direct := open(t, redisconn.Config{URL: fmt.Sprintf("redis://:hunter2@127.0.0.1:%d/2", master)})
	if got := direct.Get(t.Context(), "k").Val(); got != "v" {
		t.Errorf("GET at the master = %q, want v", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if other, err := redisconn.Open(ctx, redisconn.Config{URL: fmt.Sprintf("redis-sentinel://127.0.0.1:%d/other", sentinel)}); err == nil {
		other.Close()
		t.Error("Open found a master that the sentinel does not know")
	}
}

func TestClusterOfOne(t *testing.T) {
	ctx := t.Context()
	port := startServer(t, "cluster-enabled yes\nappendonly yes\nappendfsync always")
	alone := open(t, redisconn.Config{URL: fmt.Sprintf("redis://127.0.0.1:%d", port)})
	if err := alone.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		t.Fatalf("give the node all slots: %v", err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool {
		return strings.Contains(alone.ClusterInfo(ctx).Val(), "cluster_state:ok")
	})

	client := open(t, redisconn.Config{URL: fmt.Sprintf("redis-cluster://127.0.0.1:%d", port)})
	if _, ok := client.(*redis.ClusterClient); !ok {
		t.Errorf("Open returned a %T, want *redis.ClusterClient", client)
	}
	want := map[string]redisconn.Severity{
		"shape": redisconn.OK, "version": redisconn.OK, "memory": redisconn.OK, "room": redisconn.OK, "persistence": redisconn.OK,
		"replicas": redisconn.Warning, "clock": redisconn.OK, "latency": redisconn.OK, "clients": redisconn.OK, "scripts": redisconn.OK,
	}
	if diff := cmp.Diff(want, worstOf(redisconn.Doctor(ctx, client))); diff != "" {
		t.Errorf("doctor of a cluster whose master has no replica (-want +got):\n%s", diff)
	}
	if err := alone.ClusterDelSlots(ctx, 7).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return worstOf(redisconn.Doctor(ctx, client))["shape"] == redisconn.Problem })

	told := false
	for _, f := range redisconn.Doctor(ctx, alone) {
		told = told || f.Check == "shape" && f.Severity == redisconn.Problem && strings.Contains(f.Do, "redis-cluster://")
	}
	if !told {
		t.Error("doctor does not tell that a cluster is spoken to as a single server")
	}
}

// worstOf gives the worst severity of each check.
func worstOf(findings []redisconn.Finding) map[string]redisconn.Severity {
	rank := map[redisconn.Severity]int{redisconn.OK: 1, redisconn.Warning: 2, redisconn.Problem: 3}
	worst := map[string]redisconn.Severity{}
	for _, f := range findings {
		if rank[f.Severity] > rank[worst[f.Check]] {
			worst[f.Check] = f.Severity
		}
	}
	return worst
}

const durable = "appendonly yes\nappendfsync always\n"

// A master tells what a fail-over would lose, and a replica that it is none.
func TestDoctorOfReplicas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	port := startServer(t, durable)
	copied := startServer(t, fmt.Sprintf("%sreplicaof 127.0.0.1 %d", durable, port))
	master := open(t, redisconn.Config{URL: fmt.Sprintf("redis://127.0.0.1:%d", port)})
	replica := open(t, redisconn.Config{URL: fmt.Sprintf("redis://127.0.0.1:%d", copied)})
	testenv.Eventually(t, 20*time.Second, func() bool { return strings.Contains(master.Info(ctx, "replication").Val(), "state=online") })

	if got := worstOf(redisconn.Doctor(ctx, master))["replicas"]; got != redisconn.Warning {
		t.Errorf("a replica without min-replicas-to-write is %q, want a warning", got)
	}
	if err := master.ConfigSet(ctx, "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return worstOf(redisconn.Doctor(ctx, master))["replicas"] == redisconn.OK })
	if got := worstOf(redisconn.Doctor(ctx, replica))["shape"]; got != redisconn.Problem {
		t.Errorf("a replica spoken to as the record is %q, want a problem", got)
	}
}

// Sentinels are asked whether they could fail over.
func TestExamineAsksTheSentinels(t *testing.T) {
	t.Parallel()
	master := startServer(t, durable)
	first := startServer(t, fmt.Sprintf("sentinel monitor takt 127.0.0.1 %d 1", master), "--sentinel")
	sentinel := func(config redisconn.Config) redisconn.Finding {
		t.Helper()
		findings := redisconn.Examine(t.Context(), config, open(t, config))
		return findings[len(findings)-1]
	}
	config := redisconn.Config{URL: fmt.Sprintf("redis-sentinel://127.0.0.1:%d/takt", first)}
	if f := sentinel(config); f.Check != "sentinel" || f.Severity != redisconn.Warning || !strings.Contains(f.Text, "nothing to fail over to") {
		t.Errorf("without a replica: %+v, want a warning about it", f)
	}
	startServer(t, fmt.Sprintf("replicaof 127.0.0.1 %d", master))
	asked := redis.NewSentinelClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", first)})
	defer asked.Close()
	testenv.Eventually(t, 30*time.Second, func() bool { return asked.Master(t.Context(), "takt").Val()["num-slaves"] == "1" })
	if f := sentinel(config); f.Severity != redisconn.Warning || !strings.Contains(f.Text, "fewer than three") {
		t.Errorf("one Sentinel: %+v, want a warning about its number", f)
	}
	if err := asked.Set(t.Context(), "takt", "quorum", "2").Err(); err != nil {
		t.Fatal(err)
	}
	if f := sentinel(config); f.Severity != redisconn.Problem || !strings.Contains(f.Text, "NOQUORUM") {
		t.Errorf("a quorum that cannot be reached: %+v, want a problem", f)
	}
}
