package house

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/trigger"
	"github.com/takt-dev/takt/pkg/executor"
)

// Store opens the product's store on a client of its own, which is closed with
// the House.
func (h *House) Store(ctx context.Context) (*store.Store, error) {
	rdb, err := h.openRedis(ctx, "takt-harness")
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, rdb, store.Options{})
}

func (h *House) openRedis(ctx context.Context, name string) (redis.UniversalClient, error) {
	rdb, err := redisconn.Open(ctx, redisconn.Config{URL: h.Redis.URL, ClientName: name})
	if err == nil {
		h.closers = append(h.closers, rdb.Close)
	}
	return rdb, err
}

// WatchTrigger starts a trigger process as process.Trigger does, but for the
// metrics, which the harness takes itself.
func (h *House) WatchTrigger(ctx context.Context, m trigger.Metrics) error {
	rdb, err := h.openRedis(ctx, "takt-trigger")
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, rdb, store.Options{})
	if err != nil {
		return err
	}
	bus, err := events.Connect(events.Options{URLs: []string{h.NATS.URL}, Name: "takt-trigger", Log: h.log})
	if err != nil {
		return err
	}
	h.closers = append(h.closers, func() error { bus.Close(); return nil })
	h.start("trigger", trigger.New(s, bus, trigger.Options{Log: h.log, Metrics: m}).Run)
	return nil
}

// Ghost announces a worker that executes a job type and sends its heartbeats, but
// takes nothing: dispatches stay in their queue.
func (h *House) Ghost(ctx context.Context, spec executor.Spec) error {
	s, err := h.Store(ctx)
	if err != nil {
		return err
	}
	self := core.Worker{
		ID: "ghost.00000000", Host: "ghost", Slots: 16, Types: []executor.Spec{spec},
		Queues: []string{"critical", "default", "host-ghost", "low"}, Started: time.Now().UTC(),
	}
	if _, err := s.Beat(ctx, core.Heartbeat{Worker: self.ID}, &self); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	h.start("ghost", func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				_, _ = s.Beat(ctx, core.Heartbeat{Worker: self.ID}, nil)
			}
		}
	})
	return nil
}

// SessionToken begins a session of its own and gives its token.
func (h *House) SessionToken(ctx context.Context) (string, error) {
	body, err := json.Marshal(map[string]string{"name": adminName, "password": adminPassword})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL+"/api/v1/sessions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var out struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || out.Token == "" {
		return "", fmt.Errorf("sign in: status %d: %w", res.StatusCode, err)
	}
	return out.Token, nil
}

// AwaitWorkers waits until so many workers are alive.
func (h *House) AwaitWorkers(ctx context.Context, n int) error {
	s, err := h.Store(ctx)
	if err != nil {
		return err
	}
	return h.await(ctx, func() (bool, error) {
		f, err := s.Fleet(ctx)
		if err != nil {
			return false, err
		}
		live := 0
		for _, w := range f.Workers {
			if w.Live {
				live++
			}
		}
		return live >= n, nil
	})
}

// Admin gives name and password of the account that the House was set up with.
func (h *House) Admin() (name, password string) { return adminName, adminPassword }
