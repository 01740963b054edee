package console_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMonitoringInABrowser opens the dashboard as a person does: content policy,
// paths of the scripts and the calls they make have to fit together, which no
// HTTP test can tell. With TAKT_SCREENSHOT=file.png it leaves a picture behind.
func TestMonitoringInABrowser(t *testing.T) {
	b := newBrowser(t)
	s := newSite(t, nil)
	s.queues(t)

	if form := b.open(t, s.URL+"/monitoring"); !strings.Contains(form, "Sign in to Takt") || strings.Contains(form, "Asynq") {
		t.Fatalf("before signing in the browser shows:\n%s", form)
	}

	in := s.submit(t, "/login", credentials("operator", password, "/monitoring"))
	signedIn := withCookie(t, s.URL, setCookie(t, in))
	for path, want := range map[string][]string{
		"/monitoring": {"Queues", "critical", "default"},
		"/monitoring/queues/critical?status=active": {"0198c0de00007000800000000000000a", "Active"},
		"/monitoring/servers":                       {":" + strconv.Itoa(os.Getpid()), "critical"},
	} {
		page := b.open(t, signedIn+path)
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not show %q:\n%s", path, text, page)
			}
		}
	}
	if picture := os.Getenv("TAKT_SCREENSHOT"); picture != "" {
		b.run(t, "--screenshot="+picture, signedIn+"/monitoring")
	}
}

// withCookie starts a proxy before the site that adds a cookie, and returns its
// URL. Chromium takes no cookie on its command line.
func withCookie(t *testing.T, site string, c *http.Cookie) string {
	t.Helper()
	to, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.AddCookie(c)
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// A browser is an installed Chromium that is started anew for each page.
type browser struct{ program, home string }

// newBrowser looks for Chromium. Without one the test is skipped, except where
// CI is set.
func newBrowser(t *testing.T) browser {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return browser{program, t.TempDir()}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("chromium is not installed, and CI must not skip tests")
	}
	t.Skip("chromium is not installed: apt-get install chromium")
	return browser{}
}

// open returns the document of a page once its scripts have come to rest.
func (b browser) open(t *testing.T, address string) string {
	t.Helper()
	return b.run(t, "--dump-dom", address)
}

func (b browser) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir=" + b.home, "--window-size=1280,800", "--virtual-time-budget=5000",
	}, args...)
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.WaitDelay = 5 * time.Second
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run chromium: %v\n%s", err, complaints.String())
	}
	return string(out)
}
