package seal

import (
	"errors"
	"strings"
	"testing"
)

func box(t testing.TB) *Box {
	t.Helper()
	b, err := New(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("")
	f.Add("Bearer abc")
	f.Add("sealed:v1:looks sealed")
	b := box(f)
	f.Fuzz(func(t *testing.T, text string) {
		sealed := b.Seal(text)
		if len(text) > 3 && strings.Contains(sealed, text) {
			t.Errorf("the sealed text shows %q", text)
		}
		got, err := b.Open(sealed)
		if err != nil || got != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	b := box(t)
	sealed := b.Seal("secret")
	if again := b.Seal("secret"); again == sealed {
		t.Error("two sealings of one text are equal")
	}
	damaged := sealed[:len(sealed)-2] + "AA"
	for _, c := range []struct {
		name, text, want string
		box              *Box
		err              error
	}{
		{"plain passes", "plain", "plain", b, nil},
		{"plain passes without a key", "plain", "plain", nil, nil},
		{"sealed needs a key", sealed, "", nil, ErrNoKey},
		{"another key", sealed, "", box(t), ErrWrongKey},
		{"damaged", damaged, "", b, ErrWrongKey},
		{"not base64", "sealed:v1:???", "", b, ErrWrongKey},
		{"too short", "sealed:v1:AA", "", b, ErrWrongKey},
	} {
		got, err := c.box.Open(c.text)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestNewRefusesBadKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"short", "bm90IDMyIGJ5dGVz", "!!!"} {
		if _, err := New(key); err == nil || !strings.Contains(err.Error(), "openssl") {
			t.Errorf("key %q: got %v; want an error that says how to make one", key, err)
		}
	}
	if b, err := New(""); b != nil || err != nil {
		t.Errorf("no key: got %v, %v; want nil, nil", b, err)
	}
}
