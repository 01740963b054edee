package safehttp

import (
	"errors"
	"net/url"
	"testing"
)

func TestCheck(t *testing.T) {
	c := newClient(t, "10.0.0.0/8", "127.0.0.1:8080")
	for _, row := range []struct {
		name, url string
		scheme    bool // ErrScheme is wanted
		refused   bool // *RefusedError is wanted
	}{
		{name: "a name", url: "https://hooks.example.com/x"},
		{name: "a name that will turn out to be loopback", url: "http://localhost/"},
		{name: "a public address", url: "http://93.184.216.34/"},
		{name: "a listed network", url: "http://10.1.2.3:99/"},
		{name: "a listed pair", url: "http://127.0.0.1:8080/"},
		{name: "another port", url: "http://127.0.0.1:8081/", refused: true},
		{name: "the port of the scheme", url: "http://127.0.0.1/", refused: true},
		{name: "metadata", url: "http://169.254.169.254/latest", refused: true},
		{name: "mapped loopback", url: "http://[::ffff:127.0.0.1]/", refused: true},
		{name: "another scheme", url: "ftp://hooks.example.com/", scheme: true},
		{name: "no host", url: "http:///x", scheme: true},
		{name: "no scheme", url: "hooks.example.com/x", scheme: true},
		{name: "a port out of range", url: "http://93.184.216.34:70000/", scheme: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			u, err := url.Parse(row.url)
			if err != nil {
				t.Fatal(err)
			}
			err = c.Check(u)
			var refused *RefusedError
			if errors.Is(err, ErrScheme) != row.scheme || errors.As(err, &refused) != row.refused || (err != nil) != (row.scheme || row.refused) {
				t.Errorf("got %v, want ErrScheme %v, refused %v", err, row.scheme, row.refused)
			}
		})
	}
}
