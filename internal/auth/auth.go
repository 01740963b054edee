// Package auth decides who somebody is. It signs accounts in and out, hands out
// sessions and API tokens, and turns what a client presents into a core.Caller.
// It knows no wire: every dialect reads the credentials off its own headers and
// asks here.
//
//	name + password ──Login──▶ session ─┐
//	                                    ├─Validate──▶ core.Caller ──▶ the verbs
//	admin or self ──CreateToken──▶ token┘
//	name + password ──Basic───────────────────────▶ core.Caller
//	access key ──Signed───────────────────────────▶ core.Caller
//
// Four things are secret, and none of them is stored as it is:
//
//   - A password comes in as a Digest (what ZStack clients send in its place)
//     and is kept as an argon2id hash that names its own cost.
//   - A session's token is 32 hex digits, an API token is "takt_" and 64 hex
//     digits; both are random, so a plain SHA-256 of them is kept and is the key.
//   - Checked Basic credentials are remembered for a minute under an HMAC whose
//     key lives and dies with the process.
//   - An access key signs each request with a secret that both sides must know.
//     It is stored sealed, under the configuration's secret key.
//
// Guessing is slow by design. At most two passwords are hashed at a time, a
// name nobody has costs the same hash as one that exists and gets the same
// answer, and after five failures an account name, and an address, must wait.
//
// Replicas share no memory: what one of them has cached (an accepted session,
// token or access key for 5 s, Basic credentials for 60 s) it forgets at once when
// it serves the logout or the change itself, and by itself elsewhere.
package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/seal"
)

// AdminUUID is the uuid of the account that EnsureAdmin makes: ZStack gives its
// admin this one in every installation, and clients have it built in.
const AdminUUID = "36c27e8ff05c4780bf6d2fa65700f22e"

// How long a replica may believe what it has read. The first bounds how long a
// session lives on elsewhere after its logout.
const (
	sessionCacheLife = 5 * time.Second
	basicCacheLife   = 60 * time.Second
)

// Options are the settings of an Authority. The zero value is usable.
type Options struct {
	SessionLife time.Duration    // of a new session; 0 = 2 hours, as ZStack has it
	MaxSessions int              // at a time and account; 0 = 500, as ZStack has it
	MaxTokens   int              // at a time and account; 0 = 100
	Cost        Cost             // of new password hashes; the zero Cost = DefaultCost
	Now         func() time.Time // nil = time.Now
	Log         *slog.Logger     // nil = slog.Default()

	MaxAccessKeys int       // at a time and account that is no admin; 0 = 2, as ZStack has it
	Secrets       *seal.Box // seals access keys; nil = they are stored as they are
}

func (o Options) withDefaults() Options {
	o.SessionLife = cmp.Or(o.SessionLife, 2*time.Hour)
	o.MaxSessions = cmp.Or(o.MaxSessions, 500)
	o.MaxTokens = cmp.Or(o.MaxTokens, 100)
	o.MaxAccessKeys = cmp.Or(o.MaxAccessKeys, 2)
	o.Cost = cmp.Or(o.Cost, DefaultCost)
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// An Authority answers for one installation's accounts. It is safe for
// concurrent use.
type Authority struct {
	accounts Accounts
	opts     Options
	hasher   *hasher
	failures *backoff
	seen     *cache[identity]    // accepted sessions and tokens, by hash
	basic    *cache[core.Caller] // checked Basic credentials, by HMAC
	basicKey []byte
	signers  *cache[signer] // access keys that may sign, by id
}

// identity is what a session or token stands for.
type identity struct {
	caller  core.Caller
	session core.Session
}

// New makes an Authority over stored accounts.
func New(accounts Accounts, opts Options) *Authority {
	opts = opts.withDefaults()
	a := &Authority{
		accounts: accounts,
		opts:     opts,
		hasher:   newHasher(opts.Cost),
		failures: newBackoff(opts.Now),
		seen:     newCache[identity](opts.Now),
		basic:    newCache[core.Caller](opts.Now),
		basicKey: make([]byte, 32),
		signers:  newCache[signer](opts.Now),
	}
	rand.Read(a.basicKey) // never fails: crypto/rand ends the program instead
	return a
}

func callerOf(a core.Account) core.Caller {
	return core.Caller{Account: a.UUID, Name: a.Name, Owner: a.Owner, Role: a.Role}
}

// forgetAll empties what is cached, after a change to an account.
func (a *Authority) forgetAll() {
	a.seen.clear()
	a.basic.clear()
	a.signers.clear()
}

// admin refuses a caller who is no admin.
func admin(ctx context.Context) error {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return err
	}
	if c.Role != core.Admin {
		return core.Errorf(core.Denied, "only an admin may do this")
	}
	return nil
}

// selfOrAdmin gives the caller, who must be the account or an admin.
func selfOrAdmin(ctx context.Context, account string) (core.Caller, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return core.Caller{}, err
	}
	if c.Role != core.Admin && c.Account != account {
		return core.Caller{}, core.Errorf(core.Denied, "only an admin may do this for another account")
	}
	return c, nil
}
