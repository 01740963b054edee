package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

// accountStore is a store on a Redis of the test's own that refuses scripts
// over several hash slots, and the client below it.
func accountStore(t *testing.T) (*store.Store, *redis.Client) {
	t.Helper()
	client := testenv.Redis(t).Client(t, testenv.SameSlot(t))
	return store.New(client, store.Options{}), client
}

var accountBirth = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newAccount(name string) core.Account {
	uuid := id.New()
	return core.Account{UUID: uuid, Name: name, Role: core.Operator, Owner: uuid, Password: "hash of " + name, Created: accountBirth, Updated: accountBirth}
}

func mustCreate(t *testing.T, s *store.Store, name string) core.Account {
	t.Helper()
	a := newAccount(name)
	if err := s.CreateAccount(t.Context(), a); err != nil {
		t.Fatalf("create account %q: %v", name, err)
	}
	return a
}

func wantErrorKind(t *testing.T, what string, err error, want core.Kind) {
	t.Helper()
	if !core.Is(err, want) {
		t.Errorf("%s: got error %v, want one of kind %q", what, err, want)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAccountIsFoundByUUIDAndName(t *testing.T) {
	s, _ := accountStore(t)
	want := mustCreate(t, s, "Straße")
	mustCreate(t, s, "other")
	got, err := s.Account(t.Context(), want.UUID)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "account by uuid", got, want)
	for _, name := range []string{"Straße", "straße", "STRAßE"} {
		got, err := s.AccountByName(t.Context(), name)
		if err != nil {
			t.Fatalf("account by name %q: %v", name, err)
		}
		wantEqual(t, "account by name "+name, got, want)
	}
	_, err = s.Account(t.Context(), id.New())
	wantErrorKind(t, "unknown uuid", err, core.NotFound)
	_, err = s.AccountByName(t.Context(), "nobody")
	wantErrorKind(t, "unknown name", err, core.NotFound)
}

func TestCreateAccountRefusesWhatIsTaken(t *testing.T) {
	s, _ := accountStore(t)
	first := mustCreate(t, s, "Ann")
	sameUUID := newAccount("bob")
	sameUUID.UUID = first.UUID
	for _, tt := range []struct {
		name  string
		a     core.Account
		field string
	}{
		{"same name", newAccount("Ann"), "name"},
		{"same name in another case", newAccount("aNN"), "name"},
		{"same uuid", sameUUID, "uuid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.CreateAccount(t.Context(), tt.a)
			wantErrorKind(t, "create", err, core.Exists)
			if e, ok := err.(*core.Error); ok && e.Field != tt.field {
				t.Errorf("got field %q, want %q", e.Field, tt.field)
			}
		})
	}
	if err := s.CreateAccount(t.Context(), first); err != nil {
		t.Errorf("create repeated after a lost reply: %v", err)
	}
	list, err := s.ListAccounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "accounts after the refusals", list, []core.Account{first})
	mustCreate(t, s, "bob") // the refused uuid has left no name behind
}

func TestListAccountsIsSortedByName(t *testing.T) {
	s, _ := accountStore(t)
	for _, name := range []string{"cy", "Ann", "bob"} {
		mustCreate(t, s, name)
	}
	list, err := s.ListAccounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	wantEqual(t, "names", names, []string{"Ann", "bob", "cy"})
}

// Updates that run at once must all be in the row at the end.
func TestUpdateAccountLosesNoUpdate(t *testing.T) {
	s, _ := accountStore(t)
	a := mustCreate(t, s, "ann")
	const writers, rounds = 8, 10
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for range rounds {
				if _, err := s.UpdateAccount(t.Context(), a.UUID, func(a *core.Account) error {
					a.Updated = a.Updated.Add(time.Second)
					return nil
				}); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	done.Wait()
	got, err := s.Account(t.Context(), a.UUID)
	if err != nil {
		t.Fatal(err)
	}
	a.Updated = accountBirth.Add(writers * rounds * time.Second)
	wantEqual(t, "account after all updates", got, a)
}

func TestUpdateAccountRefuses(t *testing.T) {
	s, _ := accountStore(t)
	a := mustCreate(t, s, "ann")
	for _, tt := range []struct {
		name   string
		uuid   string
		change func(*core.Account) error
		want   core.Kind
	}{
		{"unknown account", id.New(), func(*core.Account) error { return nil }, core.NotFound},
		{"error of change", a.UUID, func(*core.Account) error { return core.Errorf(core.Denied, "no") }, core.Denied},
		{"another name", a.UUID, func(a *core.Account) error { a.Name = "bob"; return nil }, core.Invalid},
		{"another uuid", a.UUID, func(a *core.Account) error { a.UUID = id.New(); return nil }, core.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.UpdateAccount(t.Context(), tt.uuid, tt.change)
			wantErrorKind(t, "update", err, tt.want)
			got, err := s.Account(t.Context(), a.UUID)
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "account after the refusal", got, a)
		})
	}
}

func newSession(a core.Account) core.Session {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return core.Session{Account: a.UUID, Created: now, Expires: now.Add(time.Hour)}
}

func mustPutSession(t *testing.T, s *store.Store, a core.Account, hash string) core.Session {
	t.Helper()
	session := newSession(a)
	if err := s.PutSession(t.Context(), a, hash, session, 100); err != nil {
		t.Fatalf("put session: %v", err)
	}
	return session
}

func wantSessions(t *testing.T, s *store.Store, a core.Account, want int) {
	t.Helper()
	got, err := s.CountSessions(t.Context(), a.UUID)
	if err != nil || got != want {
		t.Errorf("got %d sessions of %s and error %v, want %d", got, a.Name, err, want)
	}
}

func TestSessionLivesUntilItsEnd(t *testing.T) {
	s, client := accountStore(t)
	a := mustCreate(t, s, "ann")
	want := mustPutSession(t, s, a, "h1")
	got, err := s.SessionByHash(t.Context(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "session", got, want)
	for _, key := range []string{"takt:{acc}:session:h1", "takt:{acc}:sessions:" + a.UUID} {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("%s lives for %v, want an hour", key, ttl)
		}
	}
	want.Expires = want.Expires.Add(time.Hour)
	if err := s.RenewSession(t.Context(), "h1", want, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	got, err = s.SessionByHash(t.Context(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "renewed session", got, want)
	for _, key := range []string{"takt:{acc}:session:h1", "takt:{acc}:sessions:" + a.UUID} {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 119*time.Minute {
			t.Errorf("%s lives for %v after the renewal, want two hours", key, ttl)
		}
	}
	wantSessions(t, s, a, 1)
	for range 2 { // the second finds nothing, which is no error
		if err := s.DeleteSession(t.Context(), "h1"); err != nil {
			t.Errorf("delete session: %v", err)
		}
	}
	_, err = s.SessionByHash(t.Context(), "h1")
	wantErrorKind(t, "deleted session", err, core.NotFound)
	wantErrorKind(t, "renew a deleted session", s.RenewSession(t.Context(), "h1", want, time.Hour), core.NotFound)
	wantSessions(t, s, a, 0)
}

func TestPutSessionKeepsToTheLimit(t *testing.T) {
	s, _ := accountStore(t)
	ann, bob := mustCreate(t, s, "ann"), mustCreate(t, s, "bob")
	const limit = 5
	var granted, refused sync.Map
	var done sync.WaitGroup
	for i := range 4 * limit {
		done.Go(func() {
			hash := fmt.Sprint("h", i)
			err := s.PutSession(t.Context(), ann, hash, newSession(ann), limit)
			switch {
			case err == nil:
				granted.Store(hash, true)
			case core.Is(err, core.Exhausted):
				refused.Store(hash, true)
			default:
				t.Errorf("put session: %v", err)
			}
		})
	}
	done.Wait()
	if n := size(&granted); n != limit {
		t.Fatalf("got %d sessions granted, want %d", n, limit)
	}
	wantSessions(t, s, ann, limit)
	granted.Range(func(hash, _ any) bool {
		if err := s.PutSession(t.Context(), ann, hash.(string), newSession(ann), limit); err != nil {
			t.Errorf("put repeated after a lost reply: %v", err)
		}
		if err := s.DeleteSession(t.Context(), hash.(string)); err != nil {
			t.Fatal(err)
		}
		return false
	})
	if err := s.PutSession(t.Context(), ann, "room", newSession(ann), limit); err != nil {
		t.Errorf("put session after another ended: %v", err)
	}
	if err := s.PutSession(t.Context(), bob, "bob's", newSession(bob), limit); err != nil {
		t.Errorf("put session of another account: %v", err)
	}
}

func size(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// A session whose time has come must leave the count, not only its key.
func TestExpiredSessionMakesRoom(t *testing.T) {
	s, client := accountStore(t)
	a := mustCreate(t, s, "ann")
	brief := newSession(a)
	brief.Expires = brief.Created.Add(20 * time.Millisecond)
	if err := s.PutSession(t.Context(), a, "brief", brief, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSession(t.Context(), a, "long", newSession(a), 2); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, func() bool {
		return client.Exists(t.Context(), "takt:{acc}:session:brief").Val() == 0
	})
	wantSessions(t, s, a, 1)
	if err := s.PutSession(t.Context(), a, "third", newSession(a), 2); err != nil {
		t.Errorf("put session after one expired: %v", err)
	}
}

// Between the check of a password and the session it earns, the password may
// change: the session must not outlive the change.
func TestPutSessionRefusesAChangedAccount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*core.Account) error
	}{
		{"password changed", func(a *core.Account) error { a.Password = "new"; return nil }},
		{"disabled", func(a *core.Account) error { a.Disabled = true; return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := accountStore(t)
			ann, bob := mustCreate(t, s, "ann"), mustCreate(t, s, "bob")
			mustPutSession(t, s, ann, "ann's")
			mustPutSession(t, s, bob, "bob's")
			if _, err := s.UpdateAndSignOut(t.Context(), ann.UUID, tt.change); err != nil {
				t.Fatal(err)
			}
			_, err := s.SessionByHash(t.Context(), "ann's")
			wantErrorKind(t, "session after the change", err, core.NotFound)
			wantSessions(t, s, ann, 0)
			wantSessions(t, s, bob, 1)
			wantErrorKind(t, "put session", s.PutSession(t.Context(), ann, "late", newSession(ann), 10), core.Stale)
			wantErrorKind(t, "renew session", s.RenewSession(t.Context(), "ann's", newSession(ann), time.Hour), core.NotFound)
			wantSessions(t, s, ann, 0)
		})
	}
}

func TestUpdateAccountLeavesSessions(t *testing.T) {
	s, _ := accountStore(t)
	a := mustCreate(t, s, "ann")
	mustPutSession(t, s, a, "h1")
	if _, err := s.UpdateAccount(t.Context(), a.UUID, func(a *core.Account) error { a.Role = core.Viewer; return nil }); err != nil {
		t.Fatal(err)
	}
	wantSessions(t, s, a, 1)
}

func TestTokens(t *testing.T) {
	s, client := accountStore(t)
	a, other := mustCreate(t, s, "ann"), mustCreate(t, s, "bob")
	const limit = 2
	lasting := core.Token{UUID: id.New(), Account: a.UUID, Name: "lasting", Created: accountBirth}
	brief := core.Token{UUID: id.New(), Account: a.UUID, Name: "brief", Created: accountBirth.Add(time.Second)}
	brief.Expires = brief.Created.Add(50 * time.Millisecond)
	for hash, token := range map[string]core.Token{"h1": lasting, "h2": brief} {
		if err := s.PutToken(t.Context(), hash, token, limit); err != nil {
			t.Fatalf("put token %s: %v", token.Name, err)
		}
	}
	if ttl := client.TTL(t.Context(), "takt:{acc}:token:h1").Val(); ttl != -1 {
		t.Errorf("a token without an end lives for %v, want for ever", ttl)
	}
	testenv.Eventually(t, 5*time.Second, func() bool {
		_, err := s.TokenByHash(t.Context(), "h2")
		return core.Is(err, core.NotFound)
	})
	wantTokens := func(want ...core.Token) {
		t.Helper()
		got, err := s.ListTokens(t.Context(), a.UUID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tokens (-want +got):\n%s", diff)
		}
	}
	wantTokens(lasting)
	second := core.Token{UUID: id.New(), Account: a.UUID, Name: "second", Created: accountBirth.Add(time.Minute)}
	for range 2 { // the second time after a lost reply
		if err := s.PutToken(t.Context(), "h3", second, limit); err != nil {
			t.Fatalf("put token where one has expired: %v", err)
		}
	}
	wantTokens(lasting, second)
	third := core.Token{UUID: id.New(), Account: a.UUID, Name: "third", Created: accountBirth}
	wantErrorKind(t, "put token beyond the limit", s.PutToken(t.Context(), "h4", third, limit), core.Exhausted)

	wantErrorKind(t, "delete another account's token", s.DeleteToken(t.Context(), other.UUID, lasting.UUID), core.NotFound)
	wantTokens(lasting, second)
	if err := s.DeleteToken(t.Context(), a.UUID, lasting.UUID); err != nil {
		t.Fatal(err)
	}
	wantErrorKind(t, "delete it again", s.DeleteToken(t.Context(), a.UUID, lasting.UUID), core.NotFound)
	_, err := s.TokenByHash(t.Context(), "h1")
	wantErrorKind(t, "deleted token", err, core.NotFound)
	wantTokens(second)
}

func TestAccountKeysShareASlot(t *testing.T) {
	s, client := accountStore(t)
	a := mustCreate(t, s, "ann")
	mustPutSession(t, s, a, "h1")
	if err := s.PutToken(t.Context(), "h2", core.Token{UUID: id.New(), Account: a.UUID, Created: accountBirth}, 1); err != nil {
		t.Fatal(err)
	}
	keys := client.Keys(t.Context(), "*").Val()
	if len(keys) != 6 {
		t.Errorf("got keys %q, want accounts, names, session, token and an index of each", keys)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "takt:{acc}:") {
			t.Errorf("key %q lies outside takt:{acc}:", key)
		}
	}
}

func TestAccountsWithoutRedis(t *testing.T) {
	server := testenv.Redis(t)
	s := store.New(server.Client(t), store.Options{})
	a := mustCreate(t, s, "ann")
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.SessionByHash(ctx, "h1")
	wantErrorKind(t, "session", err, core.Unavailable)
	_, err = s.AccountByName(ctx, "ann")
	wantErrorKind(t, "account", err, core.Unavailable)
	wantErrorKind(t, "put session", s.PutSession(ctx, a, "h1", newSession(a), 1), core.Unavailable)
}
