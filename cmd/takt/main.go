// Command takt is the convenience around Takt's processes: `takt dev` runs all
// of them in one, `takt cron` shows what an expression means. See `takt help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/takt-dev/takt/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
