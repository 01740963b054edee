package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// The worker of examples/greeter is built and run as its page says: its type is
// accepted once it was announced, refused before, and executed.
func TestExampleWorker(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.roles()
	greet := core.Job{Meta: core.Meta{Name: "greet"}, Type: "greet", Enabled: true, Parameters: map[string]string{"name": "Ada"}}
	if _, err := h.eng.CreateJob(h.ctx, greet); !core.Is(err, core.Invalid) {
		t.Fatalf("before any worker announced the type: got %v, want it refused", err)
	}
	bin := filepath.Join(t.TempDir(), "greeter")
	if out, err := exec.Command("go", "build", "-o", bin, "../../examples/greeter").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "--redis-url", h.redis.URL, "--nats-urls", h.nats.URL, "--worker-host", "example")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	h.awaitWorkers(1)

	var j core.Job
	testenv.Eventually(t, 5*time.Second, func() (err error) {
		j, err = h.eng.CreateJob(h.ctx, greet)
		return err
	})
	r, err := h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{})
	if err != nil {
		t.Fatal(err)
	}
	r = h.await(r.ID, 10*time.Second)
	steps, err := h.eng.Steps(h.ctx, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := steps[0].Attempts[0].Output; r.State != core.RunSucceeded || got != "hello Ada" {
		t.Errorf("run ended as %s with output %q", r.State, got)
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		pieces, err := h.eng.Log(h.ctx, r.ID, 0, 1, "")
		if err == nil && (len(pieces) == 0 || pieces[0].Text != "attempt 1: thinking of Ada\n") {
			err = fmt.Errorf("live log is %v", pieces)
		}
		return err
	})

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM: %v, want a clean end", err)
	}
	testenv.Eventually(t, 5*time.Second, func() error {
		f, err := h.store.Fleet(h.ctx)
		if err == nil && len(f.Workers) > 0 {
			err = fmt.Errorf("the stopped worker is still listed")
		}
		return err
	})
}
