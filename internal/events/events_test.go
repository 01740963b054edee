package events

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func connect(t testing.TB, server *testenv.NATSServer) *Bus {
	t.Helper()
	b, err := Connect(Options{URLs: []string{server.URL}, Name: "test", Log: quiet})
	must(t, err)
	t.Cleanup(b.Close)
	testenv.Eventually(t, 5*time.Second, b.Connected)
	return b
}

// An ear keeps what it hears.
type ear struct {
	mu    sync.Mutex
	heard []string
}

func (e *ear) hear(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, text)
}

func (e *ear) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// hears waits until exactly these were heard, in any order.
func (e *ear) hears(t testing.TB, want ...string) {
	t.Helper()
	slices.Sort(want)
	testenv.Eventually(t, 5*time.Second, func() error {
		got := e.all()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("heard %q, want %q", got, want)
		}
		return nil
	})
}

func TestHints(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	from, to := connect(t, server), connect(t, server)
	var rings, triggers, stops ear
	must(t, to.OnRing([]string{"default", "host-node 1.example"}, func() { rings.hear("ring") }))
	must(t, to.OnTrigger(triggers.hear))
	must(t, to.OnStop("node.1234", stops.hear))
	must(t, to.nc.Flush())

	from.Ring([]string{"default", "nobody's", "host-node 1.example"})
	from.RingTrigger("feed")
	from.Stop(core.Stop{Worker: "node.1234", Dispatch: "d"})
	from.Stop(core.Stop{Worker: "other", Dispatch: "e"})
	rings.hears(t, "ring", "ring")
	triggers.hears(t, "feed")
	stops.hears(t, "d")
}

// Hints are lost while NATS is away, and whoever listened hears again afterwards.
func TestHintsOverAnOutage(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	var states ear
	from, err := Connect(Options{URLs: []string{server.URL}, Log: quiet, Up: func(up bool) { states.hear(fmt.Sprint(up)) }})
	must(t, err)
	t.Cleanup(from.Close)
	to := connect(t, server)
	var triggers ear
	must(t, to.OnTrigger(triggers.hear))
	server.Stop()
	testenv.Eventually(t, 5*time.Second, func() bool { return !from.Connected() && !to.Connected() })
	began := time.Now()
	from.RingTrigger("lost")
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("a hint took %s while NATS is away, want it dropped", took)
	}
	server.Restart()
	testenv.Eventually(t, 10*time.Second, func() bool { return from.Connected() && to.Connected() })
	must(t, to.nc.Flush())
	from.RingTrigger("heard")
	triggers.hears(t, "heard")
	if got := states.all(); got[len(got)-1] != "true" || !slices.Contains(got, "false") {
		t.Errorf("the state of the connection was told as %v, want false and at last true", got)
	}
}

// A process may start before NATS, and be there when it comes.
func TestConnectBeforeNATS(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	server.Stop()
	began := time.Now()
	var states ear
	b, err := Connect(Options{URLs: []string{server.URL}, Log: quiet, Up: func(up bool) { states.hear(fmt.Sprint(up)) }})
	must(t, err)
	t.Cleanup(b.Close)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Connect took %s without NATS, want it to return at once", took)
	}
	var triggers ear
	must(t, b.OnTrigger(triggers.hear))
	got := decided(t, b, nil)
	server.Restart()
	testenv.Eventually(t, 10*time.Second, b.Connected)
	must(t, b.nc.Flush())
	b.RingTrigger("feed")
	triggers.hears(t, "feed")
	testenv.Eventually(t, 10*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
	got.hears(t, fires(1)[0].String()+" 1")
	if got := states.all(); len(got) == 0 || got[len(got)-1] != "true" {
		t.Errorf("the state of the connection was told as %v, want true at last", got)
	}
}

func TestConnectRefusesBadAddresses(t *testing.T) {
	t.Parallel()
	if b, err := Connect(Options{URLs: []string{"nats://[broken"}, Log: quiet}); !core.Is(err, core.Invalid) {
		t.Errorf("Connect gives %v, %v; want invalid", b, err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"default": "default", "host-a.b": "host-a_b", "a b*c>d\te": "a_b_c_d_e"} {
		if got := token(in); got != want {
			t.Errorf("token(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	server := testenv.NATS(t)
	before := ours()
	for range 5 {
		b, err := Connect(Options{URLs: []string{server.URL}, Log: quiet})
		must(t, err)
		must(t, b.OnTrigger(func(string) {}))
		stop := consume(t, b, func(Batch) error { return nil })
		testenv.Eventually(t, 5*time.Second, func() error { return b.PublishFires(t.Context(), fires(1)) })
		stop()
		b.Close()
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if now := ours(); now > before {
			return fmt.Errorf("%d goroutines of the client are left, %d were there before", now, before)
		}
		return nil
	})
}

// ours counts the goroutines of NATS clients.
func ours() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for _, g := range bytes.Split(stacks, []byte("\n\n")) {
		if strings.Contains(string(g), "nats-io/nats.go") || strings.Contains(string(g), "internal/events.(*Bus)") {
			n++
		}
	}
	return n
}
