package zstack

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// defaultRenewal is the life that RenewSession gives when none is asked for.
const defaultRenewal = 2 * time.Hour

const sessionClass = "org.zstack.header.identity.SessionInventory"

type sessionInventory struct {
	UUID        string `json:"uuid"`
	AccountUUID string `json:"accountUuid"`
	UserUUID    string `json:"userUuid"` // the account's own when an account signs in
	UserType    string `json:"userType"`
	ExpiredDate stamp  `json:"expiredDate"`
	CreateDate  stamp  `json:"createDate"`
}

// session shows a session of who has it: an account that another one owns is that
// one's user, to ZStack.
func (a *API) session(s core.Session, owner string) sessionInventory {
	inv := sessionInventory{s.ID, owner, s.Account, "AccountVO", a.stamp(s.Expires), a.stamp(s.Created)}
	if owner != s.Account {
		inv.UserType = "UserVO"
	}
	return inv
}

// shown reads a session and shows it.
func (a *API) shown(ctx context.Context, s core.Session) (answer, error) {
	// The session counts, and not what the request is signed with.
	caller, _, err := a.auth.Validate(unsigned(ctx), s.ID)
	if err != nil {
		return answer{}, err
	}
	return one(sessionClass, a.session(s, caller.Owner)), nil
}

// authorization reads the session from the header. What has no session at all is
// refused at once, with 400: ZStack knows no 401. A signed request has "" for a
// session; its signature has been read by then (signature.go).
func authorization(h http.Header) (string, error) {
	v := strings.TrimSpace(h.Get("Authorization"))
	if v == "" {
		return "", &fault{http.StatusBadRequest, codeSession, "missing header 'Authorization'"}
	}
	if strings.HasPrefix(v, signedScheme) {
		return "", nil
	}
	session, ok := strings.CutPrefix(v, "OAuth")
	if !ok {
		return "", &fault{http.StatusBadRequest, codeSession, "Authorization type must be 'OAuth'"}
	}
	session = strings.TrimSpace(session)
	if strings.ContainsAny(session, "{}<>") {
		return "", badArgument("session[%s] is a placeholder: log in first and put the session's uuid in its place", session)
	}
	return session, nil
}

var nameField = map[string]string{"LogInByAccount": "accountName", "LogIn": "username"}

// login serves LogInByAccount and LogIn, which name the account differently. Its
// body's key is one of actions.
func (a *API) login(actions ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		in, err := signInInput(c, actions...)
		if err != nil {
			a.refuse(c, err)
			return
		}
		name := in.text("accountName")
		if name == "" {
			name = in.text("username")
		}
		if name == "" {
			in.mandatory(nameField[in.call])
		}
		password := in.mustText("password")
		if kind := in.text("loginType"); kind != "" && !strings.EqualFold(kind, "account") {
			in.fail(badArgument("can not find a login backend of type[%s]; use account", kind))
		}
		if err := in.fault(); err != nil {
			a.refuse(c, err)
			return
		}
		s, err := a.auth.Login(c.Request.Context(), name, auth.Digest(password), c.ClientIP())
		a.signedIn(c, s, err)
	}
}

// signedIn answers a sign-in.
func (a *API) signedIn(c *gin.Context, s core.Session, err error) {
	if err != nil {
		a.refuse(c, loginFault(err))
		return
	}
	an, err := a.shown(c.Request.Context(), s)
	if err != nil {
		a.refuse(c, err)
		return
	}
	a.write(c, an)
}

// loginByUser serves LogInByUser. A user of an account is, to Takt, an account
// that belongs to it.
func (a *API) loginByUser(c *gin.Context) {
	in, err := signInInput(c, "logInByUser")
	if err != nil {
		a.refuse(c, err)
		return
	}
	owner := in.text("accountUuid")
	if owner == "" {
		owner = in.mustText("accountName")
	}
	user, password := in.mustText("userName"), in.mustText("password")
	if err := in.fault(); err != nil {
		a.refuse(c, err)
		return
	}
	s, err := a.auth.LoginUser(c.Request.Context(), owner, user, auth.Digest(password), c.ClientIP())
	if core.Is(err, core.Unauthenticated) {
		err = failed(codeLogin, "wrong account or username or password")
	}
	a.signedIn(c, s, err)
}

func signInInput(c *gin.Context, actions ...string) (*input, error) {
	if err := checkJobUUID(c.GetHeader("X-Job-UUID")); err != nil {
		return nil, err
	}
	body, err := readBody(c)
	if err != nil {
		return nil, err
	}
	for _, action := range actions {
		if _, ok := body[action]; ok {
			fields, err := object(body, action)
			return &input{call: strings.ToUpper(action[:1]) + action[1:], path: slices.Clone(c.Params).ByName, fields: fields}, err
		}
	}
	return nil, badRequest("the body doesn't contain action mapping to the URL")
}

// fault gives the first thing that is wrong with the input, or nil.
func (in *input) fault() error {
	switch {
	case in.mismatch != nil:
		return in.mismatch
	case in.invalid != nil:
		return in.invalid
	}
	return nil
}

func loginFault(err error) error {
	var wait auth.WaitError
	switch {
	case core.Is(err, core.Unauthenticated), errors.As(err, &wait):
		return failed(codeLogin, "%s", core.Text(err))
	case core.Is(err, core.Exhausted):
		return failed(codeManySessions, "%s", core.Text(err))
	}
	return err
}

// logout serves LogOut, which succeeds for an unknown session as well. What is told
// of the client means nothing here, but has to be a map.
func (a *API) logout(c *gin.Context) {
	if err := checkMap(c.Request.URL.Query(), "clientInfo"); err != nil {
		a.refuse(c, err)
		return
	}
	if err := a.auth.Logout(c.Request.Context(), c.Param("uuid")); err != nil {
		a.refuse(c, err)
		return
	}
	a.write(c, answer{})
}

// validateSession serves ValidateSession. Its body holds booleans only: the Go
// SDK reads it into a map of them.
func (a *API) validateSession(c *gin.Context) {
	_, _, err := a.auth.Validate(unsigned(c.Request.Context()), c.Param("uuid"))
	if err != nil && !core.Is(err, core.Unauthenticated) {
		a.refuse(c, err)
		return
	}
	writeJSON(c, http.StatusOK, encode(map[string]bool{"valid": err == nil}))
}

const renewSession = "RenewSession"

// holdsSession reports whether a call's result holds a session, or a secret as
// good as one.
func holdsSession(call string) bool { return call == renewSession || call == createAccessKey }

// renewSession serves RenewSession. Its result holds the session itself, so it
// can be fetched once only.
func (a *API) renewSession(in *input) operation {
	session := in.path("uuid")
	life := defaultRenewal
	if seconds, given := in.number("duration"); given {
		// What does not fit a Duration is far out of the range that Renew allows.
		life = time.Duration(min(max(seconds, 0), 1<<32)) * time.Second
	}
	return func(ctx context.Context) (answer, error) {
		s, err := a.auth.Renew(ctx, session, life)
		if err != nil {
			return answer{}, err
		}
		return a.shown(ctx, s)
	}
}

// write answers a call that is not a mutation.
func (a *API) write(c *gin.Context, an answer) {
	writeJSON(c, http.StatusOK, an.encode(wantsSchema(c)))
}

func wantsSchema(c *gin.Context) bool { return c.GetHeader("X-JSON-Schema") == "true" }
