// Command chaos proves Takt's promises under faults. It starts a whole
// installation of real processes (two api, three worker and two trigger processes,
// a redis-server that syncs each write, a nats-server that keeps files), loads it
// steadily, lets faults strike by a plan made from a seed, and then holds what is
// left against what was promised:
//
//	plan        which faults strike when (package plan)
//	house       the installation and its processes
//	load        requests and triggers, and what was acknowledged
//	strike      the faults themselves; faultproxy cuts networks
//	witness     what was executed, written down outside Redis
//	judge       what is left against what was promised
//
// A broken promise ends it with status 1 and leaves a folder of evidence: the log
// of each process, the witness's files, Redis's data, and the report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/internal/redisconn"
)

type options struct {
	seed     uint64
	duration time.Duration
	faults   []plan.Kind
	bin      string // directory of api and nats-server
	disk     string // tmpfs, limit or auto
	dir      string // evidence
	report   string // JSON file besides the one in dir
	keep     bool
}

func main() {
	if text := os.Getenv(ordersVar); text != "" {
		if err := obey(text); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
		return
	}
	redisconn.LogTo(slog.New(slog.DiscardHandler)) // that Redis is away is our own doing
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string, help io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(help)
	f.Uint64Var(&o.seed, "seed", 1, "plan of faults")
	f.DurationVar(&o.duration, "duration", time.Minute, "time of load, with faults")
	faults := f.String("faults", "", "kinds of fault to draw from, separated by commas; empty means all")
	f.StringVar(&o.bin, "bin", "bin", "directory of the programs api and nats-server")
	f.StringVar(&o.disk, "disk", "auto", "Redis's disk: tmpfs, limit (of file sizes) or auto")
	f.StringVar(&o.dir, "dir", "", "folder of the evidence; empty means a temporary one")
	f.StringVar(&o.report, "report", "", "write the JSON report to this file too")
	f.BoolVar(&o.keep, "keep", false, "keep the evidence in any case")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.faults, err = plan.ParseKinds(*faults); err != nil {
		return o, err
	}
	if o.duration < 2*plan.WarmUp {
		return o, fmt.Errorf("duration %s is too short, it takes %s at least", o.duration, 2*plan.WarmUp)
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return o, fmt.Errorf("find programs: %w", err)
	}
	return o, nil
}

// errBroken means that the verdict has violations.
var errBroken = errors.New("a promise was broken")

// run makes one trial and removes the evidence if all is well.
func run(ctx context.Context, o options, out io.Writer) error {
	dir, err := evidenceDir(o.dir)
	if err != nil {
		return err
	}
	t := &trial{options: o, dir: dir, out: out, began: time.Now()}
	err = t.run(ctx)
	if err == nil && !o.keep {
		return os.RemoveAll(dir)
	}
	fmt.Fprintln(out, "evidence is in", dir)
	return err
}

func evidenceDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "takt-chaos-")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make evidence folder: %w", err)
	}
	return filepath.Abs(dir)
}
