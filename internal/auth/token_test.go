package auth

import (
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/id"
)

func TestKindOf(t *testing.T) {
	token := newTokenText()
	session := id.New()
	for _, tt := range []struct {
		name, text string
		want       tokenKind
	}{
		{"session", session, sessionToken},
		{"token", token, apiToken},
		{"empty", "", noToken},
		{"prefix alone", TokenPrefix, noToken},
		{"session in upper case", "ABCDEF" + session[6:], noToken},
		{"session with dashes", session[:8] + "-" + session[8:], noToken},
		{"token in upper case", TokenPrefix + "ABCDEF" + token[11:], noToken},
		{"token one digit short", token[:len(token)-1], noToken},
		{"token and more", token + "0", noToken},
		{"token with space", " " + token, noToken},
		{"what Java sends without a session", "null", noToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := kindOf(tt.text); got != tt.want {
				t.Errorf("kindOf(%q) = %d, want %d", tt.text, got, tt.want)
			}
		})
	}
}

func FuzzKindOf(f *testing.F) {
	f.Add(newTokenText())
	f.Add(id.New())
	f.Add("takt_")
	f.Add("takt_" + strings.Repeat("é", 32))
	f.Fuzz(func(t *testing.T, text string) {
		kind := kindOf(text)
		hex := text
		if kind == apiToken {
			hex = strings.TrimPrefix(text, TokenPrefix)
		}
		size := map[tokenKind]int{sessionToken: 32, apiToken: 64}[kind]
		// One text, one key: what is taken has no second spelling.
		if kind != noToken && (len(hex) != size || strings.Trim(hex, "0123456789abcdef") != "") {
			t.Errorf("kindOf(%q) = %d", text, kind)
		}
		if key := hashToken(text); len(key) != 64 || strings.Contains(key, text) && len(text) > 8 {
			t.Errorf("hashToken(%q) = %q", text, key)
		}
	})
}
