package shell

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/takt-dev/takt/pkg/executor"
)

// asWorker makes this test binary a worker that runs one command for ever.
const asWorker = "TAKT_TEST_AS_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) == "" {
		os.Exit(m.Run())
	}
	typ, err := New(scripts)
	if err == nil {
		_, err = typ.Executor.Execute(context.Background(), executor.Attempt{
			Parameters: script("echo $$; exec sleep 600"), Log: os.Stdout,
		})
	}
	_, _ = os.Stderr.WriteString(err.Error())
	os.Exit(1)
}

func TestCommandDiesWithItsWorker(t *testing.T) {
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), asWorker+"=1")
	out, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("the worker printed %q, want the pid of a running command", line)
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait()
	awaitDeath(t, pid)
}
