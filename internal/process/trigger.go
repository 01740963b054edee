package process

import (
	"context"
	"log/slog"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/trigger"
)

// TriggerOptions are what a test of faults wants otherwise than the trigger
// command.
type TriggerOptions struct {
	// Clock is the wall clock by which slots are due; nil = time.Now.
	Clock func() time.Time
}

// Trigger runs a trigger process until ctx ends.
func Trigger(ctx context.Context, cfg config.Trigger, log *slog.Logger) error {
	return NewProgram().Trigger(ctx, cfg, log)
}

// TriggerWith is Trigger with options.
func TriggerWith(ctx context.Context, cfg config.Trigger, log *slog.Logger, o TriggerOptions) error {
	return runTrigger(ctx, NewProgram(), cfg, log, o)
}

func runTrigger(ctx context.Context, in *Program, cfg config.Trigger, log *slog.Logger, o TriggerOptions) error {
	b, err := open(ctx, in, "trigger", cfg.Shared, log, opening{})
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.serveMetrics(ctx); err != nil {
		return err
	}
	m := b.metrics
	p := trigger.New(b.store, b.bus, trigger.Options{
		Member: member(), Log: b.log, Clock: o.Clock, Exact: true,
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
	err = p.Run(ctx)
	b.log.Info("trigger process has stopped")
	return err
}
