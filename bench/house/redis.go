package house

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/embedded"
)

// Redis is a private redis-server on a TCP port, as an installation has it.
type Redis struct {
	URL    string
	Client *redis.Client // the harness's own
	server *embedded.Redis
}

// StartRedis starts a redis-server whose files lie in dir. fsync is its
// appendfsync; "" means everysec and "none" no append-only file.
func StartRedis(ctx context.Context, dir, fsync string) (*Redis, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	o := embedded.RedisOptions{Port: port, Fsync: fsync}
	switch fsync {
	case "":
		o.Fsync = "everysec"
	case "none":
		o.Fsync, o.Volatile = "no", true
	}
	server, err := embedded.StartRedis(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &Redis{URL: server.URL(), Client: redis.NewClient(opts), server: server}, nil
}

// PID is the server's process id.
func (r *Redis) PID() int { return r.server.PID() }

// Stop ends the server.
func (r *Redis) Stop() {
	_ = r.Client.Close()
	r.server.Stop()
}

// freePort finds a port that is none of those given to outgoing connections, of which one
// could take it before the server.
func freePort() (int, error) {
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("of a hundred ports none was free")
}

// Info gives the fields of one section of INFO.
func (r *Redis) Info(ctx context.Context, section string) (map[string]string, error) {
	text, err := r.Client.Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("ask Redis for INFO %s: %w", section, err)
	}
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out, nil
}

// Number reads one number of INFO.
func (r *Redis) Number(ctx context.Context, section, field string) (float64, error) {
	info, err := r.Info(ctx, section)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(info[field], 64)
	if err != nil {
		return 0, fmt.Errorf("INFO %s has no number %s", section, field)
	}
	return n, nil
}
