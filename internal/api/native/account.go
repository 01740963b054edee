package native

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// Accounts are the verbs on accounts; each looks at the caller itself.
type Accounts interface {
	CreateAccount(ctx context.Context, n auth.NewAccount) (core.Account, error) // Invalid, Exists
	Account(ctx context.Context, uuid string) (core.Account, error)             // NotFound
	List(ctx context.Context) ([]core.Account, error)
	ChangePassword(ctx context.Context, account string, current, next auth.Digest) error // Invalid: current, next
	Disable(ctx context.Context, account string) error                                   // Conflict: the first admin
	Enable(ctx context.Context, account string) error
}

// Tokens are the verbs on API tokens; each looks at the caller itself.
type Tokens interface {
	CreateToken(ctx context.Context, account, name string, expires time.Time) (string, core.Token, error)
	ListTokens(ctx context.Context, account string) ([]core.Token, error)
	DeleteToken(ctx context.Context, account, uuid string) error // NotFound
}

func (a *API) listAccounts(c *gin.Context) error {
	list, err := a.auth.List(c.Request.Context())
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, AccountList{each(list, accountOf)})
}

func (a *API) getAccount(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "account")
	if err != nil {
		return err
	}
	account, err := a.auth.Account(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, accountOf(account))
}

func (a *API) createAccount(c *gin.Context) error {
	var in NewAccount
	if err := a.body(c, &in); err != nil {
		return err
	}
	uuid, err := bodyUUID("uuid", in.UUID)
	if err != nil {
		return err
	}
	owner, err := bodyUUID("owner", in.Owner)
	if err != nil {
		return err
	}
	if err := auth.CheckPassword("password", in.Password); err != nil {
		return err
	}
	account, err := a.auth.CreateAccount(c.Request.Context(), auth.NewAccount{
		UUID: uuid, Name: in.Name, Password: auth.DigestOf(in.Password), Role: in.Role, Owner: owner,
	})
	if err != nil {
		return err
	}
	return a.created(c, "/accounts/"+account.UUID, accountOf(account))
}

// patchAccount makes one change at a time: two verbs are not one atomic change.
func (a *API) patchAccount(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "account")
	if err != nil {
		return err
	}
	var in AccountPatch
	if err := a.body(c, &in); err != nil {
		return err
	}
	if (in.Password != nil) == (in.Disabled != nil) {
		return core.Errorf(core.Invalid, "give either password or disabled: each is a change of its own")
	}
	ctx := c.Request.Context()
	switch {
	case in.Password != nil:
		if err := auth.CheckPassword("password", *in.Password); err != nil {
			return err
		}
		err = passwordError(a.auth.ChangePassword(ctx, uuid, auth.DigestOf(in.CurrentPassword), auth.DigestOf(*in.Password)))
	case *in.Disabled:
		err = a.auth.Disable(ctx, uuid)
	default:
		err = a.auth.Enable(ctx, uuid)
	}
	if err != nil {
		return err
	}
	account, err := a.auth.Account(ctx, uuid)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, accountOf(account))
}

// passwordError names the fields as this API does.
func passwordError(err error) error {
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.Invalid {
		return err
	}
	wire := map[string]string{"current": "currentPassword", "next": "password"}
	return core.InvalidField(wire[e.Field], "%s", e.Text)
}

func (a *API) listTokens(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "account")
	if err != nil {
		return err
	}
	list, err := a.auth.ListTokens(c.Request.Context(), uuid)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, TokenList{each(list, tokenOf)})
}

func (a *API) createToken(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "account")
	if err != nil {
		return err
	}
	var in NewToken
	if err := a.body(c, &in); err != nil {
		return err
	}
	text, t, err := a.auth.CreateToken(c.Request.Context(), uuid, in.Name, in.Expires)
	if err != nil {
		return err
	}
	out := tokenOf(t)
	out.Token = text
	return answer(c, http.StatusCreated, out)
}

func (a *API) deleteToken(c *gin.Context) error {
	uuid, err := pathUUID(c, "id", "account")
	if err != nil {
		return err
	}
	token, err := pathUUID(c, "token", "token")
	if err != nil {
		return err
	}
	if err := a.auth.DeleteToken(c.Request.Context(), uuid, token); err != nil {
		return err
	}
	return noContent(c)
}

func accountOf(a core.Account) Account {
	return Account{UUID: a.UUID, Name: a.Name, Role: a.Role, Owner: a.Owner, Disabled: a.Disabled, Created: a.Created, Updated: a.Updated}
}

func tokenOf(t core.Token) Token {
	return Token{UUID: t.UUID, Account: t.Account, Name: t.Name, Created: t.Created, Expires: t.Expires}
}

// each turns a list into its wire form; none is [], not null.
func each[T, W any](list []T, wire func(T) W) []W {
	out := make([]W, len(list))
	for i, x := range list {
		out[i] = wire(x)
	}
	return out
}
