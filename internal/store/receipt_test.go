package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
)

// asked is a receipt as it is opened.
func asked() core.Receipt {
	return core.Receipt{
		ID: id.New(), Account: "acc", Call: "call", Caller: core.Caller{Account: "acc", Name: "ann", Owner: "acc", Role: core.Operator},
		Seed: id.New(), Timeout: time.Minute, Keep: time.Hour, Asked: []byte("{\"a|b\":\"\n\"}"), Holder: id.Fence(),
	}
}

// lapse ends the lease of a receipt, as if its holder had been silent.
func (w *world) lapse(r core.Receipt) {
	w.Helper()
	for _, key := range w.keys() {
		if w.rdb.Type(w.Context(), key).Val() == "zset" && w.rdb.ZScore(w.Context(), key, r.ID).Err() == nil {
			w.ok(w.rdb.ZAdd(w.Context(), key, redis.Z{Score: 1, Member: r.ID}).Err())
		}
	}
}

func (w *world) due() []string {
	w.Helper()
	return must(w.store.DueReceipts(w.Context(), 10))(w)
}

// life gives how long a receipt's row will live.
func (w *world) life(r core.Receipt) time.Duration {
	w.Helper()
	for _, key := range w.keys() {
		if w.rdb.Type(w.Context(), key).Val() == "hash" && len(key) > len(r.ID) && key[len(key)-len(r.ID):] == r.ID {
			return w.rdb.PTTL(w.Context(), key).Val()
		}
	}
	w.Fatalf("receipt %s has no row", r.ID)
	return 0
}

func (w *world) lives(r core.Receipt, want time.Duration) {
	w.Helper()
	if got := w.life(r); got > want || got < want-10*time.Second {
		w.Errorf("the receipt lives for %v, want %v", got, want)
	}
}

func TestReceiptFromOpenToClosed(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx, given := t.Context(), asked()
	made := must(w.store.OpenReceipt(ctx, given))(w)
	again := must(w.store.OpenReceipt(ctx, given))(w) // the reply to the first was lost
	if made.Created.IsZero() || !again.Created.Equal(made.Created) {
		t.Errorf("made at %v, then at %v; want one instant", made.Created, again.Created)
	}
	other := given
	other.Holder = id.Fence()
	_, err := w.store.OpenReceipt(ctx, other)
	wantErrorKind(t, "an id in use", err, core.Exists)
	w.lives(given, time.Minute+time.Hour)

	shown := made
	shown.Holder = ""
	wantEqual(t, "open", must(w.store.Receipt(ctx, given.ID))(w), shown)
	if due := w.due(); len(due) != 0 {
		t.Errorf("due while it is held: %v", due)
	}

	made.OK, made.Body = true, []byte("answer")
	w.ok(w.store.CloseReceipt(ctx, made))
	w.ok(w.store.CloseReceipt(ctx, made)) // the reply to the first was lost
	w.lives(given, time.Hour)
	got := must(w.store.Receipt(ctx, given.ID))(w)
	if got.Ended.Before(got.Created) {
		t.Errorf("ended %v before it was made %v", got.Ended, got.Created)
	}
	shown.Done, shown.OK, shown.Body, shown.Ended, shown.Asked = true, true, []byte("answer"), got.Ended, nil
	wantEqual(t, "closed", got, shown)

	w.lapse(made)
	if _, ok, err := w.store.TakeReceipt(ctx, given.ID, "x"); ok || err != nil {
		t.Errorf("taken after it was finished: %v, %v", ok, err)
	}
	_, err = w.store.OpenReceipt(ctx, other)
	wantErrorKind(t, "opened again", err, core.Exists)
	_, err = w.store.Receipt(ctx, id.New())
	wantErrorKind(t, "a missing receipt", err, core.NotFound)
}

func TestReceiptMadeWithItsAnswer(t *testing.T) {
	w := newWorld(t, store.Options{})
	r := asked()
	r.Done, r.OK, r.Body, r.Asked, r.Keep = true, false, []byte("no"), nil, time.Minute
	made := must(w.store.OpenReceipt(t.Context(), r))(w)
	made.Holder = ""
	wantEqual(t, "stored", must(w.store.Receipt(t.Context(), r.ID))(w), made)
	w.lives(r, time.Minute)
	w.lapse(r)
	if due := w.due(); len(due) != 0 {
		t.Errorf("due: %v, want nothing", due)
	}
}

// A holder that is silent for its lease is relieved, and what it does then is
// refused.
func TestReceiptTakenOver(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	first := must(w.store.OpenReceipt(ctx, asked()))(w)
	take := func(holder string) (core.Receipt, bool) {
		r, ok, err := w.store.TakeReceipt(ctx, first.ID, holder)
		w.ok(err)
		return r, ok
	}
	if _, ok := take("b"); ok {
		t.Fatal("taken while its lease lasts")
	}
	w.lapse(first)
	if due := w.due(); !slices.Equal(due, []string{first.ID}) {
		t.Fatalf("due: %v, want the receipt", due)
	}
	w.ok(w.store.KeepReceipt(ctx, first)) // nobody has taken it yet
	if _, ok := take("b"); ok {
		t.Fatal("taken after its lease was renewed")
	}

	w.lapse(first)
	second, ok := take("b")
	want := first
	want.Holder, want.Lost = "b", 1
	if !ok {
		t.Fatal("not taken after its lease has ended")
	}
	wantEqual(t, "taken", second, want)
	if again, ok := take("b"); !ok || again.Lost != 1 { // the reply to the first was lost
		t.Errorf("taken once more by the same: %v, lost %d", ok, again.Lost)
	}
	if _, ok := take("c"); ok {
		t.Error("taken by two")
	}

	first.OK, first.Body = true, []byte("late")
	wantErrorKind(t, "the first renews", w.store.KeepReceipt(ctx, first), core.Stale)
	wantErrorKind(t, "the first closes", w.store.CloseReceipt(ctx, first), core.Stale)
	wantErrorKind(t, "the first gives back", w.store.LeaveReceipt(ctx, first, 0), core.Stale)
	second.Body = []byte("in time")
	w.ok(w.store.CloseReceipt(ctx, second))
	wantErrorKind(t, "the first closes afterwards", w.store.CloseReceipt(ctx, first), core.Stale)
	if got := must(w.store.Receipt(ctx, first.ID))(w); string(got.Body) != "in time" || got.OK {
		t.Errorf("answer = %q %v, want the second's", got.Body, got.OK)
	}
}

func TestReceiptGivenBack(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	r := must(w.store.OpenReceipt(ctx, asked()))(w)
	r.Tries = 3
	w.ok(w.store.LeaveReceipt(ctx, r, time.Hour))
	if due := w.due(); len(due) != 0 {
		t.Errorf("due before its time: %v", due)
	}
	w.lapse(r)
	got, ok, err := w.store.TakeReceipt(ctx, r.ID, "b")
	if err != nil || !ok || got.Tries != 3 || got.Lost != 0 {
		t.Errorf("taken = %+v, %v, %v; want 3 tries and none lost", got, ok, err)
	}
}

// A receipt with a hook stays unfinished until that is told or given up.
func TestReceiptWithAHook(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx, given := t.Context(), asked()
	given.Hook, given.Keep = []byte("whom"), time.Minute
	r := must(w.store.OpenReceipt(ctx, given))(w)
	r.Body = []byte("answer")
	w.ok(w.store.CloseReceipt(ctx, r))
	w.lives(r, core.MinHookKeep)
	if due := w.due(); !slices.Equal(due, []string{r.ID}) {
		t.Fatalf("due once it is closed: %v, want it at once", due)
	}
	told, ok, err := w.store.TakeReceipt(ctx, r.ID, "b")
	if err != nil || !ok || !told.Done || string(told.Hook) != "whom" || string(told.Body) != "answer" || told.Lost != 0 {
		t.Fatalf("taken = %+v, %v, %v", told, ok, err)
	}
	told.Tries = 1
	w.ok(w.store.LeaveReceipt(ctx, told, 0))
	told, ok, err = w.store.TakeReceipt(ctx, r.ID, "c")
	if err != nil || !ok || told.Tries != 1 {
		t.Fatalf("taken again = %+v, %v, %v", told, ok, err)
	}
	told.Hook = nil
	w.ok(w.store.LeaveReceipt(ctx, told, 0))
	if due := w.due(); len(due) != 0 {
		t.Errorf("due after it was told: %v", due)
	}
	if got := must(w.store.Receipt(ctx, r.ID))(w); got.Hook != nil || string(got.Body) != "answer" {
		t.Errorf("afterwards = %+v, want the answer and no hook", got)
	}
}

func TestReceiptForgottenWhileHeld(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	r := must(w.store.OpenReceipt(ctx, asked()))(w)
	for _, key := range w.keys() {
		if w.rdb.Type(ctx, key).Val() == "hash" {
			w.ok(w.rdb.Del(ctx, key).Err())
		}
	}
	wantErrorKind(t, "closed", w.store.CloseReceipt(ctx, r), core.NotFound)
	if _, ok, err := w.store.TakeReceipt(ctx, r.ID, "b"); ok || err != nil {
		t.Errorf("taken: %v, %v", ok, err)
	}
	if keys := w.keys(); len(keys) != 0 {
		t.Errorf("left behind: %v", keys)
	}
}

func TestReceiptSpentOnce(t *testing.T) {
	w := newWorld(t, store.Options{})
	ctx := t.Context()
	r := must(w.store.OpenReceipt(ctx, asked()))(w)
	r.OK, r.Body = true, []byte("secret")
	w.ok(w.store.CloseReceipt(ctx, r))
	for _, want := range []bool{true, false} {
		if first := must(w.store.SpendReceipt(ctx, r, []byte("{}")))(w); first != want {
			t.Errorf("may give it = %v, want %v", first, want)
		}
	}
	if got := must(w.store.Receipt(ctx, r.ID))(w); string(got.Body) != "{}" {
		t.Errorf("left = %q, want {}", got.Body)
	}
}
