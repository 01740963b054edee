// Package executortest checks that an executor keeps the rules of package
// executor. A test of an executor hands it a Harness:
//
//	func TestConformance(t *testing.T) {
//		executortest.Run(t, executortest.Harness{
//			Type:    myjob.New(),
//			Success: map[string]string{"name": "world"},
//			Failure: map[string]string{"name": "nobody"},
//			Blocking: func(testing.TB) (map[string]string, <-chan struct{}) {
//				return map[string]string{"name": "the one who waits"}, nil
//			},
//		})
//	}
//
// The suite looks at the goroutines and, on Linux, at the child processes of the
// whole test process, so nothing else may run beside it: no t.Parallel. Run it
// with -race, which is what finds unsafe use of memory in concurrent calls.
package executortest

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/pkg/executor"
)

const (
	// interruptLimit is how soon Execute returns after its context has ended.
	interruptLimit = 2 * time.Second
	// executeLimit is how long an attempt with harmless parameters may take.
	executeLimit = 30 * time.Second
	// poll is the distance between two looks at something that reports nothing.
	poll = 5 * time.Millisecond
)

// settleLimit is how soon what an attempt used is gone. The suite's own tests,
// in which it never is, shorten it.
var settleLimit = 5 * time.Second

// A Harness is what the suite needs to know about an executor.
type Harness struct {
	// Type is the executor under test and its spec.
	Type executor.Type
	// Success are valid parameters with which Execute soon succeeds, again and
	// again and several times at once.
	Success map[string]string
	// Failure are parameters with which Execute soon fails.
	Failure map[string]string
	// Blocking returns valid parameters with which Execute works on until its
	// context ends. started, if not nil, is closed or sent to when that attempt is
	// at work; without it the suite waits for the first log output or a moment.
	Blocking func(t testing.TB) (parameters map[string]string, started <-chan struct{})
	// Idle, if set, closes what the executor keeps on purpose between attempts,
	// such as idle connections, before the suite looks for leftovers.
	Idle func()
	// Secrets are texts within the parameters above that must show up neither in
	// the log nor in an error.
	Secrets []string
}

var checks = []struct {
	name string
	run  func(t testing.TB, h Harness)
}{
	{"Spec", checkSpec},
	{"Success", checkSuccess},
	{"Failure", checkFailure},
	{"NoParameters", checkNoParameters},
	{"EndedContext", checkEndedContext},
	{"Cancel", checkCancel},
	{"Release", checkRelease},
	{"Deadline", checkDeadline},
	{"Concurrent", checkConcurrent},
}

// Run checks the executor of h, one subtest per rule.
func Run(t *testing.T, h Harness) {
	t.Helper()
	adoptOrphans(t)
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
}

// An outcome is how one call of Execute ended.
type outcome struct {
	result executor.Result
	err    error
	log    *log
	fault  string // a rule that the call itself broke
}

var attempts atomic.Int64

// begin calls Execute in a goroutine of its own. The channel delivers once.
func (h Harness) begin(ctx context.Context, parameters map[string]string) (*log, <-chan outcome) {
	n := attempts.Add(1)
	l := newLog()
	deadline, _ := ctx.Deadline()
	a := executor.Attempt{
		ID:         fmt.Sprintf("run:step%d:1-00", n),
		Key:        fmt.Sprintf("run:step%d", n),
		Number:     1,
		Run:        "5d0c2b0e-7c2a-4b57-9a62-0d3d7a1b9f01",
		Job:        "5d0c2b0e-7c2a-4b57-9a62-0d3d7a1b9f02",
		Type:       h.Type.Spec.Type,
		Parameters: maps.Clone(parameters),
		Deadline:   deadline,
		Log:        l,
	}
	ended := make(chan outcome, 1)
	go func() {
		o := outcome{log: l}
		defer func() {
			if v := recover(); v != nil {
				o.fault = fmt.Sprintf("Execute panicked: %v\n%s", v, debug.Stack())
			}
			l.end()
			ended <- o
		}()
		o.result, o.err = h.Type.Executor.Execute(ctx, a)
		if !maps.Equal(a.Parameters, parameters) {
			o.fault = "Execute changed the map of parameters"
		}
	}()
	return l, ended
}

// execute calls Execute and waits for its end.
func (h Harness) execute(ctx context.Context, t testing.TB, parameters map[string]string) outcome {
	t.Helper()
	_, ended := h.begin(ctx, parameters)
	return await(t, ended, executeLimit, "its start")
}

func await(t testing.TB, ended <-chan outcome, limit time.Duration, since string) outcome {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case o := <-ended:
		if o.fault != "" {
			t.Fatal(o.fault)
		}
		return o
	case <-timer.C:
		t.Fatalf("Execute has not returned %v after %s", limit, since)
		return outcome{}
	}
}
