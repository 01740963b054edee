package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/takt-dev/takt/internal/telemetry"
)

func TestLoggerFormatsAndLevels(t *testing.T) {
	rows := []struct{ name, level, format, want, not string }{
		{"defaults", "", "", `level=INFO msg=seen run=r1`, "level=DEBUG"},
		{"debug text", "debug", "text", `level=DEBUG msg=hidden`, "\x00"},
		{"error json", "error", "json", `"level":"ERROR","msg":"broken"`, "INFO"},
		{"warn json", "WARN", "JSON", `"level":"WARN"`, "INFO"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			log, err := telemetry.NewLogger(&out, row.level, row.format)
			if err != nil {
				t.Fatalf("NewLogger: %v", err)
			}
			log.Debug("hidden")
			log.Info("seen", "run", "r1")
			log.Warn("odd")
			log.Error("broken")
			if text := out.String(); !strings.Contains(text, row.want) || strings.Contains(text, row.not) {
				t.Errorf("log = %s\nwant %q and not %q", text, row.want, row.not)
			}
			if strings.EqualFold(row.format, "json") && !json.Valid(bytes.Split(out.Bytes(), []byte("\n"))[0]) {
				t.Errorf("a line is no JSON: %s", out.String())
			}
		})
	}
	for _, bad := range [][2]string{{"loud", ""}, {"", "xml"}} {
		if _, err := telemetry.NewLogger(io.Discard, bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("NewLogger(%q): %v, want an error that says what is right", bad, err)
		}
	}
}

func TestMetricsAreServedByName(t *testing.T) {
	registry := telemetry.NewRegistry()
	m := telemetry.NewMetrics(registry)
	m.Requests.WithLabelValues("/api/v1/runs/:id", "GET", "200").Inc()
	m.RequestSeconds.WithLabelValues("/api/v1/runs/:id").Observe(0.0002)
	m.AttemptSeconds.WithLabelValues("noop", "succeeded").Observe(0.01)
	m.StaleDispatches.Inc()
	m.SlotsUsed.Set(3)
	m.SlotsTotal.Set(16)
	m.FiresPublished.Add(5)
	m.FireLatenessSeconds.Observe(0.001)
	m.FiresDecided.WithLabelValues("started").Inc()
	m.LeasesHeld.WithLabelValues("timer").Set(4)
	m.TimersFired.WithLabelValues("retry").Inc()
	m.Repairs.WithLabelValues("sent").Inc()

	text := scrape(t, registry)
	for _, want := range []string{
		`takt_http_requests_total{method="GET",route="/api/v1/runs/:id",status="200"} 1`,
		`takt_http_request_seconds_bucket{route="/api/v1/runs/:id",le="0.00025"} 1`,
		`takt_attempt_seconds_count{state="succeeded",type="noop"} 1`,
		`takt_stale_dispatches_total 1`,
		`takt_worker_slots_used 3`,
		`takt_worker_slots 16`,
		`takt_fires_published_total 5`,
		`takt_fire_lateness_seconds_count 1`,
		`takt_fires_decided_total{decision="started"} 1`,
		`takt_leases_held{role="timer"} 4`,
		`takt_timers_fired_total{kind="retry"} 1`,
		`takt_repairs_total{what="sent"} 1`,
		`takt_repairs_total{what="lost"} 0`, // before the first, so that the first shows as a rise
		`takt_fires_decided_total{decision="failed"} 0`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

// Every field of Metrics is registered, also one that is added later.
func TestEveryMetricIsRegistered(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := reflect.ValueOf(telemetry.NewMetrics(registry)).Elem()
	for i := range m.NumField() {
		name := m.Type().Field(i).Name
		collector, ok := m.Field(i).Interface().(prometheus.Collector)
		if !ok || m.Field(i).IsNil() {
			t.Errorf("%s is not made", name)
			continue
		}
		if err := registry.Register(collector); err == nil {
			t.Errorf("%s is not registered by NewMetrics", name)
		}
	}
}

// scrape runs a Server for one request.
func scrape(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	server, err := telemetry.Listen("127.0.0.1:0", registry, map[string]http.HandlerFunc{
		"GET /beside": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	answer, err := http.Get("http://" + server.Addr() + "/metrics")
	if err != nil {
		t.Fatalf("GET /metrics: %v", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET /metrics = %s, %v", answer.Status, err)
	}
	beside, err := http.Get("http://" + server.Addr() + "/beside")
	if err != nil {
		t.Fatal(err)
	}
	beside.Body.Close()
	if beside.StatusCode != http.StatusAccepted {
		t.Errorf("GET /beside = %s, want 202", beside.Status)
	}
	other, err := http.Get("http://" + server.Addr() + "/")
	if err != nil {
		t.Fatal(err)
	}
	other.Body.Close()
	if other.StatusCode != http.StatusNotFound {
		t.Errorf("GET / = %s, want 404", other.Status)
	}

	if _, err := telemetry.Listen(server.Addr(), registry, nil); err == nil || !strings.Contains(err.Error(), "listen for metrics") {
		t.Errorf("Listen on a taken address: %v, want an error", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run after its context ended: %v", err)
	}
	return string(text)
}
