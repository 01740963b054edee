package process

import (
	"testing"

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
	if got := names(); len(got) != 2 || got[1] != "takt_runs_ended_total" {
		t.Fatalf("metrics = %q, want own and takt_runs_ended_total", got)
	}
	server.Stop()
	if got := names(); len(got) != 1 || got[0] != "own" {
		t.Errorf("metrics without Redis = %q, want own", got)
	}
}
