package embedded

import (
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// expiryTick is how coarse keys of a MemoryRedis expire.
const expiryTick = 50 * time.Millisecond

// A MemoryRedis is an imitation of Redis within this process. It keeps nothing
// on disk and is slower than the real one: good for trying Takt out where no
// redis-server can be had, and for nothing else.
type MemoryRedis struct {
	server *miniredis.Miniredis
	url    string
	stop   chan struct{}
	ticks  sync.WaitGroup
}

// StartMemoryRedis starts a MemoryRedis on a free port of 127.0.0.1.
func StartMemoryRedis() (*MemoryRedis, error) {
	m := &MemoryRedis{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	secret := newSecret()
	m.server.RequireAuth(secret)
	if err := m.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start in-memory redis: %w", err)
	}
	m.url = (&url.URL{Scheme: "redis", User: url.UserPassword("", secret), Host: m.server.Addr()}).String()
	m.ticks.Go(m.expire)
	return m, nil
}

// expire lets time pass for the keys' TTLs: the imitation has no clock of its own.
func (m *MemoryRedis) expire() {
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
			now := time.Now()
			m.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// URL is where clients connect, the password included.
func (m *MemoryRedis) URL() string { return m.url }

// Stop ends the server; what it held is gone. It is called once.
func (m *MemoryRedis) Stop() {
	close(m.stop)
	m.ticks.Wait()
	m.server.Close()
}
