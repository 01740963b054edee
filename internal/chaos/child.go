package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/chaos/witness"
	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/telemetry"
	"github.com/takt-dev/takt/pkg/executor"
)

// ordersVar, in the environment, makes the program play a worker or a trigger
// process instead of the harness. They are the product's own, but for the
// witness job type of the one and the clock of the other.
const ordersVar = "TAKT_CHAOS_ORDERS"

type orders struct {
	Role    string `json:"role"` // worker or trigger
	Redis   string `json:"redis"`
	NATS    string `json:"nats"`
	Metrics string `json:"metrics"`
	Host    string `json:"host,omitempty"`    // of a worker
	Witness string `json:"witness,omitempty"` // directory
	Clock   string `json:"clock,omitempty"`   // file of a trigger's clock
}

// obey plays the role of the orders until SIGTERM.
func obey(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("read orders: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log, err := telemetry.NewLogger(os.Stderr, "info", "text")
	if err != nil {
		return err
	}
	switch o.Role {
	case "worker":
		cfg := config.Default[config.Worker]()
		cfg.Shared, cfg.Host, cfg.Drain = o.shared(cfg.Shared), o.Host, 5*time.Second
		w, err := witness.Open(o.Witness, o.Host)
		if err != nil {
			return err
		}
		return process.Worker(ctx, cfg, []executor.Type{w}, log)
	case "trigger":
		cfg := config.Default[config.Trigger]()
		cfg.Shared = o.shared(cfg.Shared)
		return process.TriggerWith(ctx, cfg, log, process.TriggerOptions{Clock: clock(ctx, o.Clock)})
	}
	return fmt.Errorf("unknown role %q", o.Role)
}

func (o orders) shared(s config.Shared) config.Shared {
	s.Redis.URL, s.NATS.URLs, s.Metrics.Listen = o.Redis, []string{o.NATS}, o.Metrics
	return s
}

// clock is a wall clock that goes as far wrong as a file says, in nanoseconds.
func clock(ctx context.Context, file string) func() time.Time {
	var wrong atomic.Int64
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			text, err := os.ReadFile(file)
			if ns, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && perr == nil {
				wrong.Store(ns)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
}

// setClock makes the clock that reads file go wrong by d, in one step.
func setClock(file string, d time.Duration) error {
	text := strconv.FormatInt(int64(d), 10)
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}
