package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ErrDirInUse means that another living server uses the data directory.
var ErrDirInUse = errors.New("data directory is in use by another server")

// ErrNoRedis means that no redis-server program is installed.
var ErrNoRedis = errors.New("no redis-server program found: install redis 6.2 or later")

// stopGrace is how long a redis-server may take to end after SIGTERM. It has
// nothing to save then, as everything acknowledged is in the append-only file.
const stopGrace = 5 * time.Second

// RedisOptions say how a private redis-server runs. The zero value is the
// durable one that "takt dev" uses.
type RedisOptions struct {
	// Program is the redis-server to run; "" means the one LookupRedis finds.
	Program string
	// Fsync is Redis' appendfsync: always (""), everysec or no.
	Fsync string
	// Volatile keeps nothing on disk.
	Volatile bool
	// Port is a TCP port on 127.0.0.1. 0 means a unix socket, which nobody else
	// can take.
	Port int
	// Password is the secret clients show; "" means a new random one.
	Password string
}

// A Redis is a running private redis-server.
type Redis struct {
	child     *child
	lock      *os.File
	url       string
	socketDir string // to be removed at the end, or ""
}

// LookupRedis finds an installed redis-server, or valkey-server, in PATH and
// asks for its version, such as "7.0.15".
func LookupRedis() (path, version string, ok bool) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			continue
		}
		if m := versionPattern.FindSubmatch(out); m != nil {
			return path, string(m[1]), true
		}
	}
	return "", "", false
}

var versionPattern = regexp.MustCompile(`\bv=(\d+\.\d+\.\d+)`)

// StartRedis starts a redis-server whose files lie in dir and returns when it
// answers. A cut-off end of the append-only file, as a crash leaves it, is
// dropped. Errors: ErrNoRedis; ErrDirInUse; otherwise the last lines of the
// server's own log are part of the message.
func StartRedis(ctx context.Context, dir string, opts RedisOptions) (*Redis, error) {
	if opts.Program == "" {
		path, _, ok := LookupRedis()
		if !ok {
			return nil, ErrNoRedis
		}
		opts.Program = path
	}
	opts.Password = cmp.Or(opts.Password, newSecret())
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	r := &Redis{lock: lock}
	if err := r.start(ctx, dir, opts); err != nil {
		r.release()
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	return r, nil
}

func (r *Redis) start(ctx context.Context, dir string, opts RedisOptions) error {
	network, address, err := r.endpoint(dir, opts)
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "redis.conf")
	if err := writeSecretFile(conf, redisConf(dir, network, address, opts)); err != nil {
		return err
	}
	if r.child, err = startChild(opts.Program, []string{conf}, r.lock); err != nil {
		return err
	}
	if err := r.awaitReady(ctx, network, address, opts.Password); err != nil {
		r.child.kill()
		return err
	}
	return nil
}

// endpoint decides where the server listens and sets the URL.
func (r *Redis) endpoint(dir string, opts RedisOptions) (network, address string, err error) {
	if opts.Port != 0 {
		address = fmt.Sprintf("127.0.0.1:%d", opts.Port)
		r.url = (&url.URL{Scheme: "redis", User: url.UserPassword("", opts.Password), Host: address}).String()
		return "tcp", address, nil
	}
	address = filepath.Join(dir, "redis.sock")
	if len(address) > maxSocketPath {
		if r.socketDir, err = os.MkdirTemp("", "takt-"); err != nil {
			return "", "", err
		}
		address = filepath.Join(r.socketDir, "redis.sock")
	}
	// A socket left behind by a killed server would answer nobody.
	if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	r.url = (&url.URL{Scheme: "unix", User: url.UserPassword("", opts.Password), Path: address}).String()
	return "unix", address, nil
}

// maxSocketPath is below the 104 bytes that the strictest system allows.
const maxSocketPath = 100

// redisConf writes the server's configuration.
func redisConf(dir, network, address string, opts RedisOptions) string {
	var b strings.Builder
	set := func(name string, values ...string) {
		b.WriteString(name)
		for _, v := range values {
			b.WriteString(" " + quote(v))
		}
		b.WriteString("\n")
	}
	if network == "unix" {
		set("port", "0")
		set("unixsocket", address)
		set("unixsocketperm", "700")
	} else {
		set("bind", "127.0.0.1")
		set("port", address[strings.LastIndexByte(address, ':')+1:])
	}
	set("requirepass", opts.Password)
	set("dir", dir)
	set("daemonize", "no")
	set("save", "")
	set("appendonly", yesNo(!opts.Volatile))
	set("appendfsync", cmp.Or(opts.Fsync, "always"))
	set("aof-load-truncated", "yes")
	set("maxmemory-policy", "noeviction")
	// Rows of up to 512 fields stay in Redis' compact form (performance notes:
	// 43 bytes a job against 323).
	set("hash-max-listpack-entries", "512")
	return b.String()
}

// quote writes a value the way Redis' configuration reads it back.
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(value) + `"`
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// writeSecretFile writes a file that only its owner may read, also when it was
// there before with other rights.
func writeSecretFile(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// awaitReady returns when the server answers PING: after it has listened and
// has read its append-only file.
func (r *Redis) awaitReady(ctx context.Context, network, address, password string) error {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if ping(network, address, password) == nil {
			return nil
		}
		select {
		case <-r.child.done:
			return fmt.Errorf("it ended at once; its log:\n%s", r.child.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%w; its log:\n%s", context.Cause(ctx), r.child.log.String())
		case <-tick.C:
		}
	}
}

// ping speaks just enough of Redis' protocol to know that the server is ready.
func ping(network, address, password string) error {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", quote(password)); err != nil {
		return err
	}
	const want = "+OK\r\n+PONG\r\n"
	answer := make([]byte, 0, 128)
	for len(answer) < len(want) {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		if err != nil {
			return err
		}
		answer = answer[:len(answer)+n]
	}
	if string(answer) != want {
		return fmt.Errorf("unexpected answer %q", answer)
	}
	return nil
}

// URL is where clients connect, the password included. It serves
// redisconn.Open and redis.ParseURL.
func (r *Redis) URL() string { return r.url }

// PID is the process id of the server.
func (r *Redis) PID() int { return r.child.cmd.Process.Pid }

// Done is closed when the server has ended, asked to or not.
func (r *Redis) Done() <-chan struct{} { return r.child.done }

// Log returns the last lines the server wrote.
func (r *Redis) Log() string { return r.child.log.String() }

// Stop ends the server and frees its directory. It may be called again.
func (r *Redis) Stop() {
	r.child.stop(stopGrace)
	r.release()
}

// Kill ends the server as kill -9 would and frees its directory.
func (r *Redis) Kill() {
	r.child.kill()
	r.release()
}

func (r *Redis) release() {
	r.lock.Close()
	if r.socketDir != "" {
		os.RemoveAll(r.socketDir)
	}
}
