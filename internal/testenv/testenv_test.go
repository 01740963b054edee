package testenv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/testenv"
)

func TestRedisLosesEverythingUnlessDurable(t *testing.T) {
	for name, row := range map[string]struct {
		start func(testing.TB) *testenv.RedisServer
		kept  bool
	}{
		"volatile": {testenv.Redis, false},
		"durable":  {testenv.DurableRedis, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := row.start(t)
			if err := server.Client(t).Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatalf("SET: %v", err)
			}
			url := server.URL
			server.Kill()
			if err := server.Client(t).Ping(ctx).Err(); err == nil {
				t.Fatal("a killed server answers")
			}
			server.Restart()
			if server.URL != url {
				t.Errorf("URL after Restart = %q, want %q", server.URL, url)
			}
			got, err := server.Client(t).Get(ctx, "k").Result()
			if kept := err == nil && got == "v"; kept != row.kept {
				t.Errorf("GET after Kill and Restart = %q, %v, want kept = %v", got, err, row.kept)
			}
		})
	}
}

func TestRedisFreeze(t *testing.T) {
	server := testenv.Redis(t)
	client := server.Client(t)
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("PING of a frozen server: %v, want a deadline error", err)
	}
	server.Thaw()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("PING after Thaw: %v", err)
	}
}

func TestNATSKeepsItsStreamsOverRestart(t *testing.T) {
	ctx := t.Context()
	server := testenv.NATS(t)
	js, err := jetstream.New(server.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	stream := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}
	if _, err := js.CreateStream(ctx, stream); err != nil {
		t.Fatalf("create stream: %v", err)
	}
	if _, err := js.Publish(ctx, "s", []byte("hello")); err != nil {
		t.Fatalf("publish: %v", err)
	}
	url := server.URL
	server.Stop()
	server.Restart()
	if server.URL != url {
		t.Errorf("URL after Restart = %q, want %q", server.URL, url)
	}
	// The connection made before the stop finds the server again by itself.
	testenv.Eventually(t, 10*time.Second, func() error {
		s, err := js.Stream(ctx, "S")
		if err != nil {
			return err
		}
		if n := s.CachedInfo().State.Msgs; n != 1 {
			return fmt.Errorf("stream holds %d messages, want 1", n)
		}
		return nil
	})
}

// A recorder stands in for the test that a helper would fail.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

func TestEventually(t *testing.T) {
	calls := 0
	testenv.Eventually(t, time.Minute, func() bool { calls++; return calls == 3 })
	if calls != 3 {
		t.Errorf("the condition was asked %d times, want 3", calls)
	}

	r := &recorder{TB: t}
	func() {
		defer func() { recover() }()
		testenv.Eventually(r, time.Millisecond, func() error { return errors.New("no luck") })
	}()
	if want := "after 1ms: no luck"; len(r.failures) != 1 || r.failures[0] != want {
		t.Errorf("failures = %q, want one: %q", r.failures, want)
	}
}

func TestSameSlot(t *testing.T) {
	ctx := t.Context()
	server := testenv.Redis(t)
	script := redis.NewScript("return #KEYS")
	rows := []struct {
		name string
		do   func(*redis.Client)
		fail bool
	}{
		{"one tag", func(c *redis.Client) { script.Run(ctx, c, []string{"a:{p:1}", "b:{p:1}"}) }, false},
		{"two tags", func(c *redis.Client) { script.Run(ctx, c, []string{"a:{p:1}", "b:{p:2}"}) }, true},
		{"no tags", func(c *redis.Client) { script.Run(ctx, c, []string{"a", "b"}) }, true},
		{"empty tag", func(c *redis.Client) { script.Run(ctx, c, []string{"{}a", "{}b"}) }, true},
		{"no keys", func(c *redis.Client) { script.Run(ctx, c, nil, "x") }, false},
		{"pipeline of scripts", func(c *redis.Client) {
			c.Pipelined(ctx, func(p redis.Pipeliner) error {
				script.Eval(ctx, p, []string{"a:{p:1}"})
				script.Eval(ctx, p, []string{"a:{p:2}"})
				return nil
			})
		}, false},
		{"bad script in a pipeline", func(c *redis.Client) {
			c.Pipelined(ctx, func(p redis.Pipeliner) error {
				script.Eval(ctx, p, []string{"a:{p:1}", "b:{p:2}"})
				return nil
			})
		}, true},
		{"transaction of two tags", func(c *redis.Client) {
			c.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "a:{p:1}", 1, 0)
				p.Set(ctx, "a:{p:2}", 1, 0)
				return nil
			})
		}, true},
		{"transaction of one tag", func(c *redis.Client) {
			c.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "a:{p:1}", 1, 0)
				p.Set(ctx, "b:{p:1}", 1, 0)
				return nil
			})
		}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := &recorder{TB: t}
			row.do(server.Client(t, testenv.SameSlot(r)))
			if failed := len(r.failures) > 0; failed != row.fail {
				t.Errorf("failed = %v (%q), want %v", failed, r.failures, row.fail)
			}
		})
	}
}
