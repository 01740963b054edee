package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

func TestLoginUser(t *testing.T) {
	w := newWorld(t)
	boss := w.account("Boss", core.Operator)
	other := w.account("other", core.Operator)
	helper, err := w.a.CreateAccount(w.root(), auth.NewAccount{Name: "helper", Password: passwordOf("helper"), Role: core.Viewer, Owner: boss.UUID})
	must(t, "create helper", err)
	for _, tt := range []struct {
		name, owner, user, password string
		ok                          bool
	}{
		{"owner by name", "Boss", "helper", "password of helper", true},
		{"owner by name in another case", "bOSS", "HELPER", "password of helper", true},
		{"owner by uuid", boss.UUID, "helper", "password of helper", true},
		{"wrong password", "Boss", "helper", "guess", false},
		{"owner of another", other.UUID, "helper", "password of helper", false},
		{"name of another", "other", "helper", "password of helper", false},
		{"unknown owner", "nobody", "helper", "password of helper", false},
		{"no owner", "", "helper", "password of helper", false},
		{"account that is nobody's user", "Boss", "Boss", "password of Boss", false},
		{"the same by uuid", boss.UUID, "Boss", "password of Boss", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := w.a.LoginUser(t.Context(), tt.owner, tt.user, auth.DigestOf(tt.password), "")
			if !tt.ok {
				wantKind(t, "login", err, core.Unauthenticated)
				if got := core.Text(err); !strings.HasPrefix(got, "wrong ") {
					t.Errorf("got text %q, want one for every cause", got)
				}
				w.clock.move(10*time.Minute + time.Second) // failures are forgotten
				return
			}
			must(t, "login", err)
			c, _, err := w.a.Validate(t.Context(), s.ID)
			must(t, "validate", err)
			if c.Account != helper.UUID || c.Owner != boss.UUID {
				t.Errorf("got caller %+v, want helper, who is boss's", c)
			}
		})
	}
}

// Who knows a user's password must not find out its owner without end.
func TestWrongOwnersCount(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	const remote = "192.0.2.1:1000"
	for range 5 {
		_, err := w.a.LoginUser(t.Context(), "guess", "ann", passwordOf("ann"), remote)
		wantKind(t, "wrong owner", err, core.Unauthenticated)
	}
	_, err := w.a.LoginUser(t.Context(), "guess", "ann", passwordOf("ann"), remote)
	wantKind(t, "sixth try from the address", err, core.Exhausted)
}
