package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

func TestWaitGrowsFromASecondToAMinute(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := newBackoff(func() time.Time { return now })
	want := []time.Duration{0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60}
	for i, seconds := range want {
		b.add("ann")
		wait := seconds * time.Second
		if got := waitOf(t, b, "ann"); got != wait {
			t.Errorf("wait after failure %d is %v, want %v", i+1, got, wait)
		}
		now = now.Add(wait)
		if got := waitOf(t, b, "ann"); got != 0 {
			t.Errorf("wait after failure %d is over and still %v", i+1, got)
		}
	}
	for range 1000 { // no overflow, ever
		b.add("ann")
	}
	if got := waitOf(t, b, "ann"); got != time.Minute {
		t.Errorf("wait after 1000 failures is %v, want a minute", got)
	}
	b.forget("ann")
	if got := waitOf(t, b, "ann"); got != 0 {
		t.Errorf("wait after a success is %v, want none", got)
	}
}

// waitOf returns how long key must wait, as the error says it.
func waitOf(t *testing.T, b *backoff, keys ...string) time.Duration {
	t.Helper()
	err := b.check(keys...)
	if err == nil {
		return 0
	}
	var wait WaitError
	if !core.Is(err, core.Exhausted) || !errors.As(err, &wait) {
		t.Fatalf("got error %v, want Exhausted with a WaitError", err)
	}
	want := fmt.Sprintf("too many failed sign-ins; try again in %d s", wait.seconds())
	if core.Text(err) != want {
		t.Errorf("got text %q, want %q", core.Text(err), want)
	}
	return wait.For
}

func TestWaitIsTheLongestOfItsKeys(t *testing.T) {
	now := time.Now()
	b := newBackoff(func() time.Time { return now })
	for range 6 {
		b.add("name ann")
	}
	for range 7 {
		b.add("address a")
	}
	if got := waitOf(t, b, "name ann", "address a", "address b"); got != 4*time.Second {
		t.Errorf("wait is %v, want the address's 4 s", got)
	}
	if got := waitOf(t, b, "name bob", "address b"); got != 0 {
		t.Errorf("wait of others is %v, want none", got)
	}
}

func TestWaitIsRoundedUp(t *testing.T) {
	for _, tt := range []struct {
		wait time.Duration
		want int64
	}{{1, 1}, {time.Second, 1}, {time.Second + 1, 2}, {time.Minute, 60}} {
		if got := (WaitError{tt.wait}).seconds(); got != tt.want {
			t.Errorf("%v is told as %d s, want %d", tt.wait, got, tt.want)
		}
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	now := time.Now()
	b := newBackoff(func() time.Time { return now })
	for range 10 {
		b.add("ann")
	}
	now = now.Add(failureMemory + time.Second)
	b.add("ann")
	if got := waitOf(t, b, "ann"); got != 0 {
		t.Errorf("wait after ten quiet minutes and one failure is %v, want none", got)
	}
}

func TestSuspectsAreBounded(t *testing.T) {
	now := time.Now()
	b := newBackoff(func() time.Time { return now })
	for range freeFailures {
		b.add("the one that is guessed at")
	}
	for i := range maxSuspects + 500 {
		b.add(fmt.Sprint("flood ", i))
	}
	if n := len(b.suspects); n > maxSuspects {
		t.Errorf("%d suspects are remembered, want %d at most", n, maxSuspects)
	}
	if got := waitOf(t, b, "the one that is guessed at"); got == 0 {
		t.Errorf("a flood of names has washed out the wait of the one that is guessed at")
	}
	now = now.Add(failureMemory + time.Second)
	b.add("next day")
	if n := len(b.suspects); n != 1 {
		t.Errorf("%d suspects are left when all but one are forgotten, want 1", n)
	}
}

func TestAddressKey(t *testing.T) {
	for _, tt := range []struct{ name, a, b string }{
		{"ports", "192.0.2.1:1000", "192.0.2.1:2000"},
		{"with and without port", "192.0.2.1:1000", "192.0.2.1"},
		{"mapped", "[::ffff:192.0.2.1]:1000", "192.0.2.1"},
		{"same /64", "[2001:db8::1]:1000", "2001:db8::ffff:1"},
		{"zone", "fe80::1%eth0", "[fe80::1]:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a, b := addressKey(tt.a), addressKey(tt.b); a != b {
				t.Errorf("%q and %q are counted apart, as %q and %q", tt.a, tt.b, a, b)
			}
		})
	}
	for _, tt := range []struct{ name, a, b string }{
		{"hosts", "192.0.2.1:1000", "192.0.2.2:1000"},
		{"networks", "2001:db8::1", "2001:db8:0:1::1"},
		{"sockets", "@one", "@two"},
	} {
		t.Run("apart "+tt.name, func(t *testing.T) {
			if addressKey(tt.a) == addressKey(tt.b) {
				t.Errorf("%q and %q are counted together", tt.a, tt.b)
			}
		})
	}
	if got := addressKey(""); got != "" {
		t.Errorf("no address is counted as %q", got)
	}
}
