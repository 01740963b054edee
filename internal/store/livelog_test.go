package store_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

func logText(pieces []core.LogPiece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.Text)
	}
	return b.String()
}

func TestLogIsAppendedCutAndRead(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	run, _ := anAttempt(w)
	if got := must(w.store.ReadLog(ctx, run, 0, 1, "", 0))(w); len(got) != 0 {
		t.Errorf("before the first line: got %+v", got)
	}
	var ids []string
	for i, text := range []string{"one|\n", "two\x00\n", "three\n", "four\n"} {
		ids = append(ids, must(w.store.AppendLog(ctx, run, 0, 1, text, i == 3))(w))
	}
	all := must(w.store.ReadLog(ctx, run, 0, 1, "", 0))(w)
	if logText(all) != "one|\ntwo\x00\nthree\nfour\n" || all[2].End || !all[3].End || all[1].Position != ids[1] {
		t.Errorf("got %+v", all)
	}
	if rest := must(w.store.ReadLog(ctx, run, 0, 1, ids[1], 0))(w); logText(rest) != "three\nfour\n" {
		t.Errorf("after the second piece: got %+v", rest)
	}
	w.ok(w.store.CutLog(ctx, run, 0, 1, ids[1:3]))
	w.ok(w.store.CutLog(ctx, run, 0, 1, nil))
	if cut := must(w.store.ReadLog(ctx, run, 0, 1, "", 0))(w); logText(cut) != "one|\nfour\n" {
		t.Errorf("after the cut: got %+v", cut)
	}
	if other := must(w.store.ReadLog(ctx, run, 0, 2, "", 0))(w); len(other) != 0 {
		t.Errorf("another attempt: got %+v", other)
	}
	for _, key := range w.keysLike(":log:") {
		if ttl := w.rdb.PTTL(ctx, key).Val(); ttl < store.LogLife {
			t.Errorf("%s is kept for %v", key, ttl)
		}
	}
}

func TestReadLogWaits(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, _ := anAttempt(w)
	got := make(chan []core.LogPiece, 1)
	go func() {
		pieces, _ := w.store.ReadLog(t.Context(), run, 0, 1, "", 20*time.Second)
		got <- pieces
	}()
	must(w.store.AppendLog(t.Context(), run, 0, 1, "hello", false))(w)
	if pieces := <-got; logText(pieces) != "hello" {
		t.Errorf("got %+v", pieces)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, wait := range []time.Duration{time.Nanosecond, 5 * time.Millisecond} {
		pieces, err := w.store.ReadLog(ctx, run, 0, 1, "99999999999999-0", wait)
		if err != nil || len(pieces) != 0 {
			t.Errorf("a wait of %v that brings nothing: got %+v, %v", wait, pieces, err)
		}
	}
}

func TestReadLogRefusesWhatIsNoPosition(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, _ := anAttempt(w)
	for _, after := range []string{"x", "$", "+", "-", "1-2-3", "1-x", "99999999999999999999-0", "-1", "1 2", ">"} {
		_, err := w.store.ReadLog(t.Context(), run, 0, 1, after, 0)
		wantErrorKind(t, "after "+after, err, core.Invalid)
	}
	_, err := w.store.ReadLog(t.Context(), id.New(), 0, 1, "", 0)
	wantErrorKind(t, "a missing run", err, core.NotFound)
}
