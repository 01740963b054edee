package store

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// Outlived gives ended runs of a partition that are past the retention as it is set now.
// When a run ends, its removal is set for what the retention was when it was made; after
// the setting was shortened there are runs that stay longer than they should. It looks at
// core.Chunk runs, oldest first, behind the skip oldest. Where there are more it is to be
// asked again, when those it gave are forgotten, with stay more to skip.
func (s *Store) Outlived(ctx context.Context, partition int, now time.Time, skip int) (runs []string, stay int, more bool, err error) {
	before := now.Add(-s.opts.RunRetention)
	ids, err := s.rdb.ZRangeByScore(ctx, root(partition)+":runs", &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10), Offset: int64(skip), Count: core.Chunk,
	}).Result()
	if err != nil || len(ids) == 0 {
		return nil, 0, false, unavailable("read old runs", err)
	}
	found, err := s.runs(ctx, ids)
	if err != nil {
		return nil, 0, false, err
	}
	for _, r := range found {
		if r.State.Ended() && r.Ended.Before(before) {
			runs = append(runs, r.ID)
		}
	}
	return runs, len(ids) - len(runs), len(ids) == core.Chunk, nil
}
