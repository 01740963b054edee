package testenv

import (
	"errors"
	"testing"
	"time"
)

// eventuallyTick is the time between two looks of Eventually.
const eventuallyTick = 2 * time.Millisecond

var errNotYet = errors.New("the condition is still false")

// Eventually calls cond, on the test's own goroutine, until it holds: until it
// returns true, or a nil error. It fails the test, with the last error, when
// that has not come within timeout. cond is called once at least.
func Eventually[C func() bool | func() error](t testing.TB, timeout time.Duration, cond C) {
	t.Helper()
	tick := time.NewTicker(eventuallyTick)
	defer tick.Stop()
	for end := time.Now().Add(timeout); ; <-tick.C {
		err := holds(cond)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", timeout, err)
		}
	}
}

func holds(cond any) error {
	switch cond := cond.(type) {
	case func() error:
		return cond()
	case func() bool:
		if cond() {
			return nil
		}
	}
	return errNotYet
}
