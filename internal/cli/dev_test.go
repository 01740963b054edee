package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/embedded"
	"github.com/takt-dev/takt/internal/testenv"
	"github.com/takt-dev/takt/pkg/client"
)

// dev starts takt dev and returns what is running and what stops it.
func dev(t *testing.T, args ...string) (House, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	houses, ended := make(chan House, 1), make(chan error, 1)
	var log bytes.Buffer
	args = append([]string{"--api-listen", "127.0.0.1:0", "--log-level", "warn"}, args...)
	go func() {
		ended <- Dev(ctx, args, nil, Streams{Out: &log, Err: &log}, func(h House) { houses <- h })
	}()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case h := <-houses:
		return h, stop
	case err := <-ended:
		stopped = true
		t.Fatalf("takt dev ended: %v\n%s", err, &log)
	case <-time.After(20 * time.Second):
		t.Fatalf("takt dev is not ready\n%s", &log)
	}
	return House{}, nil
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, _, ok := embedded.LookupRedis(); !ok {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("install redis-server to run this test")
	}
}

// The lines that takt dev prints are the first thing a user does: they must work
// as they are.
func TestFirstSteps(t *testing.T) {
	t.Parallel()
	needRedis(t)
	h, _ := dev(t, "--dev-dir", t.TempDir())
	var page bytes.Buffer
	welcome(&page, h)
	_, script, ok := strings.Cut(page.String(), "every ten seconds.\n\n")
	if !ok {
		t.Fatalf("the page has no steps:\n%s", &page)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the first steps failed: %v\n%s%s", err, &out, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var list struct {
		Items []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("the last line should list the run: %v\n%s", err, &out)
	}
	c := signIn(t, h)
	d, err := c.WaitRun(t.Context(), list.Items[len(list.Items)-1].ID)
	if err != nil {
		t.Fatal(err)
	}
	if d.State != "succeeded" || !strings.Contains(d.Steps[0].Attempts[0].Output, "hello world") {
		t.Errorf("the run ended as %s with %+v", d.State, d.Steps)
	}
}

func signIn(t *testing.T, h House) *client.Client {
	t.Helper()
	c, err := client.New(h.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SignIn(t.Context(), h.Admin, h.Password); err != nil {
		t.Fatal(err)
	}
	return c
}

// A worker that joins takes steps from the queues that takt dev's own reads, so what
// that one may run it may run too.
func TestJoinedWorkerAllowsTheSame(t *testing.T) {
	t.Parallel()
	cfg := config.Default[config.Dev]()
	cfg.Dir = t.TempDir()
	echo, err := developWorker(&cfg, "http://127.0.0.1:1/hello")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeWorkerEnv(cfg); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(cfg.Dir, workerEnv))
	if err != nil {
		t.Fatal(err)
	}
	joined, _, err := config.Load[config.Worker](nil, strings.Split(strings.ReplaceAll(string(text), "'", ""), "\n"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if allow := joined.Shell.Allow; len(allow) != 1 || allow[0].Path != echo {
		t.Errorf("a joined worker allows %+v, want %s as takt dev's own", allow, echo)
	}
	if diff := cmp.Diff([]string{"127.0.0.1:1"}, joined.HTTP.Allow); diff != "" {
		t.Errorf("addresses that a joined worker may call (-want +got):\n%s", diff)
	}
}

// What was made is there after a restart, with the same password and the same key
// for secrets; the development configuration allows one command and no other.
func TestDevKeepsItsHouse(t *testing.T) {
	t.Parallel()
	needRedis(t)
	dir := t.TempDir()
	first, stop := dev(t, "--dev-dir", dir)
	c := signIn(t, first)
	job, err := c.CreateJob(t.Context(), client.NewJob{Type: "shellCommand", JobFields: client.JobFields{
		Name: "forbidden", Parameters: map[string]string{"argv": `["/bin/sh","-c","true"]`, "stdin": "secret"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	second, _ := dev(t, "--dev-dir", dir)
	// Tests of other packages run beside this one, so the better of two starts counts.
	if took := min(first.Took, second.Took); took > 2*time.Second {
		t.Errorf("ready after %s, want at most 2s", took)
	}
	if second.Password != first.Password {
		t.Errorf("the password changed from %q to %q", first.Password, second.Password)
	}
	c = signIn(t, second)
	run, err := c.RunJob(t.Context(), job.UUID, client.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.WaitRun(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d.State != "failed" || !strings.Contains(d.Steps[0].Reason, "worker.shell.allow") {
		t.Errorf("a command that is not allowed ended as %s: %q; want failed, with the key that allows it", d.State, d.Steps[0].Reason)
	}
	for _, secret := range []string{"admin-password", "secret-key", workerFile} {
		info, err := os.Stat(filepath.Join(dir, secret))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", secret, info, err)
		}
	}
}

// One program, one listener: the metrics of all three processes are there.
func TestDevShowsAllMetrics(t *testing.T) {
	t.Parallel()
	needRedis(t)
	address := fmt.Sprint("127.0.0.1:", testenv.Port(t))
	dev(t, "--dev-dir", t.TempDir(), "--metrics-listen", address)
	testenv.Eventually(t, 10*time.Second, func() error {
		res, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		for _, want := range []string{
			"takt_worker_slots 16\n", `takt_leases_held{role="trigger"} 16` + "\n", `takt_leases_held{role="partition"} 16` + "\n", `takt_runs_ended_total{state="failed"} 0` + "\n",
		} {
			if !strings.Contains(string(text), "\n"+want) {
				return fmt.Errorf("/metrics lacks %q", want)
			}
		}
		return nil
	})
}

func TestDemo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
	}{{"redis", nil}, {"in memory", []string{"--dev-memory"}}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if len(c.args) == 0 {
				needRedis(t)
			}
			var out, stderr bytes.Buffer
			code := Main(t.Context(), append([]string{"demo"}, c.args...), nil, Streams{Out: &out, Err: &stderr})
			if code != exitOK || strings.Count(out.String(), "hello Ada") < demoSlots+1 {
				t.Errorf("exit code %d\n%s%s", code, &out, &stderr)
			}
			if warned := strings.Contains(stderr.String(), "IN-MEMORY MODE"); warned != (len(c.args) > 0) {
				t.Errorf("warned of in-memory mode: %v", warned)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "Usage: takt"},
		{[]string{"help"}, exitOK, "Usage: takt"},
		{[]string{"nonsense"}, exitUsage, `no command "nonsense"`},
		{[]string{"version"}, exitOK, "takt "},
		{[]string{"--version"}, exitOK, "takt "},
		{[]string{"dev", "--version"}, exitOK, "takt "},
		{[]string{"dev", "--no-such-flag"}, exitError, "no-such-flag"},
		{[]string{"dev", "--help"}, exitOK, "--dev-dir"},
		{[]string{"demo", "--help"}, exitOK, "takt demo"},
	} {
		var out bytes.Buffer
		if code := Main(t.Context(), c.args, nil, Streams{Out: &out, Err: &out}); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("takt %v: exit code %d, want %d with %q:\n%s", c.args, code, c.code, c.want, &out)
		}
	}
}

// Two on one folder would share a Redis: the second is refused with a reason.
func TestDevFolderInUse(t *testing.T) {
	t.Parallel()
	needRedis(t)
	dir := t.TempDir()
	dev(t, "--dev-dir", dir)
	var log bytes.Buffer
	err := Dev(t.Context(), []string{"--dev-dir", dir, "--api-listen", "127.0.0.1:0"}, nil, Streams{Out: &log, Err: &log}, nil)
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want an error that says that the folder is in use", err)
	}
}

// takt dev on a Redis that a newer Takt wrote ends like its processes, and says why once.
func TestDevRefusesANewerTaktsRedis(t *testing.T) {
	t.Parallel()
	server, nats := testenv.Redis(t), testenv.NATS(t)
	rdb := server.Client(t)
	for key, value := range map[string]int{"takt:partitions": 16, "takt:{w}:format": 99} {
		if err := rdb.Set(t.Context(), key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	s := Streams{Out: &log, Err: &log}
	err := Dev(t.Context(), []string{"--api-listen", "127.0.0.1:0", "--dev-dir", t.TempDir(), "--redis-url", server.URL, "--nats-urls", nats.URL}, nil, s, nil)
	if err == nil || strings.Count(err.Error(), "this Redis was written by a newer Takt (format 99,") != 1 {
		t.Errorf("takt dev = %v, want once that a newer Takt wrote this Redis", err)
	}
}
