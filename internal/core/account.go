package core

import (
	"context"
	"time"
)

// Role is what an account may do.
type Role string

// Roles, from most to least.
const (
	Admin    Role = "admin"    // everything, in every account
	Operator Role = "operator" // makes and runs what is its own account's
	Viewer   Role = "viewer"   // reads what is its own account's
)

// Valid reports whether r is a role.
func (r Role) Valid() bool { return r == Admin || r == Operator || r == Viewer }

// An Account signs in and owns definitions and runs.
type Account struct {
	UUID     string    `json:"uuid"`
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Owner    string    `json:"owner"`    // the account whose things it sees: its own uuid, or another's
	Password string    `json:"password"` // encoded hash (package auth), never shown
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// A Session is a signed-in account.
type Session struct {
	ID      string    `json:"-"` // the token as given to the client; stored only as a hash
	Account string    `json:"account"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// A Caller is who asks. Verbs on definitions and runs read it from the context
// and refuse a context without one.
type Caller struct {
	Account string // who signed in
	Name    string
	Owner   string // whose things are seen and made
	Role    Role
}

// Sees reports whether the caller may read what belongs to an account.
func (c Caller) Sees(account string) bool { return c.Role == Admin || c.Owner == account }

// Changes reports whether the caller may change what belongs to an account.
func (c Caller) Changes(account string) bool {
	return c.Role == Admin || (c.Role == Operator && c.Owner == account)
}

type callerKey struct{}

// WithCaller returns a context that carries the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom gives the caller, or an Unauthenticated error.
func CallerFrom(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, Errorf(Unauthenticated, "sign in first")
	}
	return c, nil
}
