package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

// A parameter that a job type marks as secret reaches the executor and lies
// nowhere in Redis as it is: not in the job, not in the plan, not in the queue.
func TestSecretParameters(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-and-more"
	got := make(chan string, 1)
	call := executor.Type{
		Spec: executor.Spec{Type: "call", Parameters: []executor.Parameter{{Name: "token", Kind: executor.String, Secret: true}, {Name: "url", Kind: executor.String}}},
		Executor: executor.Func(func(_ context.Context, a executor.Attempt) (executor.Result, error) {
			got <- a.Parameters["token"] + " " + a.Parameters["url"]
			return executor.Result{}, nil
		}),
	}
	h := newHouse(t, call.Spec)
	h.roles()
	h.worker("one", 1, call)
	j, err := h.eng.CreateJob(h.ctx, core.Job{
		Meta: core.Meta{Name: "j"}, Type: "call", Enabled: true, Parameters: map[string]string{"token": secret, "url": "here"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{})
	if err != nil {
		t.Fatal(err)
	}
	if r = h.await(r.ID, 10*time.Second); r.State != core.RunSucceeded {
		t.Fatalf("run ended as %s (%s)", r.State, r.Reason)
	}
	if text := <-got; text != secret+" here" {
		t.Errorf("the executor got %q", text)
	}
	back, err := h.eng.Job(h.ctx, j.UUID)
	if err != nil || back.Parameters["token"] != secret {
		t.Errorf("the job has token %q, %v; want what was given", back.Parameters["token"], err)
	}
	if where := h.search(secret); where != "" {
		t.Errorf("the secret lies in %s", where)
	}
	if h.search("here") == "" {
		t.Error("the search finds nothing at all")
	}
}

// search looks through all of Redis for a text and gives the key that has it.
func (h *house) search(text string) string {
	h.t.Helper()
	h.redis.WantNoScan()
	defer h.redis.ForgetScans()
	rdb := h.client()
	keys, err := rdb.Keys(h.ctx, "*").Result()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, k := range keys {
		if strings.Contains(h.dump(rdb, k), text) {
			return k
		}
	}
	return ""
}

func (h *house) dump(rdb redis.UniversalClient, key string) string {
	h.t.Helper()
	switch rdb.Type(h.ctx, key).Val() {
	case "string":
		return rdb.Get(h.ctx, key).Val()
	case "hash":
		var all []string
		for f, v := range rdb.HGetAll(h.ctx, key).Val() {
			all = append(all, f, v)
		}
		return strings.Join(all, "\n")
	case "zset":
		return strings.Join(rdb.ZRange(h.ctx, key, 0, -1).Val(), "\n")
	case "set":
		return strings.Join(rdb.SMembers(h.ctx, key).Val(), "\n")
	case "list":
		return strings.Join(rdb.LRange(h.ctx, key, 0, -1).Val(), "\n")
	}
	return ""
}
