package process

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/executor/httpreq"
	"github.com/takt-dev/takt/internal/executor/natsreq"
	"github.com/takt-dev/takt/internal/executor/shell"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/internal/worker"
	"github.com/takt-dev/takt/pkg/executor"
)

// The idle wait of dequeuers with NATS, whose rings wake them, and without.
const (
	ringWait = time.Second
	pollWait = 50 * time.Millisecond
)

// BuiltIn gives the specs of the job types that every worker has.
func BuiltIn() []executor.Spec {
	return []executor.Spec{httpreq.Spec(), shell.Spec(), natsreq.Spec()}
}

// Worker runs a worker process with the built-in job types and the given ones
// until ctx ends and what it executes has ended or was handed back.
func Worker(ctx context.Context, cfg config.Worker, own []executor.Type, log *slog.Logger) error {
	return NewProgram().Worker(ctx, cfg, own, log)
}

func runWorker(ctx context.Context, in *Program, cfg config.Worker, own []executor.Type, log *slog.Logger) error {
	bell := redisconn.NewBell()
	b, err := open(ctx, in, "worker", cfg.Shared, log, opening{up: func(up bool) {
		bell.SetFallback(pollWait)
		if up {
			bell.SetFallback(ringWait)
		}
	}})
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.serveMetrics(ctx); err != nil {
		return err
	}
	host, err := tracked(cfg.CBT, b.log)
	if err != nil {
		return err
	}
	if host != nil {
		defer func() { _ = host.Close() }() // the process that follows serves again
		own = append(slices.Clone(own), host.Type())
	}
	types, closeTypes, err := executors(cfg.WorkerSettings, own)
	if err != nil {
		return err
	}
	defer closeTypes()

	q, err := b.queueClient(ctx)
	if err != nil {
		return err
	}
	box, err := seal.New(cfg.SecretKey)
	if err != nil {
		return core.InvalidField("worker.secretKey", "worker.secretKey: %v", err)
	}
	eng := engine.New(b.store, q, b.bus, engine.Options{Log: b.log, Types: BuiltIn(), Secrets: box})
	queues := queuesOf(cfg.WorkerSettings)
	w := worker.New(eng, b.store, worker.Options{
		Host: cfg.Host, Tags: cfg.Tags, Resources: withResources(cfg.Resources, host), Slots: cfg.Slots, Version: Version,
		Queues: names(queues), Drain: cfg.Drain, Types: types, Log: b.log, Metrics: workerMetrics(b),
	})
	if err := b.untilRedis(ctx, w.Announce); err != nil {
		return err
	}
	if err := b.listen(w, names(queues), bell); err != nil {
		return err
	}
	srv, err := queue.Listen(queue.ServerOptions{
		Open:   func() (redis.UniversalClient, error) { return b.awaitRedis(ctx) },
		Queues: queues, Slots: cfg.Slots, Dequeuers: cfg.Dequeuers, Drain: time.Second, Bell: bell,
		Took: w.Took, GaveBack: w.GaveBack, Log: b.log,
	}, w.Handle)
	if err != nil {
		return err
	}
	defer tend(ctx, host, eng, b.log)()
	polling, stopPolling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPolling()
	go bell.Poll(polling, b.rdb, pendingKeys(queues))
	b.log.InfoContext(ctx, "worker is ready", "id", w.ID(), "version", Version, "slots", cfg.Slots, "types", typeNames(types), "queues", names(queues))

	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRunning()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	<-ctx.Done()
	srv.Stop() // takes nothing more; the worker then drains
	stopRunning()
	err = <-ended
	srv.Close()
	b.log.Info("worker has stopped")
	return err
}

func (b *base) listen(w *worker.Worker, queues []string, bell *redisconn.Bell) error {
	for _, q := range queues {
		if err := b.bus.OnRing([]string{q}, func() { bell.RingFor(q) }); err != nil {
			return err
		}
	}
	return b.bus.OnStop(w.ID(), w.Stop)
}

// queuesOf gives the shared queues with their weights, and the host's own.
func queuesOf(cfg config.WorkerSettings) map[string]int {
	out := map[string]int{core.HostQueue(worker.HostName(cfg.Host)): 3}
	for q, weight := range cfg.Queues {
		out[q] = weight
	}
	return out
}

func names(queues map[string]int) []string {
	out := make([]string, 0, len(queues))
	for q := range queues {
		out = append(out, q)
	}
	slices.Sort(out)
	return out
}

func pendingKeys(queues map[string]int) []string {
	var keys []string
	for _, q := range names(queues) {
		keys = append(keys, redisconn.PendingKey(q))
	}
	return keys
}

// executors makes the built-in types as the configuration allows, and adds the
// process's own.
func executors(cfg config.WorkerSettings, own []executor.Type) ([]executor.Type, func(), error) {
	policy, err := requestPolicy(cfg)
	if err != nil {
		return nil, nil, err
	}
	client := safehttp.New(policy)
	commands, err := shell.New(commandPolicy(cfg))
	if err != nil {
		return nil, nil, err
	}
	nc, err := requestConn(cfg.NATSRequest)
	if err != nil {
		return nil, nil, err
	}
	requests, err := natsreq.New(nc, cfg.NATSRequest.Allow)
	if err != nil {
		return nil, nil, err
	}
	types := append([]executor.Type{httpreq.New(client, cfg.HTTP.Timeout), commands, requests}, own...)
	seen := map[string]bool{}
	for _, t := range types {
		if t.Spec.Type == "" || t.Executor == nil || strings.ContainsAny(t.Spec.Type, "|: \n") {
			return nil, nil, fmt.Errorf("job type %q: a type needs a name without spaces, colons and bars, and an executor", t.Spec.Type)
		}
		if seen[t.Spec.Type] {
			return nil, nil, fmt.Errorf("job type %q is given twice", t.Spec.Type)
		}
		seen[t.Spec.Type] = true
	}
	return types, func() {
		client.CloseIdle()
		if nc != nil {
			nc.Close()
		}
	}, nil
}

// requestConn connects natsRequest to the NATS of its own configuration, never
// Takt's. Without URLs there is none, and the type says so.
func requestConn(cfg config.NATSRequest) (*nats.Conn, error) {
	if len(cfg.URLs) == 0 {
		return nil, nil
	}
	auth, err := natsAuth(cfg.NATS)
	if err != nil {
		return nil, err
	}
	opts := append(auth, nats.Name("takt-natsRequest"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort())
	return nats.Connect(strings.Join(cfg.URLs, ","), opts...)
}

func typeNames(types []executor.Type) []string {
	out := make([]string, len(types))
	for i, t := range types {
		out[i] = t.Spec.Type
	}
	return out
}

func workerMetrics(b *base) worker.Metrics {
	m := b.metrics
	return worker.Metrics{
		Slots: func(used, total int) {
			m.SlotsUsed.Set(float64(used))
			m.SlotsTotal.Set(float64(total))
		},
		Ended: func(jobType string, state core.AttemptState, took time.Duration) {
			m.AttemptSeconds.WithLabelValues(jobType, string(state)).Observe(took.Seconds())
		},
		Stale: m.StaleDispatches.Inc,
	}
}
