package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

// rows gives all that stands in Redis of tasks and queues, instants left out.
func rows(t *testing.T, rdb *redis.Client) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, key := range rdb.Keys(t.Context(), "asynq:*").Val() {
		switch rdb.Type(t.Context(), key).Val() {
		case "hash":
			row := rdb.HGetAll(t.Context(), key).Val()
			if len(row["pending_since"]) != len("1770000000000000000") {
				t.Errorf("%s has been pending since %q, want Unix nanoseconds", key, row["pending_since"])
			}
			delete(row, "pending_since")
			out[key] = row
		case "list":
			out[key] = rdb.LRange(t.Context(), key, 0, -1).Val()
		case "set":
			out[key] = len(rdb.SMembers(t.Context(), key).Val())
		}
	}
	return out
}

// What we write for a dispatch is to the byte what asynq's client writes for it.
func TestMessagesAreThoseOfAsynq(t *testing.T) {
	t.Parallel()
	var ds []core.Dispatch
	for i, timeout := range []time.Duration{0, 1, time.Millisecond, time.Second, 37 * time.Second, 38 * time.Second, time.Minute, time.Hour, core.MaxTimeout} {
		for _, queue := range []string{"default", "low", "host-" + strings.Repeat("é", 100)} {
			d := dispatch(i, queue)
			d.Timeout = timeout
			large := d
			large.Step, large.Fence.Counter = core.MaxSteps-1-i, 1<<40
			ds = append(ds, d, large)
		}
	}
	ours, theirs := testenv.Redis(t).Client(t), testenv.Redis(t).Client(t)
	c := NewClient(ours)
	for _, d := range ds {
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
		// A client that is new has asynq encode its first message.
		fresh := NewClient(another(t, theirs))
		must(t, fresh.Send(t.Context(), []core.Dispatch{d}))
	}
	if diff := cmp.Diff(rows(t, theirs), rows(t, ours)); diff != "" {
		t.Errorf("what stands in Redis (-asynq's +ours):\n%s", diff)
	}
	for _, queue := range []string{"default", "low"} {
		if _, ok := c.proven.Load(queue); !ok {
			t.Errorf("our encoding for %s was not used", queue)
		}
		tasks, err := c.inspector.ListPendingTasks(queue, asynq.PageSize(100))
		must(t, err)
		if len(tasks) != len(ds)/3 {
			t.Errorf("asynq finds %d tasks in %s, want %d", len(tasks), queue, len(ds)/3)
		}
	}
}

// another gives another client of the same Redis.
func another(t *testing.T, of *redis.Client) *redis.Client {
	t.Helper()
	c := redis.NewClient(of.Options())
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A dispatch sent again is no second task, whoever encodes it, and the queue is made
// known to asynq.
func TestSendAgainInOurEncoding(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	c := NewClient(rdb)
	ds := []core.Dispatch{dispatch(0, "default"), dispatch(1, "default"), dispatch(2, "default")}
	for range 3 {
		must(t, c.Send(t.Context(), ds))
		must(t, NewClient(another(t, rdb)).Send(t.Context(), ds))
	}
	if n := rdb.LLen(t.Context(), redisconn.PendingKey("default")).Val(); n != 3 {
		t.Errorf("%d tasks wait, want 3", n)
	}
	if !rdb.SIsMember(t.Context(), "asynq:queues", "default").Val() {
		t.Error("asynq does not know the queue")
	}
}

// Where asynq does not write what we would, its client is asked for every message: here
// it gathers nothing, as with a version that has another script.
func TestAsynqEncodesWhatWeCannotProve(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	c := &Client{
		rdb: rdb, fold: redisconn.NewFold(rdb),
		asynq: asynq.NewClientFromRedisClient(rdb), inspector: asynq.NewInspectorFromRedisClient(rdb),
	}
	ds := []core.Dispatch{dispatch(0, "default"), dispatch(1, "default"), dispatch(2, "default")}
	for _, d := range ds {
		must(t, c.Send(t.Context(), []core.Dispatch{d}))
	}
	if _, ok := c.proven.Load("default"); ok {
		t.Error("our encoding counts as proven, and nothing was compared")
	}
	for _, d := range ds {
		info, err := c.inspector.GetTaskInfo("default", d.ID())
		must(t, err)
		if info.Type != TaskType || string(info.Payload) != d.ID() {
			t.Errorf("the task of %s is of type %s and holds %q", d.ID(), info.Type, info.Payload)
		}
	}
}
