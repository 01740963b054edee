// Package process puts the parts of each process together: it connects, starts
// and, when its context ends, stops them in order. The commands and `takt dev`
// run the same code.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/server"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/telemetry"
)

// Version is the version of the binaries, set when they are built.
var Version = "dev"

// A base is what every process stands on.
type base struct {
	name     string
	zone     string // of ZStack's clients; "" but in an api
	cfg      config.Shared
	log      *slog.Logger
	rdb      redis.UniversalClient
	store    *store.Store
	bus      *events.Bus
	registry *prometheus.Registry // the program's
	metrics  *telemetry.Metrics   // the program's
	health   *server.Health
	closers  []func() error
}

// An opening is what open does otherwise for one process than for another.
type opening struct {
	store store.Options
	up    func(bool) // told when NATS comes and goes; nil = nobody
	zone  string     // base's
}

// open connects a process. It waits for Redis as long as ctx lives, since at the
// start of a machine nobody says who comes first; NATS may come later still. A Redis
// that a newer version wrote is refused.
func open(ctx context.Context, in *Program, name string, cfg config.Shared, log *slog.Logger, o opening) (*base, error) {
	b := &base{name: name, zone: o.zone, cfg: cfg, log: log.With("process", name), registry: in.registry, metrics: in.metrics}
	b.health = server.NewHealth(b.ready, b.log)
	redisconn.LogTo(b.log)
	_ = heapFloorMemory() // lives as long as the process
	var err error
	if b.rdb, err = b.awaitRedis(ctx); err != nil {
		return nil, err
	}
	if b.store, err = b.awaitStore(ctx, o.store); err != nil {
		b.close()
		return nil, err
	}
	if err := b.untilRedis(ctx, b.store.AdoptFormat); err != nil {
		b.close()
		return nil, err
	}
	auth, err := natsAuth(cfg.NATS)
	if err != nil {
		b.close()
		return nil, err
	}
	b.bus, err = events.Connect(events.Options{URLs: cfg.NATS.URLs, Auth: auth, Name: "takt-" + name, Log: b.log, Up: o.up})
	if err != nil {
		b.close()
		return nil, err
	}
	b.keepCard(ctx)
	return b, nil
}

func (b *base) redisConfig() redisconn.Config {
	r := b.cfg.Redis
	return redisconn.Config{
		URL: r.URL, Username: r.Username, Password: r.Password, CAFile: r.CAFile, CertFile: r.CertFile,
		KeyFile: r.KeyFile, ServerName: r.ServerName, PoolSize: r.PoolSize, ClientName: "takt-" + b.name,
	}
}

// openRedis makes one more client.
func (b *base) openRedis(ctx context.Context) (redis.UniversalClient, error) {
	return redisconn.Open(ctx, b.redisConfig())
}

// queueClient makes the client that sends dispatches.
func (b *base) queueClient(ctx context.Context) (*queue.Client, error) {
	rdb, err := b.awaitRedis(ctx)
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, rdb.Close)
	return queue.NewClient(rdb), nil
}

func (b *base) awaitRedis(ctx context.Context) (redis.UniversalClient, error) {
	if err := redisconn.ValidURL(b.cfg.Redis.URL); err != nil {
		return nil, err
	}
	var rdb redis.UniversalClient
	err := b.untilRedis(ctx, func(ctx context.Context) (err error) {
		if rdb, err = b.openRedis(ctx); err != nil {
			return core.Wrap(core.Unavailable, err, "Redis cannot be reached")
		}
		return nil
	})
	return rdb, err
}

// untilRedis repeats a step of the start while Redis is away, as long as ctx
// lives: Redis may go again between two steps, and a process that ends for that
// comes back only where somebody starts it.
func (b *base) untilRedis(ctx context.Context, step func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := step(try)
		cancel()
		if err == nil || !core.Is(err, core.Unavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		b.tellWaiting(ctx, err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// cause gives what lies below an error that is worded for clients.
func cause(err error) error {
	if e := (*core.Error)(nil); errors.As(err, &e) && e.Unwrap() != nil {
		return e.Unwrap()
	}
	return err
}

// awaitStore opens the store; a worker or trigger process waits for the first api
// process to set it up.
func (b *base) awaitStore(ctx context.Context, o store.Options) (s *store.Store, err error) {
	for told := false; ; told = true {
		err = b.untilRedis(ctx, func(ctx context.Context) (err error) {
			s, err = store.Open(ctx, b.rdb, o)
			return err
		})
		if !core.Is(err, core.NotFound) {
			return s, err
		}
		if !told {
			b.log.InfoContext(ctx, "waiting for the first api process to set Redis up")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ready says which of the things that the process depends on can be used. Without NATS
// an api and a worker go on; a trigger process publishes nothing.
func (b *base) ready(ctx context.Context) map[string]error {
	var away error
	if !b.bus.Connected() {
		away = errors.New("not connected")
	}
	if b.name != "trigger" {
		away = server.Degraded(away)
	}
	return map[string]error{"redis": b.store.Ping(ctx), "nats": away}
}

// serveMetrics serves /metrics, /healthz and /readyz on a listener of their own until
// ctx ends.
func (b *base) serveMetrics(ctx context.Context) error {
	if b.cfg.Metrics.Listen == "" {
		return nil
	}
	srv, err := telemetry.Listen(b.cfg.Metrics.Listen, b.registry, map[string]http.HandlerFunc{
		"GET /healthz": b.health.Live, "GET /readyz": b.health.Ready,
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, portAdvice(err, "metrics.listen", "--metrics-listen"))
	}
	go func() {
		if err := srv.Run(ctx); err != nil {
			b.log.ErrorContext(ctx, "metrics", "err", err)
		}
	}()
	return nil
}

// portAdvice says what to do when an address cannot be listened on.
func portAdvice(err error, key, flag string) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("; stop what listens there, or choose another port with %s (%s)", flag, key)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; ports below 1024 need a right of their own, so choose another one with %s (%s)", flag, key)
	}
	return fmt.Sprintf("; see %s (%s)", flag, key)
}

// doctor logs what is wrong with the Redis that was found.
func (b *base) doctor(ctx context.Context) {
	for _, f := range redisconn.Doctor(ctx, b.rdb) {
		if f.Severity != redisconn.OK && ctx.Err() == nil {
			b.log.WarnContext(ctx, "Redis: "+f.Text, "do", f.Do)
		}
	}
}

func (b *base) close() {
	if b.bus != nil {
		b.bus.Close()
	}
	for _, c := range b.closers {
		_ = c()
	}
	if b.rdb != nil {
		_ = b.rdb.Close()
	}
}

// member names this process among those that play the same role.
func member() string {
	host, _ := os.Hostname()
	return host + "." + id.New()[:8]
}

func natsAuth(n config.NATS) ([]nats.Option, error) {
	var opts []nats.Option
	switch {
	case n.CredentialsFile != "":
		if _, err := os.Stat(n.CredentialsFile); err != nil {
			return nil, core.InvalidField("nats.credentialsFile", "nats.credentialsFile: %v", err)
		}
		opts = append(opts, nats.UserCredentials(n.CredentialsFile))
	case n.User != "":
		opts = append(opts, nats.UserInfo(n.User, n.Password))
	case n.Token != "":
		opts = append(opts, nats.Token(n.Token))
	}
	if n.CAFile != "" {
		opts = append(opts, nats.RootCAs(n.CAFile))
	}
	if (n.CertFile == "") != (n.KeyFile == "") {
		return nil, fmt.Errorf("nats.certFile and nats.keyFile go together")
	}
	if n.CertFile != "" {
		opts = append(opts, nats.ClientCert(n.CertFile, n.KeyFile))
	}
	return opts, nil
}
