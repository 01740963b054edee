package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"gopkg.in/yaml.v3"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/doctor"
	"github.com/takt-dev/takt/internal/events"
	"github.com/takt-dev/takt/internal/queue"
	"github.com/takt-dev/takt/internal/redisconn"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// The files of deployments/ are tried here with the programs that read them:
// redis-server, the NATS server, Takt's own configuration.
const deployments = "../../deployments"

// users are the processes that have a user in Redis and in NATS.
var users = []string{"api", "worker", "trigger"}

func passwordOf(user string) string { return "p4ss" + user }

type composeFile struct {
	Services map[string]struct {
		Image       string
		Command     []string
		Environment map[string]string
		Healthcheck struct{ Test []string }
		Deploy      struct{ Replicas int }

		StopGracePeriod string `yaml:"stop_grace_period"`
	}
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployments, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var compose composeFile
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	return compose
}

func TestComposeRunsEveryProcessTwiceAndChecksIt(t *testing.T) {
	compose := readCompose(t)
	want := []string{"api", "nats", "redis", "trigger", "worker"}
	if got := slices.Sorted(maps.Keys(compose.Services)); !slices.Equal(got, want) {
		t.Fatalf("services = %q, want %q", got, want)
	}
	for name, service := range compose.Services {
		if service.Image == "" || len(service.Command) == 0 || len(service.Healthcheck.Test) == 0 {
			t.Errorf("%s lacks an image, a command or a health check", name)
		}
		if limit := map[string]string{"api": "30s", "worker": "45s"}[name]; service.StopGracePeriod != limit {
			t.Errorf("%s is killed %q after it is told to stop, want %q", name, service.StopGracePeriod, limit)
		}
		if slices.Contains(users, name) && service.Deploy.Replicas != 2 {
			t.Errorf("%s has %d replicas, want 2", name, service.Deploy.Replicas)
		}
	}
}

// reference is a variable in compose.yaml: ${NAME:?hint} or ${NAME:-default}.
var reference = regexp.MustCompile(`\$\{([A-Z_]+):[?-][^}]*\}`)

func TestComposeGivesSettingsThatTheProcessesTake(t *testing.T) {
	compose := readCompose(t)
	env := readEnv(t, secrets(t))
	environ := func(service string) (list []string) {
		for name, text := range compose.Services[service].Environment {
			text = reference.ReplaceAllStringFunc(text, func(ref string) string {
				return env[reference.FindStringSubmatch(ref)[1]]
			})
			list = append(list, name+"="+text)
		}
		return list
	}
	api, _, err := config.Load[config.API](nil, environ("api"), io.Discard)
	if err != nil {
		t.Errorf("settings of api: %v", err)
	}
	worker, _, err := config.Load[config.Worker](nil, environ("worker"), io.Discard)
	if err != nil {
		t.Errorf("settings of worker: %v", err)
	}
	trigger, _, err := config.Load[config.Trigger](nil, environ("trigger"), io.Discard)
	if err != nil {
		t.Errorf("settings of trigger: %v", err)
	}
	for user, shared := range map[string]config.Shared{"api": api.Shared, "worker": worker.Shared, "trigger": trigger.Shared} {
		if shared.Redis.Username != user || shared.NATS.User != user || shared.Redis.Password == "" || shared.NATS.Password == "" {
			t.Errorf("%s signs in as %q to Redis and %q to NATS, want %[1]q with passwords", user, shared.Redis.Username, shared.NATS.User)
		}
		if err := redisconn.ValidURL(shared.Redis.URL); err != nil {
			t.Error(err)
		}
	}
}

func TestEnvExampleNamesWhatComposeUses(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deployments, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, m := range reference.FindAllStringSubmatch(string(text), -1) {
		used[m[1]] = true
	}
	example, err := os.ReadFile(filepath.Join(deployments, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(used))
	for name, text := range map[string]string{".env.example": string(example), "secrets.sh": secrets(t)} {
		if got := slices.Sorted(maps.Keys(readEnv(t, text))); !slices.Equal(got, want) {
			t.Errorf("%s has %q, compose.yaml uses %q", name, got, want)
		}
	}
}

// secrets returns what secrets.sh prints.
func secrets(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command("sh", filepath.Join(deployments, "secrets.sh")).Output()
	if err != nil {
		t.Fatalf("secrets.sh: %v", err)
	}
	return string(out)
}

func readEnv(t *testing.T, text string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("line %q is no NAME=value", line)
		}
		env[name] = value
	}
	return env
}

// startDeployedRedis runs redis/start.sh on a socket of its own and returns it.
func startDeployedRedis(t *testing.T) (socket string) {
	t.Helper()
	needRedis(t)
	socket, _ = startDeployedRedisIn(t, shortDir(t))
	return socket
}

// startDeployedRedisIn is startDeployedRedis with the records in dir, and gives a
// function that kills the server.
func startDeployedRedisIn(t *testing.T, dir string) (socket string, kill func()) {
	t.Helper()
	socket = filepath.Join(dir, "s")
	start := exec.Command("sh", filepath.Join(deployments, "redis", "start.sh"), "--port", "0", "--unixsocket", socket, "--dir", dir)
	start.Env = append(os.Environ(), "TMPDIR="+dir)
	for _, user := range users {
		start.Env = append(start.Env, "REDIS_"+strings.ToUpper(user)+"_PASSWORD="+passwordOf(user))
	}
	var log strings.Builder
	start.Stdout, start.Stderr = &log, &log
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		start.Wait()
		close(ended)
	}()
	kill = func() {
		start.Process.Kill()
		<-ended
	}
	t.Cleanup(func() {
		kill()
		if t.Failed() {
			t.Logf("redis-server said:\n%s", log.String())
		}
	})
	health := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Username: "health", Password: "x", DisableIdentity: true, DialerRetries: 1})
	defer health.Close()
	testenv.Eventually(t, 10*time.Second, func() error { return health.Do(t.Context(), "ping").Err() })
	return socket, kill
}

// Redis reads its append-only file as the default user. Where that one has no
// rights, transactions and scripts with two writes are left out and the rest is
// kept, and nothing but a line in Redis' log says so.
func TestRedisKeepsEveryWriteOverARestart(t *testing.T) {
	needRedis(t)
	ctx, dir := t.Context(), shortDir(t)
	socket, kill := startDeployedRedisIn(t, dir)
	api := as(t, "api", socket)
	two := redis.NewScript(`redis.call("SET", KEYS[1], "v"); return redis.call("SET", KEYS[2], "v")`)
	if err := two.Run(ctx, api, []string{"takt:{p:1}:script:1", "takt:{p:1}:script:2"}).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := api.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "takt:{p:1}:transaction:1", "v", 0)
		return p.Set(ctx, "takt:{p:1}:transaction:2", "v", 0).Err()
	}); err != nil {
		t.Fatal(err)
	}
	kill()
	socket, _ = startDeployedRedisIn(t, dir)
	api = as(t, "api", socket)
	for _, key := range []string{"script:1", "script:2", "transaction:1", "transaction:2"} {
		if got, err := api.Get(ctx, "takt:{p:1}:"+key).Result(); got != "v" {
			t.Errorf("%s after the restart = %q, %v, want what was acknowledged", key, got, err)
		}
	}
}

func as(t *testing.T, user, socket string) redis.UniversalClient {
	t.Helper()
	return dial(t, (&url.URL{Scheme: "unix", User: url.UserPassword(user, passwordOf(user)), Path: socket}).String())
}

func TestRedisUsersMayDoTheirWorkAndNoMore(t *testing.T) {
	socket := startDeployedRedis(t)
	ctx := t.Context()
	set := redis.NewScript(`return redis.call("SET", KEYS[1] .. ARGV[1], "v")`)
	keys := map[string]map[string]bool{
		"takt:partitions":     {"api": true, "worker": true, "trigger": true},
		"takt:{acc}:accounts": {"api": true},
		"takt:{r:1}:receipt":  {"api": true},
		"takt:{p:3}":          {"api": true, "worker": true},
		"takt:{t:3}":          {"api": true, "trigger": true},
		"takt:{l:trigger}":    {"api": true, "trigger": true},
		"takt:{w}":            {"api": true, "worker": true, "trigger": true},
		"asynq:{default}:x":   {"api": true, "worker": true},
		"other":               {},
	}
	for _, user := range users {
		client := as(t, user, socket)
		for key, may := range keys {
			suffix := ""
			if strings.HasSuffix(key, "}") {
				suffix = ":row"
			}
			err := set.Run(ctx, client, []string{key}, suffix).Err()
			if (err == nil) != may[user] {
				t.Errorf("%s writes %s: %v, want allowed = %v", user, key, err, may[user])
			}
		}
		for _, command := range [][]any{
			{"flushall"}, {"flushdb"}, {"keys", "*"}, {"config", "get", "*"}, {"config", "set", "appendonly", "no"}, {"acl", "list"}, {"shutdown"},
			{"client", "list"}, {"function", "flush"}, {"script", "flush"}, {"swapdb", "0", "1"}, {"monitor"}, {"replicaof", "a", "1"},
			{"publish", "other", "x"},
		} {
			if err := client.Do(ctx, command...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s says %q: %v, want NOPERM", user, command, err)
			}
		}
		for _, finding := range redisconn.Doctor(ctx, client) {
			if finding.Severity == redisconn.Problem {
				t.Errorf("doctor as %s: %+v", user, finding)
			}
		}
	}
	for _, user := range []string{"default", "health", "nobody"} {
		if _, err := redisconn.Open(ctx, redisconn.Config{URL: "unix://" + user + ":guess@" + socket}); err == nil && user != "health" {
			t.Errorf("user %s was let in", user)
		}
	}
	if _, err := redisconn.Open(ctx, redisconn.Config{URL: "unix://" + socket}); err == nil {
		t.Error("a client without a user was let in")
	}
}

// Every process writes its card; the api's user may look at everything that takt
// doctor looks at.
func TestRedisUsersMayWriteCardsAndTheDoctorReads(t *testing.T) {
	socket := startDeployedRedis(t)
	ctx := t.Context()
	api, err := store.Open(ctx, as(t, "api", socket), store.Options{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range users {
		s := store.New(as(t, user, socket), store.Options{})
		if _, err := s.Now(ctx); err != nil {
			t.Errorf("time as %s: %v", user, err)
		}
		if err := s.PutCard(ctx, core.Card{ID: user, Role: user}); err != nil {
			t.Errorf("write a card as %s: %v", user, err)
		}
	}
	if cards, err := api.Cards(ctx); err != nil || len(cards) != len(users) {
		t.Errorf("cards as api = %+v, %v, want one of each process", cards, err)
	}
	for _, user := range users {
		if err := store.New(as(t, user, socket), store.Options{}).DropCard(ctx, user); err != nil {
			t.Errorf("remove a card as %s: %v", user, err)
		}
	}
	report := doctor.Examine(ctx, doctor.Sources{
		Redis:   func(ctx context.Context) []redisconn.Finding { return redisconn.Doctor(ctx, as(t, "api", socket)) },
		Records: api, Queues: queue.NewClient(as(t, "api", socket)), Stream: deployedBus(t, startDeployedNATS(t)),
	})
	var told []string
	for _, f := range report.Quiet().Findings {
		told = append(told, fmt.Sprintf("%s/%s", f.Place, f.Check))
	}
	// CONFIG is nobody's, so appendfsync is not seen, which is no fault; no process runs here.
	want := []string{"processes/api shards", "processes/trigger shards", "processes/workers"}
	if !slices.Equal(told, want) {
		t.Errorf("the doctor as api tells %q, want %q\n%+v", told, want, report.Quiet().Findings)
	}
}

// deployedBus is the api's connection to NATS, with the stream made.
func deployedBus(t *testing.T, address string) *events.Bus {
	t.Helper()
	bus, err := events.Connect(events.Options{
		URLs: []string{"nats://" + address}, Auth: []nats.Option{nats.UserInfo("api", passwordOf("api"))}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	testenv.Eventually(t, 10*time.Second, func() error { return bus.EnsureStream(t.Context()) })
	return bus
}

func TestAsynqWorksForTheRedisUsers(t *testing.T) {
	socket := startDeployedRedis(t)
	client := asynq.NewClientFromRedisClient(as(t, "api", socket))
	if _, err := client.Enqueue(asynq.NewTask("t", nil)); err != nil {
		t.Fatalf("enqueue as api: %v", err)
	}
	queues, err := asynq.NewInspectorFromRedisClient(as(t, "api", socket)).Queues()
	if err != nil || len(queues) != 1 {
		t.Errorf("queues as api = %q, %v, want one", queues, err)
	}
	if _, err := asynq.NewInspectorFromRedisClient(as(t, "api", socket)).GetQueueInfo("default"); err != nil {
		t.Errorf("queue info as api: %v", err)
	}

	taken := make(chan struct{})
	worker := as(t, "worker", socket)
	listener := asynq.NewServerFromRedisClient(worker, asynq.Config{TaskCheckInterval: time.Millisecond, LogLevel: asynq.ErrorLevel})
	if err := listener.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(taken)
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	defer listener.Shutdown()
	select {
	case <-taken:
	case <-time.After(5 * time.Second):
		t.Fatal("the task was not taken as worker")
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return worker.Get(t.Context(), "asynq:{default}:processed").Val() == "1" })
}

func TestRedisStartRefusesPasswordsThatWouldBreakTheFile(t *testing.T) {
	start := exec.Command("sh", filepath.Join(deployments, "redis", "start.sh"))
	start.Env = append(os.Environ(), "REDIS_API_PASSWORD=a b", "REDIS_WORKER_PASSWORD=x", "REDIS_TRIGGER_PASSWORD=x")
	if out, err := start.CombinedOutput(); err == nil || !strings.Contains(string(out), "letters and digits") {
		t.Errorf("start.sh = %v, %s, want a refusal", err, out)
	}
}

// startDeployedNATS runs a server with nats/nats.conf, on a free port.
func startDeployedNATS(t *testing.T) (address string) {
	t.Helper()
	for _, user := range users {
		t.Setenv("NATS_"+strings.ToUpper(user)+"_PASSWORD", passwordOf(user))
	}
	options, err := server.ProcessConfigFile(filepath.Join(deployments, "nats", "nats.conf"))
	if err != nil {
		t.Fatalf("nats.conf: %v", err)
	}
	options.Host, options.Port, options.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	options.StoreDir, options.NoSigs, options.NoLog = shortDir(t), true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatalf("nats.conf: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server takes no connections")
	}
	return s.Addr().String()
}

func connectAs(t *testing.T, address, user string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect("nats://"+address, nats.UserInfo(user, passwordOf(user)),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the test asks for LastError
	if err != nil {
		t.Fatalf("connect as %s: %v", user, err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// refused reports whether the server denied the one thing the connection has
// been used for.
func refused(t *testing.T, conn *nats.Conn) bool {
	t.Helper()
	if err := conn.Flush(); err != nil { // a denial comes before the answer to this
		t.Fatal(err)
	}
	return errors.Is(conn.LastError(), nats.ErrPermissionViolation)
}

func TestNATSUsersMayDoTheirWork(t *testing.T) {
	address := startDeployedNATS(t)
	ctx := t.Context()
	as := func(user string) jetstream.JetStream {
		js, err := jetstream.New(connectAs(t, address, user))
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	api, trigger := as("api"), as("trigger")
	stream := jetstream.StreamConfig{Name: "TAKT_FIRES", Subjects: []string{"takt.fires"}, Storage: jetstream.FileStorage, MaxBytes: 1 << 30}
	consumer := jetstream.ConsumerConfig{Durable: "takt-dispatch", AckPolicy: jetstream.AckExplicitPolicy}
	for name, p := range map[string]jetstream.JetStream{"api": api, "trigger": trigger} {
		if _, err := p.CreateOrUpdateStream(ctx, stream); err != nil {
			t.Fatalf("stream as %s: %v", name, err)
		}
		if _, err := p.CreateOrUpdateConsumer(ctx, "TAKT_FIRES", consumer); err != nil {
			t.Fatalf("consumer as %s: %v", name, err)
		}
	}
	if _, err := trigger.Publish(ctx, "takt.fires", []byte("[]")); err != nil {
		t.Fatalf("publish a fire as trigger: %v", err)
	}
	fires, err := api.Consumer(ctx, "TAKT_FIRES", "takt-dispatch")
	if err != nil {
		t.Fatalf("consumer as api: %v", err)
	}
	msg, err := fires.Next(jetstream.FetchMaxWait(5 * time.Second))
	if err != nil {
		t.Fatalf("fetch a fire as api: %v", err)
	}
	if err := msg.DoubleAck(ctx); err != nil {
		t.Errorf("acknowledge a fire as api: %v", err)
	}
}

func TestNATSUsersMayDoNoMore(t *testing.T) {
	address := startDeployedNATS(t)
	rows := []struct {
		user, subject      string
		publish, subscribe bool
	}{
		{"api", "takt.ring.default", true, true},
		{"api", "takt.stop.w1", true, true},
		{"api", "takt.trigger", true, true},
		{"api", "other", false, false},
		{"api", "$JS.API.STREAM.DELETE.TAKT_FIRES", false, false},
		{"api", "$JS.API.STREAM.CREATE.OTHER", false, false},
		{"worker", "takt.ring.default", true, true},
		{"worker", "takt.stop.w1", true, true},
		{"worker", "takt.fires", false, false},
		{"worker", "takt.trigger", false, true},
		{"worker", "$JS.API.STREAM.CREATE.TAKT_FIRES", false, false},
		{"trigger", "takt.trigger", false, true},
		{"trigger", "takt.ring.default", false, false},
		{"trigger", "$JS.API.CONSUMER.MSG.NEXT.TAKT_FIRES.takt-dispatch", false, false},
	}
	for _, row := range rows {
		t.Run(row.user+" "+row.subject, func(t *testing.T) {
			publisher := connectAs(t, address, row.user)
			publisher.Publish(row.subject, nil)
			if allowed := !refused(t, publisher); allowed != row.publish {
				t.Errorf("publish allowed = %v, want %v", allowed, row.publish)
			}
			subscriber := connectAs(t, address, row.user)
			if _, err := subscriber.SubscribeSync(row.subject); err != nil {
				t.Fatal(err)
			}
			if allowed := !refused(t, subscriber); allowed != row.subscribe {
				t.Errorf("subscribe allowed = %v, want %v", allowed, row.subscribe)
			}
		})
	}
	if conn, err := nats.Connect("nats://" + address); err == nil {
		conn.Close()
		t.Error("the server lets clients in without a user")
	}
}
