package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/seal"
)

// lapse ends the leases of all receipts.
func (h *house) lapse() {
	h.Helper()
	for _, key := range must(h.rdb.Keys(h.Context(), "takt:{r:*}:open").Result())(h) {
		for _, r := range must(h.rdb.ZRange(h.Context(), key, 0, -1).Result())(h) {
			h.ok(h.rdb.ZAdd(h.Context(), key, redis.Z{Score: 1, Member: r}).Err())
		}
	}
}

func asked() core.Receipt {
	return core.Receipt{ID: id.New(), Call: "call", Seed: id.New(), Asked: []byte(`{"password":"hunter2"}`), Hook: []byte(`{"url":"http://x/?token=hunter2"}`), Timeout: time.Hour, Keep: time.Hour}
}

func TestReceiptsOfTheEngine(t *testing.T) {
	h := newHouse(t)
	given := asked()
	r := must(h.eng.OpenReceipt(t.Context(), given))(h)
	_, err := h.eng.OpenReceipt(t.Context(), given)
	wantKind(t, "an id in use", err, core.Exists)
	if got := must(h.eng.Receipt(t.Context(), r.ID))(h); got.Done || got.Created.IsZero() || got.Asked != nil || got.Hook != nil || got.Holder != "" {
		t.Errorf("open: got %+v, want neither what was asked nor whom to tell nor who holds it", got)
	}
	r.OK, r.Body = true, []byte("answer")
	h.ok(h.eng.CloseReceipt(t.Context(), r))
	if got := must(h.eng.Receipt(t.Context(), r.ID))(h); !got.Done || !got.OK || got.Ended.IsZero() || string(got.Body) != "answer" {
		t.Errorf("closed: got %+v", got)
	}
	_, err = h.eng.Receipt(t.Context(), id.New())
	wantKind(t, "a missing receipt", err, core.NotFound)
}

// What was asked, and an answer that is given once, lie sealed; who has the key
// goes on with them, and who has not gives them back.
func TestReceiptsLieSealed(t *testing.T) {
	h := newHouse(t)
	key := seal.NewKey()
	first, second, stranger := h.sealing(key), h.sealing(key), h.sealing(seal.NewKey())
	given := asked()
	given.Secret = true
	must(first.OpenReceipt(t.Context(), given))(h)
	sealed := func(when string) {
		t.Helper()
		for _, k := range must(h.rdb.Keys(t.Context(), "takt:{r:*").Result())(h) {
			if h.rdb.Type(t.Context(), k).Val() != "hash" {
				continue
			}
			for name, value := range h.rdb.HGetAll(t.Context(), k).Val() {
				if strings.Contains(value, "hunter2") {
					t.Errorf("%s: field %s shows the secret", when, name)
				}
			}
		}
	}
	sealed("open")

	h.lapse()
	_, _, err := stranger.TakeReceipt(t.Context(), given.ID)
	wantKind(t, "taken with another key", err, core.Unavailable)
	h.lapse() // it was given back
	r, ok, err := second.TakeReceipt(t.Context(), given.ID)
	if err != nil || !ok || r.Lost != 1 {
		t.Fatalf("taken with the key: %+v, %v, %v; want one lost holder", r, ok, err)
	}
	wantEqual(t, "asked", string(r.Asked), string(given.Asked))
	wantEqual(t, "hook", string(r.Hook), string(given.Hook))

	r.OK, r.Body = true, []byte("hunter2")
	h.ok(second.CloseReceipt(t.Context(), r))
	sealed("closed")
	if got := must(first.Receipt(t.Context(), r.ID))(h); len(got.Body) != 0 {
		t.Errorf("read: %q, want no secret", got.Body)
	}
	for _, want := range []string{"hunter2", "{}"} {
		wantEqual(t, "spent", string(must(first.SpendReceipt(t.Context(), r, []byte("{}")))(h)), want)
	}
}

// A request that is carried out again makes nothing twice, also under uuids that
// the client chose, and does not take what others made for its own.
func TestRepeatedRequestFindsWhatItMade(t *testing.T) {
	h := newHouse(t)
	request := core.Request{Key: id.New(), At: time.Now()}
	first := core.WithRequest(h.ctx, request)
	request.Again = true
	again := core.WithRequest(h.ctx, request)
	stranger := core.WithRequest(h.ctx, core.Request{Key: id.New(), Again: true})
	for _, chosen := range []string{"", id.New()} {
		meta := named("x")
		meta.UUID = chosen
		job := core.Job{Meta: meta, Type: "noop", Enabled: true}
		made := must(h.eng.CreateJob(first, job))(h)
		for name, ctx := range map[string]func() (core.Job, error){
			"again":             func() (core.Job, error) { return h.eng.CreateJob(again, job) },
			"the first at last": func() (core.Job, error) { return h.eng.CreateJob(first, job) },
		} {
			if got := must(ctx())(h); got.UUID != made.UUID || !got.Created.Equal(made.Created) {
				t.Errorf("chosen %q, %s: got %s of %v, want %s of %v", chosen, name, got.UUID, got.Created, made.UUID, made.Created)
			}
		}
		job.UUID = made.UUID
		_, err := h.eng.CreateJob(stranger, job)
		wantKind(t, "another request with its uuid", err, core.Exists)
		_, err = h.eng.CreateJob(h.ctx, job)
		wantKind(t, "no request with its uuid", err, core.Exists)
	}
	if now := must(h.eng.Now(again))(h); !now.Equal(request.At) {
		t.Errorf("now = %v, want the time of the request, %v", now, request.At)
	}
}

// A deleted trigger leaves a tombstone: the request that made it does not make it
// again.
func TestRepeatedRequestAfterADelete(t *testing.T) {
	h := newHouse(t)
	request := core.Request{Key: id.New()}
	trigger := core.Trigger{Meta: named("t"), Enabled: true, Schedule: yearly()}
	made := must(h.eng.CreateTrigger(core.WithRequest(h.ctx, request), trigger))(h)
	must(h.eng.DeleteTrigger(h.ctx, made.UUID))(h)
	request.Again = true
	got := must(h.eng.CreateTrigger(core.WithRequest(h.ctx, request), trigger))(h)
	if got.UUID != made.UUID {
		t.Errorf("got %s, want %s", got.UUID, made.UUID)
	}
	_, err := h.eng.Trigger(h.ctx, made.UUID)
	wantKind(t, "the trigger", err, core.NotFound)
}

// A binding is recognized by the request that made it.
func TestRepeatedRequestFindsItsBinding(t *testing.T) {
	h := newHouse(t)
	j := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "noop", Enabled: true}))(h)
	tr := must(h.eng.CreateTrigger(h.ctx, core.Trigger{Meta: named("t"), Enabled: true, Schedule: yearly()}))(h)
	target := core.Target{Kind: core.JobTarget, UUID: j.UUID}
	ctx := core.WithRequest(h.ctx, core.Request{Key: id.New()})
	first := must(h.eng.Bind(ctx, tr.UUID, target, false))(h)
	wantEqual(t, "again", must(h.eng.Bind(ctx, tr.UUID, target, false))(h), first)
	for name, other := range map[string]core.Request{"no request": {}, "another request": {Key: id.New(), Again: true}} {
		_, err := h.eng.Bind(core.WithRequest(h.ctx, other), tr.UUID, target, false)
		wantKind(t, name, err, core.Conflict)
	}
}
