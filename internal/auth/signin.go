package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// signInTries is how often Login checks a password whose account changed under
// it, as when another sign-in has just made its hash anew.
const signInTries = 3

// Login signs an account in with the digest of its password and returns a new
// session. remote is the client's address, with or without a port; "" is no
// address. Errors: Unauthenticated with one text for a wrong name and a wrong
// password; Exhausted with a WaitError as cause after failures, and without one
// when the account has as many sessions as it may.
func (a *Authority) Login(ctx context.Context, name string, password Digest, remote string) (core.Session, error) {
	return a.signIn(ctx, attempt{name, password, remote}, nil)
}

// LoginUser is Login for an account that belongs to another one, its owner, which
// must be named too: by its name or its uuid. A wrong owner counts, and is
// answered, as a wrong password.
func (a *Authority) LoginUser(ctx context.Context, owner, name string, password Digest, remote string) (core.Session, error) {
	who := attempt{name, password, remote}
	return a.signIn(ctx, who, func(user core.Account) error {
		ok, err := a.belongs(ctx, user, owner)
		if err == nil && !ok {
			a.failures.add(who.suspects()...)
			err = errWrong()
		}
		return err
	})
}

// belongs reports whether a user's owner, another account, has this name or uuid.
func (a *Authority) belongs(ctx context.Context, user core.Account, owner string) (bool, error) {
	if user.Owner == user.UUID || owner == user.Owner {
		return user.Owner != user.UUID, nil
	}
	account, err := a.accounts.Account(ctx, user.Owner)
	if core.Is(err, core.NotFound) {
		return false, nil
	}
	return strings.EqualFold(account.Name, owner), err
}

// signIn makes a session for what who proves to be, if that passes check.
func (a *Authority) signIn(ctx context.Context, who attempt, check func(core.Account) error) (core.Session, error) {
	var err error
	for range signInTries {
		var account core.Account
		if account, err = a.verify(ctx, who); err != nil {
			return core.Session{}, err
		}
		if check != nil {
			if err = check(account); err != nil {
				return core.Session{}, err
			}
		}
		var s core.Session
		if s, err = a.begin(ctx, account); !core.Is(err, core.Stale) {
			return s, err
		}
	}
	return core.Session{}, err
}

// LoginPlain is Login with the password itself.
func (a *Authority) LoginPlain(ctx context.Context, name, password, remote string) (core.Session, error) {
	return a.Login(ctx, name, DigestOf(password), remote)
}

// begin makes a session for an account whose password has been checked.
func (a *Authority) begin(ctx context.Context, account core.Account) (core.Session, error) {
	now := a.opts.Now().UTC()
	s := core.Session{ID: id.New(), Account: account.UUID, Created: now, Expires: now.Add(a.opts.SessionLife)}
	if err := a.accounts.PutSession(ctx, account, hashToken(s.ID), s, a.opts.MaxSessions); err != nil {
		return core.Session{}, err
	}
	return s, nil
}

// Basic checks a name and password that come with each request, and makes no
// session. What it has accepted it accepts again for 60 s without hashing; a
// wrong answer is not remembered. Errors are those of Login.
func (a *Authority) Basic(ctx context.Context, name, password, remote string) (core.Caller, error) {
	who := attempt{name, DigestOf(password), remote}
	key := a.credentialKey(who)
	if c, ok := a.basic.get(key); ok {
		return c, nil
	}
	s, err := a.admit(ctx, who)
	if err != nil {
		return core.Caller{}, err
	}
	defer s.release()
	// A client's parallel requests wait here together; the first pays for all.
	if c, ok := a.basic.get(key); ok {
		return c, nil
	}
	mark := a.basic.mark()
	account, err := a.prove(ctx, s, who)
	if err != nil {
		return core.Caller{}, err
	}
	c := callerOf(account)
	a.basic.put(key, c, a.opts.Now().Add(basicCacheLife), mark)
	return c, nil
}

// credentialKey names credentials in the cache without holding the password.
func (a *Authority) credentialKey(who attempt) string {
	mac := hmac.New(sha256.New, a.basicKey)
	mac.Write([]byte(who.password)) // of fixed length, so the name's start is certain
	mac.Write([]byte(strings.ToLower(who.name)))
	return string(mac.Sum(nil))
}

// An attempt is one try to prove an identity.
type attempt struct {
	name     string
	password Digest
	remote   string
}

func (t attempt) suspects() []string {
	if key := addressKey(t.remote); key != "" {
		return []string{nameKey(t.name), key}
	}
	return []string{nameKey(t.name)}
}

// verify returns the account that the attempt proves to be.
func (a *Authority) verify(ctx context.Context, who attempt) (core.Account, error) {
	s, err := a.admit(ctx, who)
	if err != nil {
		return core.Account{}, err
	}
	defer s.release()
	return a.prove(ctx, s, who)
}

// admit lets an attempt take a hash slot, unless it must wait after failures.
func (a *Authority) admit(ctx context.Context, who attempt) (slot, error) {
	if err := a.failures.check(who.suspects()...); err != nil {
		return slot{}, err
	}
	s, err := a.hasher.acquire(ctx)
	if err != nil {
		return slot{}, err
	}
	// Again: a thousand guesses sent at once pass the first look together, and
	// the slots let them come here two by two, after the failures before them.
	if err := a.failures.check(who.suspects()...); err != nil {
		s.release()
		return slot{}, err
	}
	return s, nil
}

// prove checks the password in the slot and counts the outcome.
func (a *Authority) prove(ctx context.Context, s slot, who attempt) (core.Account, error) {
	account, err := a.accounts.AccountByName(ctx, who.name)
	known := err == nil
	if !known && !core.Is(err, core.NotFound) {
		return core.Account{}, err
	}
	phc := account.Password
	if !known {
		phc = a.hasher.decoy // an unknown name must cost what a known one costs
	}
	ok, outdated, err := s.match(phc, who.password)
	if err != nil {
		return core.Account{}, err
	}
	if !known || !ok {
		a.failures.add(who.suspects()...)
		a.opts.Log.WarnContext(ctx, "sign-in failed", "account", account.UUID, "remote", who.remote)
		return core.Account{}, errWrong()
	}
	// Only the name's count ends: who owns one account could else guess at
	// others without end, signing in to the own one in between.
	a.failures.forget(nameKey(who.name))
	if account.Disabled {
		return core.Account{}, core.Errorf(core.Unauthenticated, "the account is disabled")
	}
	if outdated {
		account = a.hashAnew(ctx, s, account, who.password)
	}
	return account, nil
}

// errWrong is the one text for a wrong name and a wrong password.
func errWrong() error {
	return core.Errorf(core.Unauthenticated, "wrong account name or password")
}

// hashAnew replaces a hash made at less than today's cost. The sign-in goes on
// with the old one when that fails.
func (a *Authority) hashAnew(ctx context.Context, s slot, account core.Account, password Digest) core.Account {
	phc := s.hash(password)
	updated, err := a.accounts.UpdateAccount(ctx, account.UUID, func(stored *core.Account) error {
		return replacePassword(stored, account.Password, phc)
	})
	if err != nil {
		a.opts.Log.WarnContext(ctx, "password hash kept at its old cost", "account", account.UUID, "err", err)
		return account
	}
	return updated
}

// replacePassword sets an account's hash from old to phc. Stale when it is
// neither; that it is phc already means that a reply was lost.
func replacePassword(stored *core.Account, old, phc string) error {
	if stored.Password != old && stored.Password != phc {
		return core.Errorf(core.Stale, "the password was changed meanwhile; try again")
	}
	stored.Password = phc
	return nil
}
