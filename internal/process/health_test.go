package process

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/config"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// Every process says on its metrics listener whether it lives and whether it can work:
// a worker goes on without NATS, a trigger process does not, and nobody without Redis.
func TestEveryProcessAnswersProbes(t *testing.T) {
	redis, nats := testenv.Redis(t), testenv.NATS(t)
	if _, err := store.Open(t.Context(), redis.Client(t), store.Options{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, name := range []string{"worker", "trigger"} {
		at[name] = fmt.Sprintf("127.0.0.1:%d", testenv.Port(t))
		b, err := open(t.Context(), NewProgram(), name, config.Shared{
			Redis: config.Redis{URL: redis.URL}, NATS: config.NATS{URLs: []string{nats.URL}}, Metrics: config.Metrics{Listen: at[name]},
		}, slog.New(slog.DiscardHandler), opening{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.close)
		if err := b.serveMetrics(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantProbe := func(when, name, path, want string) {
		t.Helper()
		testenv.Eventually(t, 10*time.Second, func() error {
			answer, err := http.Get("http://" + at[name] + path)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				return err
			}
			if got := fmt.Sprintf("%d %s", answer.StatusCode, body); got != want {
				return fmt.Errorf("%s, %s of a %s: got %s, want %s", when, path, name, got, want)
			}
			return nil
		})
	}
	const all = `200 {"dependencies":{"nats":"ok","redis":"ok"},"status":"ok"}`
	wantProbe("with everything", "worker", "/readyz", all)
	wantProbe("with everything", "trigger", "/readyz", all)
	nats.Stop()
	wantProbe("without NATS", "worker", "/readyz", `200 {"dependencies":{"nats":"degraded","redis":"ok"},"status":"degraded"}`)
	wantProbe("without NATS", "trigger", "/readyz", `503 {"dependencies":{"nats":"unavailable","redis":"ok"},"status":"unavailable"}`)
	redis.Stop()
	wantProbe("without Redis", "worker", "/readyz", `503 {"dependencies":{"nats":"degraded","redis":"unavailable"},"status":"unavailable"}`)
	wantProbe("without Redis", "worker", "/healthz", `200 {"status":"ok"}`)
}
