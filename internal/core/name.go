package core

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckName refuses a name of a definition that is empty or longer than MaxName, or that
// a log, a console or a client would show as something else than it is: bytes that are
// not UTF-8, control characters (tabs and ends of lines included) and those that change
// the direction of the text around them. Invalid, with field as the offending one. It is
// for names that are given: those that stand already are shown as they are.
func CheckName(field, name string) error {
	switch n := utf8.RuneCountInString(name); {
	case name == "":
		return InvalidField(field, "%s must not be empty", field)
	case !utf8.ValidString(name):
		return InvalidField(field, "%s must be valid UTF-8", field)
	case n > MaxName:
		return InvalidField(field, "%s has %d characters, at most %d are allowed", field, n, MaxName)
	}
	if at := strings.IndexFunc(name, unshowable); at >= 0 {
		r, _ := utf8.DecodeRuneInString(name[at:])
		return InvalidField(field, "%s must not hold control characters, nor any that change the direction of text; it has %U", field, r)
	}
	return nil
}

func unshowable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}
