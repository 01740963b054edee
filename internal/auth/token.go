package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// TokenPrefix begins the text of every API token, so that people, logs and
// secret scanners know one when they see it.
const TokenPrefix = "takt_"

const tokenBytes = 32

// A tokenKind is what the form of a presented text says it is.
type tokenKind int

const (
	noToken tokenKind = iota
	sessionToken
	apiToken
)

func kindOf(text string) tokenKind {
	if id.Valid(text) {
		return sessionToken
	}
	digits, ok := strings.CutPrefix(text, TokenPrefix)
	if !ok || len(digits) != 2*tokenBytes || strings.ToLower(digits) != digits {
		return noToken
	}
	if _, err := hex.DecodeString(digits); err != nil {
		return noToken
	}
	return apiToken
}

// CreateToken makes an API token for an account, whose role it has, and returns
// its text: the only time that it can be seen. A zero expires means never. For
// the account itself and for admins. Errors: Invalid for the name (1 to 255
// characters) or a time that is past; Exhausted when the account has as many
// tokens as it may.
func (a *Authority) CreateToken(ctx context.Context, account, name string, expires time.Time) (string, core.Token, error) {
	if _, err := selfOrAdmin(ctx, account); err != nil {
		return "", core.Token{}, err
	}
	if err := checkText("name", name); err != nil {
		return "", core.Token{}, err
	}
	now := a.opts.Now().UTC()
	if !expires.IsZero() && !expires.After(now) {
		return "", core.Token{}, core.InvalidField("expires", "expires must lie in the future")
	}
	if _, err := a.accounts.Account(ctx, account); err != nil {
		return "", core.Token{}, err
	}
	t := core.Token{UUID: id.New(), Account: account, Name: name, Created: now, Expires: expires.UTC()}
	text := newTokenText()
	if err := a.accounts.PutToken(ctx, hashToken(text), t, a.opts.MaxTokens); err != nil {
		return "", core.Token{}, err
	}
	return text, t, nil
}

// ListTokens returns the API tokens of an account, oldest first. For the
// account itself and for admins.
func (a *Authority) ListTokens(ctx context.Context, account string) ([]core.Token, error) {
	if _, err := selfOrAdmin(ctx, account); err != nil {
		return nil, err
	}
	return a.accounts.ListTokens(ctx, account)
}

// DeleteToken ends an API token by its uuid, here at once and at other replicas
// within 5 s. For the account itself and for admins. NotFound when the account
// has no such token.
func (a *Authority) DeleteToken(ctx context.Context, account, uuid string) error {
	if _, err := selfOrAdmin(ctx, account); err != nil {
		return err
	}
	defer a.seen.clear() // the cache knows texts, not uuids
	return a.accounts.DeleteToken(ctx, account, uuid)
}

func newTokenText() string {
	random := make([]byte, tokenBytes)
	rand.Read(random)
	return TokenPrefix + hex.EncodeToString(random)
}
