package native

import (
	"context"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// CookieName is the cookie that holds the session of the console's login.
const CookieName = "takt_session"

// Auth knows who somebody is; *auth.Authority is one. The errors are those its
// methods document.
type Auth interface {
	Sessions
	Accounts
	Tokens
}

// Sessions are what is behind a Bearer token or the console's cookie.
type Sessions interface {
	LoginPlain(ctx context.Context, name, password, remote string) (core.Session, error)
	Validate(ctx context.Context, text string) (core.Caller, core.Session, error) // Unauthenticated
	Logout(ctx context.Context, text string) error
}

// identityKey is where gin's context holds what the client presented.
const identityKey = "takt.identity"

type identity struct {
	text    string // of the session or token
	caller  core.Caller
	session core.Session
}

// identify finds out who asks and puts the caller into the request's context. An
// Authorization header wins over the cookie, which a browser sends unasked: with
// it a changing request must come from a page of the same origin.
func (a *API) identify(c *gin.Context) error {
	text, fromCookie, err := presented(c.Request)
	if err != nil {
		return err
	}
	if fromCookie {
		if err := a.origin.Check(c.Request); err != nil {
			return core.Wrap(core.Denied, err, "a change signed in by cookie must come from a page of this server; send the session as a Bearer token instead")
		}
	}
	ctx := c.Request.Context()
	caller, session, err := a.auth.Validate(ctx, text)
	if err != nil {
		return err
	}
	c.Request = c.Request.WithContext(core.WithCaller(ctx, caller))
	c.Set(identityKey, identity{text, caller, session})
	return nil
}

func presented(r *http.Request) (text string, fromCookie bool, err error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, text, _ := strings.Cut(header, " ")
		if text = strings.TrimSpace(text); !strings.EqualFold(scheme, "Bearer") || text == "" {
			return "", false, core.Errorf(core.Unauthenticated, "the Authorization header must be: Bearer, a space and the token of a session or an API token")
		}
		return text, false, nil
	}
	if cookie, err := r.Cookie(CookieName); err == nil && cookie.Value != "" {
		return cookie.Value, true, nil
	}
	return "", false, core.Errorf(core.Unauthenticated, "sign in with POST /sessions and send the token as Authorization: Bearer <token>")
}

func identityOf(c *gin.Context) identity { return c.MustGet(identityKey).(identity) }

func (a *API) signIn(c *gin.Context) error {
	var in NewSession
	if err := a.body(c, &in); err != nil {
		return err
	}
	s, err := a.auth.LoginPlain(c.Request.Context(), in.Name, in.Password, c.ClientIP())
	if err != nil {
		return err
	}
	return answer(c, http.StatusCreated, Session{Token: s.ID, Account: s.Account, Created: s.Created, Expires: s.Expires})
}

func (a *API) signOut(c *gin.Context) error {
	who := identityOf(c)
	if strings.HasPrefix(who.text, auth.TokenPrefix) {
		return core.Errorf(core.Conflict, "an API token is not a session; delete it with DELETE /accounts/{id}/tokens/{token}")
	}
	if err := a.auth.Logout(c.Request.Context(), who.text); err != nil {
		return err
	}
	return noContent(c)
}

func (a *API) me(c *gin.Context) error {
	who := identityOf(c)
	return answer(c, http.StatusOK, Me{
		Account: who.caller.Account, Name: who.caller.Name, Owner: who.caller.Owner, Role: who.caller.Role, Expires: who.session.Expires,
	})
}
