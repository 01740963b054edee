package process

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/config"
)

// What is wrong with networks and patterns shows with --print-config already, all of it
// at once and by its key.
func TestSettingsAreCheckedBeforeAnythingIsReached(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		env  []string
		want []string // in the error; none: it is right
	}{
		{"nothing allowed", nil, nil},
		{"right", []string{"TAKT_WORKER_HTTP_ALLOW=10.0.0.0/8,hooks.internal:80", "TAKT_WORKER_SHELL_ALLOW=[{path: /bin/echo, args: [a.*]}]"}, nil},
		{"a network with a typing error", []string{"TAKT_WORKER_HTTP_ALLOW=10.0.0.0/88"}, []string{`worker.http.allow entry "10.0.0.0/88"`}},
		{"a pattern that is none", []string{`TAKT_WORKER_SHELL_ALLOW=[{"path":"/bin/echo","args":["(a"]}]`}, []string{"worker.shell.allow entry 1", "missing closing )"}},
		{"several", []string{"TAKT_WORKER_HTTP_ALLOW=x", `TAKT_WORKER_SHELL_ALLOW=[{"path":"/bin/echo","args":["[a"]}]`, "TAKT_WORKER_SLOTS=20000"},
			[]string{"worker.http.allow", "worker.shell.allow", "worker.slots"}},
	} {
		_, exit, err := config.Load([]string{"--print-config"}, row.env, io.Discard, CheckWorker)
		if len(row.want) == 0 {
			if err != nil || !exit {
				t.Errorf("%s: got exit %v, error %v; want the settings printed", row.name, exit, err)
			}
			continue
		}
		for _, want := range row.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %v, want one with %q", row.name, err, want)
			}
		}
	}
	if err := CheckAPI(config.API{APISettings: config.APISettings{ZStack: config.ZStack{WebHookAllow: []string{"x"}}}}); err == nil || !strings.Contains(err.Error(), "api.zstack.webHookAllow") {
		t.Errorf("web hooks: got error %v, want one that names its key", err)
	}
	if err := CheckDev(config.Dev{Worker: config.WorkerSettings{HTTP: config.HTTP{Allow: []string{"x"}}}}); err == nil || !strings.Contains(err.Error(), "worker.http.allow") {
		t.Errorf("takt dev: got error %v, want one that names its key", err)
	}
}

func TestFirstAccountNamesItsKey(t *testing.T) {
	t.Parallel()
	err := adminSetting(auth.CheckPassword("password", "seven.7"))
	if want := "api.admin.password: password must have at least 8 characters"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %q", err, want)
	}
	if err := adminSetting(io.EOF); !errors.Is(err, io.EOF) {
		t.Errorf("got error %v, want what is no fault of a setting as it was", err)
	}
}
