package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
)

// LogLife is how long a live log is kept as it is after its last line. Then its
// tail is kept, compressed, as long as the run.
const LogLife = 24 * time.Hour

// tailKept bounds that tail before it is compressed.
const tailKept = 96 << 10

// archived is the position of the one piece of a compressed log.
const archived = "archived"

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
	pipe.Expire(ctx, key, LogLife+time.Hour)
	if end {
		home, _ := s.runHome(run)
		due := time.Now().Add(LogLife).UnixMilli()
		pipe.ZAdd(ctx, home+":timers", redis.Z{Score: float64(due), Member: strings.Join(logTimer(run, step, attempt), "|")})
	}
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
// start), waiting up to wait for the first new one. Wait 0 does not wait. Invalid:
// what is not a position.
func (s *Store) ReadLog(ctx context.Context, run string, step, attempt int, after string, wait time.Duration) ([]core.LogPiece, error) {
	key, ok := s.logKey(run, step, attempt)
	if !ok {
		return nil, core.Missing("run", run)
	}
	if after == "" || after == archived {
		if piece, ok, err := s.archivedLog(ctx, run, step, attempt); err != nil || ok {
			if after == archived || err != nil {
				return nil, err
			}
			return []core.LogPiece{piece}, nil
		}
		after = "0"
	}
	if !isPosition(after) {
		return nil, core.InvalidField("after", "%q is not a position of this log; leave it out to read from the start", after)
	}
	args := &redis.XReadArgs{Streams: []string{key, after}, Count: 500, Block: -1}
	if wait > 0 {
		args.Block = max(wait, time.Millisecond) // Redis takes 0 for ever
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

// isPosition reports whether s is the id of a stream's entry: "<ms>" or "<ms>-<n>".
func isPosition(s string) bool {
	ms, n, ok := strings.Cut(s, "-")
	_, err := strconv.ParseUint(ms, 10, 64)
	if err != nil || !ok {
		return err == nil
	}
	_, err = strconv.ParseUint(n, 10, 64)
	return err == nil
}

func logTimer(run string, step, attempt int) []string {
	return []string{"log", run, strconv.Itoa(step), strconv.Itoa(attempt)}
}

func logField(step, attempt int) string { return strconv.Itoa(step) + "." + strconv.Itoa(attempt) }

// ArchiveLog replaces a live log by its compressed tail. A log whose run is gone
// goes with it.
func (s *Store) ArchiveLog(ctx context.Context, run string, step, attempt int) error {
	home, ok := s.runHome(run)
	if !ok {
		return nil
	}
	key, _ := s.logKey(run, step, attempt)
	messages, err := s.rdb.XRange(ctx, key, "-", "+").Result()
	if err != nil {
		return unavailable("read log", err)
	}
	var text strings.Builder
	for _, m := range messages {
		piece, _ := m.Values["t"].(string)
		text.WriteString(piece)
	}
	kept, err := s.rdb.Exists(ctx, home+":run:"+run).Result()
	if err != nil {
		return unavailable("read run "+run, err)
	}
	_, err = s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		if kept > 0 && text.Len() > 0 {
			pipe.HSet(ctx, home+":logz:"+run, logField(step, attempt), compressed(text.String()))
		}
		pipe.Del(ctx, key)
		pipe.ZRem(ctx, home+":timers", strings.Join(logTimer(run, step, attempt), "|"))
		return nil
	})
	return unavailable("archive log", err)
}

func compressed(text string) []byte {
	if len(text) > tailKept {
		text = strings.ToValidUTF8(text[len(text)-tailKept:], "")
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func (s *Store) archivedLog(ctx context.Context, run string, step, attempt int) (piece core.LogPiece, ok bool, err error) {
	home, _ := s.runHome(run)
	row, err := s.rdb.HGet(ctx, home+":logz:"+run, logField(step, attempt)).Bytes()
	if isNil(err) {
		return piece, false, nil
	}
	if err != nil {
		return piece, false, unavailable("read log", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(row))
	if err != nil {
		return piece, false, fmt.Errorf("read archived log of run %s: %w", run, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return piece, false, fmt.Errorf("read archived log of run %s: %w", run, err)
	}
	return core.LogPiece{Position: archived, Text: string(text), End: true}, true, nil
}

func isNil(err error) bool { return errors.Is(err, redis.Nil) }
