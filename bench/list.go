package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

// The first page of the list of runs with a million runs stored. One run of each
// of 16 groups of one job is real; the others are copies of those, made in Redis
// by a script: the row (but for its creation stamp), the three kinds of index the
// store keeps, and the timer of its retention. The copies are then compared with
// the real rows, and their number with what the indexes hold.

// copyRuns makes copies of a run that has ended.
// KEYS[1] root of the partition
// ARGV 1 run, 2 target, 3 creation stamp of the first, 4 end of retention in ms,
// then the ids of the copies
var copyRuns = redis.NewScript(`
local R = KEYS[1]
for k = 5, #ARGV do
  local stamp = ARGV[3] + k - 5
  redis.call('COPY', R .. ':run:' .. ARGV[1], R .. ':run:' .. ARGV[k])
  redis.call('HSET', R .. ':run:' .. ARGV[k], 'cr', string.format('%.0f', stamp))
  redis.call('ZADD', R .. ':runs', stamp, ARGV[k])
  redis.call('ZADD', R .. ':runs:' .. ARGV[2], stamp, ARGV[k])
  redis.call('ZADD', R .. ':timers', ARGV[4], 'forget|' .. ARGV[k])
end
return #ARGV - 4`)

func list(ctx context.Context, e env) ([]result, error) {
	n := e.size(1_000_000, 20_000)
	h, err := listHouse(ctx, e, n)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var p50, p99, failedP99 []float64
	for range e.rounds {
		took, err := listPages(ctx, h, "/api/v1/runs", e.smokeOr(400, 50))
		if err != nil {
			return nil, err
		}
		p50, p99 = append(p50, stat.Percentile(took, 50)), append(p99, stat.Percentile(took, 99))
		filtered, err := listPages(ctx, h, "/api/v1/runs?state=failed", e.smokeOr(20, 5))
		if err != nil {
			return nil, err
		}
		failedP99 = append(failedP99, stat.Percentile(filtered, 99))
		e.tell("p50 %s, p99 %s ms; a filter that matches nothing: p99 %s ms", number(stat.Percentile(took, 50)), number(stat.Percentile(took, 99)), number(stat.Percentile(filtered, 99)))
	}
	return []result{{
		Measure: "list of runs, first page, " + number(float64(n)) + " runs stored, p99", Unit: "ms", Values: p99, Bar: within(20), Aim: within(5),
		Notes: []note{{"p50", "ms", p50}, {"a filter that matches nothing, p99", "ms", failedP99}},
	}}, nil
}

// listHouse opens a house with n runs.
func listHouse(ctx context.Context, e env, n int) (*house.House, error) {
	var executed atomic.Int64
	h, err := house.Open(ctx, house.Options{Fsync: "none", Types: []executor.Type{noop(&executed)}})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := fillRuns(ctx, h, n); err != nil {
		h.Close()
		return nil, fmt.Errorf("store %d runs: %w", n, err)
	}
	e.tell("%d runs stored in %s", n, time.Since(began).Round(100*time.Millisecond))
	return h, nil
}

func fillRuns(ctx context.Context, h *house.House, n int) error {
	groups, err := makeGroups(ctx, h, partitions, 1)
	if err != nil {
		return err
	}
	if _, err := drive(ctx, h, groups, partitions); err != nil {
		return err
	}
	const part = 500
	now := time.Now()
	for p, group := range groups {
		root := fmt.Sprintf("takt:{p:%d}", p)
		real, err := h.Redis.Client.ZRange(ctx, root+":runs", 0, 0).Result()
		if err != nil || len(real) != 1 {
			return fmt.Errorf("partition %d has %d real runs: %w", p, len(real), err)
		}
		left := n / partitions
		stamp := now.UnixMilli() - int64(left) - 1000
		pipe := h.Redis.Client.Pipeline()
		for ; left > 0; left -= part {
			args := []any{real[0], group, stamp, now.Add(7 * 24 * time.Hour).UnixMilli()}
			for range min(part, left) {
				args = append(args, id.Run(time.UnixMilli(stamp), p))
			}
			stamp += part
			copyRuns.Eval(ctx, pipe, []string{root}, args...)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		if err := sameRow(ctx, h, root, real[0]); err != nil {
			return err
		}
		if stored, err := h.Redis.Client.ZCard(ctx, root+":runs").Result(); err != nil || stored != int64(n/partitions)+1 {
			return fmt.Errorf("partition %d holds %d runs, want %d: %w", p, stored, n/partitions+1, err)
		}
	}
	return nil
}

// sameRow compares a copy with the run it was made of.
func sameRow(ctx context.Context, h *house.House, root, real string) error {
	some, err := h.Redis.Client.ZRange(ctx, root+":runs", 0, 0).Result()
	if err != nil || len(some) == 0 {
		return fmt.Errorf("no copy is in the index: %w", err)
	}
	want, err := h.Redis.Client.HGetAll(ctx, root+":run:"+real).Result()
	if err != nil {
		return err
	}
	got, err := h.Redis.Client.HGetAll(ctx, root+":run:"+some[0]).Result()
	if err != nil {
		return err
	}
	delete(want, "cr")
	delete(got, "cr")
	if !maps.Equal(got, want) || len(got) == 0 {
		return fmt.Errorf("a copy has the row %v, the real run %v", got, want)
	}
	return nil
}

// listPages asks for a page again and again and returns the times in ms.
func listPages(ctx context.Context, h *house.House, path string, times int) ([]float64, error) {
	token, err := h.SessionToken(ctx)
	if err != nil {
		return nil, err
	}
	var took []float64
	for range times {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		began := time.Now()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		took = append(took, ms(time.Since(began)))
		if err != nil || res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: status %d: %w", path, res.StatusCode, err)
		}
		var page struct{ Items []json.RawMessage }
		if err := json.Unmarshal(text, &page); err != nil || path == "/api/v1/runs" && len(page.Items) == 0 {
			return nil, fmt.Errorf("GET %s: %d items: %w", path, len(page.Items), err)
		}
	}
	return slices.Clip(took), nil
}
