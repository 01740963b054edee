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
	findings := redisconn.Doctor(ctx, client)
	for _, f := range findings {
		if f.Severity != redisconn.OK {
			t.Errorf("doctor of the cluster: %+v", f)
		}
	}
	if len(findings) != 7 {
		t.Errorf("doctor looked at %d things, want the cluster's state and six of its master: %+v", len(findings), findings)
	}

	told := false
	for _, f := range redisconn.Doctor(ctx, alone) {
		told = told || f.Check == "shape" && f.Severity == redisconn.Problem && strings.Contains(f.Do, "redis-cluster://")
	}
	if !told {
		t.Error("doctor does not tell that a cluster is spoken to as a single server")
	}
}
