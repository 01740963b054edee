package process

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/schedule"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// commands counts the commands a client sends.
type commands struct{ sent []string }

func (c *commands) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.sent = append(c.sent, cmd.Name())
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A card costs two commands each ten seconds, and tells how far the clocks are apart.
func TestWriteCard(t *testing.T) {
	t.Parallel()
	counted := &commands{}
	rdb := testenv.Redis(t).Client(t)
	if err := rdb.Ping(t.Context()).Err(); err != nil { // a new connection says hello
		t.Fatal(err)
	}
	rdb.AddHook(counted)
	s := store.New(rdb, store.Options{})
	card := core.Card{ID: "me", Role: "api"}
	if err := writeCard(t.Context(), s, &card); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(counted.sent); got != "[time hset]" {
		t.Errorf("a card took the commands %s, want TIME and HSET", got)
	}
	got, err := s.Cards(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("Cards = %+v, %v", got, err)
	}
	if c := got[0]; c.Ahead.Abs() > c.RoundTrip+time.Millisecond || c.RoundTrip <= 0 || c.Seen.IsZero() || !c.Started.Equal(c.Seen) {
		t.Errorf("card = %+v, want no skew beyond its round trip on one machine", c)
	}
}

// deployment is the settings of processes on servers of the test's own.
func deployment(t *testing.T) (config.Shared, *testenv.RedisServer) {
	t.Helper()
	redisServer, natsServer := testenv.DurableRedis(t), testenv.NATS(t)
	shared := config.Default[config.API]().Shared
	shared.Redis.URL, shared.NATS.URLs = redisServer.URL, []string{natsServer.URL}
	return shared, redisServer
}

// start runs a process and returns what stops it in good order.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// One process of each kind on durable servers: each leaves its card, the doctor
// finds nothing, and the cards go with the processes.
func TestExamineAHealthyDeployment(t *testing.T) {
	t.Parallel()
	shared, server := deployment(t)
	log := slog.New(slog.DiscardHandler)
	api, worker := config.Default[config.API](), config.Default[config.Worker]()
	api.Shared, worker.Shared, api.Listen = shared, shared, "127.0.0.1:0"
	api.ZStack.TimeZone = "Asia/Tokyo"
	stops := []func(){
		start(t, func(ctx context.Context) error { return API(ctx, api, log, APIOptions{}) }),
		start(t, func(ctx context.Context) error { return Worker(ctx, worker, nil, log) }),
		start(t, func(ctx context.Context) error { return Trigger(ctx, config.Trigger{Shared: shared}, log) }),
	}
	cards := store.New(server.Client(t), store.Options{})
	testenv.Eventually(t, 20*time.Second, func() error {
		got, err := cards.Cards(t.Context())
		if err == nil && len(got) != 3 {
			err = fmt.Errorf("cards of %d processes", len(got))
		}
		return err
	})
	got, _ := cards.Cards(t.Context())
	var roles []string
	for _, c := range got {
		roles = append(roles, c.Role)
		if c.Version != Version || c.ZonesHash != schedule.RulesHash() || c.Host == "" || c.Cores == 0 {
			t.Errorf("card = %+v, want version, host, cores and rules in it", c)
		}
		if want := map[string]string{"api": "Asia/Tokyo"}[c.Role]; c.Zone != want {
			t.Errorf("card of a %s has zone %q, want %q", c.Role, c.Zone, want)
		}
	}
	slices.Sort(roles)
	if fmt.Sprint(roles) != "[api trigger worker]" {
		t.Errorf("cards of %v, want one of each kind", roles)
	}
	if format, err := cards.Format(t.Context()); err != nil || format != store.Format {
		t.Errorf("the format noted is %d, %v; want %d", format, err, store.Format)
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		r, err := Examine(t.Context(), shared)
		if err == nil && r.Worst != redisconn.OK {
			err = fmt.Errorf("findings %+v", r.Quiet().Findings)
		}
		return err
	})
	for _, stop := range stops {
		stop()
	}
	if got, err := cards.Cards(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("cards after the end = %+v, %v; want none", got, err)
	}
}

func TestExamineChangesNothingWhereNothingIs(t *testing.T) {
	t.Parallel()
	shared, server := deployment(t)
	r, err := Examine(t.Context(), shared)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, f := range r.Quiet().Findings {
		last += f.Text + "\n"
	}
	if !strings.Contains(last, "no api process has used this Redis yet") || r.Problems != 1 {
		t.Errorf("findings = %+v, want one problem: that there are no records", r.Quiet().Findings)
	}
	if keys := server.Client(t).Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("the doctor has written %q", keys)
	}
	server.Stop()
	if r, err = Examine(t.Context(), shared); err != nil || r.Findings[0].Check != "connection" || r.Problems != 1 {
		t.Errorf("with Redis away: %+v, %v", r.Quiet().Findings, err)
	}
	shared.Redis.URL = "gopher://x"
	if _, err = Examine(t.Context(), shared); err == nil {
		t.Error("a URL that cannot be right is no error")
	}
}
