package queue

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestQueuesCountsEachState(t *testing.T) {
	t.Parallel()
	rdb := testenv.Redis(t).Client(t)
	c := NewClient(rdb)
	if got, err := c.Queues(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("Queues = %+v, %v; want none", got, err)
	}
	client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
	for _, task := range [][2]string{{"default", "1"}, {"default", "2"}, {"default", "3"}, {"host-a", "4"}} {
		if _, err := client.Enqueue(asynq.NewTask("t", nil), asynq.Queue(task[0]), asynq.TaskID(task[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := inspector.ArchiveTask("default", "2"); err != nil {
		t.Fatal(err)
	}
	if err := inspector.PauseQueue("host-a"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Queues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []core.QueueState{{Name: "default", Pending: 2, Archived: 1}, {Name: "host-a", Pending: 1, Paused: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Queues (-want +got):\n%s", diff)
	}
}
