package executortest

import (
	"bytes"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"
)

// lookForLeftovers remembers what runs now. The function that it returns waits
// until nothing else runs any more and fails the test if that never happens.
func lookForLeftovers(t testing.TB, h Harness) func() {
	t.Helper()
	settle(h)
	goroutinesBefore, childrenBefore := goroutines(), children()
	return func() {
		t.Helper()
		settle(h)
		left := func() map[string]string {
			all := without(goroutines(), goroutinesBefore)
			maps.Copy(all, without(children(), childrenBefore))
			return all
		}
		if eventually(func() bool { return len(left()) == 0 }) {
			return
		}
		for name, what := range left() {
			t.Errorf("%s is still there %v after the attempt:\n%s", name, settleLimit, what)
		}
	}
}

func settle(h Harness) {
	if h.Idle != nil {
		h.Idle()
	}
}

// eventually polls, because neither goroutines nor orphans report their end.
func eventually(done func() bool) bool {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	timer := time.NewTimer(settleLimit)
	defer timer.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timer.C:
			return false
		}
	}
	return true
}

func without(now, before map[string]string) map[string]string {
	maps.DeleteFunc(now, func(name, _ string) bool {
		_, ok := before[name]
		return ok
	})
	return now
}

// goroutines returns the stack of every goroutine by its name, "goroutine 7".
// Names are compared instead of counted: a goroutine that ends meanwhile would
// make up for one that stays.
func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for stack := range bytes.SplitSeq(buf, []byte("\n\n")) {
		name, _, _ := strings.Cut(string(stack), " [")
		all[name] = string(stack)
	}
	return all
}
