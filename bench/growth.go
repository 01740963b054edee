package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/pkg/client"
	"github.com/takt-dev/takt/pkg/executor"
)

// Growth: the same figures with 1, 10 and 100 times as much stored. What is to stay
// as it is (a POST, a page, a heartbeat), and what may grow with the fleet or the
// number of triggers (reading the fleet, arming), stands beside what grew.

const (
	growthRuns     = 10_000
	growthTriggers = 1_000
	growthWorkers  = 10
)

// A growthFigure is one line of the table: a value for each scale.
type growthFigure struct {
	label, unit string
	values      []float64
}

// growth measures at each scale and writes the table.
func growth(ctx context.Context, e env, out io.Writer) ([]result, error) {
	scales := []int{1, 10, 100}
	if e.smoke {
		scales = []int{1, 2}
	}
	var table []growthFigure
	for _, scale := range scales {
		e.tell("%d ×", scale)
		figures, err := growthAt(ctx, e, scale)
		if err != nil {
			return nil, fmt.Errorf("at %d times the base: %w", scale, err)
		}
		for i, f := range figures {
			if len(table) <= i {
				table = append(table, growthFigure{f.label, f.unit, nil})
			}
			table[i].values = append(table[i].values, f.values...)
		}
	}
	writeGrowth(out, scales, table)
	var results []result
	for _, f := range table {
		results = append(results, result{Row: "growth", Measure: f.label, Unit: f.unit, Values: f.values})
	}
	return results, nil
}

func writeGrowth(out io.Writer, scales []int, table []growthFigure) {
	fmt.Fprintf(out, "\nbase: %s runs, %s triggers, %d workers\n\n%-62s", number(growthRuns), number(growthTriggers), growthWorkers, "")
	for _, s := range scales {
		fmt.Fprintf(out, " %10d×", s)
	}
	fmt.Fprintf(out, " %12s\n", "last ÷ first")
	for _, f := range table {
		fmt.Fprintf(out, "%-62s", f.label+", "+f.unit)
		for _, v := range f.values {
			fmt.Fprintf(out, " %11s", number(v))
		}
		fmt.Fprintf(out, " %12s\n", number(f.values[len(f.values)-1]/f.values[0]))
	}
}

func growthAt(ctx context.Context, e env, scale int) ([]growthFigure, error) {
	var executed atomic.Int64
	h, err := house.Open(ctx, house.Options{Fsync: "none", Types: []executor.Type{noop(&executed)}})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	empty, err := h.Redis.Number(ctx, "memory", "used_memory")
	if err != nil {
		return nil, err
	}
	if err := fillRuns(ctx, h, scale*growthRuns); err != nil {
		return nil, err
	}
	of, err := templateTrigger(ctx, h, s, time.Hour)
	if err != nil {
		return nil, err
	}
	if err := copyTriggers(ctx, s, of, scale*growthTriggers, func(int) time.Time { return of.Next }); err != nil {
		return nil, err
	}
	full, err := h.Redis.Number(ctx, "memory", "used_memory")
	if err != nil {
		return nil, err
	}
	figures := []growthFigure{{"Redis memory", "MB", []float64{(full - empty) / 1e6}}}
	arming, p := time.Now(), newPublished()
	if err := h.WatchTrigger(ctx, p.metrics()); err != nil {
		return nil, err
	}
	select {
	case <-p.shards:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	figures = append(figures, growthFigure{"triggers armed within", "s", []float64{time.Since(arming).Seconds()}})

	fleet, err := growthFleet(ctx, h, s, scale*growthWorkers)
	if err != nil {
		return nil, err
	}
	calls, err := growthCalls(ctx, e, h)
	if err != nil {
		return nil, err
	}
	return append(append(figures, fleet...), calls...), nil
}

// growthFleet announces workers that beat each second, and measures one heartbeat,
// one reading of the fleet, and the load of all that goes on by itself.
func growthFleet(ctx context.Context, h *house.House, s *store.Store, workers int) ([]growthFigure, error) {
	ids := make([]string, workers)
	for i := range ids {
		ids[i] = fmt.Sprintf("ghost%d.00000000", i)
		self := core.Worker{ID: ids[i], Host: fmt.Sprintf("ghost%d", i), Slots: 16, Types: []executor.Spec{{Type: "noop"}}, Queues: []string{"critical", "default", "low"}}
		if _, err := s.Beat(ctx, core.Heartbeat{Worker: ids[i]}, &self); err != nil {
			return nil, err
		}
	}
	beating, stop := context.WithCancel(ctx)
	defer stop()
	beats := make(chan error, 1)
	go func() { beats <- beatAll(beating, s, ids) }()
	if err := pause(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	before, err := h.Usage(ctx)
	if err != nil {
		return nil, err
	}
	const window = 4 * time.Second
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	after, err := h.Usage(ctx)
	if err != nil {
		return nil, err
	}
	used := after.Sub(before)
	beat, err := repeat(50, func() error {
		_, err := s.Beat(ctx, core.Heartbeat{Worker: ids[0]}, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	fleet, err := repeat(20, func() error { _, err := s.Fleet(ctx); return err })
	if err != nil {
		return nil, err
	}
	stop()
	if err := <-beats; err != nil {
		return nil, err
	}
	percent := func(d time.Duration) []float64 { return []float64{float64(d) / float64(window) * 100} }
	return []growthFigure{
		{"one heartbeat, median", "ms", []float64{stat.Median(beat)}},
		{"reading the fleet (once in half a second), median", "ms", []float64{stat.Median(fleet)}},
		{"at rest, heartbeats and all: Redis", "% of a core", percent(used.Redis)},
		{"at rest, reconciler, timers and all: Go", "% of a core", percent(used.Go)},
	}, nil
}

// beatAll sends a heartbeat for each worker once a second, spread over it.
func beatAll(ctx context.Context, s *store.Store, ids []string) error {
	tick := time.NewTicker(time.Second / time.Duration(len(ids)))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := s.Beat(ctx, core.Heartbeat{Worker: ids[i%len(ids)]}, nil); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func growthCalls(ctx context.Context, e env, h *house.House) ([]growthFigure, error) {
	groups, err := makeGroups(ctx, h, partitions, postJobs)
	if err != nil {
		return nil, err
	}
	i := 0
	posts, err := repeat(e.smokeOr(300, 50), func() error {
		i++
		_, err := h.Client.RunGroup(ctx, groups[i%len(groups)], client.RunOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	pages, err := listPages(ctx, h, "/api/v1/runs", e.smokeOr(300, 50))
	if err != nil {
		return nil, err
	}
	return []growthFigure{
		{"POST that starts a run of 10 jobs, median", "ms", []float64{stat.Median(posts)}},
		{"the same, p99", "ms", []float64{stat.Percentile(posts, 99)}},
		{"first page of runs, median", "ms", []float64{stat.Median(pages)}},
		{"the same, p99", "ms", []float64{stat.Percentile(pages, 99)}},
	}, nil
}

// repeat calls do and gives the times in ms.
func repeat(times int, do func() error) ([]float64, error) {
	var took []float64
	for range times {
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		took = append(took, ms(time.Since(began)))
	}
	return slices.Clip(took), nil
}
