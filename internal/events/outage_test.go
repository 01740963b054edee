package events

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/takt-dev/takt/internal/testenv"
)

// An ear hears what is logged, too.
func (e *ear) Enabled(context.Context, slog.Level) bool { return true }
func (e *ear) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *ear) WithGroup(string) slog.Handler            { return e }
func (e *ear) Handle(_ context.Context, r slog.Record) error {
	e.hear(r.Message)
	return nil
}

const (
	saysAway    = "NATS is away: fires wait, everything else goes on"
	saysRefused = "NATS refuses this process: fires wait, everything else goes on"
	saysBack    = "NATS is back"
)

// dials counts the tries to reach a server.
type dials struct{ n atomic.Int64 }

func (d *dials) Dial(network, address string) (net.Conn, error) {
	d.n.Add(1)
	return net.DialTimeout(network, address, time.Second)
}

// A server that was given other users for a while, by mistake or for a change of
// passwords, is told apart from one that is away, and used when it lets us in again.
func TestRefusedForAWhile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		connected bool // before it refuses
		want      []string
	}{
		{"a server that knew us", true, []string{saysAway, saysRefused, saysBack}},
		{"a server that never did", false, []string{saysRefused}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.NATS(t)
			var said ear
			var tries dials
			connect := func() *Bus {
				b, err := Connect(Options{URLs: []string{server.URL}, Auth: []nats.Option{nats.SetCustomDialer(&tries)}, Log: slog.New(&said)})
				must(t, err)
				t.Cleanup(b.Close)
				return b
			}
			var b *Bus
			if test.connected {
				b = connect()
				testenv.Eventually(t, 5*time.Second, b.Connected)
			}
			server.Stop()
			server.RestartWithToken("another")
			if b == nil {
				b = connect()
			}
			testenv.Eventually(t, 10*time.Second, func() bool { return slices.Contains(said.all(), saysRefused) })
			// The client library gives a server up that refuses it twice, unless told not to.
			refused := tries.n.Load()
			testenv.Eventually(t, 10*time.Second, func() error {
				if n := tries.n.Load() - refused; n < 4 {
					return fmt.Errorf("%d tries since the refusal, want 4", n)
				}
				return nil
			})
			server.Stop()
			server.Restart()
			testenv.Eventually(t, 10*time.Second, b.Connected)
			for _, text := range test.want {
				testenv.Eventually(t, 5*time.Second, func() bool { return slices.Contains(said.all(), text) })
			}
			all := said.all()
			if first := slices.Index(all, saysRefused); slices.Contains(all[first+1:], saysRefused) {
				t.Errorf("the refusal was logged more than once: %q", all)
			}
		})
	}
}
