package embedded_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/config"
)

// unit reads the settings of a service in deployments/systemd.
func unit(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployments, "systemd", "takt-"+name+".service"))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = value
		}
	}
	return settings
}

// The units start each process with the file beside them, whose settings it takes, and
// give it as much time to stop as Compose does.
func TestUnitsStartWhatTakesTheirFile(t *testing.T) {
	file := filepath.Join(deployments, "systemd", "takt.yaml")
	load := map[string]func() error{
		"api": func() error {
			_, _, err := config.Load[config.API]([]string{"--config", file}, nil, io.Discard)
			return err
		},
		"worker": func() error {
			_, _, err := config.Load[config.Worker]([]string{"--config", file}, nil, io.Discard)
			return err
		},
		"trigger": func() error {
			_, _, err := config.Load[config.Trigger]([]string{"--config", file}, nil, io.Discard)
			return err
		},
	}
	compose := readCompose(t)
	for name, process := range load {
		if err := process(); err != nil {
			t.Errorf("takt.yaml for %s: %v", name, err)
		}
		u := unit(t, name)
		if got, want := u["ExecStart"], "/opt/takt/bin/"+name+" --config /etc/takt/takt.yaml"; got != want {
			t.Errorf("%s: starts %q, want %q", name, got, want)
		}
		if limit := compose.Services[name].StopGracePeriod; limit != "" && u["TimeoutStopSec"]+"s" != limit {
			t.Errorf("%s is killed after %ss, in Compose after %s", name, u["TimeoutStopSec"], limit)
		}
		if u["User"] == "" || u["Restart"] != "always" || u["NoNewPrivileges"] != "yes" {
			t.Errorf("%s: runs as %q, restarts %q, with more privileges: %q", name, u["User"], u["Restart"], u["NoNewPrivileges"])
		}
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed, as on a machine without systemd")
	}
	// Programs that are there, so that nothing but the units themselves is complained of.
	root := t.TempDir()
	for _, name := range []string{"api", "worker", "trigger"} {
		text, err := os.ReadFile(filepath.Join(deployments, "systemd", "takt-"+name+".service"))
		if err != nil {
			t.Fatal(err)
		}
		own := strings.ReplaceAll(string(text), "/opt/takt/bin/"+name, "/bin/true")
		path := filepath.Join(root, "takt-"+name+".service")
		if err := os.WriteFile(path, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "takt-"+name+".service") {
				t.Errorf("%s: %s", name, strings.TrimSpace(line))
			}
		}
	}
}
