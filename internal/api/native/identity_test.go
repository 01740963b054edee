package native_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
)

func TestSessions(t *testing.T) {
	e := start(t, native.Options{})
	var s native.Session
	e.as("").post("/sessions", native.NewSession{Name: "admin", Password: "admin's own"}).want(201).read(&s)
	var me native.Me
	e.as(s.Token).get("/me").want(200).read(&me)
	if me.Name != "admin" || me.Role != core.Admin || me.Account != s.Account || me.Owner != s.Account {
		t.Errorf("me is %+v", me)
	}
	if !me.Expires.Equal(s.Expires) || s.Expires.Before(time.Now()) {
		t.Errorf("session ends at %v, me says %v", s.Expires, me.Expires)
	}
	e.as(s.Token).del("/sessions/current").want(204)
	e.as(s.Token).get("/me").want(401)
	e.admin().get("/me").want(200)
}

func TestWithoutIdentity(t *testing.T) {
	e := start(t, native.Options{})
	tests := []struct {
		name          string
		authorization string
		detail        string
	}{
		{"nothing", "", "sign in with POST /sessions"},
		{"another scheme", "Basic YWRtaW46YWRtaW4=", "must be: Bearer"},
		{"no token", "Bearer ", "must be: Bearer"},
		{"an unknown token", "Bearer 00000000000000000000000000000000", "sign in again"},
		{"no token's form", "Bearer x", "sign in again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := e.as("")
			if tt.authorization != "" {
				c = c.with("Authorization", tt.authorization)
			}
			res := c.get("/jobs").want(401)
			p := res.problem()
			if p.Type != "/problems/unauthenticated" || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("problem %+v, want a detail with %q", p, tt.detail)
			}
			if res.header.Get("WWW-Authenticate") != `Bearer realm="takt"` {
				t.Errorf("WWW-Authenticate is %q", res.header.Get("WWW-Authenticate"))
			}
		})
	}
	e.as("").post("/sessions", native.NewSession{Name: "admin", Password: "wrong"}).want(401)
}

func TestManyWrongPasswordsMustWait(t *testing.T) {
	e := start(t, native.Options{})
	for range 5 {
		e.as("").post("/sessions", native.NewSession{Name: "nobody", Password: "x"}).want(401)
	}
	res := e.as("").post("/sessions", native.NewSession{Name: "nobody", Password: "x"}).want(429)
	if after := res.header.Get("Retry-After"); after != "1" {
		t.Errorf("Retry-After is %q, want 1", after)
	}
}

func TestCookieNeedsTheSameOrigin(t *testing.T) {
	e := start(t, native.Options{})
	origin := strings.TrimSuffix(e.url, prefix)
	tests := []struct {
		name, method string
		headers      map[string]string
		want         int
	}{
		{"reading from anywhere", "GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, 200},
		{"changing from a page of ours", "POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, 201},
		{"changing from another site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"changing from a sister site", "POST", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"an old browser, our origin", "POST", map[string]string{"Origin": origin}, 201},
		{"an old browser, another origin", "POST", map[string]string{"Origin": "https://evil.example"}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := e.as("").with("Cookie", native.CookieName+"="+e.token)
			for name, value := range tt.headers {
				c = c.with(name, value)
			}
			var v any
			if tt.method == "POST" {
				v = yearly("t")
			}
			c.do(tt.method, "/triggers", v).want(tt.want)
		})
	}
	t.Run("a Bearer token needs no origin", func(t *testing.T) {
		e.admin().with("Sec-Fetch-Site", "cross-site").post("/triggers", yearly("t")).want(201)
	})
}

func TestAccounts(t *testing.T) {
	e := start(t, native.Options{})
	ada, adaToken := e.account("ada", core.Operator)
	if ada.Owner != ada.UUID || ada.Role != core.Operator || ada.Disabled {
		t.Errorf("new account is %+v", ada)
	}
	e.as(adaToken).get("/accounts").want(403)
	e.as(adaToken).post("/accounts", native.NewAccount{Name: "eve", Password: "pw of eve", Role: core.Admin}).want(403)
	e.admin().post("/accounts", native.NewAccount{Name: "ADA", Password: "pw of ADA", Role: core.Viewer}).want(409)

	short := e.admin().post("/accounts", native.NewAccount{Name: "bob", Password: "seven.7", Role: core.Viewer}).want(400).problem()
	if short.Field != "password" || !strings.Contains(short.Detail, "at least 8 characters") {
		t.Errorf("a short password: problem %+v, want field password and how long it must be", short)
	}

	var got native.Account
	e.as(adaToken).get("/accounts/" + ada.UUID).want(200).read(&got)
	if diff := cmp.Diff(ada, got); diff != "" {
		t.Errorf("account (-made +got):\n%s", diff)
	}
	var list native.AccountList
	e.admin().get("/accounts").want(200).read(&list)
	if len(list.Items) != 2 || list.Items[0].Name != "ada" || list.Items[1].Name != "admin" {
		t.Errorf("accounts are %+v", list.Items)
	}

	p := e.as(adaToken).patch("/accounts/"+ada.UUID, `{"password":"brand new","currentPassword":"wrong"}`).want(400).problem()
	if p.Field != "currentPassword" {
		t.Errorf("problem %+v, want field currentPassword", p)
	}
	if p = e.as(adaToken).patch("/accounts/"+ada.UUID, `{"password":"seven.7","currentPassword":"pw of ada"}`).want(400).problem(); p.Field != "password" {
		t.Errorf("problem %+v, want field password", p)
	}
	e.as(adaToken).patch("/accounts/"+ada.UUID, `{"password":"brand new","currentPassword":"pw of ada"}`).want(200)
	e.as(adaToken).get("/me").want(401)
	adaToken = e.signIn("ada", "brand new")

	e.admin().patch("/accounts/"+ada.UUID, `{"disabled":true}`).want(200).read(&got)
	if !got.Disabled {
		t.Error("the account is not shown as disabled")
	}
	e.as(adaToken).get("/me").want(401)
	e.admin().patch("/accounts/"+ada.UUID, `{"disabled":false}`).want(200)
	e.signIn("ada", "brand new")

	e.admin().patch("/accounts/"+ada.UUID, `{"disabled":true,"password":"x"}`).want(400)
	e.admin().patch("/accounts/"+ada.UUID, `{}`).want(400)
	e.signIn("ada", "brand new") // neither half of the refused patch was done
}

func TestTokens(t *testing.T) {
	e := start(t, native.Options{})
	ada, adaToken := e.account("ada", core.Operator)
	path := "/accounts/" + ada.UUID + "/tokens"
	var made native.Token
	e.as(adaToken).post(path, native.NewToken{Name: "ci"}).want(201).read(&made)
	var me native.Me
	e.as(made.Token).get("/me").want(200).read(&me)
	if me.Name != "ada" || !me.Expires.IsZero() {
		t.Errorf("me is %+v, want ada for ever", me)
	}
	e.as(made.Token).del("/sessions/current").want(409)

	var list native.TokenList
	e.as(adaToken).get(path).want(200).read(&list)
	if len(list.Items) != 1 || list.Items[0].Token != "" || list.Items[0].UUID != made.UUID {
		t.Errorf("tokens are %+v, want one without its text", list.Items)
	}
	e.as(adaToken).post(path, `{"name":"ci","expires":"2001-01-01T00:00:00Z"}`).want(400)
	_, eve := e.account("eve", core.Operator)
	e.as(eve).get(path).want(403)
	e.as(adaToken).del(path + "/" + made.UUID).want(204)
	e.as(adaToken).del(path + "/" + made.UUID).want(404)
	e.as(made.Token).get("/me").want(401)
}

func TestAccountsDoNotSeeEachOther(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("mine", e.job("mine"))
	r := e.run(g)
	_, ada := e.account("ada", core.Operator)
	for _, path := range []string{"/groups/" + g.UUID, "/jobs/" + g.Jobs[0].Job, "/runs/" + r.ID, "/runs/" + r.ID + "/steps/0/log"} {
		e.as(ada).get(path).want(404)
	}
	e.as(ada).post("/groups/"+g.UUID+"/runs", nil).want(404)
	e.as(ada).post("/runs/"+r.ID+"/cancel", nil).want(404)
	for _, path := range []string{"/groups", "/jobs", "/runs", "/runs?group=" + g.UUID} {
		if text := e.as(ada).get(path).want(200).text; text != `{"items":[]}` {
			t.Errorf("%s shows %s", path, text)
		}
	}
}

func TestViewersChangeNothing(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	var admin native.Me
	e.admin().get("/me").want(200).read(&admin)
	e.admin().post("/accounts", native.NewAccount{Name: "eye", Password: "pw of eye", Role: core.Viewer, Owner: admin.Account}).want(201)
	eye := e.as(e.signIn("eye", "pw of eye"))
	eye.get("/groups/" + g.UUID).want(200)
	eye.post("/triggers", yearly("t")).want(403)
	eye.post("/groups/"+g.UUID+"/runs", nil).want(403)
	eye.patch("/groups/"+g.UUID, `{"name":"x"}`).want(403)
	eye.del("/groups/" + g.UUID).want(403)
	var list native.RunList
	eye.get("/runs").want(200).read(&list)
	if len(list.Items) != 0 {
		t.Errorf("a viewer started %d runs", len(list.Items))
	}
}

func TestWithoutRedisItSaysWhenToComeAgain(t *testing.T) {
	e := start(t, native.Options{})
	e.redis.Kill()
	res := e.admin().with("X-Request-Id", "req-1").get("/jobs").want(503)
	if res.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q, want 2", res.header.Get("Retry-After"))
	}
	want := native.Problem{
		Type: "/problems/unavailable", Title: "Unavailable", Status: 503,
		Detail: "the store cannot take the request now; try again shortly", RequestID: "req-1",
	}
	if diff := cmp.Diff(want, res.problem()); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	e.as("").get("/openapi.json").want(200) // needs no store
}

func TestPanicIsAProblem(t *testing.T) {
	api := native.New(nil, nil, native.Options{})
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { api.Failed(c) }))
	r.GET("/boom", func(*gin.Context) { panic("boom") })
	res := record(r, httptest.NewRequest("GET", "/boom", nil))
	res.t = t
	if p := res.problem(); res.status != 500 || p.Type != "/problems/internal" || strings.Contains(res.text, "boom") {
		t.Errorf("status %d, body %s", res.status, res.text)
	}
}
