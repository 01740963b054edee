package redisconn

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// pendingScript tells how many tasks a queue holds.
var pendingScript = redis.NewScript(`return redis.call('LLEN', KEYS[1])`)

// Scripts that share a pipeline are all done before the tasks that go behind any of them:
// a worker that found a task whose script is still to come would take it for a stale one.
func TestTasksGoBehindAllScriptsOfTheirPipeline(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, pendingScript, enqueueScript)
	b.holdWire()
	gathers := []*Gather{{}, {}, {}}
	for i, id := range []string{"a", "b", "c"} {
		b.queue(t, func() {
			gathers[i].Put("q", id, "message")
			got, err := b.fold.Call(gathers[i].Behind(t.Context()), pendingScript, []string{PendingKey("q")})
			if err != nil || got != int64(0) {
				t.Errorf("the script of %s was answered %v, %v, want before all tasks", id, got, err)
			}
		})
	}
	b.letGo()
	for i, g := range gathers {
		if !g.Went() {
			t.Errorf("the tasks of caller %d did not go along", i)
		}
	}
	got := b.client.LRange(t.Context(), PendingKey("q"), 0, -1).Val()
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("pending are %q, want all three", got)
	}
	if n := b.calls(t, "evalsha"); n != 4 {
		t.Errorf("%d calls, want three scripts and one enqueue", n)
	}
}

func TestTasksGoAlongOnce(t *testing.T) {
	b := newFoldBench(t)
	g := &Gather{}
	g.Put("q", "a", "message")
	under := g.Behind(t.Context())
	if g.Went() {
		t.Error("tasks went before anybody took them along")
	}
	for want := range int64(2) {
		if got, err := b.fold.Call(under, pendingScript, []string{PendingKey("q")}); err != nil || got != want {
			t.Errorf("call %d was answered %v, %v", want, got, err)
		}
	}
	if n := b.client.LLen(t.Context(), PendingKey("q")).Val(); n != 1 || !g.Went() {
		t.Errorf("%d tasks are pending, gone along: %t", n, g.Went())
	}
}

// Redis has restarted and somebody has enqueued since, so that it knows how to, but not the
// script that the tasks are owed by: they are in their queue before it is done.
func TestTasksThatOvertookTheirScriptHaveNotGone(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, enqueueScript)
	g := &Gather{}
	g.Put("q", "a", "message")
	got, err := b.fold.Call(g.Behind(t.Context()), pendingScript, []string{PendingKey("q")})
	if err != nil || got != int64(1) {
		t.Fatalf("the script was answered %v, %v, want it done behind the task", got, err)
	}
	if g.Went() {
		t.Error("the task is said to have gone, though it was there before its script")
	}
	if err := b.client.Del(t.Context(), PendingKey("q"), "asynq:{q}:t:a").Err(); err != nil { // a worker dropped it
		t.Fatal(err)
	}
	if err := g.Send(t.Context(), b.fold); err != nil || b.client.LLen(t.Context(), PendingKey("q")).Val() != 1 {
		t.Errorf("sent again: %v, and it is not in its queue", err)
	}
}

// Tasks of one caller that are sent alone do not take those of another along, whose
// script is still to come.
func TestTasksSentAloneTakeNobodysAlong(t *testing.T) {
	b := newFoldBench(t)
	b.warm(t, pendingScript, enqueueScript)
	b.holdWire()
	b.queue(t, func() {
		g := &Gather{}
		g.Put("q", "behind", "message")
		got, err := b.fold.Call(g.Behind(t.Context()), pendingScript, []string{PendingKey("q")})
		if err != nil || got != int64(1) {
			t.Errorf("the script was answered %v, %v, want it to find the other's task only", got, err)
		}
	})
	// Who sends for all sends its own last.
	b.queue(t, func() {
		g := &Gather{}
		g.Put("q", "alone", "message")
		if err := g.Send(t.Context(), b.fold); err != nil {
			t.Error(err)
		}
	})
	b.letGo()
}

// The script's answer is its caller's also where the tasks found no place.
func TestTasksThatFailLeaveTheScriptItsAnswer(t *testing.T) {
	b := newFoldBench(t)
	g := &Gather{}
	g.Put("q", "a", "message")
	b.client.Set(t.Context(), PendingKey("q"), "not a list", 0)
	got, err := b.fold.Call(g.Behind(t.Context()), pendingScript, []string{PendingKey("other")})
	if err != nil || got != int64(0) {
		t.Errorf("the script was answered %v, %v", got, err)
	}
	if g.Went() {
		t.Error("tasks went to where none can be")
	}
}

// The nodes of a cluster do their parts of a pipeline in any order.
func TestNothingGoesAlongOnACluster(t *testing.T) {
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	defer func() { _ = client.Close() }()
	g := &Gather{}
	g.Put("q", "a", "message")
	if got := NewFold(client).along(g.Behind(t.Context())); len(got) > 0 || g.Went() {
		t.Errorf("%d calls went along", len(got))
	}
}
