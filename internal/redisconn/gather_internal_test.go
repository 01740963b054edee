package redisconn

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Tasks that are put and tasks that asynq's client enqueues go together, in their
// order, at most foldMost in a call.
func TestPutAndGatheredTasksGoTogether(t *testing.T) {
	b := newAsynqBench(t)
	ctx := t.Context()
	g := &Gather{}
	if g.Last() != nil {
		t.Error("an empty Gather has a last message")
	}
	var want []string
	for i := range 2*foldMost + 10 {
		id := fmt.Sprintf("%03d", i)
		want = append(want, id)
		if i%5 > 0 {
			g.Put("q", id, "message of "+id)
			continue
		}
		if _, err := b.asynq.EnqueueContext(g.Context(ctx), task(id), options(id, "q")...); err != nil {
			t.Fatal(err)
		}
	}
	last := string(g.Last())
	if err := g.Send(ctx, b.fold); err != nil {
		t.Fatal(err)
	}
	got := b.rdb.LRange(ctx, PendingKey("q"), 0, -1).Val()
	slices.Reverse(got)
	if !slices.Equal(got, want) {
		t.Errorf("pending are %q, want all in their order", got)
	}
	for id, message := range map[string]string{"001": "message of 001", "137": "message of 137", "135": last} {
		if got := b.rdb.HGet(ctx, "asynq:{q}:t:"+id, "msg").Val(); got != message {
			t.Errorf("task %s holds %q, want %q", id, got, message)
		}
	}
	// Three calls, and as many that Redis did not know the script for.
	if got := b.shas.count(enqueueScript.Hash()); got != 6 {
		t.Errorf("%d calls were made, want 6", got)
	}
}

// What several want of one script shares a call, and each gets its own answers:
// items that stand for many, for one, and for one by itself.
func TestFoldAnswersItemsOfManyParts(t *testing.T) {
	b := newFoldBench(t)
	item := func(parts int, args ...any) *folded {
		return &folded{script: touchScript, keys: []string{"k"}, args: args, parts: parts, err: errFoldBroken}
	}
	items := []*folded{item(2, "a", "b"), item(0, "c"), item(1, "d"), item(3, "e", "f", "g")}
	b.fold.send(t.Context(), items)
	want := []any{[]any{"a", "b"}, "c", []any{"d"}, []any{"e", "f", "g"}}
	for i, it := range items {
		if it.err != nil || fmt.Sprint(it.reply) != fmt.Sprint(want[i]) {
			t.Errorf("item %d: got %v, %v; want %v", i, it.reply, it.err, want[i])
		}
	}
	broken := []*folded{item(2, "a", "b"), item(2, "c", "break"), item(1, "d")}
	b.fold.send(t.Context(), broken)
	for i, it := range broken {
		if (it.err != nil) != (i == 1) {
			t.Errorf("item %d of a call that one broke: %v, %v", i, it.reply, it.err)
		}
	}
}

// A part that Redis refuses fails those it travels with to the same queue, and no others.
func TestGatherTellsOfAQueueThatIsRefused(t *testing.T) {
	b := newAsynqBench(t)
	ctx := t.Context()
	b.rdb.Set(ctx, PendingKey("bad"), "not a list", 0)
	g := &Gather{}
	for _, id := range []string{"1", "2"} {
		g.Put("bad", id, "m")
		g.Put("good", id, "m")
	}
	if err := g.Send(ctx, b.fold); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("Send = %v, want WRONGTYPE", err)
	}
	if got := b.rdb.LLen(ctx, PendingKey("good")).Val(); got != 2 {
		t.Errorf("%d tasks are in the good queue, want 2", got)
	}
}
