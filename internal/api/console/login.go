package console

import (
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// loginData is what the sign-in page shows.
type loginData struct {
	Title, Name, Next string
	Alert             string
}

// loginForm shows the form, or goes on for whom it knows already.
func (h *Console) loginForm(c *gin.Context) {
	next := localPath(c.Query("next"))
	if _, err := h.withCaller(c.Request); err == nil {
		c.Redirect(http.StatusSeeOther, next)
		return
	}
	h.showLogin(c, http.StatusOK, loginData{Next: next})
}

func (h *Console) showLogin(c *gin.Context, status int, data loginData) {
	data.Title = "Sign in"
	h.render(c, status, loginPage, data)
}

// login begins a session and goes where the form was asked for.
func (h *Console) login(c *gin.Context) {
	// A stranger's page could else sign somebody in to the stranger's account. An
	// old cookie does no harm here, so this is not fromHere.
	if crossOrigin.Check(c.Request) != nil {
		h.refuseOrigin(c)
		return
	}
	if err := c.Request.ParseForm(); err != nil {
		h.refuseForm(c, err)
		return
	}
	form := c.Request.PostForm
	data := loginData{Name: form.Get("name"), Next: localPath(form.Get("next"))}
	session, err := h.opts.Accounts.LoginPlain(c.Request.Context(), data.Name, form.Get("password"), c.ClientIP())
	if err != nil {
		h.loginFailed(c, data, err)
		return
	}
	setCookie(c, session)
	c.Header("Cache-Control", "no-store")
	c.Redirect(http.StatusSeeOther, data.Next)
}

func (h *Console) refuseForm(c *gin.Context, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		h.refuse(c, http.StatusRequestEntityTooLarge, "The form is too large.")
		return
	}
	h.refuse(c, http.StatusBadRequest, "The form cannot be read.")
}

// loginFailed shows the form again. Its text tells one kind of failure from
// another, never what was wrong with the credentials.
func (h *Console) loginFailed(c *gin.Context, data loginData, err error) {
	data.Alert = core.Text(err)
	var wait auth.WaitError
	switch {
	case core.Is(err, core.Unauthenticated):
		data.Alert = "Sign-in failed. Check the account name and the password."
	case errors.As(err, &wait):
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(wait.For.Seconds()))))
	case !core.Is(err, core.Exhausted):
		h.log.WarnContext(c.Request.Context(), "sign-in not possible", "err", err)
	}
	h.showLogin(c, statusOf(err), data)
}

// logout ends the session of the browser's cookie and forgets the cookie.
func (h *Console) logout(c *gin.Context) {
	if !fromHere(c.Request) {
		h.refuseOrigin(c)
		return
	}
	if err := h.opts.Accounts.Logout(c.Request.Context(), credentialOf(c.Request).text); err != nil {
		h.failLogged(c, "session not ended", err)
		return
	}
	setCookie(c, core.Session{})
	c.Redirect(http.StatusSeeOther, "/login")
}
