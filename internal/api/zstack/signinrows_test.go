package zstack_test

import (
	"testing"

	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
)

// The rows of 3.1: every field of the calls is taken, all of them are answered at once,
// and only RenewSession needs a session.
func TestSignInRows(t *testing.T) {
	r := newReplica(t, setting{})
	r.signIn("ann", core.Operator)
	r.user("ann", "helper", core.Operator)
	password := string(auth.DigestOf("password"))
	client := map[string]any{"clientIp": "1.2.3.4", "clientBrowser": "x"}
	with := func(fields map[string]any) map[string]any {
		for name, v := range map[string]any{"password": password, "captchaUuid": newJobUUID(), "verifyCode": "1234", "clientInfo": client} {
			fields[name] = v
		}
		return fields
	}
	for _, row := range []struct{ row, path, body string }{
		{"LogInByAccount", "/accounts/login", loginBody("logInByAccount", with(map[string]any{"accountName": "admin", "accountType": "Normal"}))},
		{"LogInByAccount, the key of the introduction", "/accounts/login", loginBody("logIn", with(map[string]any{"accountName": "admin"}))},
		{"LogIn", "/login", loginBody("logIn", with(map[string]any{"username": "admin", "loginType": "account", "properties": map[string]any{"a": "b"}}))},
		{"LogInByUser", "/accounts/users/login", loginBody("logInByUser", with(map[string]any{"accountName": "ann", "userName": "helper"}))},
	} {
		t.Run(row.row, func(t *testing.T) {
			r := *r
			r.t = t
			// Whatever a client's library adds to each of its requests.
			headers := []string{"Authorization", "", "X-Job-UUID", newJobUUID(), "X-Web-Hook", "http://hooks.example.com/", "X-JSON-Schema", "true"}
			got := r.do("PUT", row.path, row.body, headers...)
			session := got.inventory()["uuid"].(string)
			equal(t, "schema", got.body["schema"], any(map[string]any{"inventory": "org.zstack.header.identity.SessionInventory"}))

			equal(t, "ValidateSession: booleans only", r.do("GET", "/accounts/sessions/"+session+"/valid", "", headers...).ok(), map[string]any{"valid": true})
			out := "/accounts/sessions/" + session + "?deleteMode=&clientInfo.clientIp=1.2.3.4"
			equal(t, "LogOut", r.do("DELETE", out, "", headers...).ok(), map[string]any{})
			equal(t, "LogOut, unknown", r.do("DELETE", out, "", headers...).ok(), map[string]any{})
			equal(t, "ValidateSession afterwards", r.do("GET", "/accounts/sessions/"+session+"/valid", "", headers...).ok(), map[string]any{"valid": false})
		})
	}
	for seconds, fine := range map[string]bool{"59": false, "60": true, "31536000": true, "31536001": false, "-1": false, "0": false, "1e12": false} {
		a := r.do("PUT", "/accounts/sessions/"+r.session+"/renew", put("renewSession", `"duration":`+seconds))
		if fine {
			equal(t, "RenewSession, duration "+seconds, a.inventory()["uuid"], any(r.session))
			continue
		}
		a.fails(business, argument, "duration")
	}
	r.do("PUT", "/accounts/sessions/"+r.session+"/renew", put("renewSession", ""), "Authorization", "").fails(shape, "ID.1001", "missing header 'Authorization'")
}
