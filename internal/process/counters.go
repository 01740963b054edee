package process

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// counters shows the counters that the store keeps at transitions. They are the
// whole installation's, so any one api process may be scraped for them. While Redis
// is away they are left out, all of them: a scrape still has the process's own metrics,
// and no counter is shown lower than it was. What has not happened yet is 0 and not
// absent, else the rise from nothing to one would be none to Prometheus.
type counters struct{ store *store.Store }

var (
	runsEnded = prometheus.NewDesc("takt_runs_ended_total", "Runs that ended, in the whole installation.", []string{"state"}, nil)
	stepsDone = prometheus.NewDesc("takt_steps_ended_total", "Steps that ended, in the whole installation.", []string{"state"}, nil)
	moved     = prometheus.NewDesc("takt_steps_moved_total", "Attempts that were followed by another one, by cause: retry, redispatch, lost, released.", []string{"cause"}, nil)
)

// Describe implements prometheus.Collector.
func (c *counters) Describe(ch chan<- *prometheus.Desc) {
	ch <- runsEnded
	ch <- stepsDone
	ch <- moved
}

var letters = map[string]string{"s": "succeeded", "f": "failed", "x": "canceled", "t": "timed_out", "k": "skipped"}

// known are all counters there may be, as the store names them.
func known() map[string]int64 {
	zero := map[string]int64{"retry": 0, "redispatch": 0, "lost": 0, "released": 0}
	for letter, state := range letters {
		zero["step."+letter] = 0
		if slices.Contains(core.RunStates(), core.RunState(state)) {
			zero["run."+letter] = 0
		}
	}
	return zero
}

// Collect implements prometheus.Collector.
func (c *counters) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	sums := known()
	for n := range c.store.Partitions() {
		part, err := c.store.Counters(ctx, n)
		if err != nil {
			return
		}
		for k, v := range part {
			sums[k] += v
		}
	}
	for name, v := range sums {
		kind, letter, ok := strings.Cut(name, ".")
		desc, label := moved, kind
		if ok {
			label, desc = letters[letter], stepsDone
			if kind == "run" {
				desc = runsEnded
			}
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), label)
	}
}
