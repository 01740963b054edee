package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/doctor"
	"github.com/takt-dev/takt/internal/testenv"
)

// consult runs takt doctor.
func consult(t *testing.T, environ []string, args ...string) (code int, out, stderr string) {
	t.Helper()
	var stdout, errs bytes.Buffer
	code = Main(t.Context(), append([]string{"doctor"}, args...), environ, Streams{Out: &stdout, Err: &errs})
	return code, stdout.String(), errs.String()
}

// The doctor finds a running takt dev by its directory, and the same house by
// settings, as it would find any.
func TestDoctorOfTaktDev(t *testing.T) {
	t.Parallel()
	needRedis(t)
	dir := t.TempDir()
	_, stop := dev(t, "--dev-dir", dir)
	testenv.Eventually(t, 20*time.Second, func() bool {
		code, out, _ := consult(t, nil, "--dev", "--dev-dir", dir, "--quiet")
		return code == exitOK && strings.Contains(out, " 0 warnings, 0 problems")
	})
	code, out, stderr := consult(t, []string{"TAKT_DEV_DIR=" + dir}, "--dev", "--json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitOK || stderr != "" {
		t.Fatalf("doctor --json = %d, %v, %s\n%s", code, err, stderr, out)
	}
	seen := map[doctor.Place]int{}
	for _, f := range report.Findings {
		seen[f.Place]++
	}
	if report.Worst != "ok" || len(report.Findings) != report.OK || len(seen) != 5 {
		t.Errorf("report = %+v, want ok in all five places", report)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := consult(t, nil, "--dev", "--dev-dir", dir); code != exitError || !strings.Contains(out, "redis does not answer") {
		t.Errorf("doctor of a house that has ended = %d\n%s\nwant a problem with Redis", code, out)
	}
}

func TestDoctorExitCodes(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name    string
		environ []string
		args    []string
		code    int
		says    string
	}{
		{"help", nil, []string{"--help"}, exitOK, "usage: takt doctor"},
		{"no such flag", nil, []string{"--frob"}, exitUsage, "--frob"},
		{"a value that cannot be", []string{"TAKT_NATS_URLS=gopher://x"}, nil, exitUsage, "nats.urls"},
		{"a URL that nobody speaks", nil, []string{"--redis-url", "gopher://x"}, exitUsage, "redis"},
		{"no takt dev there", nil, []string{"--dev", "--dev-dir", t.TempDir()}, exitUsage, "worker.env"},
		{"nothing answers", nil, []string{"--redis-url", "redis://127.0.0.1:1", "--nats-urls", "nats://127.0.0.1:1", "--quiet"}, exitError, "redis does not answer"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := consult(t, row.environ, row.args...)
			if code != row.code || !strings.Contains(out+stderr, row.says) {
				t.Errorf("takt doctor %q = %d\n%s%s\nwant %d and %q", row.args, code, out, stderr, row.code, row.says)
			}
		})
	}
}

// Real servers with wrong settings, found by the same settings as the api's.
func TestDoctorOfAPoorRedis(t *testing.T) {
	t.Parallel()
	server, nats := testenv.Redis(t), testenv.NATS(t)
	client := server.Client(t)
	for name, value := range map[string]string{"maxmemory-policy": "allkeys-lru", "min-replicas-to-write": "2"} {
		if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	code, out, _ := consult(t, []string{"TAKT_REDIS_URL=" + server.URL, "TAKT_NATS_URLS=" + nats.URL}, "--quiet")
	for _, want := range []string{"maxmemory-policy is allkeys-lru", "there is no append-only file", "min-replicas-to-write lets redis refuse writes", "there are no records of Takt", "do: set appendonly yes"} {
		if !strings.Contains(out, want) {
			t.Errorf("the doctor does not say %q", want)
		}
	}
	if code != exitError || strings.Contains(out, "  ok ") {
		t.Errorf("doctor --quiet = %d\n%s", code, out)
	}
}
