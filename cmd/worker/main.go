// Command worker takes steps from the queues and executes them. Any number of them
// share the work.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if process.SaysVersion("worker", args, os.Stdout) {
		return nil
	}
	cfg, exit, err := config.Load[config.Worker](args, os.Environ(), os.Stdout, process.CheckWorker)
	if err != nil || exit {
		return err
	}
	log, err := telemetry.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	return process.Worker(ctx, cfg, nil, log)
}
