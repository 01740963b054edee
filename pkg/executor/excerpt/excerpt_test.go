package excerpt_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/takt-dev/takt/pkg/executor/excerpt"
)

func TestHeadAndTail(t *testing.T) {
	tests := []struct {
		name       string
		text       string
		room       int
		head, tail string
		cut        bool
	}{
		{"empty", "", 4, "", "", false},
		{"fits exactly", "abcd", 4, "abcd", "abcd", false},
		{"plain text", "abcdef", 4, "abcd", "cdef", true},
		{"no room", "abc", 0, "", "", true},
		{"room below nothing", "abc", -5, "", "", true},
		{"newline takes two", "a\nb\nc", 4, "a\nb", "b\nc", true},
		{"control character takes six", "a\x00b", 6, "a", "b", true},
		{"line separator takes six", "a\u2028b", 7, "a\u2028", "\u2028b", true},
		{"rune is not split", "aéé", 4, "aé", "éé", true},
		{"bytes outside UTF-8 are replaced", "a\xffb", 5, "a\ufffdb", "a\ufffdb", false},
		{"each such byte counts", "\xff\xfe", 5, "\ufffd", "\ufffd", true},
		{"markup is not escaped", "<a&b>", 5, "<a&b>", "<a&b>", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, cut := excerpt.Head([]byte(tt.text), tt.room); got != tt.head || cut != tt.cut {
				t.Errorf("Head(%q, %d) = %q, %v, want %q, %v", tt.text, tt.room, got, cut, tt.head, tt.cut)
			}
			if got, cut := excerpt.Tail([]byte(tt.text), tt.room); got != tt.tail || cut != tt.cut {
				t.Errorf("Tail(%q, %d) = %q, %v, want %q, %v", tt.text, tt.room, got, cut, tt.tail, tt.cut)
			}
		})
	}
}

// The sizes are a promise about encoding/json, so encoding/json judges them.
func TestSizeIsThatOfTheEncoder(t *testing.T) {
	for r := rune(0); r < 0x3000; r++ {
		checkSize(t, string(r))
	}
	checkSize(t, "\U0001F600 \ufffd \xed\xa0\x80 \xc3")
}

func checkSize(t *testing.T, text string) {
	t.Helper()
	whole, cut := excerpt.Head([]byte(text), 1<<20)
	if cut || !utf8.ValidString(whole) {
		t.Fatalf("Head(%q) = %q, cut %v, want all of it as UTF-8", text, whole, cut)
	}
	encoded, err := excerpt.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := excerpt.Size([]byte(text)), len(encoded)-len(`""`); got != want {
		t.Errorf("Size(%q) = %d, want %d as in %s", text, got, want, encoded)
	}
}

func TestMarshalKeepsMarkup(t *testing.T) {
	got, err := excerpt.Marshal(map[string]string{"location": "/a?b=1&c=<2>"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"location":"/a?b=1&c=<2>"}`; string(got) != want {
		t.Errorf("Marshal = %s, want %s", got, want)
	}
	if _, err := excerpt.Marshal(func() {}); err == nil {
		t.Error("Marshal of a function gave no error")
	}
}

func FuzzHeadAndTail(f *testing.F) {
	f.Add([]byte("a\xffé\u2028\x00"), 7)
	f.Fuzz(func(t *testing.T, b []byte, room int) {
		for name, cut := range map[string]func([]byte, int) (string, bool){"Head": excerpt.Head, "Tail": excerpt.Tail} {
			text, _ := cut(b, room)
			encoded, err := excerpt.Marshal(text)
			if err != nil || !json.Valid(encoded) {
				t.Fatalf("%s(%q, %d) = %q does not encode: %v", name, b, room, text, err)
			}
			if len(encoded)-2 > max(room, 0) {
				t.Errorf("%s(%q, %d) takes %d bytes", name, b, room, len(encoded)-2)
			}
			if utf8.Valid(b) && !strings.Contains(string(b), text) {
				t.Errorf("%s(%q, %d) = %q is no part of it", name, b, room, text)
			}
		}
	})
}
