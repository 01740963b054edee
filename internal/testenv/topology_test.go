package testenv_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

// failOver bounds what a client needs to find the new master.
const failOver = 10 * time.Second

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := testenv.Sentinel(t)
	client, err := redisconn.Open(ctx, redisconn.Config{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Set(ctx, "kept", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Replicated()
	s.CutReplicas()
	if err := client.Set(ctx, "lost", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	killed, back := s.FailOver()
	t.Logf("the fail-over took %s", back.Sub(killed))
	testenv.Eventually(t, failOver, func() error { return client.Set(ctx, "new", "v", 0).Err() })
	if n := client.Exists(ctx, "kept").Val(); n != 1 {
		t.Error("what was replicated is lost")
	}
	if n := client.Exists(ctx, "lost").Val(); n != 0 {
		t.Error("what was written after the replicas were cut off is there")
	}
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := testenv.Cluster(t)
	client, err := redisconn.Open(ctx, redisconn.Config{URL: c.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keys := []string{"{a}", "{b}", "{c}", "{d}", "{e}"} // on all three masters
	for _, key := range keys {
		if err := client.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Replicated()
	killed, back := c.FailOver("{a}")
	t.Logf("the fail-over took %s", back.Sub(killed))
	for _, key := range keys {
		testenv.Eventually(t, failOver, func() error { return client.Get(ctx, key).Err() })
	}
}
