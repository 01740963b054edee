package process

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// While Redis is away a scrape lacks the installation's counters and nothing else.
func TestCountersAreLeftOutWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	rdb := server.Client(t)
	s, err := store.Open(t.Context(), rdb, store.Options{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.HSet(t.Context(), "takt:{p:1}:count", "run.s", 3).Err(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	own := prometheus.NewGauge(prometheus.GaugeOpts{Name: "own"})
	registry.MustRegister(&counters{store: s}, own)
	names := func() (all []string) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			all = append(all, f.GetName())
		}
		return all
	}
	if got, want := names(), []string{"own", "takt_runs_ended_total", "takt_steps_ended_total", "takt_steps_moved_total"}; !slices.Equal(got, want) {
		t.Fatalf("metrics = %q, want %q", got, want)
	}
	server.Stop()
	if got := names(); len(got) != 1 || got[0] != "own" {
		t.Errorf("metrics without Redis = %q, want own", got)
	}
}

// What has not happened yet is 0: Prometheus sees no rise from a row that was absent.
func TestCountersBeginAtZero(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	s, err := store.Open(t.Context(), rdb, store.Options{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&counters{store: s})
	rows := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				all[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
		return all
	}
	want := map[string]float64{}
	for name, labels := range map[string][]string{
		"takt_runs_ended_total":  {"succeeded", "failed", "canceled", "timed_out"},
		"takt_steps_ended_total": {"succeeded", "failed", "canceled", "timed_out", "skipped"},
		"takt_steps_moved_total": {"retry", "redispatch", "lost", "released"},
	} {
		for _, label := range labels {
			want[name+" "+label] = 0
		}
	}
	if diff := cmp.Diff(want, rows()); diff != "" {
		t.Errorf("rows at first (-want +got):\n%s", diff)
	}
	if err := rdb.HSet(t.Context(), "takt:{p:1}:count", "run.f", 2, "step.t", 1).Err(); err != nil {
		t.Fatal(err)
	}
	want["takt_runs_ended_total failed"], want["takt_steps_ended_total timed_out"] = 2, 1
	if diff := cmp.Diff(want, rows()); diff != "" {
		t.Errorf("rows after failures (-want +got):\n%s", diff)
	}
}
