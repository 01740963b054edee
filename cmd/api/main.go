// Command api serves the APIs and plays the background roles: dispatcher, timers,
// reconciler. Any number of them share the work.
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
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if process.SaysVersion("api", args, os.Stdout) {
		return nil
	}
	cfg, exit, err := config.Load[config.API](args, os.Environ(), os.Stdout, process.CheckAPI)
	if err != nil || exit {
		return err
	}
	log, err := telemetry.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	return process.API(ctx, cfg, log, process.APIOptions{})
}
