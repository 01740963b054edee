package httpreq

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/takt-dev/takt/internal/safehttp"
)

// A redactor takes the secrets of a request out of what came back: its elements
// are the secrets, the longest first, as one may hold another.
type redactor []string

// minSecret is the length below which a value is more likely a common word than
// a secret, and replacing it everywhere would only spoil the answer.
const minSecret = 6

func newRedactor(h http.Header) redactor {
	var r redactor
	for name := range h {
		if !safehttp.SecretHeader(name) {
			continue
		}
		value := h.Get(name)
		_, credentials, _ := strings.Cut(value, " ") // "Bearer x": x alone too
		r = append(r, value, credentials)
	}
	r = slices.DeleteFunc(r, func(secret string) bool { return len(secret) < minSecret })
	slices.SortFunc(r, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return r
}

func (r redactor) clean(text []byte) []byte {
	for _, secret := range r {
		text = bytes.ReplaceAll(text, []byte(secret), []byte("***"))
	}
	return text
}

// trim drops the beginning of a secret from the end of a text that was cut there.
func (r redactor) trim(text []byte) []byte {
	end := len(text)
	for _, secret := range r {
		for n := min(len(secret)-1, len(text)); n > 0; n-- {
			if bytes.HasSuffix(text, []byte(secret[:n])) {
				end = min(end, len(text)-n)
				break
			}
		}
	}
	return text[:end]
}
