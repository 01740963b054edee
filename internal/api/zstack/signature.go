package zstack

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// A request that is signed with an access key needs no session:
//
//	Authorization: ZStack <id>:<signature>
//	Date: Fri, 20 Nov 2026 22:35:24 Etc/UTC
//
//	signature = base64(HMAC-SHA1(secret, METHOD "\n" Date "\n" path))
//
// The path is decoded and begins at /v1: neither the context path nor the query
// nor the body is signed. The same request may be sent again as long as its date
// is accepted (date.go): ZStack's clients sign two requests within one second
// alike, so that a signature cannot be refused for being known.
//
// What is wrong with the form or the date is refused at once. Whether the
// signature is the key's is looked at where a session is, so that a wrong one comes
// through the receipt as a wrong session does. To get there it travels in the
// request's context, for it takes more than the header to prove it.

// signedScheme begins the header of a signed request. ZStack compares prefixes, and
// case, as for OAuth.
const signedScheme = "ZStack"

// A signature is what a request presents and what it ought to have signed.
type signature struct {
	key  string // id of the access key
	mac  []byte
	text string
}

type signatureKey struct{}

func signatureOf(ctx context.Context) (signature, bool) {
	s, ok := ctx.Value(signatureKey{}).(signature)
	return s, ok
}

// unsigned gives a context in which a session's text counts alone.
func unsigned(ctx context.Context) context.Context {
	return context.WithValue(ctx, signatureKey{}, nil)
}

// signed stands before every call that needs an identity.
func (a *API) signed(c *gin.Context) {
	header, ok := strings.CutPrefix(strings.TrimSpace(c.GetHeader("Authorization")), signedScheme)
	if !ok {
		return
	}
	s, err := a.readSignature(c.Request, strings.TrimSpace(header))
	if err != nil {
		a.refuse(c, err)
		c.Abort()
		return
	}
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), signatureKey{}, s))
}

// readSignature looks at the date first, as ZStack does.
func (a *API) readSignature(r *http.Request, presented string) (signature, error) {
	date := r.Header.Get("Date")
	if err := a.checkDate(date); err != nil {
		return signature{}, err
	}
	key, mac, _ := strings.Cut(presented, ":")
	if key == "" || mac == "" || strings.Contains(mac, ":") {
		return signature{}, unsignable(http.StatusBadRequest, "accessKey format is 'ZStack AccessKeyId:Signature'")
	}
	s := signature{key: key, text: r.Method + "\n" + date + "\n" + strings.TrimPrefix(r.URL.Path, "/zstack")}
	// One that is no base64 is a wrong one: nil is never a MAC.
	s.mac, _ = base64.StdEncoding.Strict().DecodeString(mac)
	return s, nil
}

// unsignable refuses a signed request before it becomes a job.
func unsignable(status int, details string) error { return &fault{status, codeLogin, details} }

func (s signature) matches(secret []byte) bool {
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(s.text))
	return hmac.Equal(mac.Sum(nil), s.mac)
}

// identities are the sessions that the calls see: they take a signed request for a
// session.
type identities struct{ Sessions }

// Validate gives the caller of the request whose context it gets: of its signature
// if it has one, else of the session.
func (i identities) Validate(ctx context.Context, text string) (core.Caller, core.Session, error) {
	s, ok := signatureOf(ctx)
	if !ok {
		return i.Sessions.Validate(ctx, text)
	}
	caller, err := i.Signed(ctx, s.key, s.matches)
	return caller, core.Session{}, signatureFault(s.key, err)
}

// signatureFault gives an access key's refusal the texts by which the Go SDK knows
// it.
func signatureFault(key string, err error) error {
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.Unauthenticated {
		return err
	}
	switch e.Field {
	case auth.UnknownKey:
		return failed(codeLogin, "access key id[%s] not found", excerpt(key))
	case auth.DisabledKey:
		return failed(codeLogin, "access key id[%s] is disabled", excerpt(key))
	}
	return failed(codeLogin, "wrong accessKey signature")
}
