package auth

import (
	"context"
	"time"

	"github.com/takt-dev/takt/internal/core"
)

// Accounts is where accounts, sessions, tokens and access keys are kept;
// package store implements it. Besides the errors named here each method may
// return an Unavailable one.
type Accounts interface {
	// CreateAccount adds an account. Exists when the uuid, or the name in any
	// case of its letters, is taken; Field says which ("uuid" or "name").
	CreateAccount(ctx context.Context, a core.Account) error

	// Account returns an account by uuid, AccountByName by name in any case of
	// its letters. NotFound when there is none; AccountByName takes as long
	// to say so as to find one.
	Account(ctx context.Context, uuid string) (core.Account, error)
	AccountByName(ctx context.Context, name string) (core.Account, error)

	// ListAccounts returns all accounts, sorted by name.
	ListAccounts(ctx context.Context) ([]core.Account, error)

	// UpdateAccount stores what change makes of an account and returns it.
	// change is called again when the account was changed meanwhile, perhaps
	// by this very update whose reply was lost; an error of change ends the
	// update and is returned as it is. Uuid and name cannot be changed.
	// NotFound when there is no such account.
	UpdateAccount(ctx context.Context, uuid string, change func(*core.Account) error) (core.Account, error)

	// UpdateAndSignOut is UpdateAccount that ends all sessions of the account
	// in the same step. Tokens stay.
	UpdateAndSignOut(ctx context.Context, uuid string, change func(*core.Account) error) (core.Account, error)

	Sessions
	Tokens
	AccessKeys
}

// Sessions keeps sessions by the hash of their token, each until it expires.
type Sessions interface {
	// PutSession keeps a new session for its life, from s.Created to s.Expires.
	// by is the account as it was when its password was checked: Stale when the
	// password was changed, or the account disabled, since. Exhausted when the
	// account has limit sessions.
	PutSession(ctx context.Context, by core.Account, hash string, s core.Session, limit int) error

	// SessionByHash returns a session, without its ID. NotFound when there is none.
	SessionByHash(ctx context.Context, hash string) (core.Session, error)

	// RenewSession replaces a session and keeps it for life from now on.
	// NotFound when it has ended.
	RenewSession(ctx context.Context, hash string, s core.Session, life time.Duration) error

	// DeleteSession ends a session; ending one that does not exist is no error.
	DeleteSession(ctx context.Context, hash string) error

	// CountSessions returns the number of sessions of an account.
	CountSessions(ctx context.Context, account string) (int, error)
}

// Tokens keeps API tokens by the hash of their text, each until it expires.
type Tokens interface {
	// PutToken keeps a new token. Exhausted when its account has limit tokens.
	PutToken(ctx context.Context, hash string, t core.Token, limit int) error

	// TokenByHash returns a token. NotFound when there is none.
	TokenByHash(ctx context.Context, hash string) (core.Token, error)

	// ListTokens returns the tokens of an account, oldest first.
	ListTokens(ctx context.Context, account string) ([]core.Token, error)

	// DeleteToken ends a token. NotFound when the account has no such token.
	DeleteToken(ctx context.Context, account, uuid string) error
}

// AccessKeys keeps access keys, with their secrets as they are given: sealed.
type AccessKeys interface {
	// PutAccessKey adds a key. Exists when the uuid, or the id, is taken; Field
	// says which ("uuid" or "id"). Exhausted when its account has limit keys.
	PutAccessKey(ctx context.Context, k core.AccessKey, limit int) error

	// AccessKey returns a key by uuid, AccessKeyByID by the id that signed requests
	// name. NotFound when there is none.
	AccessKey(ctx context.Context, uuid string) (core.AccessKey, error)
	AccessKeyByID(ctx context.Context, keyID string) (core.AccessKey, error)

	// ListAccessKeys returns the keys of an account, or of all for "", oldest first.
	ListAccessKeys(ctx context.Context, account string) ([]core.AccessKey, error)

	// UpdateAccessKey stores what change makes of a key and returns it, as
	// UpdateAccount does. Uuid, id and account cannot be changed. NotFound.
	UpdateAccessKey(ctx context.Context, uuid string, change func(*core.AccessKey) error) (core.AccessKey, error)

	// DeleteAccessKey removes a key; one that does not exist is no error.
	DeleteAccessKey(ctx context.Context, uuid string) error
}
