package events

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/internal/testenv"
)

// cluster starts n NATS servers that know each other and gives their URLs.
func cluster(t *testing.T, n int) []string {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range n {
		port := freePort(t)
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", port)})
	}
	var all []*server.Server
	for k := range n {
		dir, err := os.MkdirTemp("", "takt-test-")
		must(t, err)
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("n", k), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[k]}, Routes: routes,
		})
		must(t, err)
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown(); os.RemoveAll(dir) })
		all = append(all, s)
	}
	urls := make([]string, n)
	for k, s := range all {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("a server of the cluster takes no connections")
		}
		urls[k] = s.ClientURL()
	}
	return urls
}

// freePort gives a port that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Where NATS has three servers the stream has three replicas, and a process that
// has heard of one server only does not take two of them away.
func TestReplicas(t *testing.T) {
	t.Parallel()
	urls := cluster(t, 3)
	b, err := Connect(Options{URLs: urls, Log: quiet})
	must(t, err)
	t.Cleanup(b.Close)
	testenv.Eventually(t, 20*time.Second, func() error { return b.EnsureStream(t.Context()) })
	if n := stream(t, b).Config.Replicas; n != 3 {
		t.Fatalf("the stream has %d replicas, want 3", n)
	}
	alone, err := Connect(Options{URLs: urls[:1], Auth: []nats.Option{nats.IgnoreDiscoveredServers()}, Log: quiet})
	must(t, err)
	t.Cleanup(alone.Close)
	testenv.Eventually(t, 10*time.Second, func() error { return alone.EnsureStream(t.Context()) })
	if n := stream(t, b).Config.Replicas; n != 3 {
		t.Errorf("a process that knows of %s made it %d replicas, want 3 still", strings.Join(alone.nc.Servers(), ", "), n)
	}
}
