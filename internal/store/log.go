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

// logSlack is how long a live log outlasts the instant at which it is to be archived,
// should nobody be there to do it.
const logSlack = time.Hour

// tailKept bounds that tail before it is compressed.
const tailKept = 96 << 10

// archived is the position of the one piece of a compressed log.
const archived = "archived"

func (s *Store) logKey(run string, step, attempt int) (string, bool) {
	home, ok := s.runHome(run)
	return home + ":log:" + logName(run, step, attempt), ok
}

func logName(run string, step, attempt int) string {
	return run + ":" + strconv.Itoa(step) + ":" + strconv.Itoa(attempt)
}

// AppendLog adds a piece of an attempt's log and gives its position. end marks
// the last one.
func (s *Store) AppendLog(ctx context.Context, run string, step, attempt int, text string, end bool) (string, error) {
	home, ok := s.runHome(run)
	if !ok {
		return "", core.Missing("run", run)
	}
	last := ""
	if end {
		last = "1"
	}
	id, err := appendLogScript.Run(ctx, s.rdb, []string{home}, logName(run, step, attempt), text, last,
		LogLife.Milliseconds(), (LogLife + logSlack).Milliseconds(), strings.Join(logTimer(run, step, attempt), "|")).Text()
	return id, unavailable("append log", err)
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
// start). Invalid: what is not a position.
func (s *Store) ReadLog(ctx context.Context, run string, step, attempt int, after string) ([]core.LogPiece, error) {
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
	got, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{key, after}, Count: 500, Block: -1}).Result()
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
// goes with it; that of an attempt that is silent and still under way stays live.
func (s *Store) ArchiveLog(ctx context.Context, run string, step, attempt int) error {
	home, ok := s.runHome(run)
	if !ok {
		return nil
	}
	key, _ := s.logKey(run, step, attempt)
	pipe := s.rdb.Pipeline()
	pieces := pipe.XRange(ctx, key, "-", "+")
	state, row := pipe.HGet(ctx, home+":run:"+run, "st"), pipe.HGet(ctx, home+":run:"+run, "s"+strconv.Itoa(step))
	if err := exec(ctx, pipe); err != nil {
		return unavailable("read log", err)
	}
	if isUnderWay(row.Val(), attempt) {
		return s.keepLogLive(ctx, home, run, step, attempt)
	}
	var text strings.Builder
	for _, m := range pieces.Val() {
		piece, _ := m.Values["t"].(string)
		text.WriteString(piece)
	}
	_, err := s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		if state.Val() != "" && text.Len() > 0 {
			pipe.HSet(ctx, home+":logz:"+run, logField(step, attempt), compressed(text.String()))
		}
		pipe.Del(ctx, key)
		pipe.ZRem(ctx, home+":timers", strings.Join(logTimer(run, step, attempt), "|"))
		return nil
	})
	return unavailable("archive log", err)
}

// isUnderWay reports whether the row of a step tells of an attempt that has not ended.
func isUnderWay(row string, attempt int) bool {
	var st core.Step
	return row != "" && decodeStep(row, &st) == nil && len(st.Attempts) == attempt &&
		(st.State == core.StepRunning || st.State == core.StepCanceling)
}

// keepLogLive puts off the end of life of a live log.
func (s *Store) keepLogLive(ctx context.Context, home, run string, step, attempt int) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	key, _ := s.logKey(run, step, attempt)
	_, err = s.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.PExpire(ctx, key, LogLife+logSlack)
		due := float64(now.Add(LogLife).UnixMilli())
		pipe.ZAdd(ctx, home+":timers", redis.Z{Score: due, Member: strings.Join(logTimer(run, step, attempt), "|")})
		return nil
	})
	return unavailable("keep log", err)
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
