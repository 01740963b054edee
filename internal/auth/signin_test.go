package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

func TestLogin(t *testing.T) {
	w := newWorld(t)
	ann := w.account("Ann", core.Operator)
	upper := auth.Digest(strings.ToUpper(string(passwordOf("Ann"))))
	for _, tt := range []struct {
		name string
		try  func() (core.Session, error)
		ok   bool
	}{
		{"digest", func() (core.Session, error) { return w.a.Login(t.Context(), "Ann", passwordOf("Ann"), "") }, true},
		{"digest in upper case", func() (core.Session, error) { return w.a.Login(t.Context(), "Ann", upper, "") }, true},
		{"name in another case", func() (core.Session, error) { return w.a.Login(t.Context(), "aNN", passwordOf("Ann"), "") }, true},
		{"plain", func() (core.Session, error) { return w.a.LoginPlain(t.Context(), "Ann", "password of Ann", "") }, true},
		{"plain as digest", func() (core.Session, error) { return w.a.Login(t.Context(), "Ann", "password of Ann", "") }, false},
		{"digest as plain", func() (core.Session, error) {
			return w.a.LoginPlain(t.Context(), "Ann", string(passwordOf("Ann")), "")
		}, false},
		{"wrong password", func() (core.Session, error) { return w.a.LoginPlain(t.Context(), "Ann", "guess", "") }, false},
		{"empty password", func() (core.Session, error) { return w.a.Login(t.Context(), "Ann", "", "") }, false},
		{"unknown name", func() (core.Session, error) { return w.a.Login(t.Context(), "bob", passwordOf("Ann"), "") }, false},
		{"empty name", func() (core.Session, error) { return w.a.Login(t.Context(), "", passwordOf("Ann"), "") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tt.try()
			if !tt.ok {
				wantKind(t, "login", err, core.Unauthenticated)
				if got, want := core.Text(err), "wrong account name or password"; got != want {
					t.Errorf("got text %q, want %q for every cause", got, want)
				}
				return
			}
			must(t, "login", err)
			if !id.Valid(s.ID) || s.Account != ann.UUID || s.Expires.Sub(s.Created) != 2*time.Hour || !s.Created.Equal(w.clock.now()) {
				t.Errorf("got session %+v, want one of %s for two hours from now, named by 32 hex digits", s, ann.UUID)
			}
			c, got, err := w.a.Validate(t.Context(), s.ID)
			must(t, "validate", err)
			if want := (core.Caller{Account: ann.UUID, Name: "Ann", Owner: ann.UUID, Role: core.Operator}); c != want {
				t.Errorf("got caller %+v, want %+v", c, want)
			}
			if got.ID != s.ID || got.Account != s.Account || !got.Expires.Equal(s.Expires) {
				t.Errorf("got session %+v, want %+v", got, s)
			}
		})
	}
}

// tries makes n wrong sign-ins and returns the last error.
func tries(w *world, n int, name, remote string) (err error) {
	for range n {
		_, err = w.a.LoginPlain(w.t.Context(), name, "guess", remote)
	}
	return err
}

func TestNameMustWaitAfterFailures(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	for _, tt := range []struct{ name, account string }{{"unknown", "nobody"}, {"known", "ann"}} {
		t.Run(tt.name, func(t *testing.T) {
			wantKind(t, "fifth failure", tries(w, 5, tt.account, ""), core.Unauthenticated)
			err := tries(w, 1, strings.ToUpper(tt.account), "")
			wantKind(t, "sixth try at once", err, core.Exhausted)
			if got, want := core.Text(err), "too many failed sign-ins; try again in 1 s"; got != want {
				t.Errorf("got text %q, want %q", got, want)
			}
			// A try that was not looked at does not make the wait longer.
			tries(w, 20, tt.account, "")
			w.clock.move(time.Second)
			wantKind(t, "a second later", tries(w, 1, tt.account, ""), core.Unauthenticated)
			wantKind(t, "next", tries(w, 1, tt.account, ""), core.Exhausted)
			w.clock.move(time.Second)
			if got := core.Text(tries(w, 1, tt.account, "")); got != "too many failed sign-ins; try again in 1 s" {
				t.Errorf("got text %q, want a wait of two seconds of which one is left", got)
			}
		})
	}
	_, err := w.a.Login(t.Context(), "ann", passwordOf("ann"), "")
	wantKind(t, "the right password while waiting", err, core.Exhausted)
	_, err = w.a.Basic(t.Context(), "ann", "password of ann", "")
	wantKind(t, "basic while waiting", err, core.Exhausted)
	w.clock.move(time.Second)
	w.login("ann")
	wantKind(t, "failures after a success", tries(w, 5, "ann", ""), core.Unauthenticated)
}

func TestAddressMustWaitAfterFailures(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	w.account("eve", core.Viewer)
	for i := range 5 {
		name := fmt.Sprint("guess", i)
		wantKind(t, name, tries(w, 1, name, fmt.Sprint("192.0.2.1:", 1000+i)), core.Unauthenticated)
	}
	_, err := w.a.Login(t.Context(), "ann", passwordOf("ann"), "192.0.2.1:4000")
	wantKind(t, "same address, another name", err, core.Exhausted)
	_, err = w.a.Login(t.Context(), "ann", passwordOf("ann"), "192.0.2.2:4000")
	must(t, "another address", err)
	// A success of one's own must not buy further guesses at others.
	w.clock.move(time.Second)
	_, err = w.a.Login(t.Context(), "eve", passwordOf("eve"), "192.0.2.1:4000")
	must(t, "own account after the wait", err)
	wantKind(t, "sixth failure", tries(w, 1, "guess5", "192.0.2.1:4000"), core.Unauthenticated)
	wantKind(t, "seventh try", tries(w, 1, "guess6", "192.0.2.1:4000"), core.Exhausted)
}

func TestSessionsAreLimitedPerAccount(t *testing.T) {
	w := newWorld(t)
	w.a = w.replica(auth.Options{MaxSessions: 2})
	w.account("ann", core.Viewer)
	w.account("bob", core.Viewer)
	first := w.login("ann")
	w.login("ann")
	_, err := w.a.Login(t.Context(), "ann", passwordOf("ann"), "")
	wantKind(t, "third session", err, core.Exhausted)
	if errors.As(err, &auth.WaitError{}) {
		t.Errorf("the limit of sessions looks like a back-off: %v", err)
	}
	w.login("bob")
	must(t, "logout", w.a.Logout(t.Context(), first.ID))
	w.login("ann")
}

// changing lets something happen between the check of a password and the
// session that it earns.
type changing struct {
	auth.Accounts
	before func()
}

func (c *changing) PutSession(ctx context.Context, by core.Account, hash string, s core.Session, limit int) error {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.Accounts.PutSession(ctx, by, hash, s, limit)
}

func TestPasswordChangedDuringLogin(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	accounts := &changing{Accounts: w.store}
	slow := auth.New(accounts, w.options(auth.Options{}))

	accounts.before = func() { must(t, "change", w.a.ChangePassword(w.root(), ann.UUID, "", auth.DigestOf("new"))) }
	_, err := slow.Login(t.Context(), "ann", passwordOf("ann"), "")
	wantKind(t, "login with what is the old password by now", err, core.Unauthenticated)
	if n, err := w.store.CountSessions(t.Context(), ann.UUID); n != 0 || err != nil {
		t.Errorf("got %d sessions and error %v, want none", n, err)
	}

	accounts.before = func() { must(t, "change", w.a.ChangePassword(w.root(), ann.UUID, "", auth.DigestOf("new"))) }
	_, err = slow.LoginPlain(t.Context(), "ann", "new", "")
	must(t, "login while the hash alone changes", err)
}

func TestOldHashesAreMadeAnewAtSignIn(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	old := w.login("ann")
	stored := func() string {
		a, err := w.store.Account(t.Context(), ann.UUID)
		must(t, "read account", err)
		return a.Password
	}
	before := stored()
	w.a = w.replica(auth.Options{Cost: auth.Cost{Memory: 128, Time: 2, Threads: 1}})
	_, err := w.a.LoginPlain(t.Context(), "ann", "guess", "")
	wantKind(t, "wrong password", err, core.Unauthenticated)
	if stored() != before {
		t.Errorf("a wrong password has changed the hash")
	}
	w.login("ann")
	after := stored()
	if !strings.HasPrefix(after, "$argon2id$v=19$m=128,t=2,p=1$") {
		t.Errorf("hash is %q after the sign-in, want one at today's cost", after)
	}
	w.login("ann")
	if stored() != after {
		t.Errorf("a hash at today's cost was made anew")
	}
	w.wantValid("session from before", w.replica(auth.Options{}), old.ID, true)
}

func TestStoreOutageIsNotAWrongPassword(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	s := w.login("ann")
	must(t, "close", w.client.Close())
	_, err := w.a.Login(t.Context(), "ann", passwordOf("ann"), "")
	if err == nil || core.Is(err, core.Unauthenticated) {
		t.Errorf("login without a store: got error %v, want another than Unauthenticated", err)
	}
	_, _, err = w.a.Validate(t.Context(), s.ID)
	if err == nil || core.Is(err, core.Unauthenticated) {
		t.Errorf("validate without a store: got error %v, want another than Unauthenticated", err)
	}
}
