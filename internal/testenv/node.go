package testenv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A node is one redis-server process of a cluster, or of a master with replicas
// and sentinels.
type node struct {
	addr string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	log  bytes.Buffer  // what the process said; to be read after its end
	once sync.Once
	// client speaks to this process alone.
	client *redis.Client
}

// nodePassword lets a test cut replication off: a replica that is given another
// one is turned away.
const nodePassword = "secret-of-the-nodes"

// startNode starts a redis-server with a configuration of its own beside port,
// directory and password, and returns when it answers.
func startNode(t testing.TB, conf string, args ...string) *node {
	t.Helper()
	needRedis(t)
	for range 5 { // somebody else may have taken the port meanwhile
		if n := tryNode(t, conf, args...); n != nil {
			return n
		}
	}
	t.Fatal("no redis-server could be started on a free port")
	return nil
}

func tryNode(t testing.TB, conf string, args ...string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "takt-test-")
	if err != nil {
		t.Fatalf("make directory for redis: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := nodePort(t)
	file := filepath.Join(dir, "redis.conf")
	conf = fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsave \"\"\n%s\n", port, dir, conf)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatalf("write redis configuration: %v", err)
	}
	n := &node{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), done: make(chan struct{})}
	n.cmd = exec.Command("redis-server", append([]string{file}, args...)...)
	n.cmd.Stdout = &n.log
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	go func() { defer close(n.done); _ = n.cmd.Wait() }()
	n.client = redis.NewClient(&redis.Options{Addr: n.addr, Password: nodePassword, DialerRetries: 1, DisableIdentity: true, Protocol: 2})
	t.Cleanup(func() {
		_ = n.client.Close()
		n.kill()
		if t.Failed() && os.Getenv("TAKT_TEST_LOG") != "" {
			t.Logf("redis-server at %s said:\n%s", n.addr, n.log.String())
		}
	})
	up := false
	Eventually(t, startTimeout, func() bool {
		up = n.client.Ping(t.Context()).Err() == nil
		return up || n.ended()
	})
	if up && !n.ended() {
		return n
	}
	return nil
}

// nodePort gives a port that is free together with the one 10,000 above it, where
// a member of a cluster speaks to the others. Both lie below the ports that the
// system gives to clients.
func nodePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 11_000 + rand.IntN(11_000)
		if free(port) && free(port+10_000) {
			return port
		}
	}
	t.Fatal("no free port was found")
	return 0
}

// Port gives a port for a process that has to have the same one after a restart.
func Port(t testing.TB) int { return nodePort(t) }

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func (n *node) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

// kill ends the process as kill -9 does.
func (n *node) kill() {
	n.once.Do(func() { _ = n.cmd.Process.Kill() })
	<-n.done
}

// replicated returns when a replica at least has all that this master has
// acknowledged so far.
func (n *node) replicated(t testing.TB, replicas int) {
	t.Helper()
	Eventually(t, startTimeout, func() error {
		// WAIT asks for the writes of its own connection, so there has to be one.
		var got int64
		err := n.client.Watch(t.Context(), func(tx *redis.Tx) error {
			if err := tx.Publish(t.Context(), "takt-test-offset", "").Err(); err != nil {
				return err
			}
			var err error
			got, err = tx.Wait(t.Context(), replicas, time.Second).Result()
			return err
		})
		if err == nil && got < int64(replicas) {
			err = fmt.Errorf("%d of %d replicas of %s have everything", got, replicas, n.addr)
		}
		return err
	})
}

// cutOff ends the replication of a master's replicas: what it acknowledges from now
// on does not reach them. They stay reachable for everybody else.
func (n *node) cutOff(t testing.TB, replicas []*node) {
	t.Helper()
	ctx := t.Context()
	// All are told first: one that is just shaking hands would come through.
	for _, r := range replicas {
		if err := r.client.ConfigSet(ctx, "masterauth", "nobody's").Err(); err != nil {
			t.Fatalf("cut off replica: %v", err)
		}
	}
	if err := n.client.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		t.Fatalf("cut off replicas: %v", err)
	}
	for _, r := range replicas {
		Eventually(t, startTimeout, func() error {
			state, err := r.info(t, "replication", "master_link_status")
			if err == nil && state != "down" {
				err = fmt.Errorf("the link of replica %s is %s", r.addr, state)
			}
			return err
		})
	}
}

// info reads a field of INFO.
func (n *node) info(t testing.TB, section, field string) (string, error) {
	t.Helper()
	fields, err := n.client.InfoMap(t.Context(), section).Result()
	for _, values := range fields {
		if value, ok := values[field]; ok {
			return value, err
		}
	}
	return "", err
}
