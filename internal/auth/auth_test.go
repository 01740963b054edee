package auth_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/store"
	"github.com/takt-dev/takt/internal/testenv"
)

var _ auth.Accounts = (*store.Store)(nil)

// clock is a clock that stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is one installation: a Redis, a store on it, a clock, and the replica a.
type world struct {
	t      *testing.T
	client *redis.Client
	store  *store.Store
	clock  *clock
	a      *auth.Authority
}

func newWorld(t *testing.T) *world {
	t.Helper()
	client := testenv.Redis(t).Client(t, testenv.SameSlot(t))
	w := &world{t: t, client: client, store: store.New(client, store.Options{}), clock: &clock{t: time.Now()}}
	w.a = w.replica(auth.Options{})
	return w
}

// replica is another process of the installation, at a cost that tests can pay.
func (w *world) replica(opts auth.Options) *auth.Authority {
	return auth.New(w.store, w.options(opts))
}

func (w *world) options(opts auth.Options) auth.Options {
	opts.Now = w.clock.now
	opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if opts.Cost == (auth.Cost{}) {
		opts.Cost = auth.Cost{Memory: 64, Time: 1, Threads: 1}
	}
	return opts
}

// as is a context in which somebody asks.
func (w *world) as(a core.Account) context.Context {
	return core.WithCaller(w.t.Context(), core.Caller{Account: a.UUID, Name: a.Name, Owner: a.Owner, Role: a.Role})
}

// root is a context in which an admin asks who is nobody's account.
func (w *world) root() context.Context {
	return core.WithCaller(w.t.Context(), core.Caller{Account: "root", Name: "root", Owner: "root", Role: core.Admin})
}

// account makes an account whose password is "password of <name>".
func (w *world) account(name string, role core.Role) core.Account {
	w.t.Helper()
	a, err := w.a.CreateAccount(w.root(), auth.NewAccount{Name: name, Password: passwordOf(name), Role: role})
	if err != nil {
		w.t.Fatalf("create account %q: %v", name, err)
	}
	return a
}

func passwordOf(name string) auth.Digest { return auth.DigestOf("password of " + name) }

// login signs an account in that account made.
func (w *world) login(name string) core.Session {
	w.t.Helper()
	s, err := w.a.Login(w.t.Context(), name, passwordOf(name), "")
	if err != nil {
		w.t.Fatalf("login of %q: %v", name, err)
	}
	return s
}

// valid reports whether a replica takes the text of a session or token, and
// fails the test when it cannot say.
func (w *world) valid(a *auth.Authority, text string) bool {
	w.t.Helper()
	_, _, err := a.Validate(w.t.Context(), text)
	if err != nil && !core.Is(err, core.Unauthenticated) {
		w.t.Fatalf("validate: %v", err)
	}
	return err == nil
}

func (w *world) wantValid(what string, a *auth.Authority, text string, want bool) {
	w.t.Helper()
	if got := w.valid(a, text); got != want {
		w.t.Errorf("%s: valid = %v, want %v", what, got, want)
	}
}

func wantKind(t *testing.T, what string, err error, want core.Kind) {
	t.Helper()
	if !core.Is(err, want) {
		t.Errorf("%s: got error %v, want one of kind %q", what, err, want)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
