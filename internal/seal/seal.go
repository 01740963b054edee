// Package seal keeps secret texts at rest: AES-256-GCM with a key from the
// configuration. What it seals begins with a prefix that says how, so that a
// store may hold sealed and plain texts side by side.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

const prefix = "sealed:v1:"

// A Box seals and opens texts. A nil Box seals nothing and opens nothing sealed.
type Box struct{ aead cipher.AEAD }

// ErrNoKey means that a sealed text was met without a key.
var ErrNoKey = errors.New("a secret is sealed but no secret key is configured")

// ErrWrongKey means that a text was sealed with another key, or damaged.
var ErrWrongKey = errors.New("a secret cannot be opened with the configured secret key")

// New makes a Box from a key in base64; "" gives a nil Box.
func New(key string) (*Box, error) {
	if key == "" {
		return nil, nil
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != KeySize {
		return nil, fmt.Errorf("a secret key is %d bytes in base64; make one with: openssl rand -base64 %d", KeySize, KeySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("use secret key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use secret key: %w", err)
	}
	return &Box{aead}, nil
}

// NewKey makes a random key in base64.
func NewKey() string {
	raw := make([]byte, KeySize)
	_, _ = rand.Read(raw) // it never fails: crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(raw)
}

// Sealed reports whether a text is one that Seal gave.
func Sealed(text string) bool { return strings.HasPrefix(text, prefix) }

// Seal seals a text. The same text gives another result each time.
func (b *Box) Seal(text string) string {
	if b == nil {
		return text
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b.aead.Seal(nil, nil, []byte(text), []byte(prefix)))
}

// Open gives a sealed text back, and a plain one as it is. ErrNoKey, ErrWrongKey.
func (b *Box) Open(text string) (string, error) {
	if !Sealed(text) {
		return text, nil
	}
	if b == nil {
		return "", ErrNoKey
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[len(prefix):])
	if err != nil {
		return "", ErrWrongKey
	}
	plain, err := b.aead.Open(nil, nil, raw, []byte(prefix))
	if err != nil {
		return "", ErrWrongKey
	}
	return string(plain), nil
}
