package testenv

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/takt-dev/takt/internal/embedded"
)

// startTimeout bounds the start of a server, on a loaded machine too.
const startTimeout = 20 * time.Second

// A RedisServer is a private redis-server of one test.
type RedisServer struct {
	// URL is where clients connect: redisconn.Open and redis.ParseURL take it.
	// It stays the same over Restart.
	URL string

	t       testing.TB
	dir     string
	options embedded.RedisOptions
	server  *embedded.Redis
}

// Redis starts a redis-server that keeps nothing on disk. Without an installed
// redis-server the test is skipped, or fails where CI is set.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return startRedis(t, embedded.RedisOptions{Volatile: true})
}

// DurableRedis starts a redis-server with an append-only file that is synced
// before each reply, so that acknowledged writes outlive Kill and Restart.
func DurableRedis(t testing.TB) *RedisServer {
	t.Helper()
	return startRedis(t, embedded.RedisOptions{Fsync: "always"})
}

// quiet keeps go-redis from telling of the outages that tests cause.
var quiet sync.Once

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func startRedis(t testing.TB, options embedded.RedisOptions) *RedisServer {
	t.Helper()
	needRedis(t)
	// Not t.TempDir: its names grow with the test's and a unix socket's path is short.
	dir, err := os.MkdirTemp("", "takt-test-")
	if err != nil {
		t.Fatalf("make directory for redis: %v", err)
	}
	options.Password = "secret-of-" + dir[len(dir)-6:]
	r := &RedisServer{t: t, dir: dir, options: options}
	t.Cleanup(func() {
		if r.server != nil {
			r.server.Kill()
		}
		os.RemoveAll(dir)
	})
	r.start()
	r.URL = r.server.URL()
	return r
}

// needRedis skips the test where no redis-server is installed, or fails it where
// CI is set.
func needRedis(t testing.TB) {
	t.Helper()
	quiet.Do(func() { redis.SetLogger(silent{}) })
	if _, _, ok := embedded.LookupRedis(); ok {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("redis-server is not installed, and CI must not skip tests")
	}
	t.Skip("redis-server is not installed: apt-get install redis-server, or brew install redis")
}

func (r *RedisServer) start() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := embedded.StartRedis(ctx, r.dir, r.options)
	if err != nil {
		r.t.Fatalf("start redis for the test: %v", err)
	}
	r.server = server
}

// Client returns a client of the server; it is closed at the test's end.
func (r *RedisServer) Client(t testing.TB, hooks ...redis.Hook) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(r.URL)
	if err != nil {
		t.Fatalf("parse the redis URL: %v", err)
	}
	options.ContextTimeoutEnabled = true
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	options.DialerRetries = 1 // a killed server is meant to be gone
	client := redis.NewClient(options)
	for _, hook := range hooks {
		client.AddHook(hook)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Kill ends the server as kill -9 does.
func (r *RedisServer) Kill() {
	r.server.Kill()
}

// Stop ends the server in good order.
func (r *RedisServer) Stop() {
	r.server.Stop()
}

// Restart starts the server again after Kill or Stop, with the data of a
// DurableRedis and with none of a plain one, and returns when it answers.
func (r *RedisServer) Restart() {
	r.t.Helper()
	r.start()
}

// Freeze stops the server's process in its tracks: it takes connections and
// answers nothing until Thaw.
func (r *RedisServer) Freeze() {
	r.t.Helper()
	r.signal(syscall.SIGSTOP)
}

// Thaw ends a Freeze.
func (r *RedisServer) Thaw() {
	r.t.Helper()
	r.signal(syscall.SIGCONT)
}

func (r *RedisServer) signal(s syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.server.PID(), s); err != nil {
		r.t.Fatalf("signal redis-server: %v", err)
	}
}
