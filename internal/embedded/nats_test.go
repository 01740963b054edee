package embedded_test

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/takt-dev/takt/internal/embedded"
)

func TestNATSKeepsStreamsOnDisk(t *testing.T) {
	dir := shortDir(t)
	ctx := t.Context()
	start := time.Now()
	n := startNATS(t, dir, embedded.NATSOptions{})
	if took := time.Since(start); took > time.Second {
		t.Errorf("the start took %v, want well under 1s", took)
	}
	js := connect(t, n.URL())
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "TAKT_FIRES", Subjects: []string{"takt.fires.>"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatalf("create stream: %v", err)
	}
	if _, err := js.Publish(ctx, "takt.fires.1", []byte("x")); err != nil {
		t.Fatalf("publish: %v", err)
	}
	n.Stop()
	n.Stop() // harmless

	n = startNATS(t, dir, embedded.NATSOptions{})
	stream, err := connect(t, n.URL()).Stream(ctx, "TAKT_FIRES")
	if err != nil {
		t.Fatalf("the stream after a restart: %v", err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 1 {
		t.Errorf("the stream holds %d messages, want 1", got)
	}
}

func TestNATSDemandsItsTokenAndListensOnLoopback(t *testing.T) {
	n := startNATS(t, shortDir(t), embedded.NATSOptions{Token: "sesame", Port: freePort(t)})
	u, err := url.Parse(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	if u.User.Username() != "sesame" || u.Hostname() != "127.0.0.1" {
		t.Errorf("URL = %q, want the token and 127.0.0.1", n.URL())
	}
	if conn, err := nats.Connect("nats://" + u.Host); err == nil {
		conn.Close()
		t.Error("the server lets clients in without the token")
	}
	other := startNATS(t, shortDir(t), embedded.NATSOptions{})
	if a, _ := url.Parse(other.URL()); a.User.Username() == "" || a.User.Username() == "sesame" {
		t.Errorf("token of another server = %q, want a random one", a.User.Username())
	}
}

func TestOneNATSPerDirectory(t *testing.T) {
	dir := shortDir(t)
	startNATS(t, dir, embedded.NATSOptions{})
	if _, err := embedded.StartNATS(dir, embedded.NATSOptions{}); !errors.Is(err, embedded.ErrDirInUse) {
		t.Errorf("a second server on the directory: %v, want ErrDirInUse", err)
	}
}

func TestNATSTellsAtOnceThatItsPortIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	start := time.Now()
	_, err = embedded.StartNATS(shortDir(t), embedded.NATSOptions{Port: listener.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("StartNATS on a taken port: %v, want the reason", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("that took %v", took)
	}
}

func startNATS(t *testing.T, dir string, options embedded.NATSOptions) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(dir, options)
	if err != nil {
		t.Fatalf("StartNATS: %v", err)
	}
	t.Cleanup(n.Stop)
	return n
}

func connect(t *testing.T, rawURL string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(rawURL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
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
