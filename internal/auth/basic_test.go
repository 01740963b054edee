package auth

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

func TestBasicHashesOnceAMinute(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := New(known(), Options{Cost: cheap, Now: func() time.Time { return now }})
	g := &gauge{next: make(chan struct{})}
	g.attach(a)
	close(g.next)
	for _, tt := range []struct {
		name, account, password string
		after                   time.Duration // since the step before
		kind                    core.Kind     // "" = accepted
		hashes                  int64         // in all so far
	}{
		{"first", "ann", "right", 0, "", 1},
		{"again", "ann", "right", 0, "", 1},
		{"almost a minute later", "ann", "right", 59 * time.Second, "", 1},
		{"another password", "ann", "wrong", 0, core.Unauthenticated, 2},
		{"another password again", "ann", "wrong", 0, core.Unauthenticated, 3},
		{"another name", "bob", "right", 0, core.Unauthenticated, 4},
		{"still", "ann", "right", 0, "", 4},
		{"a minute later", "ann", "right", time.Second, "", 5},
	} {
		now = now.Add(tt.after)
		c, err := a.Basic(t.Context(), tt.account, tt.password, "192.0.2.1:5000")
		if tt.kind == "" && (err != nil || c != (core.Caller{Account: AdminUUID, Name: "ann", Owner: AdminUUID, Role: core.Admin})) {
			t.Errorf("%s: got caller %+v and error %v, want ann", tt.name, c, err)
		}
		if tt.kind != "" && !core.Is(err, tt.kind) {
			t.Errorf("%s: got error %v, want kind %q", tt.name, err, tt.kind)
		}
		if n := g.all.Load(); n != tt.hashes {
			t.Errorf("%s: %d hashes so far, want %d", tt.name, n, tt.hashes)
		}
	}
}

// A client that opens many connections at once must not pay a hash for each.
func TestBasicRequestsAtOnceShareAHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(known(), Options{Cost: cheap})
		g := &gauge{next: make(chan struct{})}
		g.attach(a)
		const clients = 30
		results := make(chan error, clients)
		for range clients {
			go func() {
				_, err := a.Basic(t.Context(), "ann", "right", "")
				results <- err
			}()
		}
		synctest.Wait()
		close(g.next)
		for range clients {
			if err := <-results; err != nil {
				t.Errorf("basic: %v", err)
			}
		}
		if n := g.all.Load(); n > hashSlots {
			t.Errorf("%d hashes were spent, want %d at most", n, hashSlots)
		}
	})
}

func TestBasicCacheHoldsNoCredentials(t *testing.T) {
	a, b := New(known(), Options{Cost: cheap}), New(known(), Options{Cost: cheap})
	who := attempt{name: "ann", password: DigestOf("right")}
	if a.credentialKey(who) == b.credentialKey(who) {
		t.Errorf("two processes name the same credentials alike: the key is not random")
	}
	if len(a.credentialKey(who)) != 32 {
		t.Errorf("the name of credentials has %d bytes, want an HMAC of 32", len(a.credentialKey(who)))
	}
}
