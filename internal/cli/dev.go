package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/process"
	"github.com/takt-dev/takt/internal/seal"
	"github.com/takt-dev/takt/internal/telemetry"
)

// A House is what `takt dev` has running.
type House struct {
	URL      string // of the APIs and the console
	Admin    string
	Password string // "" when it was made at an earlier start and is not known
	Target   string // URL that the development worker may call
	Command  string // program that it may run
	Memory   bool   // everything is lost when the process ends
	Dir      string
	Took     time.Duration // from the start of Dev until ready
}

// Dev runs api, worker and trigger in this process until ctx ends. started is
// called when all of it is ready; nil prints the addresses and the first steps.
func Dev(ctx context.Context, args, environ []string, s Streams, started func(House)) error {
	began := time.Now()
	cfg, exit, err := config.Load[config.Dev](args, environ, s.Out, process.CheckDev)
	if err != nil || exit {
		return err
	}
	log, err := telemetry.NewLogger(s.Err, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory (dev.dir): %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	house := House{Dir: cfg.Dir}

	ground, err := openGround(ctx, &cfg, s, log)
	if err != nil {
		return err
	}
	defer ground.close()
	house.Memory = ground.memory
	target, err := serveTarget(ctx)
	if err != nil {
		return err
	}
	house.Target = target
	if house.Command, err = developWorker(&cfg, target); err != nil {
		return err
	}
	if err := keepSecretKey(&cfg, ground.memory); err != nil {
		return err
	}
	if err := writeWorkerEnv(cfg); err != nil {
		return err
	}
	ready := func(a process.Started) {
		house.URL, house.Admin = "http://"+a.Addr.String(), a.Admin
		house.Password = keepPassword(cfg.Dir, a.Password, ground.memory)
		house.Took = time.Since(began)
		if started == nil {
			welcome(s.Out, house)
			return
		}
		started(house)
	}
	return runAll(ctx, cancel, cfg, log, process.APIOptions{Started: ready, Imitation: ground.memory})
}

// runAll runs the three processes. When one fails the others stop.
func runAll(ctx context.Context, cancel context.CancelCauseFunc, cfg config.Dev, log *slog.Logger, o process.APIOptions) error {
	program := process.NewProgram()
	others := cfg.Shared
	others.Metrics.Listen = "" // the api's listener shows the metrics of all three
	parts := []func() error{
		func() error {
			return program.Trigger(ctx, config.Trigger{Shared: others}, log)
		},
		func() error {
			return program.Worker(ctx, config.Worker{Shared: others, WorkerSettings: cfg.Worker}, nil, log)
		},
		func() error {
			return program.API(ctx, config.API{Shared: cfg.Shared, APISettings: cfg.API}, log, o)
		},
	}
	ended := make(chan error, len(parts))
	for _, run := range parts {
		go func() {
			err := run()
			if err != nil {
				cancel(err)
			}
			ended <- err
		}()
	}
	var all error
	for range parts {
		err := <-ended
		if err == nil || errors.Is(err, context.Canceled) || all != nil && strings.Contains(all.Error(), err.Error()) {
			continue // what is wrong for all three is said once
		}
		all = errors.Join(all, err)
	}
	return all
}

// A ground is the Redis and the NATS that dev stands on.
type ground struct {
	memory bool
	stops  []func()
}

func (g *ground) close() {
	for i := len(g.stops) - 1; i >= 0; i-- {
		g.stops[i]()
	}
}

// openGround starts what the configuration does not name, and names it there.
func openGround(ctx context.Context, cfg *config.Dev, s Streams, log *slog.Logger) (*ground, error) {
	g := &ground{}
	if cfg.Redis.URL == "" {
		if err := g.openRedis(ctx, cfg, s, log); err != nil {
			g.close()
			return nil, err
		}
	}
	if len(cfg.NATS.URLs) == 0 {
		dir := filepath.Join(cfg.Dir, "nats")
		if g.memory {
			temp, err := os.MkdirTemp("", "takt-nats-")
			if err != nil {
				g.close()
				return nil, err
			}
			dir = temp
			g.stops = append(g.stops, func() { os.RemoveAll(temp) })
		}
		n, err := embedded.StartNATS(dir, embedded.NATSOptions{})
		if err != nil {
			g.close()
			return nil, err
		}
		g.stops = append(g.stops, n.Stop)
		cfg.NATS.URLs = []string{n.URL()}
	}
	return g, nil
}

func (g *ground) openRedis(ctx context.Context, cfg *config.Dev, s Streams, log *slog.Logger) error {
	if _, _, found := embedded.LookupRedis(); found && !cfg.Memory {
		r, err := embedded.StartRedis(ctx, filepath.Join(cfg.Dir, "redis"), embedded.RedisOptions{})
		if err != nil {
			return err
		}
		g.stops = append(g.stops, r.Stop)
		cfg.Redis.URL = r.URL()
		go func() {
			select {
			case <-ctx.Done():
			case <-r.Done():
				if ctx.Err() == nil {
					log.Error("the private redis-server has ended; start takt dev again, nothing acknowledged is lost", "said", r.Log())
				}
			}
		}()
		return nil
	}
	m, err := embedded.StartMemoryRedis()
	if err != nil {
		return err
	}
	g.memory = true
	g.stops = append(g.stops, m.Stop)
	cfg.Redis.URL = m.URL()
	fmt.Fprint(s.Err, memoryWarning)
	return nil
}

const memoryWarning = `
########################################################################
##                                                                    ##
##   IN-MEMORY MODE: NOTHING IS KEPT. Everything you make is LOST     ##
##   when this process ends, and the durability promises do NOT hold. ##
##   For more than a first look install redis-server (6.2 or later)   ##
##   and start again.                                                 ##
##                                                                    ##
########################################################################

`

// keepPassword gives the password of the first account, as far as it is known. One that
// was generated at this start is written where its owner alone can read it, so that
// later starts can say it.
func keepPassword(dir, generated string, memory bool) string {
	file := filepath.Join(dir, "admin-password")
	switch {
	case memory:
		return generated
	case generated != "":
		_ = os.WriteFile(file, []byte(generated+"\n"), 0o600) // it is said now, and not again
		return generated
	}
	known, _ := os.ReadFile(file)
	return trimLine(known)
}

// workerEnv holds what a worker of the user's own needs to join this house.
const workerEnv = "worker.env"

func writeWorkerEnv(cfg config.Dev) error {
	allowed, err := filepath.Abs(filepath.Join(cfg.Dir, workerFile))
	if err != nil {
		return fmt.Errorf("name the development worker's configuration: %w", err)
	}
	body := "# Written by takt dev at each start. Workers of your own join with it:\n" +
		"#   set -a; . " + filepath.Join(cfg.Dir, workerEnv) + "; set +a; go run ./examples/greeter\n" +
		"TAKT_REDIS_URL='" + cfg.Redis.URL + "'\nTAKT_NATS_URLS='" + strings.Join(cfg.NATS.URLs, ",") +
		"'\nTAKT_WORKER_SECRET_KEY='" + cfg.Worker.SecretKey + "'\n" +
		"# They serve the same queues, so they have to allow the same. A --config of your own wins.\n" +
		"TAKT_CONFIG='" + allowed + "'\n"
	if err := os.WriteFile(filepath.Join(cfg.Dir, workerEnv), []byte(body), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", workerEnv, err)
	}
	return nil
}

// keepSecretKey makes the key that seals secret parameters, once, where the
// configuration names none.
func keepSecretKey(cfg *config.Dev, memory bool) error {
	if cfg.API.SecretKey == "" {
		file := filepath.Join(cfg.Dir, "secret-key")
		known, err := os.ReadFile(file)
		if memory || errors.Is(err, os.ErrNotExist) {
			known, err = []byte(seal.NewKey()), nil
			if !memory {
				err = os.WriteFile(file, append(known, '\n'), 0o600)
			}
		}
		if err != nil {
			return fmt.Errorf("keep the secret key: %w", err)
		}
		cfg.API.SecretKey = trimLine(known)
	}
	cfg.Worker.SecretKey = cmp.Or(cfg.Worker.SecretKey, cfg.API.SecretKey)
	return nil
}

func trimLine(b []byte) string {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			return string(b[:i])
		}
	}
	return string(b)
}
