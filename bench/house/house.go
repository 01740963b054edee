// Package house starts Takt for a measurement: a private redis-server and a NATS
// server as children, and the api, worker and trigger processes, with the same
// code as the commands, in this process. The measuring program is then the only
// other load on the machine.
//
// Everything is made anew for each measurement, so that no measurement finds
// what another one left.
package house

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// Options say what runs in a House. The zero value is an api and a worker on a
// Redis whose append-only file is synced each second.
type Options struct {
	Fsync     string // Redis' appendfsync; "" = everysec, "none" = no file at all
	Slots     int    // of the worker; 0 = the product's default
	Dequeuers int    // of the worker; 0 = the product's default
	Types     []executor.Type
	NoWorker  bool
	NoAPI     bool          // no api process after Redis was set up: nothing consumes fires
	Trigger   bool          // a trigger process from the start
	Keep      time.Duration // how long ended runs and fires are kept; 0 = the product's default
}

// A House is a running Takt.
type House struct {
	Redis  *Redis
	NATS   *NATS
	URL    string // of the api
	Client *client.Client

	opts   Options
	dir    string
	log    *slog.Logger
	warned *warnings
	parts  []*part
	api    *part

	closers []func() error
}

// A part is one of Takt's processes.
type part struct {
	name string
	stop context.CancelFunc
	done chan error
}

const (
	adminName     = "admin"
	adminPassword = "a-password-for-measuring"
)

// Open starts a House and returns when its api answers and its worker is known.
func Open(ctx context.Context, o Options) (*House, error) {
	h := &House{opts: o}
	if err := h.open(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *House) open(ctx context.Context) error {
	var err error
	if h.dir, err = os.MkdirTemp("", "takt-bench-"); err != nil {
		return err
	}
	h.warned = &warnings{}
	h.log = slog.New(slog.NewTextHandler(h.warned, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if h.Redis, err = StartRedis(ctx, filepath.Join(h.dir, "redis"), h.opts.Fsync); err != nil {
		return err
	}
	if h.NATS, err = startNATS(filepath.Join(h.dir, "nats")); err != nil {
		return err
	}
	if h.api, err = h.startAPI(ctx); err != nil {
		return err
	}
	if err := h.signIn(ctx); err != nil {
		return err
	}
	if h.opts.NoAPI {
		return h.StopAPI()
	}
	if h.opts.Trigger {
		h.StartTrigger()
	}
	if h.opts.NoWorker {
		return nil
	}
	h.StartWorker("bench")
	return h.await(ctx, func() (bool, error) {
		n, err := h.Redis.Client.Exists(ctx, "asynq:servers").Result()
		return n == 1, err
	})
}

// shared are the settings of every process.
func (h *House) shared() config.Shared {
	s := config.Default[config.Trigger]().Shared
	s.Redis.URL, s.NATS.URLs = h.Redis.URL, []string{h.NATS.URL}
	return s
}

func (h *House) start(name string, run func(context.Context) error) *part {
	ctx, stop := context.WithCancel(context.Background())
	p := &part{name: name, stop: stop, done: make(chan error, 1)}
	go func() { p.done <- run(ctx) }()
	h.parts = append(h.parts, p)
	return p
}

func (h *House) startAPI(ctx context.Context) (*part, error) {
	cfg := config.Default[config.API]()
	cfg.Shared = h.shared()
	cfg.Listen = "127.0.0.1:0"
	cfg.Admin.Name, cfg.Admin.Password = adminName, adminPassword
	if h.opts.Keep > 0 {
		cfg.Retention.Runs, cfg.Retention.Ledger = h.opts.Keep, h.opts.Keep
	}
	ready := make(chan process.Started, 1)
	p := h.start("api", func(ctx context.Context) error {
		return process.API(ctx, cfg, h.log, process.APIOptions{Started: func(s process.Started) { ready <- s }})
	})
	select {
	case s := <-ready:
		h.URL = "http://" + s.Addr.String()
		return p, nil
	case err := <-p.done:
		p.done <- err
		return nil, fmt.Errorf("start api: %w", err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// StartWorker starts one more worker process, on a host of this name.
func (h *House) StartWorker(host string) {
	cfg := config.Default[config.Worker]()
	cfg.Shared = h.shared()
	cfg.Host = host
	if h.opts.Slots > 0 {
		cfg.Slots = h.opts.Slots
	}
	if h.opts.Dequeuers > 0 {
		cfg.Dequeuers = h.opts.Dequeuers
	}
	h.start("worker", func(ctx context.Context) error { return process.Worker(ctx, cfg, h.opts.Types, h.log) })
}

// StartTrigger starts a trigger process.
func (h *House) StartTrigger() {
	cfg := config.Trigger{Shared: h.shared()}
	h.start("trigger", func(ctx context.Context) error { return process.Trigger(ctx, cfg, h.log) })
}

// StopAPI ends the api process and its background roles: nothing consumes fires
// any more.
func (h *House) StopAPI() error { return h.end(h.api) }

func (h *House) signIn(ctx context.Context) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	var err error
	if h.Client, err = client.New(h.URL, client.Options{HTTP: &http.Client{Transport: transport}}); err != nil {
		return err
	}
	return h.Client.SignIn(ctx, adminName, adminPassword)
}

// await looks every 5 ms until done holds.
func (h *House) await(ctx context.Context, done func() (bool, error)) error {
	return Await(ctx, 5*time.Millisecond, 30*time.Second, done)
}

// Await looks at a steady pace until done holds, or fails after most.
func Await(ctx context.Context, pace, most time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain", most)
		}
	}
}

// end stops one process and waits for it.
func (h *House) end(p *part) error {
	p.stop()
	select {
	case err := <-p.done:
		p.done <- nil
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s does not stop", p.name)
	}
}

// Warnings gives how many lines of level warn or above the processes logged, and
// the first of them.
func (h *House) Warnings() (int, string) {
	first, _ := h.warned.first.Load().(string)
	return int(h.warned.lines.Load()), first
}

// Close stops everything and removes its files. What does not stop is told on
// standard error: the measurement stands all the same.
func (h *House) Close() {
	for i := len(h.parts) - 1; i >= 0; i-- {
		if err := h.end(h.parts[i]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	for _, c := range h.closers {
		_ = c()
	}
	if h.NATS != nil {
		h.NATS.Stop()
	}
	if h.Redis != nil {
		h.Redis.Stop()
	}
	if h.dir != "" {
		os.RemoveAll(h.dir)
	}
}

// warnings counts log lines and keeps the first. What the api says of the Redis
// that the harness has chosen is none.
type warnings struct {
	lines atomic.Int64
	first atomic.Value
}

func (w *warnings) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte("append-only file")) && !bytes.Contains(p, []byte("secretKey is not set")) && w.lines.Add(1) == 1 {
		w.first.Store(string(p))
	}
	return len(p), nil
}

// quietRedis keeps go-redis from telling of connections that we close.
type quietRedis struct{}

func (quietRedis) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quietRedis{}) }
