package safehttp

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// MaxRedirects is how many redirects one request follows.
const MaxRedirects = 5

var (
	// ErrScheme means a URL, of the request or of a redirect, that is not an
	// absolute http or https one.
	ErrScheme = errors.New("only absolute http and https URLs are taken")
	// ErrRedirects means that there were more than MaxRedirects redirects.
	ErrRedirects = fmt.Errorf("stopped after %d redirects", MaxRedirects)
	// ErrBodyElsewhere means a redirect (307 or 308) that asks to send the
	// request's body to another origin, which was not chosen by the caller.
	ErrBodyElsewhere = errors.New("a redirect asks to send the body to another origin; use its URL if that is meant")
)

// travelling are the request headers that another origin may see. All others
// stay behind, since any of them may be a credential.
var travelling = []string{"Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Idempotency-Key", "User-Agent"}

// checkRedirect judges a redirect before it is followed. Once a chain has left
// the first origin it never gets the headers back: net/http copies the first
// request's headers to every hop anew.
func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > MaxRedirects {
		return ErrRedirects
	}
	if err := checkURL(next.URL); err != nil {
		return fmt.Errorf("redirect to %s: %w", Target(next.URL), err)
	}
	hops := append(slices.Clip(via), next)
	if !slices.ContainsFunc(hops, func(hop *http.Request) bool { return origin(hop.URL) != origin(via[0].URL) }) {
		return nil
	}
	if next.Body != nil && next.Body != http.NoBody {
		return fmt.Errorf("redirect to %s: %w", Target(next.URL), ErrBodyElsewhere)
	}
	for name := range next.Header {
		if !slices.Contains(travelling, name) {
			delete(next.Header, name)
		}
	}
	next.Host = ""
	return nil
}

func checkURL(u *url.URL) error {
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Opaque != "" {
		return ErrScheme
	}
	return nil
}

// origin is scheme, host and port, as browsers mean it.
func origin(u *url.URL) string {
	return u.Scheme + "://" + canonicalHostPort(u.Hostname(), portOf(u))
}

// portOf is the port that a URL means.
func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// Target writes a URL for logs and errors: without user, query and fragment,
// all of which may hold secrets.
func Target(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// secretWords mark a header as secret when a word of its name ends in one of
// them, in the singular or the plural.
var secretWords = []string{
	"auth", "authorization", "cookie", "credential", "key", "passwd", "password",
	"secret", "session", "signature", "token",
}

// SecretHeader reports whether a header's value is a secret by its name alone:
// Authorization, Cookie, X-Api-Key, Private-Token and the like. Idempotency-Key
// is none.
func SecretHeader(name string) bool {
	name = strings.ToLower(name)
	if name == "idempotency-key" {
		return false
	}
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune("-_.", r) }) {
		word = strings.TrimSuffix(word, "s")
		if slices.ContainsFunc(secretWords, func(s string) bool { return strings.HasSuffix(word, s) }) {
			return true
		}
	}
	return false
}
