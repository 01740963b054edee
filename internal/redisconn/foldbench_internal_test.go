package redisconn

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

// A wire stands below a Fold. It notes the size of everything sent, and holds up
// what names the key "hold", on its way to Redis, or "hold answer", on the way back.
type wire struct {
	entered, release chan struct{}

	mu   sync.Mutex
	sent []int // 1 for a command alone, n for a pipeline of n
}

func newWire() *wire {
	return &wire{entered: make(chan struct{}), release: make(chan struct{})}
}

func (w *wire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return w.pass([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return w.pass(cmds, func() error { return next(ctx, cmds) })
	}
}

func (w *wire) pass(cmds []redis.Cmder, next func() error) error {
	if name := cmds[0].Name(); name == "hello" || name == "client" || name == "auth" {
		return next() // the set-up of a connection
	}
	w.mu.Lock()
	w.sent = append(w.sent, len(cmds))
	w.mu.Unlock()
	names := func(key string) bool {
		return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return slices.Contains(cmd.Args(), any(key)) })
	}
	if names("panic") {
		panic("a hook that panics")
	}
	if names("hold") {
		w.entered <- struct{}{}
		<-w.release
	}
	err := next()
	if names("hold answer") {
		w.entered <- struct{}{}
		<-w.release
	}
	return err
}

// addScript adds numbers to a counter, each item its own, and answers each with
// what it gave as the second value.
var addScript = redis.NewScript(`
local out = {}
for k = 1, #ARGV, 2 do
  redis.call('INCRBY', KEYS[1], ARGV[k])
  out[#out + 1] = ARGV[k + 1]
end
return out`)

// touchScript adds an element to each set it is given.
var touchScript = redis.NewScript(`
local out = {}
for k = 1, #ARGV do
  if ARGV[k] == 'break' then local n = nil + 1 end
  redis.call('SADD', ARGV[k], 'x')
  out[k] = ARGV[k]
end
return out`)

// A foldBench is a Fold on a client with a wire below.
type foldBench struct {
	server *testenv.RedisServer
	client *redis.Client
	wire   *wire
	fold   *Fold
	wg     sync.WaitGroup
}

func newFoldBench(t *testing.T) *foldBench {
	t.Helper()
	t.Parallel()
	b := &foldBench{server: testenv.Redis(t), wire: newWire()}
	b.client = b.server.Client(t, b.wire)
	b.fold = NewFold(b.client)
	return b
}

// holdWire puts something on the wire that stays there until letGo.
func (b *foldBench) holdWire() { b.holdAt("hold") }

func (b *foldBench) holdAt(key string) {
	b.wg.Go(func() { _, _ = b.fold.Get(context.Background(), key) })
	<-b.wire.entered
}

// letGo returns when everybody has an answer.
func (b *foldBench) letGo() {
	close(b.wire.release)
	b.wg.Wait()
	b.wire.entered, b.wire.release = make(chan struct{}), make(chan struct{})
}

// queue starts do and returns when it waits for the wire.
func (b *foldBench) queue(t *testing.T, do func()) {
	t.Helper()
	n := b.waiting()
	b.wg.Go(do)
	b.awaitQueue(t, n+1)
}

func (b *foldBench) waiting() int {
	b.fold.relay.mu.Lock()
	defer b.fold.relay.mu.Unlock()
	return len(b.fold.relay.waiting)
}

func (b *foldBench) awaitQueue(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() error {
		if got := b.waiting(); got != n {
			return fmt.Errorf("%d callers wait, want %d", got, n)
		}
		return nil
	})
}

// calls says how often Redis was asked for a command.
func (b *foldBench) calls(t *testing.T, command string) int {
	t.Helper()
	return commandCalls(t, b.server.Client(t), command)
}

func commandCalls(t *testing.T, client *redis.Client, command string) int {
	t.Helper()
	info, err := client.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "cmdstat_"+command+":calls=")
	text, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.Atoi(text)
	return n
}

// warm has the script loaded, so that a test's figures do not hold that.
func (b *foldBench) warm(t *testing.T, scripts ...*redis.Script) {
	t.Helper()
	for _, s := range scripts {
		if err := s.Load(t.Context(), b.client).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b.wire.sent = nil
}
