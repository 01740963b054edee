package trigger

import (
	"runtime"
	"testing"
	"time"
)

func TestAlarm(t *testing.T) {
	for _, wait := range []time.Duration{-time.Second, 0, time.Microsecond, 3*time.Millisecond + 400*time.Microsecond, 20 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			a := newAlarm(true)
			defer a.close()
			a.set(time.Hour)
			before := time.Now()
			a.set(wait)
			select {
			case <-a.timer.C:
			case <-a.precise():
			case <-time.After(10 * time.Second):
				t.Fatal("it did not ring")
			}
			if early := wait - time.Since(before); early > 0 {
				t.Errorf("it rang %s too early", early)
			}
		})
	}
}

// TestExactTimer hears the system's timer alone, and lets each set replace the last.
func TestExactTimer(t *testing.T) {
	e := newExactTimer()
	if e == nil {
		if runtime.GOOS == "linux" {
			t.Fatal("Linux has such a timer")
		}
		t.Skip("the system has no such timer")
	}
	defer e.close()
	e.set(time.Hour)
	for range 3 {
		before := time.Now()
		e.set(time.Millisecond)
		select {
		case <-e.rung:
		case <-time.After(10 * time.Second):
			t.Fatal("it did not ring")
		}
		if took := time.Since(before); took < time.Millisecond {
			t.Errorf("it rang after %s, set to 1ms", took)
		}
	}
}
