// Package excerpt cuts captured output so that it fits into an attempt's Output.
//
// Output is often JSON with captured text inside, and JSON that is cut afterwards
// cannot be read any more. So the text is cut first, by the room that it takes
// once it is written as a JSON string: a control character takes six bytes, a
// newline two. Bytes that are not UTF-8 become U+FFFD, as encoding/json does it.
//
// The sizes are those of a json.Encoder with SetEscapeHTML(false), which Marshal
// here provides; encoding/json's own Marshal takes more for <, > and &.
package excerpt

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Size returns the bytes that the whole of b takes as a JSON string, without the
// quotes.
func Size(b []byte) int {
	size := 0
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		size += width(r, n)
		b = b[n:]
	}
	return size
}

// Head returns the longest beginning of b that takes at most room bytes as a
// JSON string, and whether something was left out.
func Head(b []byte, room int) (text string, cut bool) {
	end := 0
	for end < len(b) {
		r, n := utf8.DecodeRune(b[end:])
		if room -= width(r, n); room < 0 {
			break
		}
		end += n
	}
	return valid(b[:end]), end < len(b)
}

// Tail returns the longest end of b that takes at most room bytes as a JSON
// string, and whether something was left out.
func Tail(b []byte, room int) (text string, cut bool) {
	start := len(b)
	for start > 0 {
		r, n := utf8.DecodeLastRune(b[:start])
		if room -= width(r, n); room < 0 {
			break
		}
		start -= n
	}
	return valid(b[start:]), start > 0
}

// Marshal is json.Marshal that leaves <, > and & as they are, so that a URL in a
// step's history reads as it was written.
func Marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// width is the size of one rune of n bytes as encoding/json writes it.
func width(r rune, n int) int {
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t', r == '\b', r == '\f':
		return 2
	case r < 0x20, r == '\u2028', r == '\u2029':
		return len(`\u0000`)
	case r == utf8.RuneError:
		return len("\ufffd")
	}
	return n
}

// valid replaces each byte that is not UTF-8.
func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}
