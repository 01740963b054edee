package process

import (
	"context"
	"log/slog"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/trigger"
)

// Trigger runs a trigger process until ctx ends.
func Trigger(ctx context.Context, cfg config.Trigger, log *slog.Logger) error {
	b, err := open(ctx, "trigger", cfg.Shared, log, store.Options{}, nil)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.serveMetrics(ctx); err != nil {
		return err
	}
	m := b.metrics
	p := trigger.New(b.store, b.bus, trigger.Options{
		Member: member(), Log: b.log,
		Metrics: trigger.Metrics{
			Published: func(n int, late time.Duration) {
				m.FiresPublished.Add(float64(n))
				m.FireLatenessSeconds.Observe(late.Seconds())
			},
			Repaired: func(n int) { m.Repairs.WithLabelValues("fire").Add(float64(n)) },
			Shards:   func(n int) { m.LeasesHeld.WithLabelValues("trigger").Set(float64(n)) },
		},
	})
	b.log.InfoContext(ctx, "trigger process is ready", "version", Version)
	return p.Run(ctx)
}
