package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/doctor"
	"github.com/takt-dev/takt/internal/process"
)

const doctorUsage = `usage: takt doctor [--json] [--quiet] [--dev] [settings]

Looks at a deployment and says of each thing whether it is as it should be, and if
not, what to do. It changes nothing. The settings are those of the api process, which
api --help lists: the same file (--config), environment and flags, and the same users
of Redis and NATS.

  --json   print the findings as one JSON document
  --quiet  print what is not ok only
  --dev    look at a running takt dev, found by its data directory (--dev-dir)

It ends with 0 when there is no problem (there may be warnings), 1 when there is one,
2 when the arguments or settings are not right.
`

// doctorTime bounds an examination of a deployment that hardly answers.
const doctorTime = time.Minute

// doctorOptions are the flags that are doctor's own.
type doctorOptions struct{ json, quiet, dev, help bool }

// Doctor runs "takt doctor" and returns its exit code: 0 without problems, 1 with
// one, 2 when arguments or settings are not right.
func Doctor(ctx context.Context, args, environ []string, s Streams) int {
	o, rest := parseDoctor(args)
	if o.help {
		fmt.Fprint(s.Out, doctorUsage)
		return exitOK
	}
	shared, exit, err := doctorSettings(o, rest, environ, s)
	if err != nil {
		fmt.Fprintf(s.Err, "takt doctor: %v\n", err)
		return exitUsage
	}
	if exit {
		return exitOK
	}
	bounded, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	report, err := process.Examine(bounded, shared)
	if err != nil {
		fmt.Fprintf(s.Err, "takt doctor: %v\n", err)
		if bounded.Err() != nil {
			return exitError
		}
		return exitUsage
	}
	if err := show(s, o, report); err != nil {
		fmt.Fprintf(s.Err, "takt doctor: %v\n", err)
		return exitError
	}
	if report.Problems > 0 {
		return exitError
	}
	return exitOK
}

// parseDoctor takes doctor's own flags out of the settings.
func parseDoctor(args []string) (o doctorOptions, rest []string) {
	for _, arg := range args {
		switch arg {
		case "--json", "-json":
			o.json = true
		case "--quiet", "-quiet":
			o.quiet = true
		case "--dev", "-dev":
			o.dev = true
		case "--help", "-help", "-h":
			o.help = true
		default:
			rest = append(rest, arg)
		}
	}
	return o, rest
}

// doctorSettings says where Redis and NATS are.
func doctorSettings(o doctorOptions, args, environ []string, s Streams) (shared config.Shared, exit bool, err error) {
	if !o.dev {
		cfg, exit, err := config.Load[config.API](args, environ, s.Out)
		if err == nil && !exit {
			hintAtDev(cfg.Shared, s)
		}
		return cfg.Shared, exit, err
	}
	cfg, exit, err := config.Load[config.Dev](args, environ, s.Out)
	if err != nil || exit {
		return cfg.Shared, exit, err
	}
	return joinDev(cfg)
}

// joinDev fills in what takt dev has started itself, from the file it writes for
// workers that join it.
func joinDev(cfg config.Dev) (config.Shared, bool, error) {
	shared := cfg.Shared
	text, err := os.ReadFile(filepath.Join(cfg.Dir, workerEnv))
	if errors.Is(err, os.ErrNotExist) {
		return shared, false, fmt.Errorf("there is no takt dev in %s (--dev-dir): %s is missing there", cfg.Dir, workerEnv)
	}
	if err != nil {
		return shared, false, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, "'")
		switch {
		case name == "TAKT_REDIS_URL" && shared.Redis.URL == "":
			shared.Redis.URL = value
		case name == "TAKT_NATS_URLS" && len(shared.NATS.URLs) == 0:
			shared.NATS.URLs = strings.Split(value, ",")
		}
	}
	return shared, false, nil
}

// hintAtDev tells of --dev where nothing is set and takt dev's directory is here.
func hintAtDev(shared config.Shared, s Streams) {
	dev := config.Default[config.Dev]()
	if shared.Redis.URL != config.Default[config.API]().Redis.URL {
		return
	}
	if _, err := os.Stat(filepath.Join(dev.Dir, workerEnv)); err == nil {
		fmt.Fprintf(s.Err, "takt doctor: looking at %s; for the takt dev in ./%s say takt doctor --dev\n", shared.Redis.URL, dev.Dir)
	}
}

func show(s Streams, o doctorOptions, report doctor.Report) error {
	if o.quiet {
		report = report.Quiet()
	}
	if !o.json {
		return report.WriteText(s.Out)
	}
	out := json.NewEncoder(s.Out)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(report)
}
