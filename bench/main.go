// Command bench measures Takt beside its references, in turn, in one run on one
// machine, and says of each row of the table in docs/performance.md whether the
// bar, which has to be met, and the aim are.
//
//	go run .                      every row, three rounds each
//	go run . -row fanout,post     some of them; -list names all
//	go run . -row fanout -cpuprofile f   with a profile of Takt's last round
//	go run . -smoke               does each row work? nothing is judged
//	go run . -growth              1, 10 and 100 times as much stored
//
// How to read it. A line is a judged figure: the median of its rounds, with the
// least and the most, then bar, aim, and "aim", "bar" or "MISSED". The lines below
// it are its two sides and its parts. A ratio is taken within a round, from two
// measurements that follow each other at once, so that it holds on other machines;
// times move with the machine, whose pace is taken where one is missed (pace.go). A row
// that missed a bar is measured once more at the end. What is measured, and how, stands
// at the head of each row's file.
//
// Everything is real: redis-server and NATS as children on TCP, and Takt's
// processes as the commands run them (package house). They share this process and
// its GOMAXPROCS with the clients of the measurement, as raw asynq shares it with
// its own (package raw); what is to be measured or killed as a process of its own
// is one. Redis syncs its append-only file each second unless a row says
// otherwise; memory, list and growth keep no file.
//
// The measurements want the machine for themselves. The throughput rows tell what
// others used meanwhile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/internal/embedded"
)

func main() {
	house.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errMissed is the failure of a run in which a bar was not met.
var errMissed = errors.New("not met")

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	e := env{progress: progress}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("row", "", "measure these rows only, separated by commas")
	file := flags.String("json", "", "write the report to this file, too")
	grow := flags.Bool("growth", false, "measure growth instead: 1, 10 and 100 times as much stored")
	list := flags.Bool("list", false, "list the rows and end")
	flags.IntVar(&e.rounds, "rounds", 3, "measurements of each value; the median counts")
	flags.BoolVar(&e.smoke, "smoke", false, "as short as possible and without judging: does each row work?")
	flags.IntVar(&e.n, "n", 0, "size of the measurement instead of the row's own (jobs, triggers, runs)")
	flags.IntVar(&e.slots, "slots", 128, "slots of the worker in the throughput rows, and of raw asynq")
	flags.IntVar(&e.deq, "dequeuers", 4, "asynq servers of the worker in the throughput rows, and of raw asynq")
	flags.StringVar(&e.profile, "cpuprofile", "", "write a CPU profile of Takt's last round to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *list {
		for _, r := range chosen {
			fmt.Fprintln(out, r.name)
		}
		return nil
	}
	if e.smoke {
		e.rounds = 1
	}
	_, version, found := embedded.LookupRedis()
	if !found {
		return embedded.ErrNoRedis
	}
	rep := newReport(e, version)
	if *grow {
		if rep.Results, err = growth(ctx, e, out); err != nil {
			return err
		}
		rep.Took = time.Since(rep.Began).Seconds()
	} else {
		measure(ctx, e, chosen, rep)
		if err := ctx.Err(); err != nil {
			return err
		}
		rep.writeTable(out)
	}
	if *file != "" {
		if err := rep.writeJSON(*file); err != nil {
			return err
		}
	}
	if missed := rep.missed(); len(missed) > 0 {
		return fmt.Errorf("%w:\n  %s", errMissed, strings.Join(missed, "\n  "))
	}
	return nil
}

func choose(names string) ([]row, error) {
	all := rows()
	if names == "" {
		return all, nil
	}
	var out []row
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(r row) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no row %q; -list names them", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// measure runs the rows one after another, and once more those that missed a bar or
// could not be measured. What else goes on under a virtual machine only ever makes it
// slower, for minutes at a time: what is wrong with Takt is so both times.
func measure(ctx context.Context, e env, chosen []row, rep *report) {
	for _, r := range chosen {
		rep.take(measureRow(ctx, e, r))
	}
	for _, r := range chosen {
		if !e.smoke && rep.hasMissed(r.name) && ctx.Err() == nil {
			fmt.Fprintln(e.progress, "once more:")
			rep.take(measureRow(ctx, e, r))
		}
	}
	rep.Took = time.Since(rep.Began).Seconds()
}

// measureRow measures one row. A row that fails does not keep the others from being
// measured.
func measureRow(ctx context.Context, e env, r row) measured {
	if ctx.Err() != nil {
		return measured{row: r.name, err: ctx.Err()}
	}
	began := time.Now()
	fmt.Fprintf(e.progress, "%s\n", r.name)
	results, err := r.run(ctx, e)
	if err == nil {
		err = e.takePace(ctx, results)
	}
	fmt.Fprintf(e.progress, "  took %s\n", time.Since(began).Round(100*time.Millisecond))
	return measured{r.name, results, err}
}
