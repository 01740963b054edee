package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/testenv"
)

// helperDir tells the test binary to be the parent of a redis-server, see
// TestRedisDiesWithItsParent.
const helperDir = "TAKT_TEST_PARENT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		r, err := embedded.StartRedis(context.Background(), dir, embedded.RedisOptions{})
		fmt.Println(r.PID(), err)
		select {} // until killed
	}
	os.Exit(m.Run())
}

func TestLookupRedis(t *testing.T) {
	needRedis(t)
	path, version, ok := embedded.LookupRedis()
	if !ok || !filepath.IsAbs(path) || !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
		t.Errorf("LookupRedis() = %q, %q, %v, want an absolute path and a version", path, version, ok)
	}

	t.Setenv("PATH", t.TempDir())
	if path, _, ok := embedded.LookupRedis(); ok {
		t.Errorf("LookupRedis with an empty PATH found %q", path)
	}
	if _, err := embedded.StartRedis(t.Context(), t.TempDir(), embedded.RedisOptions{}); !errors.Is(err, embedded.ErrNoRedis) {
		t.Errorf("StartRedis with an empty PATH: %v, want ErrNoRedis", err)
	}
}

func TestRedisIsSetUpForTakt(t *testing.T) {
	dir := shortDir(t)
	start := time.Now()
	r := startRedis(t, dir, embedded.RedisOptions{})
	if took := time.Since(start); took > time.Second {
		t.Errorf("the start took %v, want well under 1s", took)
	}
	client := dial(t, r.URL())
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction",
		"hash-max-listpack-entries": "512", "aof-load-truncated": "yes", "port": "0",
	} {
		if got := client.ConfigGet(t.Context(), name).Val()[name]; got != want {
			t.Errorf("CONFIG GET %s = %q, want %q", name, got, want)
		}
	}
	for _, finding := range redisconn.Doctor(t.Context(), client) {
		if finding.Severity != redisconn.OK {
			t.Errorf("doctor: %+v", finding)
		}
	}

	conf, err := os.Stat(filepath.Join(dir, "redis.conf"))
	if err != nil || conf.Mode().Perm() != 0o600 {
		t.Errorf("redis.conf: %v, %v, want mode 0600: it holds the password", conf, err)
	}
	u, _ := url.Parse(r.URL())
	password, _ := u.User.Password()
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.PID()))
	if err == nil && strings.Contains(string(args), password) {
		t.Error("the password stands on the command line")
	}
	if _, err := redisconn.Open(t.Context(), redisconn.Config{URL: "unix://" + u.Path}); err == nil {
		t.Error("the server lets clients in without the password")
	}
}

func TestRedisOptions(t *testing.T) {
	rows := []struct {
		name    string
		options embedded.RedisOptions
		want    map[string]string
		scheme  string
	}{
		{"volatile", embedded.RedisOptions{Volatile: true}, map[string]string{"appendonly": "no"}, "unix"},
		{"everysec", embedded.RedisOptions{Fsync: "everysec"}, map[string]string{"appendfsync": "everysec"}, "unix"},
		{"TCP port", embedded.RedisOptions{Port: freePort(t), Volatile: true}, map[string]string{"bind": "127.0.0.1"}, "redis"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := startRedis(t, shortDir(t), row.options)
			if !strings.HasPrefix(r.URL(), row.scheme+"://") {
				t.Errorf("URL = %q, want scheme %s", redisconn.Redact(r.URL()), row.scheme)
			}
			client := dial(t, r.URL())
			for name, want := range row.want {
				if got := client.ConfigGet(t.Context(), name).Val()[name]; got != want {
					t.Errorf("CONFIG GET %s = %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestRedisInADirectoryWithALongOddName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long name ", 12)+`"quoted\ $x`)
	r := startRedis(t, dir, embedded.RedisOptions{})
	if err := dial(t, r.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Errorf("SET: %v", err)
	}
	u, _ := url.Parse(r.URL())
	r.Stop()
	if _, err := os.Stat(filepath.Dir(u.Path)); !os.IsNotExist(err) {
		t.Errorf("the socket's directory is left behind: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "appendonlydir")); err != nil {
		t.Errorf("the append-only file is not in the directory: %v", err)
	}
}

func TestRedisKeepsAcknowledgedWritesOverKill(t *testing.T) {
	dir := shortDir(t)
	r := startRedis(t, dir, embedded.RedisOptions{})
	for i := range 100 {
		if err := dial(t, r.URL()).Set(t.Context(), fmt.Sprint("k", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.Kill()
	r = startRedis(t, dir, embedded.RedisOptions{})
	if n := dial(t, r.URL()).DBSize(t.Context()).Val(); n != 100 {
		t.Errorf("%d keys after kill and start, want 100", n)
	}
}

func TestRedisStartsWithACutOffAppendOnlyFile(t *testing.T) {
	dir := shortDir(t)
	r := startRedis(t, dir, embedded.RedisOptions{})
	client := dial(t, r.URL())
	client.Set(t.Context(), "first", 1, 0)
	client.Set(t.Context(), "second", 2, 0)
	r.Stop()

	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("append-only files: %q, %v, want one", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[0], info.Size()-5); err != nil {
		t.Fatal(err)
	}
	r = startRedis(t, dir, embedded.RedisOptions{})
	keys, err := dial(t, r.URL()).Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 1 || keys[0] != "first" {
		t.Errorf("keys after the end was cut off = %q, %v, want the first only", keys, err)
	}
}

func TestRedisTellsWhyItDoesNotStart(t *testing.T) {
	dir := shortDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "appendonlydir"), 0o700); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest")
	if err := os.WriteFile(manifest, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.StartRedis(t.Context(), dir, embedded.RedisOptions{})
	if err == nil || !strings.Contains(err.Error(), "manifest") {
		t.Errorf("StartRedis on a broken directory: %v, want redis' own words about the manifest", err)
	}
}

func TestOneRedisPerDirectory(t *testing.T) {
	dir := shortDir(t)
	r := startRedis(t, dir, embedded.RedisOptions{})
	_, err := embedded.StartRedis(t.Context(), dir, embedded.RedisOptions{})
	if !errors.Is(err, embedded.ErrDirInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server on the directory: %v, want ErrDirInUse that names it", err)
	}
	if err := dial(t, r.URL()).Ping(t.Context()).Err(); err != nil {
		t.Errorf("the first server after that: %v", err)
	}
	r.Stop()
	r.Stop() // harmless
	startRedis(t, dir, embedded.RedisOptions{})
}

func TestRedisDoneTellsOfAnEndNobodyAskedFor(t *testing.T) {
	r := startRedis(t, shortDir(t), embedded.RedisOptions{})
	select {
	case <-r.Done():
		t.Fatal("Done is closed while the server runs")
	default:
	}
	if err := syscall.Kill(r.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Done():
	case <-time.After(5 * time.Second):
		t.Error("Done was not closed within 5s of the server's end")
	}
}

func TestRedisDiesWithItsParent(t *testing.T) {
	needRedis(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperDir+"="+shortDir(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.Fields(line + " -")[0])
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("redis-server %d does not run: %v", pid, err)
	}
	parent.Process.Kill()
	parent.Wait()
	testenv.Eventually(t, 5*time.Second, func() bool { return !running(pid) })
}

// running reports whether the process lives; one that has ended and waits for
// the system to collect it does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestMemoryRedis(t *testing.T) {
	m, err := embedded.StartMemoryRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	client := dial(t, m.URL())
	script := redis.NewScript("return redis.call('SET', KEYS[1], ARGV[1], 'PX', 100)")
	if err := script.Run(t.Context(), client, []string{"k"}, "v").Err(); err != nil {
		t.Fatalf("script: %v", err)
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return client.Exists(t.Context(), "k").Val() == 0 })

	u, _ := url.Parse(m.URL())
	if u.Hostname() != "127.0.0.1" {
		t.Errorf("it listens on %s, want 127.0.0.1", u.Host)
	}
	if _, err := redisconn.Open(t.Context(), redisconn.Config{URL: "redis://" + u.Host}); err == nil {
		t.Error("the server lets clients in without the password")
	}
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, _, ok := embedded.LookupRedis(); ok {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("redis-server is not installed")
	}
	t.Skip("redis-server is not installed")
}

func startRedis(t *testing.T, dir string, options embedded.RedisOptions) *embedded.Redis {
	t.Helper()
	needRedis(t)
	r, err := embedded.StartRedis(t.Context(), dir, options)
	if err != nil {
		t.Fatalf("StartRedis: %v", err)
	}
	t.Cleanup(r.Kill)
	return r
}

func dial(t *testing.T, rawURL string) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(t.Context(), redisconn.Config{URL: rawURL, PoolSize: 2})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// shortDir is a directory whose name leaves room for a unix socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "takt-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
