package process

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
)

// No process runs on a Redis that a newer version wrote, and the doctor says why.
func TestANewerTaktsRedisIsRefused(t *testing.T) {
	t.Parallel()
	shared, server := deployment(t)
	rdb := server.Client(t)
	if _, err := store.Open(t.Context(), rdb, store.Options{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), "takt:{w}:format", store.Format+1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	api, worker := config.Default[config.API](), config.Default[config.Worker]()
	api.Shared, worker.Shared, api.Listen, api.Partitions = shared, shared, "127.0.0.1:0", 2
	rows := []struct {
		name string
		run  func(context.Context) error
	}{
		{"api", func(ctx context.Context) error { return API(ctx, api, log, APIOptions{}) }},
		{"worker", func(ctx context.Context) error { return Worker(ctx, worker, nil, log) }},
		{"trigger", func(ctx context.Context) error { return Trigger(ctx, config.Trigger{Shared: shared}, log) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := row.run(ctx)
			if !core.Is(err, core.Conflict) || !strings.Contains(err.Error(), "written by a newer Takt (format 2, this one knows 1)") {
				t.Errorf("%s = %v, want that a newer Takt wrote this Redis", row.name, err)
			}
		})
	}
	if got := rdb.Keys(t.Context(), "*").Val(); len(got) != 2 {
		t.Errorf("the processes left %q, want the partitions and the format alone", got)
	}
	r, err := Examine(t.Context(), shared)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Check == "format" && f.Severity == "problem" && strings.Contains(f.Text+f.Do, "install that version") {
			return
		}
	}
	t.Errorf("findings %+v, want a problem with the format", r.Quiet().Findings)
}
