package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/seal"
)

// accessKey makes a key of an account.
func (w *world) accessKey(of core.Account) core.AccessKey {
	w.t.Helper()
	k, err := w.a.CreateAccessKey(w.as(of), auth.NewAccessKey{})
	if err != nil {
		w.t.Fatalf("create access key of %s: %v", of.Name, err)
	}
	return k
}

// sign asks a replica for who signs with a key; the signature is the secret itself.
func (w *world) sign(a *auth.Authority, keyID, secret string) (core.Caller, error) {
	return a.Signed(w.t.Context(), keyID, func(s []byte) bool { return string(s) == secret })
}

func wantRefused(t *testing.T, what string, err error, field string) {
	t.Helper()
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.Unauthenticated || e.Field != field {
		t.Errorf("%s: got error %v, want Unauthenticated with field %q", what, err, field)
	}
}

func TestAccessKeyActsAsItsAccount(t *testing.T) {
	w := newWorld(t)
	boss := w.account("boss", core.Operator)
	helper, err := w.a.CreateAccount(w.root(), auth.NewAccount{Name: "helper", Password: passwordOf("helper"), Role: core.Viewer, Owner: boss.UUID})
	must(t, "create helper", err)
	for _, account := range []core.Account{boss, helper} {
		k := w.accessKey(account)
		if len(k.ID) != 20 || len(k.Secret) != 40 || !id.Valid(k.UUID) || k.Account != account.UUID || k.Owner != boss.UUID || !k.Created.Equal(w.clock.now()) {
			t.Errorf("got key %+v, want one of %s with an id of 20 and a secret of 40 characters", k, account.Name)
		}
		got, err := w.sign(w.a, k.ID, k.Secret)
		must(t, "sign", err)
		if want := (core.Caller{Account: account.UUID, Name: account.Name, Owner: boss.UUID, Role: account.Role}); got != want {
			t.Errorf("got caller %+v, want %+v", got, want)
		}
	}
}

func TestSignedRefuses(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Operator)
	k := w.accessKey(ann)
	_, err := w.sign(w.a, k.ID, "another secret")
	wantRefused(t, "wrong signature", err, auth.WrongSignature)
	_, err = w.sign(w.a, strings.ToLower(k.ID), k.Secret)
	wantRefused(t, "id in another case", err, auth.UnknownKey)

	enable := func(on bool) {
		t.Helper()
		got, err := w.a.EnableAccessKey(w.as(ann), k.UUID, on)
		must(t, "change state", err)
		if got.Disabled == on || got.Secret != "" {
			t.Errorf("got key %+v, want enabled %v and no secret", got, on)
		}
	}
	enable(false)
	_, err = w.sign(w.a, k.ID, k.Secret)
	wantRefused(t, "disabled key", err, auth.DisabledKey)
	enable(true)
	_, err = w.sign(w.a, k.ID, k.Secret)
	must(t, "sign when enabled again", err)

	must(t, "disable the account", w.a.Disable(w.root(), ann.UUID))
	_, err = w.sign(w.a, k.ID, k.Secret)
	wantRefused(t, "disabled account", err, auth.DisabledKey)
	must(t, "enable the account", w.a.Enable(w.root(), ann.UUID))
	_, err = w.sign(w.a, k.ID, k.Secret)
	must(t, "sign when the account is enabled again", err)

	must(t, "delete", w.a.DeleteAccessKey(w.as(ann), k.UUID))
	_, err = w.sign(w.a, k.ID, k.Secret)
	wantRefused(t, "deleted key", err, auth.UnknownKey)
}

// Another replica goes on for five seconds at most.
func TestDisabledAccessKeyElsewhere(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Operator)
	k := w.accessKey(ann)
	other := w.replica(auth.Options{})
	_, err := w.sign(other, k.ID, k.Secret)
	must(t, "sign", err)
	_, err = w.a.EnableAccessKey(w.as(ann), k.UUID, false)
	must(t, "disable", err)
	w.clock.move(5 * time.Second)
	_, err = w.sign(other, k.ID, k.Secret)
	wantRefused(t, "five seconds later", err, auth.DisabledKey)
}

func TestAccessKeySecretIsSealedAndShownOnce(t *testing.T) {
	w := newWorld(t)
	box, err := seal.New(seal.NewKey())
	must(t, "make a box", err)
	w.a = w.replica(auth.Options{Secrets: box})
	ann := w.account("ann", core.Operator)
	k := w.accessKey(ann)

	rows, err := w.client.HVals(t.Context(), "takt:{acc}:accesskeys").Result()
	must(t, "read rows", err)
	if len(rows) != 1 || strings.Contains(rows[0], k.Secret) || !strings.Contains(rows[0], `"secret":"sealed:`) {
		t.Errorf("rows are %q, want one whose secret is sealed", rows)
	}
	for name, ctx := range map[string]context.Context{"ann": w.as(ann), "admin": w.root()} {
		list, err := w.a.AccessKeys(ctx)
		must(t, "list", err)
		if len(list) != 1 || list[0].ID != k.ID || list[0].Secret != "" {
			t.Errorf("%s sees %+v, want the key without its secret", name, list)
		}
	}
	_, err = w.sign(w.replica(auth.Options{Secrets: box}), k.ID, k.Secret)
	must(t, "sign at another replica", err)
	_, err = w.sign(w.replica(auth.Options{}), k.ID, k.Secret)
	wantKind(t, "sign at a replica without the secret key", err, core.Unavailable)
}

func TestCreateAccessKeyRefuses(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Operator)
	bob := w.account("bob", core.Operator)
	const chosenID, chosenSecret = "chosen-id-1", "chosen-secret-1"
	chosen, err := w.a.CreateAccessKey(w.as(ann), auth.NewAccessKey{UUID: id.New(), ID: chosenID, Secret: chosenSecret})
	must(t, "create with an id and a secret of one's own", err)
	_, err = w.sign(w.a, chosenID, chosenSecret)
	must(t, "sign", err)
	for _, tt := range []struct {
		name  string
		n     auth.NewAccessKey
		kind  core.Kind
		field string
	}{
		{"bad uuid", auth.NewAccessKey{UUID: "x"}, core.Invalid, "uuid"},
		{"long description", auth.NewAccessKey{Description: strings.Repeat("é", 2049)}, core.Invalid, "description"},
		{"id alone", auth.NewAccessKey{ID: chosenID}, core.Invalid, "id"},
		{"secret alone", auth.NewAccessKey{Secret: chosenSecret}, core.Invalid, "id"},
		{"short id", auth.NewAccessKey{ID: "123456789", Secret: chosenSecret}, core.Invalid, "id"},
		{"long id", auth.NewAccessKey{ID: strings.Repeat("1", 21), Secret: chosenSecret}, core.Invalid, "id"},
		{"id with a colon", auth.NewAccessKey{ID: "12345:7890", Secret: chosenSecret}, core.Invalid, "id"},
		{"id with a space", auth.NewAccessKey{ID: "12345 7890", Secret: chosenSecret}, core.Invalid, "id"},
		{"short secret", auth.NewAccessKey{ID: "1234567890", Secret: "123456789"}, core.Invalid, "secret"},
		{"long secret", auth.NewAccessKey{ID: "1234567890", Secret: strings.Repeat("1", 41)}, core.Invalid, "secret"},
		{"id taken", auth.NewAccessKey{ID: chosenID, Secret: chosenSecret}, core.Exists, "id"},
		{"uuid taken", auth.NewAccessKey{UUID: chosen.UUID}, core.Exists, "uuid"},
		{"account of another", auth.NewAccessKey{Account: bob.UUID}, core.Denied, ""},
		{"owner that it has not", auth.NewAccessKey{Account: ann.UUID, Owner: bob.UUID}, core.NotFound, "account"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.a.CreateAccessKey(w.as(ann), tt.n)
			wantKind(t, "create", err, tt.kind)
			var e *core.Error
			if errors.As(err, &e) && e.Field != tt.field {
				t.Errorf("got field %q, want %q", e.Field, tt.field)
			}
		})
	}
	_, err = w.a.CreateAccessKey(w.root(), auth.NewAccessKey{Account: id.New()})
	wantKind(t, "no such account", err, core.NotFound)
}

// ZStack lets an account have two keys, and does not limit an admin's.
func TestAccessKeysAreLimited(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Operator)
	admin := w.account("boss", core.Admin)
	for _, tt := range []struct {
		of    core.Account
		limit int
	}{{ann, 2}, {admin, 100}} {
		first := w.accessKey(tt.of)
		for range tt.limit - 1 {
			w.accessKey(tt.of)
		}
		_, err := w.a.CreateAccessKey(w.root(), auth.NewAccessKey{Account: tt.of.UUID})
		wantKind(t, "one more key of "+tt.of.Name, err, core.Exhausted)
		must(t, "delete", w.a.DeleteAccessKey(w.as(tt.of), first.UUID))
		w.accessKey(tt.of)
	}
}

// What carries a request out again after a crash gets the key that it has made.
func TestRepeatedRequestGetsItsKey(t *testing.T) {
	w := newWorld(t)
	box, err := seal.New(seal.NewKey())
	must(t, "make a box", err)
	w.a = w.replica(auth.Options{Secrets: box})
	ann := w.account("ann", core.Operator)
	bob := w.account("bob", core.Operator)
	request := auth.NewAccessKey{Request: id.New()}
	first, err := w.a.CreateAccessKey(w.as(ann), request)
	must(t, "create", err)
	again, err := w.a.CreateAccessKey(w.as(ann), request)
	must(t, "create again", err)
	if again.UUID != first.UUID || again.ID != first.ID || again.Secret != first.Secret {
		t.Errorf("got %+v, want what the request made first: %+v", again, first)
	}
	others, err := w.a.CreateAccessKey(w.as(bob), request)
	must(t, "the same name by another account", err)
	if others.UUID == first.UUID || others.Secret == first.Secret {
		t.Errorf("another account's request got the key %+v", others)
	}
	stranger := auth.NewAccessKey{UUID: first.UUID, Request: id.New()}
	_, err = w.a.CreateAccessKey(w.as(ann), stranger)
	wantKind(t, "another request for the same uuid", err, core.Exists)
}

func TestWhoMayChangeAccessKeys(t *testing.T) {
	w := newWorld(t)
	ann := w.account("ann", core.Viewer)
	bob := w.account("bob", core.Operator)
	k := w.accessKey(ann)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		want core.Kind
	}{
		{"nobody", t.Context(), core.Unauthenticated},
		{"another account", w.as(bob), core.Denied},
		{"the account", w.as(ann), ""},
		{"admin", w.root(), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.a.EnableAccessKey(tt.ctx, k.UUID, true)
			wantKindOrNil(t, "enable", err, tt.want)
			list, err := w.a.AccessKeys(tt.ctx)
			if tt.want == core.Unauthenticated {
				wantKind(t, "list", err, tt.want)
			} else if err != nil || len(list) != map[core.Kind]int{core.Denied: 0, "": 1}[tt.want] {
				t.Errorf("list: got %+v and error %v", list, err)
			}
			_, err = w.a.CreateAccessKey(tt.ctx, auth.NewAccessKey{Account: ann.UUID, UUID: k.UUID})
			if tt.want != "" {
				wantKind(t, "create", err, tt.want)
			}
		})
	}
	wantKind(t, "delete by nobody", w.a.DeleteAccessKey(t.Context(), k.UUID), core.Unauthenticated)
	wantKind(t, "delete by another", w.a.DeleteAccessKey(w.as(bob), k.UUID), core.Denied)
	must(t, "delete by an admin", w.a.DeleteAccessKey(w.root(), k.UUID))
	must(t, "delete what is gone", w.a.DeleteAccessKey(w.as(bob), k.UUID))
	_, err := w.a.EnableAccessKey(w.as(ann), k.UUID, true)
	wantKind(t, "enable what is gone", err, core.NotFound)
}

func wantKindOrNil(t *testing.T, what string, err error, want core.Kind) {
	t.Helper()
	if want == "" {
		must(t, what, err)
		return
	}
	wantKind(t, what, err, want)
}
