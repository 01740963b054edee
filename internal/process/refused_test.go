package process

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/testenv"
)

// A journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A Redis that does not let us in is told from one that is away, by a process that starts
// and by the doctor.
func TestRedisRefusesThePassword(t *testing.T) {
	t.Parallel()
	shared, server := deployment(t)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = nil // else the URL's own password is taken
	shared.Redis.URL = at.String()
	admin := server.Client(t)
	for _, command := range [][]any{
		{"CONFIG", "SET", "requirepass", "right"},
		{"ACL", "SETUSER", "mute", "on", ">pw", "~*", "-@all", "+hello", "+auth"},
	} {
		if err := admin.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rows := []struct{ name, user, password, says string }{
		{"none", "", "", "NOAUTH"},
		{"another", "", "wrong", "WRONGPASS"},
		{"of a user that is not there", "nobody", "right", "WRONGPASS"},
		{"of a user who may nothing", "mute", "pw", "NOPERM"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			cfg := shared
			cfg.Redis.Username, cfg.Redis.Password = row.user, row.password
			var log journal
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- Trigger(ctx, config.Trigger{Shared: cfg}, slog.New(slog.NewTextHandler(&log, nil))) }()
			testenv.Eventually(t, 10*time.Second, func() error {
				for _, want := range []string{"Redis refuses this process's user or password", row.says, "check redis.username and redis.password"} {
					if !strings.Contains(log.String(), want) {
						return fmt.Errorf("log lacks %q:\n%s", want, &log)
					}
				}
				return nil
			})
			cancel()
			<-ended
			if strings.Contains(log.String(), "waiting for Redis") {
				t.Errorf("log calls it an outage:\n%s", &log)
			}
			r, err := Examine(t.Context(), cfg)
			if err != nil || r.Problems != 1 {
				t.Fatalf("Examine = %+v, %v; want one problem", r.Quiet().Findings, err)
			}
			if f := r.Quiet().Findings[0]; !strings.Contains(f.Text, "refuses this user or password") || !strings.Contains(f.Text, row.says) || !strings.Contains(f.Do, "redis.password") {
				t.Errorf("finding %+v, want that the login is refused, and what to check", f)
			}
		})
	}
}
