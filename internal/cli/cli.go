// Package cli is the takt command: `takt dev` runs everything in one process,
// and the tools live beside it, one file each.
package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/takt-dev/takt/internal/process"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

const usage = `Takt runs jobs on time and keeps the record of it.

Usage: takt <command> [flags]

  dev      run api, worker and trigger in one process, with a Redis and a NATS of its own
  demo     start dev in a temporary folder, run a real group through REST, print its history
  doctor   look at a deployment and say what to mend
  cron     print the next fires of a cron expression
  version  print the version

takt <command> --help says more. For production, run the processes api, worker and
trigger themselves: see docs/operate.md.
`

// Main runs the command that args name and returns its exit code.
func Main(ctx context.Context, args, environ []string, s Streams) int {
	if len(args) == 0 {
		fmt.Fprint(s.Err, usage)
		return exitUsage
	}
	if process.SaysVersion("takt", args, s.Out) {
		return exitOK
	}
	switch args[0] {
	case "dev":
		return report(s, Dev(ctx, args[1:], environ, s, nil))
	case "demo":
		return report(s, Demo(ctx, args[1:], environ, s))
	case "cron":
		return Cron(ctx, args[1:], s.In, s.Out, s.Err)
	case "doctor":
		return Doctor(ctx, args[1:], environ, s)
	case "version":
		fmt.Fprintln(s.Out, "takt", process.Version)
		return exitOK
	case "help", "--help", "-h":
		fmt.Fprint(s.Out, usage)
		return exitOK
	}
	fmt.Fprintf(s.Err, "takt: there is no command %q\n\n%s", args[0], usage)
	return exitUsage
}

func report(s Streams, err error) int {
	if err != nil {
		fmt.Fprintln(s.Err, "takt:", err)
		return exitError
	}
	return exitOK
}
