package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Bounds of Renew, as ZStack's RenewSession has them.
const (
	shortestRenewal = time.Minute
	longestRenewal  = 365 * 24 * time.Hour
)

// Validate returns who presents the text of a session or of an API token. An
// API token's session ends when the token expires, zero for never. Errors:
// Unauthenticated when the text is neither, or no longer, or the account is
// disabled.
//
// An answer is remembered for 5 s at most: so long may a session that was ended
// at another replica go on here.
func (a *Authority) Validate(ctx context.Context, text string) (core.Caller, core.Session, error) {
	kind := kindOf(text)
	if kind == noToken {
		return core.Caller{}, core.Session{}, errEnded()
	}
	key := hashToken(text)
	now := a.opts.Now()
	if i, ok := a.seen.get(key); ok && i.lives(now) {
		return i.caller, i.session, nil
	}
	mark := a.seen.mark()
	i, err := a.identify(ctx, kind, key)
	if core.Is(err, core.NotFound) || err == nil && !i.lives(now) {
		return core.Caller{}, core.Session{}, errEnded()
	}
	if err != nil {
		return core.Caller{}, core.Session{}, err
	}
	i.session.ID = text
	a.seen.put(key, i, now.Add(sessionCacheLife), mark)
	return i.caller, i.session, nil
}

// identify reads what a hash stands for. NotFound when it is nothing, or the
// account is gone or disabled.
func (a *Authority) identify(ctx context.Context, kind tokenKind, hash string) (identity, error) {
	s, err := a.read(ctx, kind, hash)
	if err != nil {
		return identity{}, err
	}
	account, err := a.accounts.Account(ctx, s.Account)
	if err != nil {
		return identity{}, err
	}
	if account.Disabled {
		return identity{}, core.Missing("account", s.Account)
	}
	return identity{callerOf(account), s}, nil
}

func (a *Authority) read(ctx context.Context, kind tokenKind, hash string) (core.Session, error) {
	if kind == sessionToken {
		return a.accounts.SessionByHash(ctx, hash)
	}
	t, err := a.accounts.TokenByHash(ctx, hash)
	return core.Session{Account: t.Account, Created: t.Created, Expires: t.Expires}, err
}

func (i identity) lives(now time.Time) bool {
	return i.session.Expires.IsZero() || now.Before(i.session.Expires)
}

// Logout ends a session, here at once and at other replicas within 5 s. A text
// that is no session ends nothing and is no error. API tokens are not ended.
func (a *Authority) Logout(ctx context.Context, text string) error {
	if kindOf(text) != sessionToken {
		return nil
	}
	hash := hashToken(text)
	// Also when the store fails, and after it: see cache for the order.
	defer a.seen.drop(hash)
	return a.accounts.DeleteSession(ctx, hash)
}

// Renew lets a session end after life from now, one minute to a year, and
// returns it. Whoever has the text may renew it. Errors: Invalid for another
// life or an API token; Unauthenticated when the session has ended.
func (a *Authority) Renew(ctx context.Context, text string, life time.Duration) (core.Session, error) {
	if life < shortestRenewal || life > longestRenewal {
		return core.Session{}, core.InvalidField("duration", "duration must be between %d and %d seconds",
			int64(shortestRenewal/time.Second), int64(longestRenewal/time.Second))
	}
	if kindOf(text) == apiToken {
		return core.Session{}, core.Errorf(core.Invalid, "an API token cannot be renewed; create another one")
	}
	_, s, err := a.Validate(ctx, text)
	if err != nil {
		return core.Session{}, err
	}
	s.Expires = a.opts.Now().UTC().Add(life)
	hash := hashToken(text)
	defer a.seen.drop(hash)
	err = a.accounts.RenewSession(ctx, hash, s, life)
	if core.Is(err, core.NotFound) {
		return core.Session{}, errEnded()
	}
	return s, err
}

func errEnded() error {
	return core.Errorf(core.Unauthenticated, "the session is invalid or has expired; sign in again")
}

// hashToken gives the form in which the text of a session or token is stored.
// The text is random, so that one round of a fast hash cannot be turned back.
func hashToken(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
