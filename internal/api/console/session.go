package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// sessionCookie holds the session of a browser.
const sessionCookie = "takt_session"

// A credential is what a request presents to say who asks.
type credential struct {
	text   string // "" when it presents nothing
	cookie bool   // the browser sent it by itself
}

// credentialOf reads a request's credential. A header wins: who sets one means
// it, and a wrong one must not pass as somebody else's cookie.
func credentialOf(r *http.Request) credential {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, text, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "OAuth") {
			return credential{text: strings.TrimSpace(text)}
		}
		return credential{}
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		return credential{text: cookie.Value, cookie: true}
	}
	return credential{}
}

// identify lets a request pass with its caller in the context, or asks to sign in.
func (h *Console) identify(c *gin.Context) {
	ctx, err := h.withCaller(c.Request)
	switch {
	case err == nil:
		c.Request = c.Request.WithContext(ctx)
	case core.Is(err, core.Unauthenticated):
		h.askToSignIn(c)
	default:
		h.failLogged(c, "caller not identified", err)
	}
}

func (h *Console) withCaller(r *http.Request) (context.Context, error) {
	text := credentialOf(r).text
	if text == "" {
		return nil, core.Errorf(core.Unauthenticated, "sign in first")
	}
	caller, _, err := h.opts.Accounts.Validate(r.Context(), text)
	if err != nil {
		return nil, err
	}
	return core.WithCaller(r.Context(), caller), nil
}

// askToSignIn sends a person to the form, and back afterwards; a program is told
// by a 401.
func (h *Console) askToSignIn(c *gin.Context) {
	reads := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if !reads || !wantsHTML(c.Request) {
		c.Header("WWW-Authenticate", "Bearer")
		h.refuse(c, http.StatusUnauthorized, "Sign in first.")
		return
	}
	to := "/login"
	if next := localPath(c.Request.URL.RequestURI()); next != "/" {
		to += "?next=" + url.QueryEscape(next)
	}
	c.Header("Cache-Control", "no-store")
	c.Redirect(http.StatusSeeOther, to)
	c.Abort()
}

// failLogged ends a request with an error of a lower floor.
func (h *Console) failLogged(c *gin.Context, what string, err error) {
	h.log.WarnContext(c.Request.Context(), what, "err", err)
	h.refuse(c, statusOf(err), core.Text(err))
}

// setCookie gives the browser its session, or with an empty one takes it away.
func setCookie(c *gin.Context, s core.Session) {
	cookie := &http.Cookie{
		Name: sessionCookie, Value: s.ID, Path: "/", Expires: s.Expires,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: overTLS(c.Request),
	}
	if s.ID == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(c.Writer, cookie)
}

// overTLS reports whether the browser talks TLS, to us or to a proxy. Anybody
// can write the header, but only to make the own cookie stricter.
func overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}
