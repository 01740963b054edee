package safehttp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var secrets = map[string]string{
	"Authorization": "Bearer hunter2",
	"Cookie":        "session=hunter2",
	"X-Api-Key":     "hunter2",
	"X-Anything":    "hunter2",
}

// secretsOf returns the secret headers that arrived.
func secretsOf(r *http.Request) map[string]string {
	got := map[string]string{}
	for name := range secrets {
		if v := r.Header.Get(name); v != "" {
			got[name] = v
		}
	}
	return got
}

func send(t *testing.T, c *Client, method, url, body string) (*Answer, error) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range secrets {
		req.Header.Set(name, value)
	}
	req.Header.Set("Accept", "application/json")
	return c.Do(req, Options{})
}

func TestRedirectsAreCounted(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var left int
		fmt.Sscanf(r.URL.Path, "/%d", &left)
		if left == 0 {
			fmt.Fprint(w, "arrived")
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/%d", left-1), http.StatusFound)
	})
	c := newClient(t, "127.0.0.0/8")
	if answer, err := get(t, c, s.URL+"/5", Options{}); err != nil || string(answer.Body) != "arrived" {
		t.Errorf("five redirects: answer %+v, error %v, want the end reached", answer, err)
	}
	if _, err := get(t, c, s.URL+"/6", Options{}); !errors.Is(err, ErrRedirects) {
		t.Errorf("six redirects: error %v, want ErrRedirects", err)
	}
	answer, err := get(t, c, s.URL+"/6", Options{KeepRedirects: true})
	if err != nil || answer.Status != http.StatusFound || answer.Header.Get("Location") != "/5" {
		t.Errorf("redirect kept: answer %+v, error %v, want the redirect itself", answer, err)
	}
}

func TestRedirectsAreChecked(t *testing.T) {
	inner := serve(t, func(w http.ResponseWriter, _ *http.Request) { t.Error("the inner server was reached") })
	tests := []struct {
		name, location string
		refused        string
		is             error
	}{
		{"inner address", inner.URL, "loopback", nil},
		{"inner name", byName(t, inner), "loopback", nil},
		{"mapped address", strings.Replace(inner.URL, "127.0.0.1", "[::ffff:7f00:1]", 1), "loopback", nil},
		{"metadata service", "http://169.254.169.254/latest/", "link-local", nil},
		{"file", "file:///etc/passwd", "", ErrScheme},
		{"other scheme", "gopher://example.com/", "", ErrScheme},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outer := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", tt.location)
				w.WriteHeader(http.StatusFound)
			})
			_, err := get(t, newClient(t, hostPort(outer)), outer.URL, Options{})
			if tt.is != nil {
				if !errors.Is(err, tt.is) {
					t.Errorf("error %v, want %v", err, tt.is)
				}
				return
			}
			checkRefusal(t, err, tt.refused)
		})
	}
}

func TestRedirectWithinTheOriginKeepsHeaders(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/next", http.StatusTemporaryRedirect)
			return
		}
		if diff := cmp.Diff(secrets, secretsOf(r)); diff != "" {
			t.Errorf("headers after the redirect (-want +got):\n%s", diff)
		}
		_, _ = io.Copy(w, r.Body)
	})
	answer, err := send(t, newClient(t, "127.0.0.0/8"), http.MethodPost, s.URL, "payload")
	if err != nil || string(answer.Body) != "payload" {
		t.Errorf("answer %+v, error %v, want the body carried on", answer, err)
	}
}

// The chain is home → away → home/back. Neither the other origin nor the way back
// gets the credentials: the other origin chose where that way leads.
func TestRedirectToAnotherOriginDropsCredentials(t *testing.T) {
	for _, how := range []string{"other port", "other name"} {
		t.Run(how, func(t *testing.T) {
			var seen []map[string]string
			var home *httptest.Server
			away := serve(t, func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, secretsOf(r))
				if got := r.Header.Get("Accept"); got != "application/json" {
					t.Errorf("Accept %q, want it kept", got)
				}
				if got := r.Referer(); got != "" {
					t.Errorf("Referer %q, want none: it shows the query", got)
				}
				http.Redirect(w, r, home.URL+"/back", http.StatusFound)
			})
			target := away.URL
			home = serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/back":
					seen = append(seen, secretsOf(r))
				default:
					if how == "other name" {
						target = byName(t, away)
					}
					http.Redirect(w, r, target, http.StatusFound)
				}
			})
			if _, err := send(t, newClient(t, "127.0.0.0/8", "::1"), http.MethodGet, home.URL+"/?token=hunter2", ""); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]map[string]string{{}, {}}, seen); diff != "" {
				t.Errorf("credentials seen away and back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedirectFromHTTPSDropsCredentials(t *testing.T) {
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := secretsOf(r); len(got) > 0 {
			t.Errorf("credentials sent in the clear: %v", got)
		}
	})
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(secure.Close)
	c := newClient(t, "127.0.0.0/8")
	c.transport.TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	if _, err := send(t, c, http.MethodGet, secure.URL, ""); err != nil {
		t.Fatal(err)
	}
}

func TestRedirectDoesNotCarryTheBodyElsewhere(t *testing.T) {
	var bodies []string
	away := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Method+" "+string(b))
	})
	status := http.StatusPermanentRedirect
	home := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, away.URL, status) })
	c := newClient(t, "127.0.0.0/8")
	if _, err := send(t, c, http.MethodPost, home.URL, "payload"); !errors.Is(err, ErrBodyElsewhere) {
		t.Errorf("error %v, want ErrBodyElsewhere", err)
	}
	status = http.StatusSeeOther
	if _, err := send(t, c, http.MethodPost, home.URL, "payload"); err != nil {
		t.Errorf("303, which asks for a GET without body: %v", err)
	}
	if diff := cmp.Diff([]string{"GET "}, bodies); diff != "" {
		t.Errorf("requests elsewhere (-want +got):\n%s", diff)
	}
}

func TestOrigin(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"http://a.example/x", "http://A.example:80/y?z", true},
		{"https://a.example", "https://a.example.:443/", true},
		{"http://a.example", "https://a.example", false},
		{"http://a.example", "http://b.a.example", false},
		{"http://a.example:80", "http://a.example:8080", false},
		{"http://[::1]/", "http://[0:0:0:0:0:0:0:1]:80/", true},
	}
	for _, tt := range tests {
		a, errA := url.Parse(tt.a)
		b, errB := url.Parse(tt.b)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if got := origin(a) == origin(b); got != tt.same {
			t.Errorf("%s and %s have one origin: %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}

func TestTarget(t *testing.T) {
	u, err := url.Parse("https://user:hunter2@example.com:8443/a%2Fb/c?token=hunter2#hunter2")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Target(u), "https://example.com:8443/a%2Fb/c"; got != want {
		t.Errorf("Target = %q, want %q", got, want)
	}
}

func TestSecretHeader(t *testing.T) {
	tests := []struct {
		name string
		want bool
	}{
		{"Authorization", true},
		{"proxy-authorization", true},
		{"Cookie", true},
		{"X-Api-Key", true},
		{"APIKEY", true},
		{"PRIVATE-TOKEN", true},
		{"X-Auth", true},
		{"X-Vault-Token", true},
		{"X_Secret_Keys", true},
		{"X-Hub-Signature-256", true},
		{"X-Amz-Credential", true},
		{"Accept", false},
		{"Content-Type", false},
		{"Idempotency-Key", false},
		{"X-Request-Id", false},
	}
	for _, tt := range tests {
		if got := SecretHeader(tt.name); got != tt.want {
			t.Errorf("SecretHeader(%q) = %v, want %v", tt.name, got, tt.want)
		}
	}
}
