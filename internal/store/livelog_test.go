package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
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
	if got := must(w.store.ReadLog(ctx, run, 0, 1, ""))(w); len(got) != 0 {
		t.Errorf("before the first line: got %+v", got)
	}
	var ids []string
	for i, text := range []string{"one|\n", "two\x00\n", "three\n", "four\n"} {
		ids = append(ids, must(w.store.AppendLog(ctx, run, 0, 1, text, i == 3))(w))
	}
	all := must(w.store.ReadLog(ctx, run, 0, 1, ""))(w)
	if logText(all) != "one|\ntwo\x00\nthree\nfour\n" || all[2].End || !all[3].End || all[1].Position != ids[1] {
		t.Errorf("got %+v", all)
	}
	if rest := must(w.store.ReadLog(ctx, run, 0, 1, ids[1]))(w); logText(rest) != "three\nfour\n" {
		t.Errorf("after the second piece: got %+v", rest)
	}
	w.ok(w.store.CutLog(ctx, run, 0, 1, ids[1:3]))
	w.ok(w.store.CutLog(ctx, run, 0, 1, nil))
	if cut := must(w.store.ReadLog(ctx, run, 0, 1, ""))(w); logText(cut) != "one|\nfour\n" {
		t.Errorf("after the cut: got %+v", cut)
	}
	if other := must(w.store.ReadLog(ctx, run, 0, 2, ""))(w); len(other) != 0 {
		t.Errorf("another attempt: got %+v", other)
	}
	for _, key := range w.keysLike(":log:") {
		if ttl := w.rdb.PTTL(ctx, key).Val(); ttl < store.LogLife {
			t.Errorf("%s is kept for %v", key, ttl)
		}
	}
}

// The log of an attempt that never ended it, as when its worker was killed, is archived too.
func TestLogWithoutAnEndIsArchived(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	run, d := anAttempt(w)
	due := func() float64 {
		t.Helper()
		for _, key := range w.keysLike(":timers") {
			if score, err := w.rdb.ZScore(ctx, key, "log|"+run+"|0|1").Result(); err == nil {
				return score
			}
		}
		t.Fatal("the log has no timer")
		return 0
	}
	must(w.store.AppendLog(ctx, run, 0, 1, "one\n", false))(w)
	first := due()
	if most := float64(w.now().Add(store.LogLife).UnixMilli()); first > most {
		t.Errorf("the timer is due at %.0f, want within the life of a log after Redis' time, %.0f", first, most)
	}
	now := w.now()
	testenv.Eventually(t, time.Second, func() bool { return w.now().Sub(now) > 2*time.Millisecond })
	must(w.store.AppendLog(ctx, run, 0, 1, "two\n", false))(w)
	second := due()
	if second <= first {
		t.Errorf("the next piece left the timer at %.0f, want it put off", second)
	}

	w.ok(w.store.ArchiveLog(ctx, run, 0, 1))
	if live := must(w.store.ReadLog(ctx, run, 0, 1, ""))(w); len(live) != 2 || due() < second {
		t.Errorf("the log of a silent attempt is %+v, want it live as it was", live)
	}
	w.move(core.MoveLost, d, "w1", queued(0))
	w.ok(w.store.ArchiveLog(ctx, run, 0, 1))
	got := must(w.store.ReadLog(ctx, run, 0, 1, ""))(w)
	if len(got) != 1 || got[0].Text != "one\ntwo\n" || !got[0].End {
		t.Errorf("after the loss of the attempt: got %+v, want the whole log in one piece", got)
	}
	if keys := w.keysLike(":log:"); len(keys) != 0 {
		t.Errorf("the live log is still there: %q", keys)
	}
}

func TestReadLogRefusesWhatIsNoPosition(t *testing.T) {
	w := newWorld(t, store.Options{})
	run, _ := anAttempt(w)
	for _, after := range []string{"x", "$", "+", "-", "1-2-3", "1-x", "99999999999999999999-0", "-1", "1 2", ">"} {
		_, err := w.store.ReadLog(t.Context(), run, 0, 1, after)
		wantErrorKind(t, "after "+after, err, core.Invalid)
	}
	_, err := w.store.ReadLog(t.Context(), id.New(), 0, 1, "")
	wantErrorKind(t, "a missing run", err, core.NotFound)
}
