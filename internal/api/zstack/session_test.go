package zstack_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

func loginBody(action string, fields map[string]any) string {
	b, _ := json.Marshal(map[string]any{action: fields})
	return string(b)
}

func TestLoginUseLogout(t *testing.T) {
	r := newReplica(t, setting{})
	password := string(auth.DigestOf("password"))
	for _, row := range []struct{ name, path, body string }{
		{"by account", "/accounts/login", loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": password, "clientInfo": map[string]string{"clientIp": "1.2.3.4"}})},
		{"by account, key of the introduction", "/accounts/login", loginBody("logIn", map[string]any{"accountName": "admin", "password": password})},
		{"by name", "/login", loginBody("logIn", map[string]any{"username": "admin", "password": password, "loginType": "account"})},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			// The Java SDK sends a job uuid here as well, and must not get a 202.
			got := r.do("PUT", row.path, row.body, "Authorization", "", "X-Job-UUID", newJobUUID()).inventory()
			session, _ := got["uuid"].(string)
			for _, field := range []string{"createDate", "expiredDate"} {
				if text, _ := got[field].(string); !wireStamp.MatchString(text) {
					t.Errorf("%s = %v, want a wire timestamp", field, got[field])
				}
				delete(got, field)
			}
			equal(t, "session", got, map[string]any{"uuid": session, "accountUuid": auth.AdminUUID, "userUuid": auth.AdminUUID, "userType": "AccountVO"})

			as := []string{"Authorization", "OAuth " + session}
			r.do("GET", "/scheduler/jobs", "", as...).ok()
			equal(t, "valid", r.do("GET", "/accounts/sessions/"+session+"/valid", "", "Authorization", "").ok(), map[string]any{"valid": true})
			equal(t, "logout", r.do("DELETE", "/accounts/sessions/"+session+"?deleteMode=&clientInfo.clientIp=1.2.3.4", "", "Authorization", "").ok(), map[string]any{})
			equal(t, "valid after logout", r.do("GET", "/accounts/sessions/"+session+"/valid", "", "Authorization", "").ok(), map[string]any{"valid": false})
			r.do("GET", "/scheduler/jobs", "", as...).fails(http.StatusServiceUnavailable, "ID.1001", "Session expired")
			r.do("DELETE", "/accounts/sessions/"+session, "", "Authorization", "").ok()
		})
	}
}

func TestLoginRefused(t *testing.T) {
	r := newReplica(t, setting{})
	wrong := string(auth.DigestOf("wrong"))
	for _, row := range []struct{ name, path, body, code, text string }{
		{"wrong password", "/accounts/login", loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": wrong}), "ID.1000", "wrong account name or password"},
		{"unknown account", "/accounts/login", loginBody("logInByAccount", map[string]any{"accountName": "nobody", "password": wrong}), "ID.1000", "wrong account name or password"},
		{"no account", "/accounts/login", loginBody("logInByAccount", map[string]any{"password": wrong}), "SYS.1007", "field[accountName]"},
		{"no user name", "/login", loginBody("logIn", map[string]any{"password": wrong}), "SYS.1007", "field[username]"},
		{"no password", "/accounts/login", loginBody("logInByAccount", map[string]any{"accountName": "admin"}), "SYS.1007", "field[password] of message[APILogInByAccountMsg]"},
		{"other backend", "/login", loginBody("logIn", map[string]any{"username": "admin", "password": wrong, "loginType": "ldap"}), "SYS.1007", "ldap"},
		{"user of an account", "/accounts/users/login", loginBody("logInByUser", map[string]any{"accountName": "admin", "userName": "u", "password": wrong}), "ID.1000", "wrong account or username or password"},
		{"user without a name", "/accounts/users/login", loginBody("logInByUser", map[string]any{"accountUuid": "x", "password": wrong}), "SYS.1007", "field[userName]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("PUT", row.path, row.body, "Authorization", "").fails(http.StatusServiceUnavailable, row.code, row.text)
		})
	}
}

func TestGuessingIsSlowed(t *testing.T) {
	r := newReplica(t, setting{})
	body := loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": string(auth.DigestOf("wrong"))})
	for range 5 {
		r.do("PUT", "/accounts/login", body)
	}
	r.do("PUT", "/accounts/login", body).fails(http.StatusServiceUnavailable, "ID.1000", "too many failed sign-ins")
}

func TestRenewSession(t *testing.T) {
	r := newReplica(t, setting{})
	path := "/accounts/sessions/" + r.session + "/renew"
	if got := r.do("PUT", path, `{"renewSession":{"duration":3600.0}}`).inventory()["uuid"]; got != r.session {
		t.Errorf("renewed session = %v, want %s", got, r.session)
	}
	r.do("PUT", path, `{"renewSession":{}}`).inventory()
	r.do("PUT", path, `{"renewSession":{"duration":59}}`).fails(http.StatusServiceUnavailable, "SYS.1007", "duration")
	r.do("PUT", path, `{"renewSession":{"duration":1e15}}`).fails(http.StatusServiceUnavailable, "SYS.1007", "duration")
	r.do("PUT", "/accounts/sessions/"+newJobUUID()+"/renew", `{"renewSession":{"duration":60}}`).fails(http.StatusServiceUnavailable, "ID.1001", "Session expired")
	r.do("PUT", path, `{"renewSession":{"duration":60}}`, "Authorization", "").fails(http.StatusBadRequest, "ID.1001", "missing header")

	// Through a receipt, which needs no session to be read, it is told once.
	job := newJobUUID()
	got := r.accepted(job, r.do("PUT", path, `{"renewSession":{"duration":60}}`, "X-Job-UUID", job))
	if got.inventory()["uuid"] != r.session {
		t.Errorf("result = %s, want the session", got.raw)
	}
	equal(t, "second poll", r.do("GET", "/api-jobs/"+job, "").ok(), map[string]any{})
}

// user makes an account that belongs to another one, and signs it in as ZStack's
// clients sign in a user.
func (r *replica) user(account, name string, role core.Role) string {
	r.t.Helper()
	sessions := auth.New(r.store, cheap)
	owner, err := r.store.AccountByName(r.t.Context(), account)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := sessions.CreateAccount(r.ctx(), auth.NewAccount{Name: name, Password: auth.DigestOf("password"), Role: role, Owner: owner.UUID}); err != nil {
		r.t.Fatalf("make user %s: %v", name, err)
	}
	fields := map[string]any{"accountName": account, "userName": name, "password": string(auth.DigestOf("password"))}
	return r.do("PUT", "/accounts/users/login", loginBody("logInByUser", fields), "Authorization", "").inventory()["uuid"].(string)
}

func TestLoginByUser(t *testing.T) {
	r := newReplica(t, setting{})
	r.signIn("ann", core.Operator)
	session := r.user("ann", "helper", core.Viewer)
	ann, _ := r.store.AccountByName(t.Context(), "ann")
	helper, _ := r.store.AccountByName(t.Context(), "helper")
	password := string(auth.DigestOf("password"))
	body := loginBody("logInByUser", map[string]any{"accountUuid": ann.UUID, "userName": "helper", "password": password})
	renew := `{"renewSession":{"duration":60}}`
	for name, got := range map[string]map[string]any{
		"by the account's uuid": r.do("PUT", "/accounts/users/login", body, "Authorization", "", "X-Job-UUID", newJobUUID()).inventory(),
		"renewed":               r.do("PUT", "/accounts/sessions/"+session+"/renew", renew, "Authorization", "OAuth "+session).inventory(),
	} {
		if got["accountUuid"] != ann.UUID || got["userUuid"] != helper.UUID || got["userType"] != "UserVO" {
			t.Errorf("session %s = %v, want one of user %s of account %s", name, got, helper.UUID, ann.UUID)
		}
	}
	for name, fields := range map[string]map[string]any{
		"user of another": {"accountName": "admin", "userName": "helper", "password": password},
		"wrong password":  {"accountName": "ann", "userName": "helper", "password": string(auth.DigestOf("x"))},
		"no user":         {"accountName": "ann", "userName": "ann", "password": password},
	} {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("PUT", "/accounts/users/login", loginBody("logInByUser", fields)).fails(http.StatusServiceUnavailable, "ID.1000", "wrong account or username or password")
		})
	}
}

// An account has 500 sessions at most, as in ZStack; signing out makes room.
func TestSessionsAreLimited(t *testing.T) {
	r := newReplica(t, setting{})
	first := r.signIn("ann", core.Operator)
	sessions := auth.New(r.store, cheap)
	for range 499 {
		if _, err := sessions.LoginPlain(t.Context(), "ann", "password", ""); err != nil {
			t.Fatal(err)
		}
	}
	body := loginBody("logInByAccount", map[string]any{"accountName": "ann", "password": string(auth.DigestOf("password"))})
	r.do("PUT", "/accounts/login", body, "Authorization", "").fails(http.StatusServiceUnavailable, "ID.1006", "the account has 500 sessions already")
	r.do("DELETE", "/accounts/sessions/"+first, "", "Authorization", "").ok()
	r.do("PUT", "/accounts/login", body, "Authorization", "").inventory()
}

// Signing in, signing out and asking whether a session is valid look at no header,
// whatever it is.
func TestSignInNeedsNoIdentity(t *testing.T) {
	r := newReplica(t, setting{})
	k := r.newKey(r.session)
	for name, authorization := range map[string]string{
		"none": "", "null": "OAuth null", "other scheme": "Basic eDp5", "malformed signature": "ZStack x", "wrong signature": "ZStack " + k.id + ":c2ln",
	} {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.t = t
			body := loginBody("logInByAccount", map[string]any{"accountName": "admin", "password": string(auth.DigestOf("password"))})
			session := r.do("PUT", "/accounts/login", body, "Authorization", authorization).inventory()["uuid"].(string)
			equal(t, "valid", r.do("GET", "/accounts/sessions/"+session+"/valid", "", "Authorization", authorization).ok(), map[string]any{"valid": true})
			r.do("DELETE", "/accounts/sessions/"+session, "", "Authorization", authorization).ok()
			equal(t, "valid after logout", r.do("GET", "/accounts/sessions/"+session+"/valid", "", "Authorization", authorization).ok(), map[string]any{"valid": false})
		})
	}
	// A signed request may ask for a session's life, which is another identity's.
	path := "/accounts/sessions/" + r.session + "/renew"
	if got := r.call(k, "/zstack/v1", "PUT", path, `{"renewSession":{"duration":60}}`).inventory()["uuid"]; got != r.session {
		t.Errorf("renewed %v, want %s", got, r.session)
	}
}
