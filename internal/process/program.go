package process

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/telemetry"
	"github.com/takt-dev/takt/pkg/executor"
)

// A Program is the operating system's process that Takt's processes run in: one of
// them, or all, as in `takt dev`. They share what it shows at /metrics, on the listener of
// each of them that has one.
type Program struct {
	registry *prometheus.Registry
	metrics  *telemetry.Metrics
}

// NewProgram makes a Program for processes to run in. It takes one api process at most.
func NewProgram() *Program {
	p := &Program{registry: telemetry.NewRegistry()}
	p.metrics = telemetry.NewMetrics(p.registry)
	return p
}

// API is the function API, in a Program.
func (p *Program) API(ctx context.Context, cfg config.API, log *slog.Logger, o APIOptions) error {
	return runAPI(ctx, p, cfg, log, o)
}

// Worker is the function Worker, in a Program.
func (p *Program) Worker(ctx context.Context, cfg config.Worker, own []executor.Type, log *slog.Logger) error {
	return runWorker(ctx, p, cfg, own, log)
}

// Trigger is the function Trigger, in a Program.
func (p *Program) Trigger(ctx context.Context, cfg config.Trigger, log *slog.Logger) error {
	return runTrigger(ctx, p, cfg, log, TriggerOptions{})
}
