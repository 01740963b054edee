package process

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"github.com/takt-dev/takt/internal/telemetry"
)

// metricNames are all that a Takt process shows of its own.
func metricNames() (names []string) {
	all := make(chan *prometheus.Desc, 100)
	m := reflect.ValueOf(telemetry.NewMetrics(prometheus.NewRegistry())).Elem()
	for i := range m.NumField() {
		m.Field(i).Interface().(prometheus.Collector).Describe(all)
	}
	(&counters{}).Describe(all)
	close(all)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range all {
		names = append(names, name.FindStringSubmatch(d.String())[1])
	}
	return names
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An alert on a metric that is not there never fires, and nobody is told.
func TestAlertsAskForMetricsThatExist(t *testing.T) {
	t.Parallel()
	names := metricNames()
	for _, path := range []string{"../../deployments/prometheus/takt.rules.yml", "../../docs/operate.md"} {
		asked := regexp.MustCompile(`\btakt_[a-z_]+[a-z]`).FindAllString(readText(t, path), -1)
		if len(asked) == 0 {
			t.Errorf("%s names no metric", path)
		}
		for _, name := range asked {
			if !slices.Contains(names, strings.TrimSuffix(name, "_bucket")) {
				t.Errorf("%s asks for %s, which no process shows", path, name)
			}
		}
	}
}

// The alerts that are shipped are those that the operator reads about, and no other.
func TestAlertsAreDescribed(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      struct{ Severity string }
				Annotations struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readText(t, "../../deployments/prometheus/takt.rules.yml")), &file); err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Expr == "" || r.Labels.Severity == "" || r.Annotations.Summary == "" || r.Annotations.Description == "" {
				t.Errorf("%s lacks an expression, a severity, a summary or a description", r.Alert)
			}
			rules = append(rules, r.Alert)
		}
	}
	var described []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(Takt[A-Za-z]+)` \\|").FindAllStringSubmatch(readText(t, "../../docs/operate.md"), -1) {
		described = append(described, row[1])
	}
	slices.Sort(rules)
	slices.Sort(described)
	if !slices.Equal(rules, described) || len(rules) == 0 {
		t.Errorf("docs/operate.md describes %q, want %q", described, rules)
	}
}
