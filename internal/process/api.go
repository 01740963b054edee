package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/api/console"
	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/dispatch"
	"github.com/takt-dev/takt/internal/engine"
	"github.com/takt-dev/takt/internal/safehttp"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/internal/server"
	"github.com/takt-dev/takt/internal/store"
)

// Started tells the caller of API what it needs to print.
type Started struct {
	Addr     net.Addr
	Admin    string // name of the first account
	Password string // generated at this start, or ""
}

// APIOptions are what `takt dev` wants otherwise than the api command.
type APIOptions struct {
	// Started is called once the process serves; it then shows the generated
	// password instead of the log.
	Started func(Started)
	// Imitation says that Redis is the in-memory one, whose setup needs no check.
	Imitation bool
}

// API runs an api process until ctx ends and the requests under way are answered, or
// until it can take no more of them.
func API(ctx context.Context, cfg config.API, log *slog.Logger, o APIOptions) error {
	return NewProgram().API(ctx, cfg, log, o)
}

func runAPI(ctx context.Context, in *Program, cfg config.API, log *slog.Logger, o APIOptions) error {
	zone, err := zoneOf(cfg.ZStack.TimeZone)
	if err != nil {
		return err
	}
	b, err := open(ctx, in, "api", cfg.Shared, log, opening{zone: zone.String(), store: store.Options{
		Partitions: cfg.Partitions, RunRetention: cfg.Retention.Runs,
		LedgerAge: cfg.Retention.Ledger, LedgerEntries: cfg.Retention.LedgerEntries,
	}})
	if err != nil {
		return err
	}
	defer b.close()
	if !o.Imitation {
		b.doctor(ctx)
	}
	b.registry.MustRegister(&counters{store: b.store})
	if err := b.serveMetrics(ctx); err != nil {
		return err
	}
	box, err := seal.New(cfg.SecretKey)
	if err != nil {
		return core.InvalidField("api.secretKey", "api.secretKey: %v", err)
	}
	if box == nil {
		b.log.WarnContext(ctx, "api.secretKey is not set: secret parameters of jobs and access keys are stored as they are")
	}
	accounts := auth.New(b.store, auth.Options{SessionLife: cfg.SessionLife, Secrets: box})
	var password string
	var created bool
	err = b.untilRedis(ctx, func(ctx context.Context) (err error) {
		password, created, err = accounts.EnsureAdmin(ctx, cfg.Admin.Name, cfg.Admin.Password)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the first account: %w", adminSetting(err))
	}
	if created && password != "" && o.Started == nil {
		// The only place that ever shows it.
		b.log.WarnContext(ctx, "first account made; change its password", "name", cfg.Admin.Name, "password", password)
	}
	q, err := b.queueClient(ctx)
	if err != nil {
		return err
	}
	eng := engine.New(b.store, q, b.bus, engine.Options{
		Log: b.log, Types: BuiltIn(), Secrets: box, GroupJobs: cfg.Limits.GroupJobs, TargetTriggers: cfg.Limits.TargetTriggers,
	})
	http, zs, err := b.http(cfg, zone, eng, accounts)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w%s", err, portAdvice(err, "api.listen", "--api-listen"))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	roles := dispatch.New(b.store, q, b.bus, eng, dispatch.Options{Member: member(), Log: b.log, Metrics: roleMetrics(b)})
	rolesEnded := make(chan struct{})
	go func() { defer close(rolesEnded); _ = roles.Run(ctx) }()
	receiptsEnded := make(chan struct{})
	go func() { defer close(receiptsEnded); zs.Run(ctx) }()

	b.log.InfoContext(ctx, "api is ready", "version", Version, "address", listener.Addr().String())
	if o.Started != nil {
		o.Started(Started{Addr: listener.Addr(), Admin: cfg.Admin.Name, Password: password})
	}
	err = http.Serve(ctx, listener)
	stop()    // the roles of a process that cannot serve end too
	zs.Wait() // what was answered with 202 is finished before the connections close
	<-receiptsEnded
	<-rolesEnded
	b.log.Info("api has stopped")
	return err
}

// adminSetting names the key of what is wrong with the first account.
func adminSetting(err error) error {
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.Invalid || e.Field == "" {
		return err
	}
	return core.InvalidField("api.admin."+e.Field, "api.admin.%s: %s", e.Field, e.Text)
}

func (b *base) http(cfg config.API, zone *time.Location, eng *engine.Engine, accounts *auth.Authority) (*server.Server, *zstack.API, error) {
	hooks, err := hookPolicy(cfg.APISettings)
	if err != nil {
		return nil, nil, err
	}
	zs := zstack.New(eng, accounts, zstack.Options{
		Zone: zone, AlwaysAsync: cfg.ZStack.AlwaysAsync, ReceiptLife: cfg.Retention.Receipts, Hooks: safehttp.New(hooks), Log: b.log,
	})
	s, err := server.New(server.Deps{
		Native:  native.New(eng, accounts, native.Options{MaxBody: int64(cfg.BodyLimit), Log: b.log}),
		ZStack:  zs,
		Console: console.New(console.Options{Accounts: accounts, Verbs: eng, Redis: shared{b.rdb}, ViewersMonitor: cfg.ViewersMonitor, Log: b.log}),
		Health:  b.health, Metrics: requestMetrics{b}, Log: b.log, BodyLimit: int64(cfg.BodyLimit),
		TrustedProxies: cfg.TrustedProxies,
	})
	return s, zs, err
}

// zoneOf gives the zone of ZStack's timestamps and cron expressions. ZStack uses
// the server's local zone, whose IANA name Go does not always know.
func zoneOf(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		name = localZone()
	}
	zone, err := schedule.Location(name)
	if err != nil {
		return nil, core.InvalidField("api.zstack.timezone", "api.zstack.timezone: %v", err)
	}
	return zone, nil
}

// shared lends asynqmon the process's Redis client.
type shared struct{ rdb redis.UniversalClient }

// MakeRedisClient gives the shared client.
func (s shared) MakeRedisClient() any { return s.rdb }

type requestMetrics struct{ b *base }

// ObserveRequest counts a request.
func (m requestMetrics) ObserveRequest(method, route string, status int, took time.Duration) {
	m.b.metrics.Requests.WithLabelValues(route, method, fmt.Sprint(status)).Inc()
	m.b.metrics.RequestSeconds.WithLabelValues(route).Observe(took.Seconds())
}

func roleMetrics(b *base) dispatch.Metrics {
	m := b.metrics
	return dispatch.Metrics{
		Decided:  func(d core.Decision) { m.FiresDecided.WithLabelValues(string(d)).Inc() },
		Repaired: func(what string, n int) { m.Repairs.WithLabelValues(what).Add(float64(n)) },
		Timer:    func(kind string) { m.TimersFired.WithLabelValues(kind).Inc() },
		Leases:   func(n int) { m.LeasesHeld.WithLabelValues("partition").Set(float64(n)) },
	}
}
