package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/takt-dev/takt/"

// A package imports packages of lower floors only; packages on one floor are
// strangers. A package that is not listed fails the test: choose its floor.
var floors = [][]string{
	0: {"pkg/executor", "internal/schedule", "internal/id", "internal/config", "internal/telemetry", "internal/redisconn", "internal/safehttp", "internal/lease", "internal/seal", "internal/floors",
		"internal/cbt", "internal/cbt/nbd", "internal/cbt/qmp", "internal/cbt/qcow2"},
	1: {"internal/core", "pkg/executor/excerpt", "pkg/executor/executortest", "internal/cbt/qemu", "internal/cbt/scan", "internal/cbt/volume", "internal/cbt/backup"},
	2: {},
	3: {"internal/engine", "internal/auth", "internal/store", "internal/queue", "internal/events", "internal/executor/httpreq", "internal/executor/shell", "internal/executor/natsreq", "internal/executor/tracking"},
	4: {"internal/api/native", "internal/api/zstack", "internal/api/console", "internal/worker", "internal/trigger", "internal/dispatch", "internal/doctor"},
	5: {"internal/server", "internal/embedded", "pkg/client"},
	6: {"internal/process"},
	7: {"internal/cli", "pkg/takt"},
	8: {"cmd/api", "cmd/worker", "cmd/trigger", "cmd/takt"},
}

// beside are packages that stand outside the house: tests' own, and examples.
var beside = []string{"internal/testenv", "internal/cbt/cbttest", "internal/cbt/understudy", "internal/e2e", "internal/chaos", "internal/chaos/", "examples/"}

// homes says where a technology is known. What is not listed may be used by
// nobody in the house. "" stands for the packages of a technology's home.
var homes = map[string][]string{
	"github.com/google/uuid":          {"internal/id"},
	"github.com/prometheus/":          {"internal/telemetry", "internal/process"},
	"github.com/redis/go-redis/":      {"internal/redisconn", "internal/store", "internal/queue", "internal/process", "internal/api/console"},
	"github.com/hibiken/asynq":        {"internal/queue", "internal/api/console"},
	"github.com/hibiken/asynqmon":     {"internal/api/console"},
	"github.com/nats-io/nats.go":      {"internal/events", "internal/executor/natsreq", "internal/process"},
	"github.com/nats-io/nats-server/": {"internal/embedded"},
	"github.com/alicebob/miniredis/":  {"internal/embedded"},
	"github.com/gin-gonic/gin":        {"internal/api/native", "internal/api/zstack", "internal/api/console", "internal/server"},
	"gopkg.in/yaml.v3":                {"internal/config", "internal/api/native", "internal/cli"},
	"golang.org/x/crypto/argon2":      {"internal/auth"},
	"lukechampine.com/blake3":         {"internal/cbt/scan", "internal/cbt/backup"},
	"golang.org/x/sys/":               {"internal/embedded", "internal/executor/shell"},
}

// never are imports that a floor alone would allow.
var never = []struct{ from, to, why string }{
	{"internal/engine", "internal/store", "the mains plug the store in"},
	{"internal/engine", "internal/queue", "the mains plug the queue in"},
	{"internal/engine", "internal/events", "the mains plug the events in"},
	{"internal/api/", "internal/store", "a dialect acts through the engine"},
	{"internal/api/", "internal/queue", "a dialect acts through the engine"},
	{"internal/api/", "internal/events", "a dialect acts through the engine"},
	{"internal/executor/", "internal/core", "an executor sees its contract only"},
	{"internal/worker", "internal/store", "the worker declares what it needs"},
	{"internal/trigger", "internal/store", "the trigger process declares what it needs"},
	{"internal/core", "internal/config", "nouns know no settings"},
	{"internal/core", "internal/redisconn", "nouns know no technology"},
	{"internal/core", "internal/telemetry", "nouns know no technology"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestFloors(t *testing.T) {
	t.Parallel()
	floorOf := map[string]int{}
	for n, names := range floors {
		for _, name := range names {
			floorOf[name] = n
		}
	}
	seen := map[string]bool{}
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if outside(from) {
			continue
		}
		seen[from] = true
		floor, ok := floorOf[from]
		if !ok {
			t.Errorf("%s has no floor: list it in floors_test.go", from)
			continue
		}
		for _, imported := range p.Imports {
			if to, ours := strings.CutPrefix(imported, module); ours {
				checkFloor(t, floorOf, floor, from, to)
				continue
			}
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				checkHome(t, from, imported)
			}
		}
	}
	for name := range floorOf {
		if !seen[name] {
			t.Errorf("%s is listed in floors_test.go but does not exist", name)
		}
	}
}

func checkFloor(t *testing.T, floorOf map[string]int, floor int, from, to string) {
	t.Helper()
	if to == "deployments" {
		return
	}
	if f, ok := floorOf[to]; !ok || f >= floor {
		t.Errorf("%s (floor %d) imports %s (floor %d): only lower floors may be imported", from, floor, to, f)
	}
	for _, n := range never {
		if strings.HasPrefix(from, n.from) && to == n.to {
			t.Errorf("%s imports %s: %s", from, to, n.why)
		}
	}
}

func checkHome(t *testing.T, from, imported string) {
	t.Helper()
	home := ""
	for technology := range homes {
		if strings.HasPrefix(imported, technology) && len(technology) > len(home) {
			home = technology
		}
	}
	for _, h := range homes[home] {
		if h == from {
			return
		}
	}
	t.Errorf("%s imports %s, whose home is %v", from, imported, homes[home])
}

func outside(name string) bool {
	for _, b := range beside {
		if name == b || strings.HasSuffix(b, "/") && strings.HasPrefix(name, b) {
			return true
		}
	}
	return false
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
