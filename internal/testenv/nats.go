package testenv

import (
	"net/url"
	"os"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/internal/embedded"
)

// A NATSServer is a NATS server of one test, with JetStream on disk.
type NATSServer struct {
	// URL is where clients connect, the token included. It stays the same over
	// Restart.
	URL string

	t       testing.TB
	dir     string
	options embedded.NATSOptions
	server  *embedded.NATS
}

// NATS starts a NATS server with JetStream in this process.
func NATS(t testing.TB) *NATSServer {
	t.Helper()
	// Not t.TempDir: on a fast test's end a stream may still be closing its
	// files, which would fail the test.
	dir, err := os.MkdirTemp("", "takt-test-")
	if err != nil {
		t.Fatalf("make directory for nats: %v", err)
	}
	n := &NATSServer{t: t, dir: dir}
	t.Cleanup(func() {
		if n.server != nil {
			n.server.Stop()
		}
		os.RemoveAll(dir)
	})
	n.Restart()
	return n
}

// Client returns a connection to the server that reconnects every 20 ms for
// ever; it is closed at the test's end.
func (n *NATSServer) Client(t testing.TB, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20e6),
		nats.ReconnectJitter(0, 0),
	}, options...)
	conn, err := nats.Connect(n.URL, options...)
	if err != nil {
		t.Fatalf("connect to nats: %v", err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// Stop ends the server: connections break and new ones are refused.
func (n *NATSServer) Stop() {
	n.server.Stop()
}

// RestartWithToken is Restart of a server that lets in who shows another token. URL
// stays what it was.
func (n *NATSServer) RestartWithToken(token string) {
	n.t.Helper()
	options := n.options
	options.Token = token
	server, err := embedded.StartNATS(n.dir, options)
	if err != nil {
		n.t.Fatalf("start nats for the test: %v", err)
	}
	n.server = server
}

// Restart starts the server again after Stop, with the streams it had.
func (n *NATSServer) Restart() {
	n.t.Helper()
	server, err := embedded.StartNATS(n.dir, n.options)
	if err != nil {
		n.t.Fatalf("start nats for the test: %v", err)
	}
	n.server, n.URL = server, server.URL()
	at, err := url.Parse(n.URL)
	if err != nil {
		n.t.Fatalf("parse the nats URL: %v", err)
	}
	n.options.Token = at.User.Username()
	n.options.Port, _ = strconv.Atoi(at.Port())
}
