package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
)

// EnsureAdmin makes the admin account if no replica has made it before; it is
// for start-up and needs no caller. Where password is empty a random one is
// made and returned: show it once, it is not to be had again. An existing admin
// account is left as it is, whatever its name and password. Invalid with Field
// "password" for one that is too short, while there is no admin account.
func (a *Authority) EnsureAdmin(ctx context.Context, name, password string) (generated string, created bool, err error) {
	if err := checkName(name); err != nil {
		return "", false, err
	}
	// To look first saves each later start a hash; CreateAccount decides.
	if _, err := a.accounts.Account(ctx, AdminUUID); !core.Is(err, core.NotFound) {
		return "", false, err
	}
	if password == "" {
		generated = newPassword()
		password = generated
	}
	if err := CheckPassword("password", password); err != nil {
		return "", false, err
	}
	_, err = a.create(ctx, NewAccount{UUID: AdminUUID, Name: name, Password: DigestOf(password), Role: core.Admin})
	if takenUUID(err) {
		return "", false, nil // by another replica, at this moment
	}
	if err != nil {
		return "", false, err
	}
	return generated, true, nil
}

// NewAccount is what CreateAccount is told of an account.
type NewAccount struct {
	UUID     string // "" = random
	Name     string // 1 to 255 characters, unique in any case of its letters
	Password Digest
	Role     core.Role
	Owner    string // uuid of the account whose things it sees; "" = itself
}

// CreateAccount makes an account. For admins. Errors: Invalid with the field;
// Exists when the uuid or the name is taken.
func (a *Authority) CreateAccount(ctx context.Context, n NewAccount) (core.Account, error) {
	if err := admin(ctx); err != nil {
		return core.Account{}, err
	}
	if err := a.checkNew(ctx, n); err != nil {
		return core.Account{}, err
	}
	account, err := a.create(ctx, n)
	return shown(account), err
}

func (a *Authority) checkNew(ctx context.Context, n NewAccount) error {
	if n.UUID != "" && !id.ValidResource(n.UUID) {
		return core.InvalidField("uuid", "%q is not a valid uuid", n.UUID)
	}
	if err := checkName(n.Name); err != nil {
		return err
	}
	if err := n.Password.check("password"); err != nil {
		return err
	}
	if !n.Role.Valid() {
		return core.InvalidField("role", "role must be %s, %s or %s", core.Admin, core.Operator, core.Viewer)
	}
	return a.checkOwner(ctx, n)
}

func (a *Authority) checkOwner(ctx context.Context, n NewAccount) error {
	if n.Owner == "" || n.Owner == n.UUID {
		return nil
	}
	owner, err := a.accounts.Account(ctx, n.Owner)
	if core.Is(err, core.NotFound) || err == nil && owner.Owner != owner.UUID {
		return core.InvalidField("owner", "owner must be an account that owns its things itself")
	}
	return err
}

// create stores an account whose fields have been checked.
func (a *Authority) create(ctx context.Context, n NewAccount) (core.Account, error) {
	phc, err := a.hash(ctx, n.Password)
	if err != nil {
		return core.Account{}, err
	}
	if n.UUID == "" {
		n.UUID = id.New()
	}
	if n.Owner == "" {
		n.Owner = n.UUID
	}
	now := a.opts.Now().UTC()
	account := core.Account{UUID: n.UUID, Name: n.Name, Role: n.Role, Owner: n.Owner, Password: phc, Created: now, Updated: now}
	if err := a.accounts.CreateAccount(ctx, account); err != nil {
		return core.Account{}, err
	}
	return account, nil
}

// ChangePassword gives an account another password and ends all its sessions;
// its API tokens stay. An account changes its own with the current one, an
// admin anybody else's without (current is then not looked at). Errors: Invalid
// with Field "current" when that is wrong, "next" when the new one cannot be;
// Exhausted as for Login.
func (a *Authority) ChangePassword(ctx context.Context, account string, current, next Digest) error {
	c, err := selfOrAdmin(ctx, account)
	if err != nil {
		return err
	}
	if err := next.check("next"); err != nil {
		return err
	}
	var proven core.Account
	if c.Account == account {
		proven, err = a.verify(ctx, attempt{name: c.Name, password: current})
		if core.Is(err, core.Unauthenticated) {
			return core.InvalidField("current", "the current password is wrong")
		}
		if err != nil {
			return err
		}
	}
	phc, err := a.hash(ctx, next)
	if err != nil {
		return err
	}
	return a.signOut(ctx, account, func(stored *core.Account) error {
		old := stored.Password
		if c.Account == account {
			old = proven.Password
		}
		return replacePassword(stored, old, phc)
	})
}

// Disable keeps an account from signing in, and ends its sessions; its API
// tokens and Basic credentials are refused while it lasts. For admins. The
// account of EnsureAdmin cannot be disabled (Conflict): somebody must be able
// to enable the others.
func (a *Authority) Disable(ctx context.Context, account string) error {
	if err := admin(ctx); err != nil {
		return err
	}
	if account == AdminUUID {
		return core.Errorf(core.Conflict, "the first admin account cannot be disabled; change its password instead")
	}
	return a.signOut(ctx, account, func(stored *core.Account) error {
		stored.Disabled = true
		return nil
	})
}

// Enable ends a Disable. For admins.
func (a *Authority) Enable(ctx context.Context, account string) error {
	if err := admin(ctx); err != nil {
		return err
	}
	defer a.forgetAll()
	_, err := a.accounts.UpdateAccount(ctx, account, func(stored *core.Account) error {
		stored.Disabled = false
		stored.Updated = a.opts.Now().UTC()
		return nil
	})
	return err
}

// signOut changes an account and ends its sessions.
func (a *Authority) signOut(ctx context.Context, account string, change func(*core.Account) error) error {
	defer a.forgetAll()
	_, err := a.accounts.UpdateAndSignOut(ctx, account, func(stored *core.Account) error {
		stored.Updated = a.opts.Now().UTC()
		return change(stored)
	})
	return err
}

// Account returns an account without its password's hash. For the account
// itself and for admins.
func (a *Authority) Account(ctx context.Context, uuid string) (core.Account, error) {
	if _, err := selfOrAdmin(ctx, uuid); err != nil {
		return core.Account{}, err
	}
	account, err := a.accounts.Account(ctx, uuid)
	return shown(account), err
}

// List returns all accounts, sorted by name, without their passwords' hashes.
// For admins.
func (a *Authority) List(ctx context.Context) ([]core.Account, error) {
	if err := admin(ctx); err != nil {
		return nil, err
	}
	list, err := a.accounts.ListAccounts(ctx)
	for i := range list {
		list[i] = shown(list[i])
	}
	return list, err
}

// hash hashes a new password in a slot of its own.
func (a *Authority) hash(ctx context.Context, d Digest) (string, error) {
	s, err := a.hasher.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer s.release()
	return s.hash(d), nil
}

// shown is an account as it may leave this package.
func shown(a core.Account) core.Account {
	a.Password = ""
	return a
}

// checkName refuses what could not sign in: Basic ends the name at a colon.
func checkName(name string) error {
	if strings.Contains(name, ":") {
		return core.InvalidField("name", "name must not contain a colon")
	}
	return checkText("name", name)
}

// checkText refuses a text that is not 1 to 255 visible characters.
func checkText(field, s string) error {
	switch n := utf8.RuneCountInString(s); {
	case n == 0 || n > core.MaxName:
		return core.InvalidField(field, "%s must have 1 to %d characters", field, core.MaxName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return core.InvalidField(field, "%s must not contain control characters", field)
	case strings.TrimSpace(s) != s:
		return core.InvalidField(field, "%s must not begin or end with a space", field)
	}
	return nil
}

// newPassword makes a random password of 100 bits: four groups of five letters
// and digits of base32, which knows no 0 and 1 to be taken for o and l.
func newPassword() string {
	s := strings.ToLower(rand.Text())
	return s[:5] + "-" + s[5:10] + "-" + s[10:15] + "-" + s[15:20]
}

// takenUUID reports whether err says that an account's uuid is taken.
func takenUUID(err error) bool {
	var e *core.Error
	return errors.As(err, &e) && e.Kind == core.Exists && e.Field == "uuid"
}
