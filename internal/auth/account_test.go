package auth_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

func TestEnsureAdmin(t *testing.T) {
	for _, tt := range []struct{ name, password string }{{"given password", "password"}, {"no password", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			generated, created, err := w.a.EnsureAdmin(t.Context(), "admin", tt.password)
			must(t, "ensure admin", err)
			if !created || (generated == "") != (tt.password != "") {
				t.Fatalf("got %q, created %v; want it created, and a password made only when none is given", generated, created)
			}
			s, err := w.a.LoginPlain(t.Context(), "admin", tt.password+generated, "")
			must(t, "login", err)
			c, _, err := w.a.Validate(t.Context(), s.ID)
			must(t, "validate", err)
			if want := (core.Caller{Account: "36c27e8ff05c4780bf6d2fa65700f22e", Name: "admin", Owner: auth.AdminUUID, Role: core.Admin}); c != want {
				t.Errorf("got caller %+v, want %+v", c, want)
			}
			generated, created, err = w.a.EnsureAdmin(t.Context(), "boss", "another")
			if created || generated != "" || err != nil {
				t.Errorf("second start: got %q, created %v, error %v; want nothing done", generated, created, err)
			}
			w.wantValid("session after the second start", w.replica(auth.Options{}), s.ID, true)
		})
	}
}

// A short password makes no first account, and is no matter where there is one: an
// installation from before the rule starts as it did.
func TestEnsureAdminWithAShortPassword(t *testing.T) {
	w := newWorld(t)
	_, created, err := w.a.EnsureAdmin(t.Context(), "admin", "sieben.")
	wantKind(t, "seven characters", err, core.Invalid)
	if created {
		t.Error("the account was made")
	}
	_, _, err = w.a.EnsureAdmin(t.Context(), "admin", "üüüüüüüü")
	must(t, "eight characters", err)
	_, _, err = w.a.EnsureAdmin(t.Context(), "admin", "short")
	must(t, "a later start", err)
}

func TestEnsureAdminByManyReplicasAtOnce(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var passwords []string
	var done sync.WaitGroup
	for range 6 {
		a := w.replica(auth.Options{})
		done.Go(func() {
			generated, created, err := a.EnsureAdmin(t.Context(), "admin", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil || created != (generated != "") {
				t.Errorf("got %q, created %v, error %v", generated, created, err)
			}
			if created {
				passwords = append(passwords, generated)
			}
		})
	}
	done.Wait()
	if len(passwords) != 1 {
		t.Fatalf("%d replicas have made the account, want 1", len(passwords))
	}
	mustLogin(t, w, "admin", passwords[0])
}

func TestCreateAccount(t *testing.T) {
	w := newWorld(t)
	boss := w.account("boss", core.Operator)
	helper, err := w.a.CreateAccount(w.root(), auth.NewAccount{Name: "helper", Password: passwordOf("helper"), Role: core.Viewer, Owner: boss.UUID})
	must(t, "create helper", err)
	if helper.Owner != boss.UUID || helper.UUID == boss.UUID || !id.Valid(helper.UUID) || helper.Password != "" || !helper.Created.Equal(w.clock.now()) {
		t.Errorf("got %+v, want a new account owned by boss, without its hash", helper)
	}
	c, _, err := w.a.Validate(t.Context(), w.login("helper").ID)
	must(t, "validate", err)
	if c.Owner != boss.UUID || c.Role != core.Viewer {
		t.Errorf("got caller %+v, want a viewer of boss's things", c)
	}
	own := id.New()
	if chosen, err := w.a.CreateAccount(w.root(), auth.NewAccount{UUID: own, Name: strings.Repeat("é", 255), Password: passwordOf("x"), Role: core.Admin}); err != nil || chosen.UUID != own || chosen.Owner != own {
		t.Errorf("got %+v and error %v, want the chosen uuid", chosen, err)
	}
	good := auth.NewAccount{Name: "new", Password: passwordOf("new"), Role: core.Operator}
	for _, tt := range []struct {
		name  string
		spoil func(*auth.NewAccount)
		kind  core.Kind
		field string
	}{
		{"no name", func(n *auth.NewAccount) { n.Name = "" }, core.Invalid, "name"},
		{"long name", func(n *auth.NewAccount) { n.Name = strings.Repeat("é", 256) }, core.Invalid, "name"},
		{"space about the name", func(n *auth.NewAccount) { n.Name = "new " }, core.Invalid, "name"},
		{"line break in the name", func(n *auth.NewAccount) { n.Name = "ne\nw" }, core.Invalid, "name"},
		{"colon in the name", func(n *auth.NewAccount) { n.Name = "ne:w" }, core.Invalid, "name"},
		{"name that is no UTF-8", func(n *auth.NewAccount) { n.Name = "ne\xffw" }, core.Invalid, "name"},
		{"name taken", func(n *auth.NewAccount) { n.Name = "BOSS" }, core.Exists, "name"},
		{"uuid taken", func(n *auth.NewAccount) { n.UUID = boss.UUID }, core.Exists, "uuid"},
		{"bad uuid", func(n *auth.NewAccount) { n.UUID = "x" }, core.Invalid, "uuid"},
		{"no role", func(n *auth.NewAccount) { n.Role = "" }, core.Invalid, "role"},
		{"unknown role", func(n *auth.NewAccount) { n.Role = "god" }, core.Invalid, "role"},
		{"password itself", func(n *auth.NewAccount) { n.Password = "secret" }, core.Invalid, "password"},
		{"empty password", func(n *auth.NewAccount) { n.Password = auth.DigestOf("") }, core.Invalid, "password"},
		{"unknown owner", func(n *auth.NewAccount) { n.Owner = id.New() }, core.Invalid, "owner"},
		{"owner that is owned", func(n *auth.NewAccount) { n.Owner = helper.UUID }, core.Invalid, "owner"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := good
			tt.spoil(&n)
			_, err := w.a.CreateAccount(w.root(), n)
			wantKind(t, "create", err, tt.kind)
			var e *core.Error
			if errors.As(err, &e) && e.Field != tt.field {
				t.Errorf("got field %q, want %q", e.Field, tt.field)
			}
		})
	}
	list, err := w.a.List(w.root())
	must(t, "list", err)
	if len(list) != 3 || list[0].Name != "boss" || list[1].Name != "helper" {
		t.Errorf("got accounts %+v, want the three that were made, by name", list)
	}
	for _, a := range list {
		if a.Password != "" {
			t.Errorf("the list shows the hash of %s", a.Name)
		}
	}
}

// Each verb against each caller: what the roles allow, in one table.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	admin := w.account("admin", core.Admin)
	operator := w.account("operator", core.Operator)
	viewer := w.account("viewer", core.Viewer)
	victim := w.account("victim", core.Viewer)
	callers := map[string]context.Context{
		"nobody": t.Context(), "admin": w.as(admin), "operator": w.as(operator), "viewer": w.as(viewer), "self": w.as(victim),
	}
	const refusedNobody = core.Unauthenticated
	adminsOnly := map[string]core.Kind{"nobody": refusedNobody, "admin": "", "operator": core.Denied, "viewer": core.Denied, "self": core.Denied}
	selfToo := map[string]core.Kind{"nobody": refusedNobody, "admin": "", "operator": core.Denied, "viewer": core.Denied, "self": ""}
	token := func() string { // one to delete
		_, tok, err := w.a.CreateToken(w.as(admin), victim.UUID, "t", time.Time{})
		must(t, "create token", err)
		return tok.UUID
	}
	for _, tt := range []struct {
		verb string
		do   func(context.Context) error
		want map[string]core.Kind
	}{
		{"CreateAccount", func(ctx context.Context) error {
			_, err := w.a.CreateAccount(ctx, auth.NewAccount{Name: id.New(), Password: passwordOf("x"), Role: core.Viewer})
			return err
		}, adminsOnly},
		{"List", func(ctx context.Context) error { _, err := w.a.List(ctx); return err }, adminsOnly},
		{"Disable", func(ctx context.Context) error { return w.a.Disable(ctx, victim.UUID) }, adminsOnly},
		{"Enable", func(ctx context.Context) error { return w.a.Enable(ctx, victim.UUID) }, adminsOnly},
		{"Account", func(ctx context.Context) error { _, err := w.a.Account(ctx, victim.UUID); return err }, selfToo},
		{"ChangePassword", func(ctx context.Context) error {
			return w.a.ChangePassword(ctx, victim.UUID, passwordOf("victim"), passwordOf("victim"))
		}, selfToo},
		{"CreateToken", func(ctx context.Context) error {
			_, _, err := w.a.CreateToken(ctx, victim.UUID, "t", time.Time{})
			return err
		}, selfToo},
		{"ListTokens", func(ctx context.Context) error { _, err := w.a.ListTokens(ctx, victim.UUID); return err }, selfToo},
		{"DeleteToken", func(ctx context.Context) error { return w.a.DeleteToken(ctx, victim.UUID, token()) }, selfToo},
	} {
		for who, want := range tt.want {
			t.Run(tt.verb+" by "+who, func(t *testing.T) {
				err := tt.do(callers[who])
				if want == "" {
					must(t, tt.verb, err)
					return
				}
				wantKind(t, tt.verb, err, want)
			})
		}
	}
}

func TestChangePassword(t *testing.T) {
	w := newWorld(t)
	ann, bob := w.account("ann", core.Viewer), w.account("bob", core.Viewer)
	here, there := w.a, w.replica(auth.Options{})
	next := auth.DigestOf("next")
	s, others := w.login("ann"), w.login("bob")
	token, _, err := here.CreateToken(w.as(ann), ann.UUID, "t", time.Time{})
	must(t, "create token", err)
	_, err = here.Basic(t.Context(), "ann", "password of ann", "")
	must(t, "basic", err)
	for _, a := range []*auth.Authority{here, there} {
		w.wantValid("session before", a, s.ID, true)
	}

	for _, tt := range []struct {
		name          string
		current, next auth.Digest
		field         string
	}{
		{"wrong current password", auth.DigestOf("guess"), next, "current"},
		{"no current password", "", next, "current"},
		{"empty next password", passwordOf("ann"), auth.DigestOf(""), "next"},
		{"next password itself", passwordOf("ann"), "next", "next"},
	} {
		err := here.ChangePassword(w.as(ann), ann.UUID, tt.current, tt.next)
		var e *core.Error
		if !errors.As(err, &e) || e.Kind != core.Invalid || e.Field != tt.field {
			t.Errorf("%s: got error %v, want Invalid on %q", tt.name, err, tt.field)
		}
	}
	w.wantValid("session after refused changes", here, s.ID, true)

	must(t, "change", here.ChangePassword(w.as(ann), ann.UUID, passwordOf("ann"), next))
	w.wantValid("session, here", here, s.ID, false)
	w.wantValid("session of another account", here, others.ID, true)
	w.wantValid("token", here, token, true)
	w.clock.move(5 * time.Second)
	w.wantValid("session, there", there, s.ID, false)
	_, err = here.Basic(t.Context(), "ann", "password of ann", "")
	wantKind(t, "basic with the old password, here", err, core.Unauthenticated)
	_, err = here.Login(t.Context(), "ann", passwordOf("ann"), "")
	wantKind(t, "login with the old password", err, core.Unauthenticated)
	mustLogin(t, w, "ann", "next")

	must(t, "change by an admin", here.ChangePassword(w.root(), bob.UUID, "", next))
	w.wantValid("session after an admin's change", here, others.ID, false)
	mustLogin(t, w, "bob", "next")
	wantKind(t, "change of nobody's", here.ChangePassword(w.root(), id.New(), "", next), core.NotFound)
}

// The current password must not be a way around the back-off.
func TestGuessingTheCurrentPasswordMustWait(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	for range 5 {
		wantKind(t, "guess", w.a.ChangePassword(w.as(ann), ann.UUID, auth.DigestOf("guess"), auth.DigestOf("n")), core.Invalid)
	}
	wantKind(t, "sixth guess", w.a.ChangePassword(w.as(ann), ann.UUID, passwordOf("ann"), auth.DigestOf("n")), core.Exhausted)
}

func TestDisable(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.a.EnsureAdmin(t.Context(), "admin", "password")
	must(t, "ensure admin", err)
	ann := w.account("ann", core.Operator)
	here, there := w.a, w.replica(auth.Options{})
	s := w.login("ann")
	token, _, err := here.CreateToken(w.as(ann), ann.UUID, "t", time.Time{})
	must(t, "create token", err)
	_, err = here.Basic(t.Context(), "ann", "password of ann", "")
	must(t, "basic", err)
	w.wantValid("session, there, before", there, s.ID, true)
	w.wantValid("token, there, before", there, token, true)

	must(t, "disable", here.Disable(w.root(), ann.UUID))
	w.wantValid("session, here", here, s.ID, false)
	w.wantValid("token, here", here, token, false)
	w.clock.move(5 * time.Second)
	w.wantValid("session, there", there, s.ID, false)
	w.wantValid("token, there", there, token, false)
	_, err = here.Basic(t.Context(), "ann", "password of ann", "")
	wantKind(t, "basic", err, core.Unauthenticated)
	_, err = here.Login(t.Context(), "ann", passwordOf("ann"), "")
	wantKind(t, "login", err, core.Unauthenticated)
	_, err = here.Login(t.Context(), "ann", auth.DigestOf("guess"), "")
	if got := core.Text(err); got != "wrong account name or password" {
		t.Errorf("a wrong password is told %q of a disabled account", got)
	}

	must(t, "enable", here.Enable(w.root(), ann.UUID))
	w.login("ann")
	w.wantValid("token, enabled again", here, token, true)
	w.wantValid("session from before", here, s.ID, false)

	wantKind(t, "disable the first admin", here.Disable(w.root(), auth.AdminUUID), core.Conflict)
	wantKind(t, "disable nobody", here.Disable(w.root(), id.New()), core.NotFound)
	wantKind(t, "enable nobody", here.Enable(w.root(), id.New()), core.NotFound)
}

// overtaken lets something happen just before an account is changed.
type overtaken struct {
	auth.Accounts
	before func()
}

func (o overtaken) UpdateAndSignOut(ctx context.Context, uuid string, change func(*core.Account) error) (core.Account, error) {
	o.before()
	return o.Accounts.UpdateAndSignOut(ctx, uuid, change)
}

// Who has proven the old password must not win over an admin who has just
// replaced it: that is how an account is taken back from a thief.
func TestChangeOvertakenByAnAdmin(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	byAdmin := func() {
		must(t, "change by an admin", w.a.ChangePassword(w.root(), ann.UUID, "", auth.DigestOf("admin's")))
	}
	slow := auth.New(overtaken{w.store, byAdmin}, w.options(auth.Options{}))
	err := slow.ChangePassword(w.as(ann), ann.UUID, passwordOf("ann"), auth.DigestOf("thief's"))
	wantKind(t, "overtaken change", err, core.Stale)
	mustLogin(t, w, "ann", "admin's")
}
