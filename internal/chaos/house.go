package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/takt-dev/takt/internal/chaos/faultproxy"
	"github.com/takt-dev/takt/internal/chaos/plan"
	"github.com/takt-dev/takt/pkg/client"
)

const (
	adminName     = "admin"
	adminPassword = "chaos-admin" // of an installation that lives for a minute on the loopback
)

// A member is a process of Takt in the installation.
type member struct {
	*program
	metrics string // address
	// Workers only: the way to Redis and NATS.
	redis, nats *faultproxy.Proxy
	clock       string         // trigger processes only: file of the clock
	url         string         // api processes only
	client      *client.Client // api processes only
}

// A house is the whole installation.
type house struct {
	dir   string
	disk  disk
	redis *redisServer
	nats  *natsServer

	apis, workers, triggers []*member
}

// build starts everything and returns when all workers are known.
func build(ctx context.Context, o options, dir string) (h *house, err error) {
	h = &house{dir: dir}
	defer func() {
		if err != nil {
			h.stop()
		}
	}()
	if err := os.MkdirAll(h.witness(), 0o755); err != nil {
		return h, fmt.Errorf("make evidence folder: %w", err)
	}
	if h.disk, err = openDisk(filepath.Join(dir, "redis"), o.disk, diskSize(o.duration)); err != nil {
		return h, err
	}
	if h.redis, err = startRedis(ctx, dir, h.disk); err != nil {
		return h, err
	}
	if h.nats, err = startNATS(ctx, dir, filepath.Join(o.bin, "nats-server")); err != nil {
		return h, err
	}
	if err := h.startMembers(o); err != nil {
		return h, err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return h, until(ready, func() error { return h.ready(ready) })
}

// diskSize is that of Redis's disk: the append-only file of a minute of load takes
// a few MiB, and is rewritten from 64 MiB on.
func diskSize(d time.Duration) int64 { return 128<<20 + int64(d.Minutes())*(64<<20) }

func (h *house) witness() string { return filepath.Join(h.dir, "witness") }

func (h *house) startMembers(o options) error {
	for n := range plan.APIs {
		m, err := h.api(n, filepath.Join(o.bin, "api"))
		if err != nil {
			return err
		}
		h.apis = append(h.apis, m)
	}
	for n := range plan.Workers {
		m, err := h.worker(n)
		if err != nil {
			return err
		}
		h.workers = append(h.workers, m)
	}
	for n := range plan.Triggers {
		m, err := h.trigger(n)
		if err != nil {
			return err
		}
		h.triggers = append(h.triggers, m)
	}
	for _, m := range h.members() {
		if err := m.start(); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) members() []*member {
	return append(append(append([]*member{}, h.apis...), h.workers...), h.triggers...)
}

func (h *house) api(n int, binary string) (*member, error) {
	listen, metrics, err := twoAddresses()
	if err != nil {
		return nil, err
	}
	m := &member{metrics: metrics, url: "http://" + listen}
	if m.client, err = client.New(m.url, client.Options{Timeout: 3 * time.Second}); err != nil {
		return nil, err
	}
	m.program, err = newProgram(h.dir, fmt.Sprintf("api-%d", n+1), func() *exec.Cmd {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), "TAKT_REDIS_URL="+h.redis.url(), "TAKT_NATS_URLS="+h.nats.url(), "TAKT_API_LISTEN="+listen,
			"TAKT_METRICS_LISTEN="+metrics, "TAKT_API_ADMIN_NAME="+adminName, "TAKT_API_ADMIN_PASSWORD="+adminPassword)
		return cmd
	})
	return m, err
}

func (h *house) worker(n int) (*member, error) {
	m := &member{}
	var err error
	if m.redis, err = faultproxy.Listen(h.redis.addr); err != nil {
		return nil, err
	}
	if m.nats, err = faultproxy.Listen(h.nats.addr); err != nil {
		return nil, err
	}
	host := fmt.Sprintf("worker-%d", n+1)
	return m, h.child(m, host, orders{
		Role: "worker", Redis: "redis://" + m.redis.Addr() + "/0", NATS: "nats://" + m.nats.Addr(), Host: host, Witness: h.witness(),
	})
}

func (h *house) trigger(n int) (*member, error) {
	name := fmt.Sprintf("trigger-%d", n+1)
	m := &member{clock: filepath.Join(h.dir, name+".clock")}
	if err := setClock(m.clock, 0); err != nil {
		return nil, err
	}
	return m, h.child(m, name, orders{Role: "trigger", Redis: h.redis.url(), NATS: h.nats.url(), Clock: m.clock})
}

// child makes a member of this program in another role.
func (h *house) child(m *member, name string, o orders) error {
	var err error
	if o.Metrics, _, err = twoAddresses(); err != nil {
		return err
	}
	m.metrics = o.Metrics
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	m.program, err = newProgram(h.dir, name, func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), ordersVar+"="+string(text))
		return cmd
	})
	return err
}

// ready signs in at both api processes and looks whether all workers are known.
func (h *house) ready(ctx context.Context) error {
	for _, m := range h.apis {
		if _, err := m.client.Me(ctx); client.IsStatus(err, http.StatusUnauthorized) {
			err = m.client.SignIn(ctx, adminName, adminPassword)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	n, err := h.redis.client.HLen(ctx, "takt:{w}:workers").Result()
	if err == nil && n < plan.Workers {
		err = fmt.Errorf("%d of %d workers are known", n, plan.Workers)
	}
	return err
}

// stop ends everything that runs, the members in good order first.
func (h *house) stop() {
	done := make(chan struct{})
	all := h.members()
	for _, m := range all {
		go func() {
			defer func() { done <- struct{}{} }()
			if m.program != nil {
				m.stop(10 * time.Second)
			}
			for _, p := range []*faultproxy.Proxy{m.redis, m.nats} {
				if p != nil {
					p.Close()
				}
			}
		}()
	}
	for range all {
		<-done
	}
	if h.nats != nil {
		h.nats.stop(5 * time.Second)
	}
	if h.redis != nil {
		h.redis.stop(5 * time.Second)
		_ = h.redis.client.Close() // nothing is on its way any more
	}
}

// deaths gives the ends of processes that nobody ordered.
func (h *house) deaths() []string {
	out := append(h.redis.unordered(), h.nats.unordered()...)
	for _, m := range h.members() {
		out = append(out, m.unordered()...)
	}
	return out
}

func twoAddresses() (a, b string, err error) {
	p, err := freePort()
	q, err2 := freePort()
	return fmt.Sprintf("127.0.0.1:%d", p), fmt.Sprintf("127.0.0.1:%d", q), errors.Join(err, err2)
}
