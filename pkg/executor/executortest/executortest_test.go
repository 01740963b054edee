package executortest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

// greet is a well-behaved executor: it greets, fails for nobody, and waits for
// ever for the one who waits.
func greet(ctx context.Context, a executor.Attempt) (executor.Result, error) {
	fmt.Fprintln(a.Log, "greeting", a.Parameters["name"])
	switch a.Parameters["name"] {
	case "":
		return executor.Result{}, executor.Permanent(errors.New("no name"))
	case "nobody":
		return executor.Result{}, errors.New("nobody is there")
	case "waiter":
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return executor.Result{}, context.Cause(ctx)
	}
	return executor.Result{Output: "hello"}, nil
}

func harness(execute executor.Func) Harness {
	return Harness{
		Type: executor.Type{
			Spec: executor.Spec{Type: "greet", Parameters: []executor.Parameter{
				{Name: "name", Kind: executor.String, Required: true},
				{Name: "times", Kind: executor.Integer, Default: "1"},
			}},
			Executor: execute,
		},
		Success: map[string]string{"name": "world"},
		Failure: map[string]string{"name": "nobody"},
		Blocking: func(testing.TB) (map[string]string, <-chan struct{}) {
			return map[string]string{"name": "waiter"}, nil
		},
		Secrets: []string{"hunter2"},
	}
}

func TestWellBehavedExecutorPasses(t *testing.T) {
	Run(t, harness(greet))
}

func TestMisbehaviourIsFound(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	tests := []struct {
		name    string
		check   func(testing.TB, Harness)
		spoil   func(h *Harness)
		execute executor.Func
		want    string
	}{
		{name: "type without a name", check: checkSpec, want: "names no type",
			spoil: func(h *Harness) { h.Type.Spec.Type = "" }},
		{name: "parameter named twice", check: checkSpec, want: `"name" has no name or one that is taken`,
			spoil: func(h *Harness) {
				h.Type.Spec.Parameters = append(h.Type.Spec.Parameters, executor.Parameter{Name: "name"})
			}},
		{name: "malformed default", check: checkSpec, want: "default of times is not valid",
			spoil: func(h *Harness) { h.Type.Spec.Parameters[1].Default = "once" }},
		{name: "spec refuses the sample", check: checkSpec, want: "refuses the Success parameters",
			spoil: func(h *Harness) { h.Success = map[string]string{"nom": "monde"} }},
		{name: "spec that changes on the way", check: checkSpec, want: "after a JSON round trip",
			spoil: func(h *Harness) { h.Type.Spec.Parameters[1].Enum = []string{} }},
		{name: "fails with valid parameters", check: checkConcurrent, want: "at once = down, want no error",
			execute: func(context.Context, executor.Attempt) (executor.Result, error) {
				return executor.Result{}, errors.New("down")
			}},
		{name: "failure hidden", check: checkFailure, want: "without an error",
			execute: func(context.Context, executor.Attempt) (executor.Result, error) {
				return executor.Result{}, nil
			}},
		{name: "panic without parameters", check: checkNoParameters, want: "Execute panicked",
			execute: func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
				if a.Parameters == nil {
					panic("no map")
				}
				return greet(ctx, a)
			}},
		{name: "parameters changed", check: checkSuccess, want: "changed the map",
			execute: func(_ context.Context, a executor.Attempt) (executor.Result, error) {
				a.Parameters["name"] = "mine"
				return executor.Result{}, nil
			}},
		{name: "deaf to cancel", check: checkCancel, want: "has not returned 2s after the end of its context: canceled",
			execute: func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
				if a.Parameters["name"] == "waiter" {
					<-release
				}
				return executor.Result{}, nil
			}},
		{name: "success after cancel", check: checkCancel, want: "returned no error although its context ended",
			execute: func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
				_, err := greet(ctx, a)
				if ctx.Err() != nil {
					err = nil
				}
				return executor.Result{}, err
			}},
		{name: "release made permanent", check: checkRelease, want: "as permanent: released",
			execute: func(ctx context.Context, a executor.Attempt) (executor.Result, error) {
				r, err := greet(ctx, a)
				return r, executor.Permanent(err)
			}},
		{name: "ends by itself", check: checkDeadline, want: "ended by itself",
			spoil: func(h *Harness) {
				h.Blocking = func(testing.TB) (map[string]string, <-chan struct{}) {
					return h.Success, make(chan struct{})
				}
			}},
		{name: "goroutine left", check: checkSuccess, want: "is still there",
			execute: func(context.Context, executor.Attempt) (executor.Result, error) {
				go func() { <-release }()
				return executor.Result{}, nil
			}},
		{name: "secret in the log", check: checkSuccess, want: "the log shows the secret",
			execute: func(_ context.Context, a executor.Attempt) (executor.Result, error) {
				_, err := io.WriteString(a.Log, "token hunter2\n")
				return executor.Result{}, err
			}},
		{name: "secret in the error", check: checkFailure, want: "the error shows the secret",
			execute: func(_ context.Context, a executor.Attempt) (executor.Result, error) {
				if a.Parameters["name"] == "nobody" {
					return executor.Result{}, errors.New("bad token hunter2")
				}
				return executor.Result{}, nil
			}},
		{name: "output too long", check: checkSuccess, want: "would be cut",
			execute: func(context.Context, executor.Attempt) (executor.Result, error) {
				return executor.Result{Output: strings.Repeat("x", executor.MaxOutputBytes+1)}, nil
			}},
		{name: "output not text", check: checkSuccess, want: "not UTF-8",
			execute: func(context.Context, executor.Attempt) (executor.Result, error) {
				return executor.Result{Output: "\xff"}, nil
			}},
		{name: "log used after the end", check: checkSuccess, want: "after Execute had returned",
			execute: func(_ context.Context, a executor.Attempt) (executor.Result, error) {
				go func() {
					for range 1000 {
						fmt.Fprintln(a.Log, "late")
						runtime.Gosched()
					}
				}()
				return executor.Result{}, nil
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			execute := tt.execute
			if execute == nil {
				execute = greet
			}
			h := harness(execute)
			if tt.spoil != nil {
				tt.spoil(&h)
			}
			if got := observe(t, tt.check, h); !strings.Contains(got, tt.want) {
				t.Errorf("the suite says %q, want something with %q", got, tt.want)
			}
		})
	}
}

// observe runs one check as a test of its own and returns its complaints.
func observe(t *testing.T, check func(testing.TB, Harness), h Harness) string {
	t.Helper()
	defer func(limit time.Duration) { settleLimit = limit }(settleLimit)
	settleLimit = 200 * time.Millisecond
	o := &observer{TB: t}
	done := make(chan struct{})
	go func() { // Fatalf ends the goroutine that calls it
		defer close(done)
		check(o, h)
	}()
	<-done
	for _, f := range o.cleanups {
		f()
	}
	return o.String()
}

// An observer stands in for the TB of a test that is meant to fail.
type observer struct {
	testing.TB
	mu       sync.Mutex
	text     strings.Builder
	cleanups []func()
}

func (o *observer) Helper()          {}
func (o *observer) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func (o *observer) Errorf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(&o.text, format+"\n", args...)
}

func (o *observer) Error(args ...any) { o.Errorf("%s", fmt.Sprint(args...)) }

func (o *observer) Fatalf(format string, args ...any) {
	o.Errorf(format, args...)
	runtime.Goexit()
}

func (o *observer) Fatal(args ...any) { o.Fatalf("%s", fmt.Sprint(args...)) }

func (o *observer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
