package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// A witness is a file to which every execution of a job of type mark adds a line as
// it begins: what was really executed, whatever Redis says of it.
type witness struct{ path string }

// An execution is a line of a witness.
type execution struct{ host, attempt, key string }

func newWitness(t testing.TB) witness {
	return witness{filepath.Join(t.TempDir(), "witness")}
}

func (w witness) read(t testing.TB) (all []execution) {
	t.Helper()
	text, err := os.ReadFile(w.path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e execution
		if _, err := fmt.Sscan(line, &e.host, &e.attempt, &e.key); err != nil {
			t.Fatalf("witness says %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// mark is the type of jobs that a worker process with a witness executes.
var mark = marking("", "", 0)

// marking makes the type: it writes a line and works for a while.
func marking(path, host string, work time.Duration) executor.Type {
	return executor.Type{Spec: executor.Spec{Type: "mark"}, Executor: executor.Func(func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return executor.Result{}, err
		}
		_, err = fmt.Fprintf(f, "%s %s %s\n", host, a.ID, a.Key) // one write: lines do not mix
		if err = errors.Join(err, f.Close()); err != nil {
			return executor.Result{}, err
		}
		select {
		case <-time.After(work):
			return executor.Result{Output: a.Job}, nil
		case <-ctx.Done():
			return executor.Result{}, context.Cause(ctx)
		}
	})}
}
