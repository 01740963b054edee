package auth_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

func TestValidateRefuses(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"", "null", id.New(), "takt_", "takt_" + strings.Repeat("0", 64), strings.Repeat("x", 1<<16)} {
		_, _, err := w.a.Validate(t.Context(), text)
		wantKind(t, fmt.Sprintf("validate %.40q", text), err, core.Unauthenticated)
	}
}

func TestLogoutEndsASession(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	here, there := w.a, w.replica(auth.Options{})
	s, other := w.login("ann"), w.login("ann")
	for _, a := range []*auth.Authority{here, there} {
		w.wantValid("before the logout", a, s.ID, true)
		w.wantValid("other session before the logout", a, other.ID, true)
	}
	must(t, "logout", here.Logout(t.Context(), s.ID))
	w.wantValid("at once, where it was served", here, s.ID, false)
	w.clock.move(5 * time.Second)
	w.wantValid("five seconds later, elsewhere", there, s.ID, false)
	w.wantValid("other session", here, other.ID, true)
	for _, text := range []string{s.ID, id.New(), "", "nonsense"} {
		if err := here.Logout(t.Context(), text); err != nil {
			t.Errorf("logout of %q, which is no session: %v", text, err)
		}
	}
}

// An accepted session must not cost a round trip per request.
func TestValidateAsksTheStoreOnceInFiveSeconds(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	s := w.login("ann")
	w.wantValid("first", w.a, s.ID, true)
	must(t, "flush", w.client.FlushAll(t.Context()).Err())
	w.clock.move(4999 * time.Millisecond)
	w.wantValid("from memory", w.a, s.ID, true)
	w.clock.move(time.Millisecond)
	w.wantValid("from the store", w.a, s.ID, false)
}

// pausing holds the read of an account until it is let go.
type pausing struct {
	auth.Accounts
	reading, goOn chan struct{}
}

func (p *pausing) Account(ctx context.Context, uuid string) (core.Account, error) {
	a, err := p.Accounts.Account(ctx, uuid)
	p.reading <- struct{}{}
	<-p.goOn
	return a, err
}

// A Validate that has read the session before the logout, and answers after
// it, must not put it back into the cache.
func TestLogoutBesideAValidate(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	accounts := &pausing{w.store, make(chan struct{}), make(chan struct{})}
	a := auth.New(accounts, w.options(auth.Options{}))
	s := w.login("ann")
	done := make(chan error)
	go func() {
		_, _, err := a.Validate(t.Context(), s.ID)
		done <- err
	}()
	<-accounts.reading
	must(t, "logout", a.Logout(t.Context(), s.ID))
	accounts.goOn <- struct{}{}
	must(t, "validate that began before the logout", <-done)
	w.wantValid("after the logout", a, s.ID, false)
}

func TestSessionExpires(t *testing.T) {
	w := newWorld(t)
	w.account("ann", core.Viewer)
	w.a = w.replica(auth.Options{SessionLife: time.Hour})
	s := w.login("ann")
	w.clock.move(time.Hour - time.Millisecond)
	w.wantValid("before its end", w.a, s.ID, true)
	w.clock.move(time.Millisecond)
	w.wantValid("at its end, though it is in memory", w.a, s.ID, false)
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	s := w.login("ann")
	elsewhere := w.replica(auth.Options{})
	w.clock.move(2*time.Hour - time.Second)
	w.wantValid("elsewhere, before the renewal", elsewhere, s.ID, true)
	got, err := w.a.Renew(t.Context(), s.ID, 3*time.Hour)
	must(t, "renew", err)
	if got.ID != s.ID || !got.Created.Equal(s.Created) || !got.Expires.Equal(w.clock.now().Add(3*time.Hour)) {
		t.Errorf("got session %+v, want %+v to end in three hours", got, s)
	}
	w.clock.move(2 * time.Second)
	w.wantValid("elsewhere, past its first end", elsewhere, s.ID, true)
	w.clock.move(3*time.Hour - 3*time.Second)
	w.wantValid("before its new end", w.a, s.ID, true)
	w.clock.move(2 * time.Second)
	w.wantValid("at its new end", w.a, s.ID, false)

	token, _, err := w.a.CreateToken(w.as(ann), ann.UUID, "t", time.Time{})
	must(t, "create token", err)
	fresh := w.login("ann")
	for _, tt := range []struct {
		name, text string
		life       time.Duration
		want       core.Kind
	}{
		{"ended", s.ID, time.Hour, core.Unauthenticated},
		{"unknown", id.New(), time.Hour, core.Unauthenticated},
		{"nonsense", "x", time.Hour, core.Unauthenticated},
		{"token", token, time.Hour, core.Invalid},
		{"too short", fresh.ID, time.Minute - 1, core.Invalid},
		{"too long", fresh.ID, 365*24*time.Hour + 1, core.Invalid},
	} {
		_, err := w.a.Renew(t.Context(), tt.text, tt.life)
		wantKind(t, "renew "+tt.name, err, tt.want)
	}
	for _, life := range []time.Duration{time.Minute, 365 * 24 * time.Hour} {
		_, err := w.a.Renew(t.Context(), fresh.ID, life)
		must(t, "renew for "+life.String(), err)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.a = w.replica(auth.Options{MaxTokens: 2})
	ann := w.account("ann", core.Operator)
	ctx := w.as(ann)
	lasting, first, err := w.a.CreateToken(ctx, ann.UUID, "lasting", time.Time{})
	must(t, "create lasting token", err)
	w.clock.move(time.Millisecond)
	brief, second, err := w.a.CreateToken(ctx, ann.UUID, "brief", w.clock.now().Add(time.Hour))
	must(t, "create brief token", err)
	_, _, err = w.a.CreateToken(ctx, ann.UUID, "third", time.Time{})
	wantKind(t, "one too many", err, core.Exhausted)

	c, s, err := w.a.Validate(t.Context(), lasting)
	must(t, "validate", err)
	if c.Account != ann.UUID || c.Role != core.Operator || s.ID != lasting || !s.Expires.IsZero() {
		t.Errorf("got caller %+v and session %+v, want ann's without an end", c, s)
	}
	list, err := w.a.ListTokens(ctx, ann.UUID)
	must(t, "list", err)
	if len(list) != 2 || list[0].UUID != first.UUID || list[1].UUID != second.UUID {
		t.Errorf("got tokens %+v, want the two in order", list)
	}

	w.wantValid("brief", w.a, brief, true)
	must(t, "logout", w.a.Logout(t.Context(), lasting))
	w.wantValid("after a logout, which is for sessions", w.a, lasting, true)
	w.clock.move(time.Hour)
	w.wantValid("brief at its end", w.a, brief, false)
	w.wantValid("lasting", w.a, lasting, true)
	must(t, "delete", w.a.DeleteToken(ctx, ann.UUID, first.UUID))
	w.wantValid("deleted", w.a, lasting, false)
	wantKind(t, "delete again", w.a.DeleteToken(ctx, ann.UUID, first.UUID), core.NotFound)

	for _, tt := range []struct {
		name, token string
		expires     time.Time
	}{
		{"without a name", "", time.Time{}},
		{"with a long name", strings.Repeat("é", 256), time.Time{}},
		{"that has expired", "t", w.clock.now()},
	} {
		_, _, err := w.a.CreateToken(ctx, ann.UUID, tt.token, tt.expires)
		wantKind(t, "token "+tt.name, err, core.Invalid)
	}
	_, _, err = w.a.CreateToken(w.root(), id.New(), "t", time.Time{})
	wantKind(t, "token for nobody", err, core.NotFound)
}

// What a thief of the database reads must not let him in.
func TestNothingSecretIsStored(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Admin)
	secrets := map[string]string{"password": "password of ann", "digest": string(passwordOf("ann")), "session": w.login("ann").ID}
	token, _, err := w.a.CreateToken(w.as(ann), ann.UUID, "t", time.Time{})
	must(t, "create token", err)
	secrets["token"] = token
	secrets["token's digits"] = strings.TrimPrefix(token, auth.TokenPrefix)
	_, err = w.a.Renew(t.Context(), secrets["session"], time.Hour)
	must(t, "renew", err)
	_, err = w.a.Basic(t.Context(), "ann", "password of ann", "")
	must(t, "basic", err)
	must(t, "change password", w.a.ChangePassword(w.as(ann), ann.UUID, passwordOf("ann"), auth.DigestOf("the next one")))
	secrets["session after that"] = mustLogin(t, w, "ann", "the next one")
	secrets["next password"] = "the next one"
	secrets["next digest"] = string(auth.DigestOf("the next one"))

	dump := dumpRedis(t, w)
	if !strings.Contains(dump, "takt:{acc}:session:") || !strings.Contains(dump, "takt:{acc}:token:") || !strings.Contains(dump, "argon2id") {
		t.Fatalf("the dump lacks what it is to be searched for:\n%s", dump)
	}
	for what, secret := range secrets {
		if strings.Contains(strings.ToLower(dump), strings.ToLower(secret)) {
			t.Errorf("Redis holds the %s %q", what, secret)
		}
	}
}

func mustLogin(t *testing.T, w *world, name, password string) string {
	t.Helper()
	s, err := w.a.LoginPlain(t.Context(), name, password, "")
	must(t, "login", err)
	return s.ID
}

// dumpRedis returns every key with its value.
func dumpRedis(t *testing.T, w *world) string {
	t.Helper()
	var b strings.Builder
	for _, key := range w.client.Keys(t.Context(), "*").Val() {
		var value any
		switch kind := w.client.Type(t.Context(), key).Val(); kind {
		case "string":
			value = w.client.Get(t.Context(), key).Val()
		case "hash":
			value = w.client.HGetAll(t.Context(), key).Val()
		case "zset":
			value = w.client.ZRange(t.Context(), key, 0, -1).Val()
		default:
			t.Fatalf("key %s is a %s, which this test does not read", key, kind)
		}
		fmt.Fprintln(&b, key, value)
	}
	return b.String()
}
