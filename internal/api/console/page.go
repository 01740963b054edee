package console

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/core"
)

// pagePolicy is the content policy of our own pages: a style sheet, an icon,
// forms that come back to us, and no script at all.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed page
var pageFiles embed.FS

// Each page is the frame with one body in it.
var (
	loginPage   = parsePage("login.html")
	startPage   = parsePage("start.html")
	refusedPage = parsePage("refused.html")
)

func parsePage(body string) *template.Template {
	return template.Must(template.ParseFS(pageFiles, "page/frame.html", "page/"+body))
}

// render writes a page. It is rendered whole first: half a page with status 200
// would hide the error.
func (h *Console) render(c *gin.Context, status int, page *template.Template, data any) {
	var html bytes.Buffer
	if err := page.ExecuteTemplate(&html, "frame.html", data); err != nil {
		h.log.ErrorContext(c.Request.Context(), "page not rendered", "err", err)
		c.String(http.StatusInternalServerError, "an internal error happened; the server's log says more\n")
		return
	}
	c.Header("Content-Security-Policy", pagePolicy)
	c.Header("Cache-Control", "no-store")
	c.Data(status, "text/html; charset=utf-8", html.Bytes())
}

// refuse ends a request with an error: a page for browsers, problem details
// (RFC 9457) for everybody else.
func (h *Console) refuse(c *gin.Context, status int, text string) {
	c.Abort()
	if wantsHTML(c.Request) {
		h.render(c, status, refusedPage, refusal{http.StatusText(status), text})
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Header("Content-Type", "application/problem+json")
	c.JSON(status, gin.H{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": text})
}

type refusal struct{ Title, Text string }

// wantsHTML reports whether a person's browser opens the address. What scripts
// of a page fetch does not name HTML.
func wantsHTML(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// statusOf is the console's table from kinds of error to statuses.
func statusOf(err error) int {
	switch core.KindOf(err) {
	case core.Invalid:
		return http.StatusBadRequest
	case core.NotFound:
		return http.StatusNotFound
	case core.Exists, core.Conflict, core.Stale:
		return http.StatusConflict
	case core.Unauthenticated:
		return http.StatusUnauthorized
	case core.Denied:
		return http.StatusForbidden
	case core.Exhausted:
		return http.StatusTooManyRequests
	case core.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
