package process

import (
	"context"
	"log/slog"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/doctor"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/store"
)

// doctorWait bounds the wait for each connection of Examine.
const doctorWait = 5 * time.Second

// Examine looks at the deployment that the settings name and changes nothing
// there. What is away is a finding; the error says that the settings cannot be
// right.
func Examine(ctx context.Context, cfg config.Shared) (doctor.Report, error) {
	b := &base{name: "doctor", cfg: cfg, log: slog.New(slog.DiscardHandler)}
	defer b.close()
	redisconn.LogTo(b.log)
	if err := redisconn.ValidURL(cfg.Redis.URL); err != nil {
		return doctor.Report{}, err
	}
	auth, err := natsAuth(cfg.NATS)
	if err != nil {
		return doctor.Report{}, err
	}
	connected := make(chan struct{}, 1)
	b.bus, err = events.Connect(events.Options{URLs: cfg.NATS.URLs, Auth: auth, Name: "takt-doctor", Log: b.log, Up: func(up bool) {
		if up {
			select {
			case connected <- struct{}{}:
			default:
			}
		}
	}})
	if err != nil {
		return doctor.Report{}, err
	}
	sources := doctor.Sources{Stream: b.bus}
	b.openRecords(ctx, &sources)
	if ctx.Err() != nil {
		return doctor.Report{}, ctx.Err()
	}
	select {
	case <-connected:
	case <-ctx.Done():
	case <-time.After(doctorWait):
	}
	return doctor.Examine(ctx, sources), nil
}

// openRecords connects to Redis and to what stands there, as far as it does.
func (b *base) openRecords(ctx context.Context, sources *doctor.Sources) {
	dial, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	var err error
	if b.rdb, err = b.openRedis(dial); err != nil {
		sources.Redis = func(context.Context) []redisconn.Finding { return []redisconn.Finding{unopened(err)} }
		return
	}
	s, err := store.Open(dial, b.rdb, store.Options{})
	sources.Redis = func(ctx context.Context) []redisconn.Finding {
		findings := redisconn.Examine(ctx, b.redisConfig(), b.rdb)
		if err != nil {
			findings = append(findings, notSetUp(err))
		}
		return findings
	}
	if err == nil {
		sources.Records, sources.Queues = s, queue.NewClient(b.rdb)
	}
}

func notSetUp(err error) redisconn.Finding {
	if core.Is(err, core.NotFound) {
		return redisconn.Finding{Severity: redisconn.Problem, Check: "records", Text: "there are no records of Takt: no api process has used this Redis yet", Do: "start an api process, or look whether redis.url names the right server and database"}
	}
	return redisconn.Finding{Severity: redisconn.Problem, Check: "records", Text: err.Error(), Do: "see what this user may do in Redis"}
}
