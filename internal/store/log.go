package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// LogLife is how long a live log is kept after its last line.
const LogLife = 24 * time.Hour

func (s *Store) logKey(run string, step, attempt int) (string, bool) {
	home, ok := s.runHome(run)
	return home + ":log:" + run + ":" + strconv.Itoa(step) + ":" + strconv.Itoa(attempt), ok
}

// AppendLog adds a piece of an attempt's log and gives its position. end marks
// the last one.
func (s *Store) AppendLog(ctx context.Context, run string, step, attempt int, text string, end bool) (string, error) {
	key, ok := s.logKey(run, step, attempt)
	if !ok {
		return "", core.Missing("run", run)
	}
	values := []any{"t", text}
	if end {
		values = append(values, "end", "1")
	}
	pipe := s.rdb.Pipeline()
	added := pipe.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: values})
	pipe.Expire(ctx, key, LogLife)
	_, err := pipe.Exec(ctx)
	return added.Val(), unavailable("append log", err)
}

// CutLog removes pieces from the middle of a log, so that head and tail stay
// within their bounds.
func (s *Store) CutLog(ctx context.Context, run string, step, attempt int, ids []string) error {
	key, ok := s.logKey(run, step, attempt)
	if !ok || len(ids) == 0 {
		return nil
	}
	return unavailable("cut log", s.rdb.XDel(ctx, key, ids...).Err())
}

// ReadLog gives the pieces of an attempt's log after a position ("" = from the
// start), waiting up to wait for the first new one. Wait 0 does not wait.
func (s *Store) ReadLog(ctx context.Context, run string, step, attempt int, after string, wait time.Duration) ([]core.LogPiece, error) {
	key, ok := s.logKey(run, step, attempt)
	if !ok {
		return nil, core.Missing("run", run)
	}
	if after == "" {
		after = "0"
	}
	args := &redis.XReadArgs{Streams: []string{key, after}, Count: 500, Block: -1}
	if wait > 0 {
		args.Block = wait
	}
	rdb := s.rdb
	if wait > 0 {
		rdb = s.opts.Blocking
	}
	got, err := rdb.XRead(ctx, args).Result()
	if isNil(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("read log", err)
	}
	var out []core.LogPiece
	for _, m := range got[0].Messages {
		text, _ := m.Values["t"].(string)
		_, end := m.Values["end"]
		out = append(out, core.LogPiece{Position: m.ID, Text: text, End: end})
	}
	return out, nil
}

func isNil(err error) bool { return errors.Is(err, redis.Nil) }
