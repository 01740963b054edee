// Package takt lets you run a Takt worker with job types of your own. A whole
// worker is one page:
//
//	package main
//
//	import (
//		"context"
//
//		"github.com/takt-dev/takt/pkg/executor"
//		"github.com/takt-dev/takt/pkg/takt"
//	)
//
//	func main() {
//		takt.Main(executor.Type{
//			Spec: executor.Spec{
//				Type:       "greet",
//				Parameters: []executor.Parameter{{Name: "name", Kind: executor.String, Required: true}},
//			},
//			Executor: executor.Func(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
//				return executor.Result{Output: "hello " + a.Parameters["name"]}, nil
//			}),
//		})
//	}
//
// It is a worker like any other: the same flags, environment and configuration
// file as the worker command, the same heartbeats, logs, retries and cancels. It
// announces its types, and from then on jobs of these types are accepted
// everywhere. Package executortest checks that an executor keeps the contract.
package takt

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/telemetry"
	"github.com/takt-dev/takt/pkg/executor"
)

// Main runs a worker with the built-in job types and the given ones, as the
// command line and the environment say, until SIGINT or SIGTERM; it then drains
// and exits.
func Main(types ...executor.Type) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Run(ctx, os.Args[1:], types...)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

// Run is Main for a program that handles signals itself: the worker drains and
// Run returns when ctx ends. args are the flags of the worker command; --help, --version
// and --print-config print and return.
func Run(ctx context.Context, args []string, types ...executor.Type) error {
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
	return process.Worker(ctx, cfg, types, log)
}
