package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// cronRun is what a user of the command sees.
type cronRun struct {
	Code           int
	Stdout, Stderr string
}

func runCron(t testing.TB, stdin string, args ...string) cronRun {
	t.Helper()
	var stdout, stderr strings.Builder
	code := Cron(context.Background(), args, strings.NewReader(stdin), &stdout, &stderr)
	return cronRun{code, stdout.String(), stderr.String()}
}

// TestCronReproducesVectors feeds the first four columns of every table and expects its fifth.
func TestCronReproducesVectors(t *testing.T) {
	tables := map[string]string{"quartz-hand.tsv": "quartz", "quartz-random.tsv": "quartz", "quartz-dst.tsv": "quartz", "unix-hand.tsv": "unix"}
	for table, dialect := range tables {
		t.Run(table, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("..", "schedule", "testdata", table))
			if err != nil {
				t.Fatal(err)
			}
			var questions, want []string
			for line := range strings.Lines(string(data)) {
				columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
				if strings.HasPrefix(line, "#") {
					questions = append(questions, columns[0])
					continue
				}
				questions = append(questions, strings.Join(columns[:4], "\t"))
				want = append(want, strings.Join(columns[:5], "\t"))
			}
			if len(want) < 60 {
				t.Fatalf("%d rows, want the whole table", len(want))
			}
			run := runCron(t, strings.Join(questions, "\n"), "--dialect", dialect)
			if run.Code != 0 || run.Stderr != "" {
				t.Errorf("exit code %d, stderr %q, want 0 and none", run.Code, run.Stderr)
			}
			got := strings.Split(strings.TrimSuffix(run.Stdout, "\n"), "\n")
			for i, line := range got {
				if before, _, rejected := strings.Cut(line, "\tREJECT "); rejected {
					got[i] = before + "\tREJECT"
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCronArgument(t *testing.T) {
	const hint = "Run 'takt cron -h' for usage.\n"
	tests := []struct {
		name string
		args []string
		want cronRun
	}{
		{
			"quartz is the default",
			[]string{"--from", "2026-01-01T00:00:00Z", "-n", "2", "0 0 12 ? * 2"},
			cronRun{0, "0 0 12 ? * 2\tUTC\t2026-01-01T00:00:00Z\t2\t2026-01-05T12:00:00+00:00 2026-01-12T12:00:00+00:00\n", ""},
		},
		{
			"flags after the expression",
			[]string{"30 2 * * *", "--dialect=unix", "--zone=Europe/Berlin", "--from=2026-03-28T12:00:00Z", "-n=1", "--gap=shift"},
			cronRun{0, "30 2 * * *\tEurope/Berlin\t2026-03-28T12:00:00Z\t1\t2026-03-29T03:30:00+02:00\n", ""},
		},
		{
			"overlap",
			[]string{"--overlap", "both", "--zone", "Europe/Berlin", "--from", "2026-10-24T12:00:00Z", "-n", "2", "0 30 2 * * ?"},
			cronRun{0, "0 30 2 * * ?\tEurope/Berlin\t2026-10-24T12:00:00Z\t2\t2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00\n", ""},
		},
		{
			"never",
			[]string{"--from", "2026-01-01T00:00:00Z", "0 0 0 30 2 ?"},
			cronRun{0, "0 0 0 30 2 ?\tUTC\t2026-01-01T00:00:00Z\t5\tnull\n", ""},
		},
		{
			"never again",
			[]string{"--from", "2026-01-01T00:00:00Z", "-n", "3", "0 0 0 1 2 ? 2026"},
			cronRun{0, "0 0 0 1 2 ? 2026\tUTC\t2026-01-01T00:00:00Z\t3\t2026-02-01T00:00:00+00:00 null\n", ""},
		},
		{
			"json",
			[]string{"--json", "--from", "2026-01-01T00:00:00Z", "-n", "3", "0 0 0 1 2 ? 2026"},
			cronRun{0, `{"expression":"0 0 0 1 2 ? 2026","zone":"UTC","from":"2026-01-01T00:00:00Z","n":3,"fires":["2026-02-01T00:00:00+00:00"],"exhausted":true}` + "\n", ""},
		},
		{
			"json reject",
			[]string{"--json", "--from", "2026-01-01T00:00:00Z", "0 0 25 * * ?"},
			cronRun{
				2,
				`{"expression":"0 0 25 * * ?","zone":"UTC","from":"2026-01-01T00:00:00Z","fires":[],"exhausted":false,"reject":"hour field \"25\": 25 is out of range; use 0 to 23"}` + "\n",
				"takt cron: hour field \"25\": 25 is out of range; use 0 to 23\n" + hint,
			},
		},
		{
			"reject",
			[]string{"--from", "2026-01-01T00:00:00Z", "0 0 25 * * ?"},
			cronRun{
				2,
				"0 0 25 * * ?\tUTC\t2026-01-01T00:00:00Z\t5\tREJECT hour field \"25\": 25 is out of range; use 0 to 23\n",
				"takt cron: hour field \"25\": 25 is out of range; use 0 to 23\n" + hint,
			},
		},
		{"unquoted", []string{"0", "0", "12"}, cronRun{2, "", "takt cron: unexpected \"0\" after the expression; put the expression in quotes\n" + hint}},
		{"empty", []string{" "}, cronRun{2, "", "takt cron: the expression is empty\n" + hint}},
		{"unknown flag", []string{"--tz", "UTC"}, cronRun{2, "", "takt cron: flag provided but not defined: -tz\n" + hint}},
		{"wrong dialect", []string{"--dialect", "vixie"}, cronRun{2, "", "takt cron: dialect field \"vixie\": must be quartz or unix\n" + hint}},
		{"wrong policy", []string{"--gap", "jump"}, cronRun{2, "", "takt cron: gap field \"jump\": must be skip, fire_at_transition or shift\n" + hint}},
		{"help", []string{"-h"}, cronRun{0, cronUsage, ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, runCron(t, "", test.args...)); diff != "" {
				t.Errorf("takt cron %q (-want +got):\n%s", test.args, diff)
			}
		})
	}
}

// TestCronExampleWorks runs the example of the usage text.
func TestCronExampleWorks(t *testing.T) {
	_, example, ok := strings.Cut(cronUsage, "example: takt cron ")
	if !ok {
		t.Fatal("the usage has no example")
	}
	flags, expression, _ := strings.Cut(strings.TrimSpace(example), " '")
	run := runCron(t, "", append(strings.Fields(flags), strings.TrimSuffix(expression, "'"))...)
	if run.Code != 0 || strings.Count(run.Stdout, "T02:30:00+0") != 3 {
		t.Errorf("the usage's example printed %+v, want three fires at 02:30", run)
	}
}

func TestCronLines(t *testing.T) {
	stdin := strings.Join([]string{
		"# a comment",
		"",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1\tand what was expected\r",
		"0 25 * * *\tUTC\t2026-01-01T00:00:00Z\t1",
		"0 12 * * *\tMars/Olympus\t2026-01-01T00:00:00Z\t1",
		"0 12 * * *\tUTC\ttomorrow\t1",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\tmany",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1001",
		"0 12 * * *\tUTC",
		"0 13 * * *\tUTC\t2026-01-01T00:00:00Z\t1",
	}, "\n")
	want := []string{
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1\t2026-01-01T12:00:00+00:00",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1\t2026-01-01T12:00:00+00:00",
		"0 25 * * *\tUTC\t2026-01-01T00:00:00Z\t1\tREJECT hour field \"25\": 25 is out of range; use 0 to 23",
		"0 12 * * *\tMars/Olympus\t2026-01-01T00:00:00Z\t1\tREJECT zone field \"Mars/Olympus\": is not a zone of the IANA database; use a name like Europe/Berlin, or UTC",
		"0 12 * * *\tUTC\ttomorrow\t1\tREJECT from field \"tomorrow\": must be RFC 3339, like 2026-01-31T08:00:00Z",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\tmany\tREJECT n field \"many\": must be 1 to 1000",
		"0 12 * * *\tUTC\t2026-01-01T00:00:00Z\t1001\tREJECT n field \"1001\": must be 1 to 1000",
		"0 12 * * *\tUTC\t\t\tREJECT the line has 2 tab-separated columns; it needs 4: expression, zone, from, n",
		"0 13 * * *\tUTC\t2026-01-01T00:00:00Z\t1\t2026-01-01T13:00:00+00:00",
	}
	run := runCron(t, stdin, "--dialect", "unix")
	if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(run.Stdout, "\n"), "\n")); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if run.Code != 0 || run.Stderr != "" {
		t.Errorf("exit code %d, stderr %q, want 0 and none", run.Code, run.Stderr)
	}
}

func TestCronFailures(t *testing.T) {
	const line = "0 0 12 * * ?\tUTC\t2026-01-01T00:00:00Z\t1\n"
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	broken := errors.New("broken pipe")
	tests := []struct {
		name   string
		ctx    context.Context
		stdin  io.Reader
		stdout io.Writer
		want   string
	}{
		{"canceled", canceled, strings.NewReader(line), io.Discard, "takt cron: context canceled\n"},
		{"stdin", context.Background(), iotest.ErrReader(broken), io.Discard, "takt cron: read lines: broken pipe\n"},
		{"stdout", context.Background(), strings.NewReader(line), brokenWriter{broken}, "takt cron: broken pipe\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr strings.Builder
			code := Cron(test.ctx, nil, test.stdin, test.stdout, &stderr)
			if code != 1 || stderr.String() != test.want {
				t.Errorf("exit code %d, stderr %q, want 1 and %q", code, stderr.String(), test.want)
			}
		})
	}
}

// brokenWriter fails every write.
type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
