package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
)

var crossOrigin = http.NewCrossOriginProtection()

// sameOrigin refuses a changing call that another site's page may have caused.
func (h *Console) sameOrigin(c *gin.Context) {
	if !fromHere(c.Request) {
		h.refuseOrigin(c)
	}
}

func (h *Console) refuseOrigin(c *gin.Context) {
	h.refuse(c, http.StatusForbidden, "Changes are taken from Takt's own pages only; this one did not say that it comes from there.")
}

// fromHere reports whether a request changes nothing, or comes from our own
// pages (Sec-Fetch-Site or, from older browsers and without TLS, Origin says so)
// or from a program. A program sets its credential itself; a cookie comes from a
// browser, and browsers name the origin of a changing call. One without is a
// browser of a kind we cannot judge, so it is refused.
func fromHere(r *http.Request) bool {
	if crossOrigin.Check(r) != nil {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	named := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	return named || !credentialOf(r).cookie
}

// localPath returns where to go after signing in: next if it is an address on
// this server and nowhere else, "/" if not. Browsers take // for the start of a
// host name, and \ for /; they drop tabs and line ends, which url.Parse refuses.
func localPath(next string) string {
	const nowhere = "/"
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return nowhere
	}
	u, err := url.Parse(next)
	if err != nil || u.Path == "/login" || u.Path == "/logout" { // those would end where it began
		return nowhere
	}
	return next
}
