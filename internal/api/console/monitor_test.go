package console_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/takt-dev/takt/internal/api/console"
	"github.com/takt-dev/takt/internal/core"
)

// dashboardRoutes is what asynqmon serves, as its router (handler.go) has it.
func dashboardRoutes() []request {
	var all []request
	add := func(method string, paths ...string) {
		for _, p := range paths {
			all = append(all, request{method: method, path: "/monitoring" + p})
		}
	}
	add("GET", "", "/", "/queues/default", "/servers", "/schedulers", "/redis", "/settings", "/no/such/page",
		"/favicon.ico", "/manifest.json", "/robots.txt", "/asset-manifest.json", "/static/js/main.5adda2da.chunk.js",
		"/static/js/main.5adda2da.chunk.js.map", "/static/media/logo-color.c2b0c1f3.svg",
		"/api/queues", "/api/queues/default", "/api/queue_stats", "/api/servers", "/api/scheduler_entries",
		"/api/scheduler_entries/x/enqueue_events", "/api/redis_info", "/api/metrics", "/api/queues/default/groups",
		"/api/queues/default/groups/g/aggregating_tasks", "/api/queues/default/tasks/x")
	add("HEAD", "", "/api/queues")
	add("DELETE", "/api/queues/default")
	add("POST", "/api/queues/default:pause", "/api/queues/default:resume", "/api/queues/critical/active_tasks/x:cancel",
		"/api/queues/critical/active_tasks:cancel_all", "/api/queues/critical/active_tasks:batch_cancel")
	for _, state := range []string{"active", "pending", "scheduled", "retry", "archived", "completed", "groups/g/aggregating"} {
		tasks := "/api/queues/default/" + state + "_tasks"
		add("GET", tasks)
		add("DELETE", tasks+"/x", tasks+":delete_all")
		add("POST", tasks+":batch_delete", tasks+"/x:run", tasks+":run_all", tasks+":batch_run", tasks+"/x:archive", tasks+":archive_all", tasks+":batch_archive")
	}
	for _, method := range []string{"PUT", "PATCH", "OPTIONS", "TRACE"} {
		add(method, "/api/queues")
	}
	return all
}

func TestMonitoringIsRefusedBeforeSignIn(t *testing.T) {
	s := newSite(t, nil)
	s.queues(t)
	ended := s.session(t, "admin")
	if err := s.auth.Logout(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string][]string{
		"nothing":                      nil,
		"cookie of nobody":             {"Cookie", cookie(strings.Repeat("0", 32))},
		"cookie of an ended session":   {"Cookie", cookie(ended)},
		"bearer of nobody":             {"Authorization", "Bearer " + strings.Repeat("0", 32)},
		"wrong header beside a cookie": {"Authorization", "Basic YTpi", "Cookie", cookie(s.session(t, "admin"))},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range dashboardRoutes() {
				r.header = append(r.header, header...)
				a := s.do(t, r)
				if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s got %d, want 401", r.method, r.path, a.status)
				}
				if r.method != "HEAD" && a.header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s %s got %s, want problem details", r.method, r.path, a.header.Get("Content-Type"))
				}
				r.header = append(r.header, "Accept", "text/html,*/*")
				b, reads := s.do(t, r), r.method == "GET" || r.method == "HEAD"
				if want := "/login?next=" + url.QueryEscape(r.path); reads && (b.status != http.StatusSeeOther || b.location() != want) {
					t.Errorf("a browser's %s %s got %d to %q, want 303 to %q", r.method, r.path, b.status, b.location(), want)
				}
				if !reads && b.status != http.StatusUnauthorized {
					t.Errorf("a browser's %s %s got %d, want 401", r.method, r.path, b.status)
				}
			}
		})
	}
	if info := s.queue(t, "default"); info.Paused || info.Pending != 2 {
		t.Errorf("the queue is %+v; want it as it was", info)
	}
}

// No other spelling of the path may lead past the sign-in.
func TestMonitoringHasOneWayIn(t *testing.T) {
	s := newSite(t, nil)
	s.queues(t)
	for _, path := range []string{
		"//monitoring/api/queues", "/monitoring//api/queues", "/%6donitoring/api/queues", "/monitoring%2Fapi/queues",
		"/login/../monitoring/api/queues", "/assets/../monitoring/api/queues", "/assets/..%2fmonitoring/api/queues",
		"/monitoring/../monitoring/api/queues", "/MONITORING/api/queues", "/monitoring;/api/queues", "/monitoringapi/queues",
	} {
		a := s.do(t, request{"GET", path, "", nil})
		if a.status < 400 || strings.Contains(a.body, "critical") {
			t.Errorf("%s got %d %s, want a refusal", path, a.status, a.body)
		}
	}
}

func TestMonitoringShowsQueuesAndTasks(t *testing.T) {
	s := newSite(t, nil)
	s.queues(t)
	session := s.session(t, "operator")
	operator, _, err := s.auth.Validate(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.auth.CreateToken(s.admin, operator.Account, "curl", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string][]string{
		"cookie":                {"Cookie", cookie(session)},
		"bearer of a session":   {"Authorization", "Bearer " + session},
		"bearer of a token":     {"Authorization", "bearer " + token},
		"ZStack's OAuth header": {"Authorization", "OAuth " + session},
	} {
		for path, want := range map[string]string{
			"/monitoring/api/queues":                       `"queue":"critical"`,
			"/monitoring/api/queues/critical/active_tasks": `"payload":"0198c0de00007000800000000000000a:0:1-00000000deadbeef"`,
			"/monitoring/api/queues/default/pending_tasks": `"payload":"0198c0de00007000800000000000000b:1:1-00000000deadbeef"`,
			"/monitoring/api/servers":                      `"status":"active"`,
			"/monitoring/api/redis_info":                   `"cluster":false`,
			"/monitoring/queues/default?status=pending":    `window.FLAG_ROOT_PATH="\/monitoring"`,
			"/monitoring/api/queues/default/tasks/" + url.PathEscape("0198c0de00007000800000000000000b:1:1-00000000deadbeef"): `"state":"pending"`,
		} {
			a := s.do(t, request{"GET", path, "", header})
			if a.status != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("by %s: %s got %d %s, want 200 with %s", name, path, a.status, a.body, want)
			}
		}
	}
}

func TestMonitoringByRole(t *testing.T) {
	for _, tt := range []struct {
		name           string
		role           core.Role
		viewers        bool
		reads, changes int
		deletes        int
		readOnlyFlag   string
	}{
		{"admin", core.Admin, false, 200, 204, 204, "false"},
		{"operator", core.Operator, false, 200, 204, 204, "false"},
		{"viewer, let in", core.Viewer, true, 200, 403, 403, "true"},
		{"viewer", core.Viewer, false, 403, 403, 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(o *console.Options) { o.ViewersMonitor = tt.viewers })
			s.queues(t)
			header := []string{"Cookie", cookie(s.session(t, string(tt.role))), "Origin", s.URL}
			call := func(method, path string) answer { return s.do(t, request{method, path, "", header}) }
			got := []int{
				call("GET", "/monitoring/api/queues").status,
				call("POST", "/monitoring/api/queues/default:pause").status,
				call("DELETE", "/monitoring/api/queues/default/pending_tasks/0198c0de00007000800000000000000b:1:1-00000000deadbeef").status,
			}
			want := []int{tt.reads, tt.changes, tt.deletes}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("statuses of reading, pausing, deleting differ (-want +got):\n%s", diff)
			}
			info := s.queue(t, "default")
			if changed := tt.changes == 204; info.Paused != changed || (info.Pending == 1) != changed {
				t.Errorf("paused %v with %d pending tasks, want changed = %v", info.Paused, info.Pending, changed)
			}
			page := call("GET", "/monitoring")
			if tt.readOnlyFlag != "" && !strings.Contains(page.body, `window.FLAG_READ_ONLY="`+tt.readOnlyFlag+`"`) {
				t.Errorf("the page does not say read only = %s", tt.readOnlyFlag)
			}
		})
	}
}

func TestMonitoringTakesChangesFromOurOwnPagesOnly(t *testing.T) {
	s := newSite(t, nil)
	s.queues(t)
	session := s.session(t, "admin")
	inspector := asynq.NewInspector(s.asynq)
	defer inspector.Close()
	byCookie, byHeader := []string{"Cookie", cookie(session)}, []string{"Authorization", "Bearer " + session}
	for _, tt := range []struct {
		name       string
		credential []string
		header     []string
		status     int
	}{
		{"own page", byCookie, []string{"Origin", s.URL}, 204},
		{"own page, new browser", byCookie, []string{"Sec-Fetch-Site", "same-origin", "Origin", s.URL}, 204},
		{"own page behind a proxy that renames the host", byCookie, []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://takt.example"}, 204},
		{"another site", byCookie, []string{"Origin", "https://evil.example"}, 403},
		{"another site, new browser", byCookie, []string{"Sec-Fetch-Site", "cross-site", "Origin", s.URL}, 403},
		{"a neighbour", byCookie, []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another port", byCookie, []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"a sandbox", byCookie, []string{"Origin", "null"}, 403},
		{"nothing told", byCookie, nil, 403},
		{"referrer only", byCookie, []string{"Referer", s.URL + "/monitoring"}, 403},
		{"a program", byHeader, nil, 204},
		{"a program with a cookie too", append(slices.Clone(byCookie), byHeader...), nil, 204},
		{"another site's script with a header", byHeader, []string{"Origin", "https://evil.example"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(t, request{"POST", "/monitoring/api/queues/default:pause", "", append(slices.Clone(tt.credential), tt.header...)})
			info := s.queue(t, "default")
			if a.status != tt.status || info.Paused != (tt.status == 204) {
				t.Errorf("got %d %s and paused = %v, want %d", a.status, a.body, info.Paused, tt.status)
			}
			if info.Paused {
				if err := inspector.UnpauseQueue("default"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestMonitoringPageFindsItsFiles(t *testing.T) {
	s := newSite(t, nil)
	header := []string{"Cookie", cookie(s.session(t, "admin"))}
	page := s.do(t, request{"GET", "/monitoring", "", header})
	files := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(page.body, -1)
	if len(files) < 5 {
		t.Fatalf("the page names %d files, want its scripts and icons", len(files))
	}
	types := map[string]string{".js": "application/javascript; charset=utf-8", ".svg": "image/svg+xml", ".ico": "image/x-icon", ".png": "image/png"}
	paths := []string{"/monitoring/static/media/logo-color.c2b0c1f3.svg", "/monitoring/static/media/logo-white.3fa2ac55.svg"} // named by the scripts
	for _, f := range files {
		paths = append(paths, f[1])
	}
	for _, path := range paths {
		a := s.do(t, request{"GET", path, "", header})
		ext := path[strings.LastIndex(path, "."):]
		if a.status != http.StatusOK || types[ext] != "" && a.header.Get("Content-Type") != types[ext] {
			t.Errorf("%s: got %d %s, want 200 %s", path, a.status, a.header.Get("Content-Type"), types[ext])
		}
		want := "no-store"
		if strings.HasPrefix(path, "/monitoring/static/") {
			want = "private, max-age=86400"
		}
		if got := a.header.Get("Cache-Control"); got != want {
			t.Errorf("%s: Cache-Control is %q, want %q", path, got, want)
		}
	}
}

func TestMonitoringRunsItsOwnScriptsOnly(t *testing.T) {
	s := newSite(t, func(o *console.Options) { o.ViewersMonitor = true })
	for _, account := range []string{"admin", "viewer"} {
		page := s.do(t, request{"GET", "/monitoring", "", []string{"Cookie", cookie(s.session(t, account))}})
		want := "script-src 'self'"
		for _, script := range strings.Split(page.body, "<script>")[1:] {
			text, _, _ := strings.Cut(script, "</script>")
			sum := sha256.Sum256([]byte(text))
			want += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		}
		if policy := page.header.Get("Content-Security-Policy"); strings.Count(want, "sha256") != 2 || !strings.Contains(policy, want+";") {
			t.Errorf("for %s the content policy is %q, want the page's two scripts: %q", account, policy, want)
		}
	}
}
