package console_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/console"
	"github.com/takt-dev/takt/internal/core"
)

func credentials(name, password, next string) url.Values {
	return url.Values{"name": {name}, "password": {password}, "next": {next}}
}

// setCookie returns the session cookie that an answer sets.
func setCookie(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	all := (&http.Response{Header: a.header}).Cookies()
	if len(all) != 1 || all[0].Name != "takt_session" {
		t.Fatalf("the answer sets %v, want one cookie takt_session", all)
	}
	return all[0]
}

func TestSignInAndOut(t *testing.T) {
	s := newSite(t, nil)
	form := s.do(t, request{"GET", "/login?next=%2Fmonitoring", "", nil})
	for _, want := range []string{`<form method="post" action="/login">`, `name="next" value="/monitoring"`, `autocomplete="current-password"`, `<label for="name">`} {
		if !strings.Contains(form.body, want) {
			t.Errorf("the form has no %s", want)
		}
	}
	in := s.submit(t, "/login", credentials("admin", password, "/monitoring"))
	if in.status != http.StatusSeeOther || in.location() != "/monitoring" {
		t.Fatalf("signing in got %d to %q, want 303 to /monitoring", in.status, in.location())
	}
	c := setCookie(t, in)
	if left := time.Until(c.Expires); left < time.Hour || left > 2*time.Hour {
		t.Errorf("the cookie lives for %v, want the session's two hours", left)
	}
	got := []any{c.Path, c.HttpOnly, c.SameSite, c.Secure, c.Domain}
	if diff := cmp.Diff([]any{"/", true, http.SameSiteLaxMode, false, ""}, got); diff != "" {
		t.Errorf("cookie's path, HttpOnly, SameSite, Secure, domain differ (-want +got):\n%s", diff)
	}
	if again := s.do(t, request{"GET", "/login?next=/monitoring", "", []string{"Cookie", cookie(c.Value)}}); again.location() != "/monitoring" {
		t.Errorf("the form for somebody signed in leads to %q, want on to /monitoring", again.location())
	}
	if home := s.do(t, request{"GET", "/", "", []string{"Cookie", cookie(c.Value)}}); home.status != http.StatusOK {
		t.Errorf("the start page answers %d, want 200", home.status)
	}

	out := s.submit(t, "/logout", nil, "Cookie", cookie(c.Value))
	if out.status != http.StatusSeeOther || out.location() != "/login" {
		t.Errorf("signing out got %d to %q, want 303 to /login", out.status, out.location())
	}
	if gone := setCookie(t, out); gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("signing out leaves the cookie %v", gone)
	}
	if home := s.do(t, request{"GET", "/", "", []string{"Cookie", cookie(c.Value)}}); home.status != http.StatusUnauthorized {
		t.Errorf("the old cookie gets %d, want 401", home.status)
	}
}

func TestCookieIsSecureOverTLS(t *testing.T) {
	s := newSite(t, nil)
	for _, tt := range []struct {
		name, proto string
		want        bool
	}{{"plain", "", false}, {"http", "http", false}, {"https", "https", true}, {"two proxies", "HTTPS, http", true}} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.submit(t, "/login", credentials("admin", password, ""), "X-Forwarded-Proto", tt.proto)
			if got := setCookie(t, a).Secure; got != tt.want {
				t.Errorf("Secure is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFailedSignIn(t *testing.T) {
	const generic = "Sign-in failed. Check the account name and the password."
	s := newSite(t, nil)
	if _, err := s.auth.LoginPlain(t.Context(), "viewer", password, ""); err != nil {
		t.Fatal(err)
	}
	list, err := s.auth.List(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Name == "viewer" {
			if err := s.auth.Disable(s.admin, a.UUID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct{ name, account, password string }{
		{"wrong password", "admin", "guess"},
		{"unknown name", "nobody", password},
		{"disabled", "viewer", password},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.submit(t, "/login", credentials(tt.account, tt.password, "/monitoring"))
			if a.status != http.StatusUnauthorized || !strings.Contains(a.body, generic) {
				t.Errorf("got %d %s, want 401 with the text for all", a.status, a.body)
			}
			if !strings.Contains(a.body, `value="/monitoring"`) || strings.Contains(a.body, `value="`+password) || strings.Contains(a.body, "guess") {
				t.Errorf("the form forgets where to go or shows the password: %s", a.body)
			}
			if got := a.header.Get("Set-Cookie"); got != "" {
				t.Errorf("a failed sign-in sets %q", got)
			}
		})
	}
}

func TestFormsThatCannotBeRead(t *testing.T) {
	s := newSite(t, nil)
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"too large", "name=" + strings.Repeat("a", 1<<17), http.StatusRequestEntityTooLarge},
		{"bad escape", "name=%zz", http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, request{"POST", "/login", tt.body, []string{"Content-Type", "application/x-www-form-urlencoded"}})
			if a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
}

func TestSignInTellsToWait(t *testing.T) {
	s := newSite(t, nil)
	var last answer
	for range 6 {
		last = s.submit(t, "/login", credentials("admin", "guess", ""))
	}
	if last.status != http.StatusTooManyRequests || !strings.Contains(last.body, "too many failed sign-ins; try again in 1 s") {
		t.Errorf("got %d %s, want 429 with how long to wait", last.status, last.body)
	}
	if got := last.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q, want 1", got)
	}
}

func TestSignInShowsNoMarkup(t *testing.T) {
	s := newSite(t, nil)
	a := s.submit(t, "/login", credentials(`"><script>alert(1)</script>`, "x", "/x"))
	if strings.Contains(a.body, "<script") {
		t.Errorf("the page has the name as markup: %s", a.body)
	}
	if policy := a.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'self';") || strings.Contains(policy, "script") {
		t.Errorf("content policy is %q, want no scripts at all", policy)
	}
}

// down are accounts that cannot be asked.
type down struct{ console.Accounts }

func (down) LoginPlain(context.Context, string, string, string) (core.Session, error) {
	return core.Session{}, core.Errorf(core.Unavailable, "the records cannot be reached")
}

func (down) Validate(context.Context, string) (core.Caller, core.Session, error) {
	return core.Caller{}, core.Session{}, core.Errorf(core.Unavailable, "the records cannot be reached")
}

func TestAccountsOutOfReach(t *testing.T) {
	s := newSite(t, func(o *console.Options) { o.Accounts = down{} })
	for name, a := range map[string]answer{
		"sign-in":    s.submit(t, "/login", credentials("admin", password, "")),
		"start page": s.do(t, request{"GET", "/", "", []string{"Cookie", cookie("x"), "Accept", "text/html"}}),
		"queues":     s.do(t, request{"GET", "/monitoring/api/queues", "", []string{"Cookie", cookie("x")}}),
	} {
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "cannot be reached") {
			t.Errorf("%s: got %d %s, want 503 with the reason", name, a.status, a.body)
		}
	}
}

func TestRedirectsStayHere(t *testing.T) {
	s := newSite(t, nil)
	for _, tt := range []struct{ name, next, want string }{
		{"page", "/monitoring", "/monitoring"},
		{"page with query", "/monitoring/queues/default?status=active&page=2", "/monitoring/queues/default?status=active&page=2"},
		{"none", "", "/"},
		{"other site", "https://evil.example/", "/"},
		{"other site, no scheme", "//evil.example/", "/"},
		{"three slashes", "///evil.example/", "/"},
		{"backslash", `/\evil.example/`, "/"},
		{"backslashes", `\\evil.example/`, "/"},
		{"backslash later", `/a\..\\evil.example`, "/"},
		{"tab between", "/\t/evil.example/", "/"},
		{"line end between", "/\n/evil.example/", "/"},
		{"leading space", " //evil.example/", "/"},
		{"header", "/\r\nSet-Cookie: a=b", "/"},
		{"script", "javascript:alert(1)", "/"},
		{"data", "data:text/html,x", "/"},
		{"no slash", "evil.example", "/"},
		{"user", "/@evil.example", "/@evil.example"}, // a path here
		{"scheme without slashes", "https:evil.example", "/"},
		{"bad escape", "/%zz", "/"},
		{"escaped slashes", "/%2F%2Fevil.example", "/%2F%2Fevil.example"}, // stays a path
		{"the form itself", "/login?next=/", "/"},
		{"sign out", "/logout", "/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.submit(t, "/login", credentials("admin", password, tt.next))
			if a.status != http.StatusSeeOther || a.location() != tt.want {
				t.Errorf("got %d to %q, want 303 to %q", a.status, a.location(), tt.want)
			}
			if a.header.Get("Set-Cookie") == "a=b" {
				t.Error("the address has become a header")
			}
		})
	}
}

func TestSignInAndOutNeedOurOwnPages(t *testing.T) {
	s := newSite(t, nil)
	in := credentials("admin", password, "").Encode()
	session := cookie(s.session(t, "admin"))
	const formType = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		name, path, body string
		header           []string
		status           int
	}{
		{"sign in from here", "/login", in, []string{"Origin", s.URL}, 303},
		{"sign in from here, new browser", "/login", in, []string{"Sec-Fetch-Site", "same-origin", "Origin", "null"}, 303},
		{"sign in by a program", "/login", in, nil, 303},
		{"sign in from elsewhere", "/login", in, []string{"Origin", "https://evil.example"}, 403},
		{"sign in from elsewhere, new browser", "/login", in, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"sign in from a sandbox", "/login", in, []string{"Origin", "null"}, 403},
		{"sign out from elsewhere", "/logout", "", []string{"Cookie", session, "Origin", "https://evil.example"}, 403},
		{"sign out from a neighbour", "/logout", "", []string{"Cookie", session, "Sec-Fetch-Site", "same-site"}, 403},
		{"sign out, origin not told", "/logout", "", []string{"Cookie", session}, 403},
		{"sign out from here", "/logout", "", []string{"Cookie", session, "Origin", s.URL}, 303},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, request{"POST", tt.path, tt.body, append([]string{"Content-Type", formType}, tt.header...)})
			if a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
}
