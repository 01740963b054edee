package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/events"
)

// redisConf is Redis as docs/operate.md wants it: what was acknowledged is on disk.
const redisConf = `bind 127.0.0.1
port %d
dir %q
daemonize no
save ""
appendonly yes
appendfsync always
aof-load-truncated yes
maxmemory-policy noeviction
hash-max-listpack-entries 512
`

// A redisServer is the real redis-server.
type redisServer struct {
	*program
	disk   disk
	addr   string
	client *redis.Client // the harness's own, never cut
}

func startRedis(ctx context.Context, dir string, d disk) (*redisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, redisConf, port, d.dir()), 0o600); err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	r := &redisServer{disk: d, addr: "127.0.0.1:" + strconv.Itoa(port)}
	r.program, err = newProgram(dir, "redis", func() *exec.Cmd { return d.wrap("redis-server", conf) })
	if err != nil {
		return nil, err
	}
	r.client = redis.NewClient(&redis.Options{Addr: r.addr})
	if err := r.start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return r, until(ctx, func() error { return r.client.Ping(ctx).Err() })
}

func (r *redisServer) url() string { return "redis://" + r.addr + "/0" }

// revive starts Redis again, as a supervisor would, until it answers.
func (r *redisServer) revive(ctx context.Context) error {
	for ctx.Err() == nil {
		if !r.alive() {
			if err := r.start(); err != nil {
				return err
			}
			r.unwant() // on a full disk it ends again; that is its fault's doing
		}
		ping, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err := r.client.Ping(ping).Err()
		cancel()
		if err == nil && r.alive() {
			r.want()
			return nil
		}
		wait(ctx, 100*time.Millisecond)
	}
	return ctx.Err()
}

func (r *redisServer) want() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = true
}

const natsConf = `listen: "127.0.0.1:%d"
jetstream { store_dir: %q }
`

// A natsServer is the real nats-server.
type natsServer struct {
	*program
	addr string
}

func startNATS(ctx context.Context, dir, binary string) (*natsServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, natsConf, port, filepath.Join(dir, "jetstream")), 0o600); err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	n := &natsServer{addr: "127.0.0.1:" + strconv.Itoa(port)}
	n.program, err = newProgram(dir, "nats", func() *exec.Cmd { return exec.Command(binary, "-c", conf) })
	if err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return n, until(ctx, func() error { return reachable(n.addr) })
}

func (n *natsServer) url() string { return "nats://" + n.addr }

// purge empties the stream of fires.
func (n *natsServer) purge(ctx context.Context) error {
	nc, err := nats.Connect(n.url(), nats.Name("chaos"))
	if err != nil {
		return fmt.Errorf("purge fires: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("purge fires: %w", err)
	}
	s, err := js.Stream(ctx, events.Stream)
	if err != nil {
		return fmt.Errorf("purge fires: %w", err)
	}
	if err := s.Purge(ctx); err != nil {
		return fmt.Errorf("purge fires: %w", err)
	}
	return nil
}

func reachable(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// freePort finds a port on the loopback interface that nobody listens at. It is none of
// those that systems give to outgoing connections, of which there are many here: one
// could take it before the server that it is for, also where that is started again.
func freePort() (int, error) {
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("find a free port: of a hundred none was free")
}
