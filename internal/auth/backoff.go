package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// After freeFailures wrong passwords in a row the next attempt must wait: 1 s,
// and twice as long after each further one, up to a minute. Failures are
// forgotten ten minutes after the last of them.
const (
	freeFailures  = 5
	firstWait     = time.Second
	longestWait   = time.Minute
	failureMemory = 10 * time.Minute
)

// maxSuspects bounds the memory that failures take.
const maxSuspects = 10_000

// A WaitError says how long the client must wait before it may sign in again.
// It is the cause of the Exhausted error that Login and Basic then return.
type WaitError struct{ For time.Duration }

// Error says for how long, in whole seconds.
func (e WaitError) Error() string { return fmt.Sprintf("sign-in must wait %d s", e.seconds()) }

// seconds rounds up: a client that obeys must not come too early.
func (e WaitError) seconds() int64 { return int64((e.For + time.Second - 1) / time.Second) }

// backoff counts failures per suspect: an account name or an address.
type backoff struct {
	now func() time.Time

	mu       sync.Mutex
	suspects map[string]suspect
}

type suspect struct {
	failures int
	last     time.Time
}

// wait is how long after its last failure the suspect must wait.
func (s suspect) wait() time.Duration {
	over := s.failures - freeFailures
	switch {
	case over < 0:
		return 0
	case over > 6: // 64 s and more; a shift by all failures would overflow
		return longestWait
	}
	return min(firstWait<<over, longestWait)
}

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, suspects: map[string]suspect{}}
}

// check returns an Exhausted error with a WaitError while one of keys must wait.
func (b *backoff) check(keys ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	var left time.Duration
	for _, key := range keys {
		s := b.suspects[key]
		left = max(left, s.last.Add(s.wait()).Sub(now))
	}
	if left <= 0 {
		return nil
	}
	wait := WaitError{For: left}
	return core.Wrap(core.Exhausted, wait, "too many failed sign-ins; try again in %d s", wait.seconds())
}

// add counts a failure for each of keys.
func (b *backoff) add(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, key := range keys {
		s, known := b.suspects[key]
		if !known && len(b.suspects) >= maxSuspects {
			b.evict(now)
		}
		if now.Sub(s.last) > failureMemory {
			s.failures = 0
		}
		b.suspects[key] = suspect{failures: s.failures + 1, last: now}
	}
}

// forget ends the count of a key, after a success.
func (b *backoff) forget(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.suspects, key)
}

// evict makes room: it drops who is forgotten anyway or, when all are fresh,
// the one with the fewest failures. A flood of new names thus pushes out its
// own and not the name that is being guessed at.
func (b *backoff) evict(now time.Time) {
	var victim string
	var least suspect
	for key, s := range b.suspects {
		if now.Sub(s.last) > failureMemory {
			delete(b.suspects, key)
			continue
		}
		if victim == "" || s.failures < least.failures || s.failures == least.failures && s.last.Before(least.last) {
			victim, least = key, s
		}
	}
	if len(b.suspects) >= maxSuspects {
		delete(b.suspects, victim)
	}
}

// nameKey is the suspect that an account name is.
func nameKey(name string) string {
	// No account has a longer name; a long one must not buy more memory.
	const most = 4 * core.MaxName
	return "name " + strings.ToLower(name[:min(len(name), most)])
}

// addressKey is the suspect that a remote address is, with or without a port,
// or "" for no address. IPv6 counts by /64: one host has all of that at hand.
func addressKey(remote string) string {
	if remote == "" {
		return ""
	}
	ip, err := netip.ParseAddr(remote)
	if err != nil {
		withPort, err := netip.ParseAddrPort(remote)
		if err != nil {
			return "address " + remote[:min(len(remote), core.MaxName)]
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return "address " + ip.String()
	}
	net64, _ := ip.Prefix(64) // fails for more bits than an address has
	return "address " + net64.String()
}
