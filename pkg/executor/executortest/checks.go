package executortest

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/takt-dev/takt/pkg/executor"
)

func checkSpec(t testing.TB, h Harness) {
	spec := h.Type.Spec
	if spec.Type == "" {
		t.Error("the spec names no type")
	}
	seen := map[string]bool{}
	for _, p := range spec.Parameters {
		if p.Name == "" || seen[p.Name] {
			t.Errorf("parameter %q has no name or one that is taken", p.Name)
		}
		seen[p.Name] = true
		checkDefault(t, p)
	}
	copied := travel(t, spec)
	for _, s := range []executor.Spec{spec, copied} {
		if err := s.Validate(h.Success); err != nil {
			t.Errorf("Validate refuses the Success parameters: %v", err)
		}
	}
	if h.Blocking != nil {
		parameters, _ := h.Blocking(t)
		if err := spec.Validate(parameters); err != nil {
			t.Errorf("Validate refuses the Blocking parameters: %v", err)
		}
	}
}

// checkDefault lets the spec itself judge the default that it shows.
func checkDefault(t testing.TB, p executor.Parameter) {
	t.Helper()
	one := executor.Spec{Type: "default", Parameters: []executor.Parameter{p}}
	one.Parameters[0].Required = false
	if err := one.Validate(map[string]string{p.Name: p.Default}); err != nil {
		t.Errorf("the default of %s is not valid: %v", p.Name, err)
	}
	if p.Required && p.Default != "" {
		t.Errorf("parameter %s is required and has a default", p.Name)
	}
}

func travel(t testing.TB, spec executor.Spec) executor.Spec {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatalf("encode spec: %v", err)
	}
	var copied executor.Spec
	if err := json.Unmarshal(data, &copied); err != nil {
		t.Fatalf("decode spec: %v", err)
	}
	spec.Check = nil
	if !reflect.DeepEqual(copied, spec) {
		t.Errorf("after a JSON round trip the spec is\n%+v, want\n%+v", copied, spec)
	}
	return copied
}

func checkSuccess(t testing.TB, h Harness) {
	h.warmUp(t)
	defer lookForLeftovers(t, h)()
	o := h.execute(context.Background(), t, h.Success)
	if o.err != nil {
		t.Errorf("Execute with the Success parameters = %v, want no error", o.err)
	}
	checkTraces(t, h, o)
}

func checkFailure(t testing.TB, h Harness) {
	h.warmUp(t)
	defer lookForLeftovers(t, h)()
	o := h.execute(context.Background(), t, h.Failure)
	if o.err == nil {
		t.Errorf("Execute with the Failure parameters = %+v without an error", o.result)
	}
	checkTraces(t, h, o)
}

// checkNoParameters allows both outcomes: what matters is that there is one.
func checkNoParameters(t testing.TB, h Harness) {
	h.warmUp(t)
	defer lookForLeftovers(t, h)()
	ctx, cancel := context.WithTimeoutCause(context.Background(), interruptLimit, executor.ErrTimedOut)
	defer cancel()
	_, ended := h.begin(ctx, nil)
	checkTraces(t, h, await(t, ended, 2*interruptLimit, "its start without parameters"))
}

func checkEndedContext(t testing.TB, h Harness) {
	h.warmUp(t)
	parameters := h.Success
	if h.Blocking != nil {
		parameters, _ = h.Blocking(t)
	}
	defer lookForLeftovers(t, h)()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(executor.ErrCanceled)
	_, ended := h.begin(ctx, parameters)
	o := await(t, ended, interruptLimit, "its start with an ended context")
	if h.Blocking != nil {
		checkInterrupted(t, o)
	}
	checkTraces(t, h, o)
}

func checkCancel(t testing.TB, h Harness)  { checkCause(t, h, executor.ErrCanceled) }
func checkRelease(t testing.TB, h Harness) { checkCause(t, h, executor.ErrReleased) }

func checkCause(t testing.TB, h Harness, cause error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	h.interrupt(ctx, t, func() { cancel(cause) })
}

func checkDeadline(t testing.TB, h Harness) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), interruptLimit/4, executor.ErrTimedOut)
	defer cancel()
	h.interrupt(ctx, t, func() { <-ctx.Done() })
}

// interrupt starts a blocking attempt, ends its context by end once the attempt
// is at work, and expects Execute to give way.
func (h Harness) interrupt(ctx context.Context, t testing.TB, end func()) {
	t.Helper()
	if h.Blocking == nil {
		t.Fatal("the harness has no Blocking parameters")
	}
	h.warmUp(t)
	parameters, started := h.Blocking(t)
	defer lookForLeftovers(t, h)()
	l, ended := h.begin(ctx, parameters)
	ended = awaitStart(ctx, t, l, started, ended)
	end()
	o := await(t, ended, interruptLimit, "the end of its context: "+context.Cause(ctx).Error())
	checkInterrupted(t, o)
	checkTraces(t, h, o)
}

// awaitStart returns the channel that delivers the outcome; an attempt that ends
// before its context is at fault.
func awaitStart(ctx context.Context, t testing.TB, l *log, started <-chan struct{}, ended <-chan outcome) <-chan outcome {
	t.Helper()
	var moment <-chan time.Time
	if started == nil {
		started = l.first
		timer := time.NewTimer(interruptLimit / 8)
		defer timer.Stop()
		moment = timer.C
	}
	select {
	case <-started:
	case <-moment:
	case <-ctx.Done():
	case o := <-ended:
		if ctx.Err() == nil {
			t.Fatalf("Execute with the Blocking parameters ended by itself: %v%s", o.err, o.fault)
		}
		again := make(chan outcome, 1)
		again <- o
		return again
	}
	return ended
}

func checkInterrupted(t testing.TB, o outcome) {
	t.Helper()
	if o.err == nil {
		t.Error("Execute returned no error although its context ended before the work was done")
	}
	if executor.IsPermanent(o.err) {
		t.Errorf("Execute marked the end of its context as permanent: %v", o.err)
	}
}

func checkConcurrent(t testing.TB, h Harness) {
	h.warmUp(t)
	defer lookForLeftovers(t, h)()
	const calls = 8
	var running [calls]<-chan outcome
	for i := range running {
		_, running[i] = h.begin(context.Background(), h.Success)
	}
	for i, ended := range running {
		o := await(t, ended, executeLimit, "its start")
		if o.err != nil {
			t.Errorf("call %d of %d at once = %v, want no error", i+1, calls, o.err)
		}
		checkTraces(t, h, o)
	}
}

// checkTraces looks at what every attempt leaves: output, log and error.
func checkTraces(t testing.TB, h Harness, o outcome) {
	t.Helper()
	if n := len(o.result.Output); n > executor.MaxOutputBytes {
		t.Errorf("the output is %d bytes long and would be cut to %d", n, executor.MaxOutputBytes)
	}
	if !utf8.ValidString(o.result.Output) {
		t.Errorf("the output is not UTF-8: %q", o.result.Output)
	}
	for _, secret := range h.Secrets {
		if strings.Contains(o.log.String(), secret) {
			t.Errorf("the log shows the secret %q:\n%s", secret, o.log)
		}
		if o.err != nil && strings.Contains(o.err.Error(), secret) {
			t.Errorf("the error shows the secret %q: %v", secret, o.err)
		}
	}
	// Registered as a cleanup, so that it sees what is written while the
	// leftovers settle.
	t.Cleanup(func() {
		if n := o.log.lateWrites(); n > 0 {
			t.Errorf("the log was written to %d times after Execute had returned", n)
		}
	})
}

// warmUp lets the executor open what it opens once and keeps.
func (h Harness) warmUp(t testing.TB) {
	t.Helper()
	h.execute(context.Background(), t, h.Success)
}
