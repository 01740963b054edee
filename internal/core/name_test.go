package core_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	rows := []struct{ name, given, want string }{
		{"plain", "nightly backup #2 (eu)", ""},
		{"any script", "夜间备份 – Sécurité – גיבוי – 🚀", ""},
		{"as long as may be", strings.Repeat("é", core.MaxName), ""},
		{"empty", "", "name must not be empty"},
		{"too long", strings.Repeat("é", core.MaxName+1), "name has 256 characters, at most 255 are allowed"},
		{"not UTF-8", "a\xffb", "name must be valid UTF-8"},
		{"NUL", "a\x00b", "it has U+0000"},
		{"a tab", "a\tb", "it has U+0009"},
		{"an end of line", "a\nb", "it has U+000A"},
		{"an escape", "a\x1b[31mb", "it has U+001B"},
		{"delete", "a\x7fb", "it has U+007F"},
		{"a control character beyond ASCII", "a\u0085b", "it has U+0085"},
		{"a line separator", "a\u2028b", "it has U+2028"},
		{"a right-to-left override", "a\u202egpj.exe", "it has U+202E"},
		{"an isolate", "a\u2066b\u2069", "it has U+2066"},
		{"a right-to-left mark", "a\u200fb", "it has U+200F"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			err := core.CheckName("name", row.given)
			if row.want == "" {
				if err != nil {
					t.Errorf("CheckName(%q) = %v, want none", row.given, err)
				}
				return
			}
			var e *core.Error
			if !errors.As(err, &e) || e.Kind != core.Invalid || e.Field != "name" || !strings.Contains(e.Text, row.want) {
				t.Errorf("CheckName(%q) = %v, want %q about the field name", row.given, err, row.want)
			}
		})
	}
}
