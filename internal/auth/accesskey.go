package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// adminAccessKeys bounds what ZStack leaves unbounded: an admin's access keys.
const adminAccessKeys = 100

// What of a signed request is refused, as the Field of Signed's errors.
const (
	UnknownKey     = "accessKey"
	DisabledKey    = "state"
	WrongSignature = "signature"
)

// signer is an access key that may sign, with its secret in clear.
type signer struct {
	secret []byte
	caller core.Caller
}

// Signed returns who has signed a request with the access key that keyID names.
// matches computes the signature with the key's secret, as the dialect has it, and
// compares in constant time. Errors: Unauthenticated, with Field UnknownKey,
// DisabledKey (of the key or its account) or WrongSignature; Unavailable when the
// secret cannot be opened.
//
// What was read of a key is remembered for 5 s at most: so long may a key that was
// disabled or deleted at another replica go on here.
func (a *Authority) Signed(ctx context.Context, keyID string, matches func(secret []byte) bool) (core.Caller, error) {
	s, ok := a.signers.get(keyID)
	if !ok {
		mark := a.signers.mark()
		var err error
		if s, err = a.readSigner(ctx, keyID); err != nil {
			return core.Caller{}, err
		}
		a.signers.put(keyID, s, a.opts.Now().Add(sessionCacheLife), mark)
	}
	if !matches(s.secret) {
		return core.Caller{}, refusedKey(WrongSignature, "the signature is not the access key's")
	}
	return s.caller, nil
}

func (a *Authority) readSigner(ctx context.Context, keyID string) (signer, error) {
	k, err := a.accounts.AccessKeyByID(ctx, keyID)
	if core.Is(err, core.NotFound) {
		return signer{}, refusedKey(UnknownKey, "there is no such access key")
	}
	if err != nil {
		return signer{}, err
	}
	account, err := a.accounts.Account(ctx, k.Account)
	if err != nil && !core.Is(err, core.NotFound) {
		return signer{}, err
	}
	if k.Disabled || err != nil || account.Disabled {
		return signer{}, refusedKey(DisabledKey, "the access key is disabled")
	}
	secret, err := a.openSecret(k)
	return signer{[]byte(secret), callerOf(account)}, err
}

func (a *Authority) openSecret(k core.AccessKey) (string, error) {
	secret, err := a.opts.Secrets.Open(k.Secret)
	if err != nil {
		return "", core.Wrap(core.Unavailable, err, "the access key's secret is sealed and this process cannot open it; set api.secretKey to the key it was sealed with")
	}
	return secret, nil
}

func refusedKey(field, text string) error {
	return &core.Error{Kind: core.Unauthenticated, Field: field, Text: text}
}

// NewAccessKey is what CreateAccessKey is told of a key.
type NewAccessKey struct {
	UUID        string // "" = random
	Account     string // whom it acts as; "" = the caller's own account
	Owner       string // to whom that account must belong; "" = anybody
	Description string
	ID, Secret  string // both or neither; "" = random
	// Request names the request that asks, where it may be carried out again after
	// a crash: it then gets the key that it has made. No client may choose it.
	Request string
}

// CreateAccessKey makes an access key and returns it with its secret in clear: the
// only time that it can be seen. For the account itself and for admins. Errors:
// Invalid with the field; NotFound with Field "account"; Exists when the uuid or
// the id is taken; Exhausted when the account has as many keys as it may.
func (a *Authority) CreateAccessKey(ctx context.Context, n NewAccessKey) (core.AccessKey, error) {
	account, err := a.keyHolder(ctx, n)
	if err != nil {
		return core.AccessKey{}, err
	}
	if err := n.check(); err != nil {
		return core.AccessKey{}, err
	}
	k := n.key(account, a.opts.Now().UTC())
	limit := a.opts.MaxAccessKeys
	if account.Role == core.Admin {
		limit = max(limit, adminAccessKeys)
	}
	stored := k
	stored.Secret = a.opts.Secrets.Seal(k.Secret)
	err = a.accounts.PutAccessKey(ctx, stored, limit)
	if takenUUID(err) {
		return a.made(ctx, k, err)
	}
	if err != nil {
		return core.AccessKey{}, err
	}
	return k, nil
}

// keyHolder gives the account that a new key is to act as.
func (a *Authority) keyHolder(ctx context.Context, n NewAccessKey) (core.Account, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return core.Account{}, err
	}
	account, err := a.Account(ctx, cmp.Or(n.Account, c.Account))
	if err == nil && n.Owner != "" && n.Owner != account.Owner {
		return core.Account{}, core.Missing("account", n.Account)
	}
	return account, err
}

func (n NewAccessKey) check() error {
	switch {
	case n.UUID != "" && !id.ValidResource(n.UUID):
		return core.InvalidField("uuid", "%q is not a valid uuid", n.UUID)
	case utf8.RuneCountInString(n.Description) > core.MaxDescription || !utf8.ValidString(n.Description):
		return core.InvalidField("description", "description must be text of at most %d characters", core.MaxDescription)
	case (n.ID == "") != (n.Secret == ""):
		return core.InvalidField("id", "give both an id and a secret, or neither")
	case n.ID == "":
		return nil
	case !keyText(n.ID, core.AccessKeyID):
		return core.InvalidField("id", "id must have %d to %d visible ASCII characters, none of them a colon", core.MinAccessKey, core.AccessKeyID)
	case !keyText(n.Secret, core.AccessKeySecret):
		return core.InvalidField("secret", "secret must have %d to %d visible ASCII characters, none of them a colon", core.MinAccessKey, core.AccessKeySecret)
	}
	return nil
}

// keyText reports whether s can stand in a header as id:signature and is long
// enough.
func keyText(s string, most int) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }
	return len(s) >= core.MinAccessKey && len(s) <= most && !strings.ContainsFunc(s, odd)
}

func (n NewAccessKey) key(account core.Account, now time.Time) core.AccessKey {
	k := core.AccessKey{
		UUID: n.UUID, ID: n.ID, Account: account.UUID, Owner: account.Owner, Description: n.Description, Secret: n.Secret,
		Request: n.Request, Created: now, Updated: now,
	}
	if k.UUID == "" && n.Request != "" {
		k.UUID = id.Derived("access key|" + account.UUID + "|" + n.Request)
	}
	if k.UUID == "" {
		k.UUID = id.New()
	}
	if k.ID == "" {
		k.ID, k.Secret = rand.Text()[:core.AccessKeyID], (rand.Text() + rand.Text())[:core.AccessKeySecret]
	}
	return k
}

// made gives the key that has the uuid of a new one if the same request has made
// it, and else taken.
func (a *Authority) made(ctx context.Context, k core.AccessKey, taken error) (core.AccessKey, error) {
	stored, err := a.accounts.AccessKey(ctx, k.UUID)
	if err != nil {
		return core.AccessKey{}, errors.Join(taken, err)
	}
	if k.Request == "" || stored.Request != k.Request || stored.Account != k.Account {
		return core.AccessKey{}, taken
	}
	stored.Secret, err = a.openSecret(stored)
	return stored, err
}

// AccessKeys returns the access keys of the caller's account, for an admin those of
// all accounts, oldest first and without their secrets.
func (a *Authority) AccessKeys(ctx context.Context) ([]core.AccessKey, error) {
	c, err := core.CallerFrom(ctx)
	if err != nil {
		return nil, err
	}
	of := c.Account
	if c.Role == core.Admin {
		of = ""
	}
	list, err := a.accounts.ListAccessKeys(ctx, of)
	for i := range list {
		list[i].Secret = ""
	}
	return list, err
}

// EnableAccessKey lets a key sign, or refuses its requests from now on, here at
// once and at other replicas within 5 s. For the key's account and for admins.
// NotFound when there is no such key.
func (a *Authority) EnableAccessKey(ctx context.Context, uuid string, enabled bool) (core.AccessKey, error) {
	k, err := a.ownKey(ctx, uuid)
	if err != nil {
		return core.AccessKey{}, err
	}
	defer a.signers.drop(k.ID)
	k, err = a.accounts.UpdateAccessKey(ctx, uuid, func(stored *core.AccessKey) error {
		if stored.Disabled == enabled {
			stored.Disabled, stored.Updated = !enabled, a.opts.Now().UTC()
		}
		return nil
	})
	k.Secret = ""
	return k, err
}

// DeleteAccessKey ends a key, here at once and at other replicas within 5 s; one
// that does not exist is no error. For the key's account and for admins.
func (a *Authority) DeleteAccessKey(ctx context.Context, uuid string) error {
	k, err := a.ownKey(ctx, uuid)
	if core.Is(err, core.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer a.signers.drop(k.ID)
	return a.accounts.DeleteAccessKey(ctx, uuid)
}

// ownKey gives a key that the caller may change.
func (a *Authority) ownKey(ctx context.Context, uuid string) (core.AccessKey, error) {
	if _, err := core.CallerFrom(ctx); err != nil {
		return core.AccessKey{}, err
	}
	k, err := a.accounts.AccessKey(ctx, uuid)
	if err != nil {
		return core.AccessKey{}, err
	}
	if _, err := selfOrAdmin(ctx, k.Account); err != nil {
		return core.AccessKey{}, err
	}
	return k, nil
}
