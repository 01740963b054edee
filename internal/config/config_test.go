package config_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/takt-dev/takt/internal/config"
)

func TestDefaults(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	shared := config.Shared{
		Redis: config.Redis{URL: "redis://127.0.0.1:6379/0"},
		NATS:  config.NATS{URLs: []string{"nats://127.0.0.1:4222"}},
		Log:   config.Log{Level: "info", Format: "text"},
	}
	api := config.APISettings{
		Listen:      "127.0.0.1:8080",
		ZStack:      config.ZStack{TimeZone: "Local"},
		Admin:       config.Admin{Name: "admin"},
		SessionLife: 2 * time.Hour,
		BodyLimit:   1 << 20,
		Retention:   config.Retention{Runs: 168 * time.Hour, Ledger: 168 * time.Hour, LedgerEntries: 10_000, Receipts: 3 * time.Hour},
		Limits:      config.Limits{GroupJobs: 1000, TargetTriggers: 10},
		Partitions:  16,
	}
	worker := config.WorkerSettings{
		Host:      host,
		Slots:     16,
		Queues:    map[string]int{"critical": 6, "default": 3, "low": 1},
		Dequeuers: 2,
		Drain:     30 * time.Second,
		HTTP:      config.HTTP{Timeout: 30 * time.Second},
		Shell:     config.Shell{Grace: 5 * time.Second},
		CBT:       config.CBT{Dir: "/var/lib/takt/cbt"},
	}

	same(t, config.Default[config.API](), config.API{Shared: shared, APISettings: api})
	same(t, config.Default[config.Worker](), config.Worker{Shared: shared, WorkerSettings: worker})
	same(t, config.Default[config.Trigger](), config.Trigger{Shared: shared})
	own := shared
	own.Redis.URL, own.NATS.URLs = "", nil // takt dev starts its own
	same(t, config.Default[config.Dev](), config.Dev{
		Shared: own, DevSettings: config.DevSettings{Dir: "takt-data"}, API: api, Worker: worker,
	})
}

func TestLaterPlacesWin(t *testing.T) {
	file := write(t, "redis: {url: 'redis://file:1'}\nworker: {slots: 1}\n")
	other := write(t, "worker: {slots: 9}\n")
	rows := []struct {
		name     string
		args     []string
		env      []string
		wantURL  string
		wantSlot int
	}{
		{"defaults", nil, nil, "redis://127.0.0.1:6379/0", 16},
		{"file by flag", []string{"--config", file}, nil, "redis://file:1", 1},
		{"file by variable", nil, []string{"TAKT_CONFIG=" + file}, "redis://file:1", 1},
		{"flag's file wins", []string{"--config=" + other}, []string{"TAKT_CONFIG=" + file}, "redis://127.0.0.1:6379/0", 9},
		{"environment over file", []string{"--config", file}, []string{"TAKT_WORKER_SLOTS=2"}, "redis://file:1", 2},
		{"flag over all", []string{"--config", file, "--worker-slots", "3"}, []string{"TAKT_WORKER_SLOTS=2"}, "redis://file:1", 3},
		{"empty variable is none", []string{"--config", file}, []string{"TAKT_WORKER_SLOTS=", "PATH=/bin"}, "redis://file:1", 1},
		{"zero is the default", []string{"--config", file, "--worker-slots=0"}, nil, "redis://file:1", 16},
		{"one dash", []string{"-worker-slots=4"}, nil, "redis://127.0.0.1:6379/0", 4},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			cfg := load[config.Worker](t, row.args, row.env)
			if cfg.Redis.URL != row.wantURL || cfg.Slots != row.wantSlot {
				t.Errorf("redis.url = %q, worker.slots = %d, want %q, %d", cfg.Redis.URL, cfg.Slots, row.wantURL, row.wantSlot)
			}
		})
	}
}

func TestAllFormsOfValues(t *testing.T) {
	want := config.Default[config.Worker]()
	want.Tags = []string{"gpu", "zone=a"}
	want.Queues = map[string]int{"a": 1, "b": 2}
	want.Drain = 36 * time.Hour
	want.Shell.Allow = []config.Command{{Path: "/bin/echo", Args: []string{"a.*", "..."}}, {Path: "/bin/true"}}
	want.NATSRequest.URLs = []string{"nats://h:1"}
	want.NATSRequest.Allow = []string{"jobs.>"}
	want.Redis.CAFile = "/ca"

	inFile := write(t, `
redis:
  caFile: /ca
worker:
  tags: [gpu, zone=a]
  queues: {a: 1, b: 2}
  drain: 1d12h
  shell:
    allow:
      - path: /bin/echo
        args: ["a.*", "..."]
      - path: /bin/true
  natsRequest:
    urls: nats://h:1
    allow: ["jobs.>"]
api:      # of another process
  listen: nonsense
`)
	const commands = `[{path: /bin/echo, args: ["a.*", "..."]}, {path: /bin/true}]`
	for name, got := range map[string]config.Worker{
		"file": load[config.Worker](t, []string{"--config", inFile}, nil),
		"environment": load[config.Worker](t, nil, []string{
			"TAKT_WORKER_TAGS=gpu, zone=a", "TAKT_WORKER_QUEUES=a=1,b=2", "TAKT_WORKER_DRAIN=1d12h", "TAKT_WORKER_SHELL_ALLOW=" + commands,
			"TAKT_WORKER_NATS_REQUEST_URLS=nats://h:1", "TAKT_WORKER_NATS_REQUEST_ALLOW=jobs.>", "TAKT_REDIS_CA_FILE=/ca",
			"TAKT_API_LISTEN=nonsense", // of another process
		}),
		"flags": load[config.Worker](t, []string{
			"--worker-tags", "gpu,zone=a", "--worker-queues=a=1,b=2", "--worker-drain=36h", "--worker-shell-allow=" + commands,
			"--worker-nats-request-urls=nats://h:1", "--worker-nats-request-allow=jobs.>", "--redis-ca-file=/ca",
		}, nil),
	} {
		t.Run(name, func(t *testing.T) { same(t, got, want) })
	}

	api := load[config.API](t, []string{"--api-zstack-always-async", "--api-body-limit=64KiB", "--api-retention-runs", "90m"}, nil)
	if !api.ZStack.AlwaysAsync || api.BodyLimit != 64<<10 || api.Retention.Runs != 90*time.Minute {
		t.Errorf("switch, size, duration = %v, %v, %v", api.ZStack.AlwaysAsync, api.BodyLimit, api.Retention.Runs)
	}
}

func TestSecretFromAFile(t *testing.T) {
	secret := write(t, "hunter2\n")
	cfg := load[config.API](t, nil, []string{"TAKT_API_ADMIN_PASSWORD_FILE=" + secret, "TAKT_REDIS_URL_FILE=" + write(t, "redis://r:1")})
	if cfg.Admin.Password != "hunter2" || cfg.Redis.URL != "redis://r:1" {
		t.Errorf("password, URL = %q, %q, want those of the files", cfg.Admin.Password, cfg.Redis.URL)
	}
	fails[config.API](t, nil, []string{"TAKT_API_ADMIN_PASSWORD_FILE=" + secret, "TAKT_API_ADMIN_PASSWORD=x"}, "both set")
	fails[config.API](t, nil, []string{"TAKT_API_ADMIN_PASSWORD_FILE=/nowhere"}, "TAKT_API_ADMIN_PASSWORD_FILE: open /nowhere")
	fails[config.API](t, nil, []string{"TAKT_API_LISTEN_FILE=" + secret}, "unknown variable TAKT_API_LISTEN_FILE")
}

func TestUnknownNames(t *testing.T) {
	file := func(text string) []string { return []string{"--config", write(t, text)} }
	rows := []struct {
		name      string
		args, env []string
		want      string
	}{
		{"key", file("worker:\n  slot: 1\n"), nil, ":2: unknown key worker.slot; did you mean worker.slots?"},
		{"section", file("log: {}\nwroker: {}\n"), nil, ":2: unknown key wroker; did you mean worker?"},
		{"key of another process", file("api: {listne: x}\n"), nil, "unknown key api.listne; did you mean api.listen?"},
		{"nothing like it", file("colour: red\n"), nil, ":1: unknown key colour\n"},
		{"field of a command", file("worker: {shell: {allow: [{path: /a, arg: []}]}}\n"), nil, "worker.shell.allow: want a YAML list"},
		{"key twice", file("log: {level: info}\nlog: {}\n"), nil, ":2: key log stands twice"},
		{"text for a section", file("log: debug\n"), nil, ":1: log: want a section"},
		{"list for a value", file("log: {level: [a]}\n"), nil, "log.level: want a single value"},
		{"text for a map's number", file("worker: {queues: {a: b}}\n"), nil, "worker.queues: want a map of names to whole numbers"},
		{"second document", file("log: {level: info}\n---\nwroker: {}\n"), nil, ":2: another document begins here"},
		{"broken YAML", file("log: [\n"), nil, "line 1"},
		{"missing file", []string{"--config", "/nowhere"}, nil, "read configuration: open /nowhere"},
		{"variable", nil, []string{"TAKT_WORKER_SLOT=1"}, "unknown variable TAKT_WORKER_SLOT; did you mean TAKT_WORKER_SLOTS?"},
		{"flag", []string{"--worker-slot=1"}, nil, "unknown flag --worker-slot; did you mean --worker-slots?; --help"},
		{"flag of another process", []string{"--api-listen=:1"}, nil, "unknown flag --api-listen"},
		{"argument", []string{"start"}, nil, `unexpected argument "start"`},
		{"flag without value", []string{"--worker-slots"}, nil, "flag --worker-slots needs a value"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { fails[config.Worker](t, row.args, row.env, row.want) })
	}
}

func TestVariablesOfKubernetesServicesAreNotOurs(t *testing.T) {
	load[config.Worker](t, nil, []string{
		"TAKT_API_SERVICE_HOST=10.0.0.1", "TAKT_API_SERVICE_PORT=80", "TAKT_API_SERVICE_PORT_HTTP=80",
		"TAKT_API_PORT=tcp://10.0.0.1:80", "TAKT_API_PORT_80_TCP=tcp://10.0.0.1:80", "TAKT_API_PORT_80_TCP_ADDR=10.0.0.1",
	})
}

func TestWrongValues(t *testing.T) {
	rows := []struct{ setting, want string }{
		{"TAKT_REDIS_URL=localhost:6379", "want a URL such as redis://"},
		{"TAKT_REDIS_POOL_SIZE=-1", "want 0 to 10000"},
		{"TAKT_REDIS_CERT_FILE=/c", "redis.keyFile"},
		{"TAKT_NATS_URLS=nats://a,http://b", "want URLs such as nats://"},
		{"TAKT_NATS_PASSWORD=hunter2", "want a user beside the password"},
		{"TAKT_LOG_LEVEL=loud", `log.level: "loud" (TAKT_LOG_LEVEL) is not right: want debug, info, warn, error`},
		{"TAKT_LOG_FORMAT=xml", "want text, json"},
		{"TAKT_METRICS_LISTEN=9464", "metrics.listen"},
		{"TAKT_API_LISTEN=localhost", "want host:port"},
		{"TAKT_API_LISTEN=:99999", "want host:port"},
		{"TAKT_API_ZSTACK_TIMEZONE=Mars/Olympus", "want Local, UTC or a zone name"},
		{"TAKT_API_ZSTACK_ALWAYS_ASYNC=maybe", "want true or false"},
		{"TAKT_API_TRUSTED_PROXIES=10.0.0.0/8,999.1.1.1", `"999.1.1.1"`},
		{"TAKT_API_SESSION_LIFE=2", "want a duration such as 30s"},
		{"TAKT_API_SESSION_LIFE=-2h", "want a duration such as 30s"},
		{"TAKT_API_SESSION_LIFE=1s", "want at least 1m"},
		{"TAKT_API_BODY_LIMIT=1MB", "want a size such as"},
		{"TAKT_API_BODY_LIMIT=10", "want 1KiB to 1GiB"},
		{"TAKT_API_RETENTION_RUNS=xd", "want a duration"},
		{"TAKT_API_RETENTION_LEDGER_ENTRIES=-5", "want 1 to 1000000"},
		{"TAKT_API_SECRET_KEY=hunter2", "want 32 bytes in base64"},
		{"TAKT_API_PARTITIONS=257", "want 1 to 256"},
		{"TAKT_API_PARTITIONS=many", `api.partitions: "many" (TAKT_API_PARTITIONS) is not right: want a whole number`},
		{"TAKT_WORKER_HOST=a b", "worker.host"},
		{"TAKT_WORKER_RESOURCES=vm-1", "want uuids"},
		{"TAKT_WORKER_QUEUES=default", "want name=number"},
		{"TAKT_WORKER_QUEUES=default=0", "weights from 1"},
		{"TAKT_WORKER_SHELL_ALLOW=[{path: echo}]", "want absolute paths"},
		{"TAKT_WORKER_SHELL_ROOTS=tmp", "want absolute paths"},
		{"TAKT_WORKER_SHELL_ENV=A=1", "want names of environment variables"},
		{"TAKT_WORKER_NATS_REQUEST_URLS=h:1", "worker.natsRequest.urls"},
	}
	for _, row := range rows {
		t.Run(row.setting, func(t *testing.T) {
			fails[config.Dev](t, nil, []string{row.setting}, row.want)
		})
	}
	t.Run("all at once", func(t *testing.T) {
		err := fails[config.Dev](t, nil, []string{"TAKT_LOG_LEVEL=loud", "TAKT_LOG_FORMAT=xml"}, "log.level")
		if !strings.Contains(err.Error(), "log.format") {
			t.Errorf("error = %v, want both problems", err)
		}
	})
}

func TestPrintConfigHoldsNoSecretAndCanBeReadBack(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	env := []string{
		"TAKT_REDIS_URL=redis://me:hunter2@h:1/0", "TAKT_REDIS_PASSWORD=hunter2", "TAKT_NATS_URLS=nats://hunter2@a,nats://u:hunter2@b",
		"TAKT_API_ADMIN_PASSWORD=hunter2", "TAKT_API_SECRET_KEY=" + key, "TAKT_WORKER_TAGS=gpu",
	}
	var out bytes.Buffer
	cfg, exit, err := config.Load[config.Dev]([]string{"--print-config"}, env, &out)
	if err != nil || !exit {
		t.Fatalf("Load = exit %v, %v, want exit", exit, err)
	}
	if cfg.API.Admin.Password != "hunter2" {
		t.Fatalf("the password was not read: %+v", cfg.API.Admin)
	}
	text := out.String()
	if strings.Contains(text, "hunter2") || strings.Contains(text, key) {
		t.Errorf("a secret is printed:\n%s", text)
	}
	for _, want := range []string{"url: redis://***@h:1/0\n", "- nats://***@b\n", "password: '***'\n", "secretKey: '***'\n", "receipts: 3h\n", "runs: 7d\n", "bodyLimit: 1MiB\n", "- gpu\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
	if err := yaml.Unmarshal(out.Bytes(), new(map[string]any)); err != nil {
		t.Fatalf("the output is no YAML: %v", err)
	}

	// Without secrets the output is a file that means the same.
	out.Reset()
	if _, _, err := config.Load[config.Worker]([]string{"--print-config"}, nil, &out); err != nil {
		t.Fatal(err)
	}
	same(t, load[config.Worker](t, []string{"--config", write(t, out.String())}, nil), config.Default[config.Worker]())
}

func TestErrorsHoldNoSecret(t *testing.T) {
	for _, setting := range []string{
		"TAKT_REDIS_URL=me:hunter2@localhost", "TAKT_NATS_URLS=http://u:hunter2@h", "TAKT_NATS_PASSWORD=hunter2",
		"TAKT_API_SECRET_KEY=hunter2",
	} {
		err := fails[config.Dev](t, nil, []string{setting}, "is not right")
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
}

func TestHelpListsEveryFlagOfTheProcess(t *testing.T) {
	var out bytes.Buffer
	_, exit, err := config.Load[config.Worker]([]string{"--help"}, []string{"TAKT_NONSENSE=1"}, &out)
	if err != nil || !exit {
		t.Fatalf("Load = exit %v, %v, want exit", exit, err)
	}
	text := out.String()
	for _, want := range []string{
		"Usage: worker [flags]", "--worker-slots ", "TAKT_WORKER_SLOTS, default 16", "--redis-url ", "default redis://127.0.0.1:6379/0",
		"--config ", "TAKT_CONFIG", "--print-config ", "--version ", "default critical=6,default=3,low=1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("help lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "--api-listen ") {
		t.Error("the worker's help lists a flag of the api")
	}
}

func load[T config.Process](t *testing.T, args, env []string) T {
	t.Helper()
	cfg, exit, err := config.Load[T](args, env, io.Discard)
	if err != nil || exit {
		t.Fatalf("Load(%q, %q) = exit %v, %v", args, env, exit, err)
	}
	return cfg
}

func fails[T config.Process](t *testing.T, args, env []string, want string) error {
	t.Helper()
	_, _, err := config.Load[T](args, env, io.Discard)
	if err == nil || !strings.Contains(err.Error()+"\n", want) {
		t.Fatalf("Load(%q, %q): error %v, want one with %q", args, env, err, want)
	}
	return err
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "takt.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}
