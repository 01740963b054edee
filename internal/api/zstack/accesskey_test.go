package zstack_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/api/zstack"
	"github.com/takt-dev/takt/internal/auth"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

// A key is an access key as a client has it, with the form in which the client
// writes dates.
type key struct {
	uuid, id, secret string
	form             string        // of dates; "" = the Java SDK's
	zone             string        // of the client; "" = UTC
	ahead            time.Duration // of the client's clock
}

const (
	javaForm = "Mon, 02 Jan 2006 15:04:05 " // and the zone's id
	goForm   = "Mon, 02 Jan 2006 15:04:05 MST"
)

// newKey has an account make an access key, which is its only secret from then on.
func (r *replica) newKey(session string) key {
	r.t.Helper()
	inv := r.do("POST", "/accesskeys", `{"params":{"description":"a test's"}}`, "Authorization", "OAuth "+session).inventory()
	return key{uuid: inv["uuid"].(string), id: inv["AccessKeyID"].(string), secret: inv["AccessKeySecret"].(string)}
}

func (k key) date() string {
	zone := time.UTC
	if k.zone != "" {
		zone, _ = time.LoadLocation(k.zone)
	}
	now := time.Now().Add(k.ahead).In(zone)
	if k.form == "" {
		return now.Format(javaForm) + map[bool]string{true: "Etc/UTC", false: k.zone}[k.zone == ""]
	}
	return now.Format(k.form)
}

// sign gives the headers of a signed request for a path that begins at /v1.
func (k key) sign(method, path string) []string {
	date := k.date()
	mac := hmac.New(sha1.New, []byte(k.secret))
	mac.Write([]byte(method + "\n" + date + "\n" + path))
	return []string{"Authorization", "ZStack " + k.id + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil)), "Date", date}
}

// call sends a signed request for a path below /v1, through one of the mounts.
func (r *replica) call(k key, mount, method, path, body string, headers ...string) reply {
	r.t.Helper()
	bare, _, _ := strings.Cut(path, "?")
	return r.do(method, r.url+mount+path, body, append(k.sign(method, "/v1"+bare), headers...)...)
}

// java carries a change out as the Java SDK does: with a job uuid, and polling with
// what it has for a session.
func (r *replica) java(k key, mount, method, path, body string) reply {
	r.t.Helper()
	job := newJobUUID()
	a := r.call(k, mount, method, path, body, "X-Job-UUID", job, "X-JSON-Schema", "true")
	return r.accepted(job, a)
}

// golang carries a change out as the Go SDK does: without a job uuid.
func (r *replica) golang(k key, mount, method, path, body string) reply {
	r.t.Helper()
	return r.call(k, mount, method, path, body)
}

func TestSDKsSignWithAccessKeys(t *testing.T) {
	r := newReplica(t, setting{})
	k := r.newKey(r.signIn("ann", core.Operator))
	type change func(*replica, key, string, string, string, string) reply
	for _, row := range []struct {
		name, mount, form, zone string
		do                      change
	}{
		{"Java SDK", "/v1", "", "", (*replica).java},
		{"Java SDK with a context path", "/zstack/v1", "", "Asia/Shanghai", (*replica).java},
		{"Go SDK", "/zstack/v1", goForm, "", (*replica).golang},
		{"Go SDK in Shanghai", "/zstack/v1", goForm, "Asia/Shanghai", (*replica).golang},
		{"Go SDK in a zone without an abbreviation", "/zstack/v1", goForm, "America/Sao_Paulo", (*replica).golang},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, k := *r, k
			r.t, k.form, k.zone = t, row.form, row.zone
			group := row.do(&r, k, row.mount, "POST", "/scheduler/jobgroups", createGroup).inventory()["uuid"].(string)
			trigger := row.do(&r, k, row.mount, "POST", "/scheduler/triggers", `{"params":{"name":"t","schedulerType":"cron","cron":"0 0 3 1 1 ?"}}`).inventory()["uuid"].(string)
			tie := "/scheduler/jobgroups/" + group + "/scheduler/triggers/" + trigger
			row.do(&r, k, row.mount, "POST", tie, "").inventory()
			// The query is no part of what is signed.
			found := r.call(k, row.mount, "GET", "/scheduler/jobgroups?q=uuid="+group+"&replyWithCount=true", "").inventories()
			if len(found) != 1 || found[0]["uuid"] != group || len(texts(found[0]["triggersUuid"])) != 1 {
				t.Errorf("groups = %v, want %s bound to its trigger", found, group)
			}
			r.call(k, row.mount, "GET", "/scheduler/triggers/"+trigger, "").inventories()
			row.do(&r, k, row.mount, "PUT", "/scheduler/triggers/"+trigger+"/actions", `{"runSchedulerTrigger":{}}`).ok()
			row.do(&r, k, row.mount, "DELETE", tie+"?deleteMode=Permissive", "").ok()
			equal(t, "answer to DELETE", row.do(&r, k, row.mount, "DELETE", "/scheduler/jobgroups/"+group, "").ok(), map[string]any{})
		})
	}
}

// The Go SDK polls with the signature of its first request, however old that is.
func TestPollingNeedsNoSignature(t *testing.T) {
	var ahead atomic.Int64
	r := newReplica(t, setting{opts: zstack.Options{
		AlwaysAsync: true, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}})
	k := r.newKeyAsync()
	first := k.sign("POST", "/v1/scheduler/jobgroups")
	a := r.do("POST", "/scheduler/jobgroups", createGroup, first...)
	location, _ := a.body["location"].(string)
	ahead.Store(int64(time.Hour))
	r.do("POST", "/scheduler/jobgroups", createGroup, first...).fails(http.StatusForbidden, "ID.1000", "requestTimeTooSkewed")
	for name, headers := range map[string][]string{
		"signature of the first request": first,
		"OAuth null":                     {"Authorization", "OAuth null"},
		"nothing":                        {"Authorization", ""},
		"another scheme":                 {"Authorization", "ZStack :"},
	} {
		if got := r.do("GET", location, "", headers...); got.inventory()["name"] != "g" {
			t.Errorf("poll with %s = %s, want the group", name, got.raw)
		}
	}
}

// newKeyAsync is newKey of the admin where every change is answered with 202.
func (r *replica) newKeyAsync() key {
	r.t.Helper()
	location, _ := r.do("POST", "/accesskeys", `{}`).body["location"].(string)
	inv := r.do("GET", location, "").inventory()
	return key{uuid: inv["uuid"].(string), id: inv["AccessKeyID"].(string), secret: inv["AccessKeySecret"].(string)}
}

// Every error of section 1.2, by the name of its row: what is wrong with the form
// is refused at once, what is wrong with the identity comes through the receipt.
func TestIdentityRefused(t *testing.T) {
	r := newReplica(t, setting{})
	ann := r.signIn("ann", core.Operator)
	k := r.newKey(ann)
	disabled, deleted := r.newKey(r.signIn("bob", core.Operator)), r.newKey(r.session)
	r.do("PUT", "/accesskeys/"+disabled.uuid+"/actions", `{"changeAccessKeyState":{"stateEvent":"disable"}}`).ok()
	r.do("DELETE", "/accesskeys/"+deleted.uuid, "").ok()
	short := auth.New(r.store, auth.Options{SessionLife: time.Millisecond, Cost: cheap.Cost, Log: quiet})
	expired, err := short.LoginPlain(t.Context(), "ann", "password", "")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return time.Now().After(expired.Expires) })

	with := func(change func(*key)) func(string, string) []string {
		changed := k
		change(&changed)
		return changed.sign
	}
	header := func(name, value string) func(string, string) []string {
		return func(method, path string) []string { return append(k.sign(method, path), name, value) }
	}
	const badForm = "accessKey format is 'ZStack AccessKeyId:Signature'"
	for _, row := range []struct {
		name    string
		headers func(method, path string) []string
		status  int
		code    string
		text    string
	}{
		{"no Authorization", header("Authorization", ""), 400, "ID.1001", "missing header 'Authorization'"},
		{"other scheme", header("Authorization", "Bearer x"), 400, "ID.1001", "Authorization type must be 'OAuth'"},
		{"scheme in another case", header("Authorization", "zstack x:y"), 400, "ID.1001", "Authorization type must be 'OAuth'"},
		{"wrong session", header("Authorization", "OAuth "+newJobUUID()), 503, "ID.1001", "Session expired"},
		{"no session", header("Authorization", "OAuth null"), 503, "ID.1001", "Session expired"},
		{"expired session", header("Authorization", "OAuth "+expired.ID), 503, "ID.1001", "Session expired"},

		{"missing Date", header("Date", ""), 400, "ID.1000", "'Date' must be incuded in request header"},
		{"bad format of Date", header("Date", time.Now().Format(time.RFC3339)), 400, "ID.1000", "'Date' format error, correct format is 'EEE, dd MMM yyyy HH:mm:ss z'"},
		{"clock behind", with(func(k *key) { k.ahead = -16 * time.Minute }), 403, "ID.1000", "requestTimeTooSkewed"},
		{"clock ahead", with(func(k *key) { k.ahead = 16 * time.Minute }), 403, "ID.1000", "requestTimeTooSkewed"},
		{"no colon", header("Authorization", "ZStack "+k.id), 400, "ID.1000", badForm},
		{"no id", header("Authorization", "ZStack :c2ln"), 400, "ID.1000", badForm},
		{"no signature", header("Authorization", "ZStack "+k.id+":"), 400, "ID.1000", badForm},
		{"two colons", header("Authorization", "ZStack "+k.id+":a:b"), 400, "ID.1000", badForm},
		{"nothing but the scheme", header("Authorization", "ZStack"), 400, "ID.1000", badForm},

		{"wrong secret", with(func(k *key) { k.secret += "x" }), 503, "ID.1000", "wrong accessKey signature"},
		{"signature that is no base64", header("Authorization", "ZStack "+k.id+":%%%"), 503, "ID.1000", "wrong accessKey signature"},
		{"signature for another path", func(method, _ string) []string { return k.sign(method, "/v1/accesskeys") }, 503, "ID.1000", "wrong accessKey signature"},
		{"signature for another method", func(_, path string) []string { return k.sign("HEAD", path) }, 503, "ID.1000", "wrong accessKey signature"},
		{"signature with the context path", func(method, path string) []string { return k.sign(method, "/zstack"+path) }, 503, "ID.1000", "wrong accessKey signature"},
		{"Date that was not signed", header("Date", key{ahead: time.Minute}.date()), 503, "ID.1000", "wrong accessKey signature"},
		{"unknown key", with(func(k *key) { k.id = "nobody" }), 503, "ID.1000", "access key id[nobody] not found"},
		{"deleted key", deleted.sign, 503, "ID.1000", "access key id[" + deleted.id + "] not found"},
		{"disabled key", disabled.sign, 503, "ID.1000", "access key id[" + disabled.id + "] is disabled"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("GET", "/scheduler/jobs?limit=1", "", row.headers("GET", "/v1/scheduler/jobs")...).fails(row.status, row.code, row.text)
			r.do("POST", "/scheduler/jobgroups", createGroup, row.headers("POST", "/v1/scheduler/jobgroups")...).fails(row.status, row.code, row.text)

			job := newJobUUID()
			a := r.do("POST", "/scheduler/jobgroups", createGroup, append(row.headers("POST", "/v1/scheduler/jobgroups"), "X-Job-UUID", job)...)
			if row.status == http.StatusServiceUnavailable {
				a = r.accepted(job, a)
			}
			a.fails(row.status, row.code, row.text)
		})
	}
	equal(t, "groups", r.do("GET", "/scheduler/jobgroups", "").inventories(), []map[string]any{})
}

// A disabled key is refused from the next request on, and taken again when enabled.
func TestAccessKeyState(t *testing.T) {
	r := newReplica(t, setting{})
	ann := r.signIn("ann", core.Operator)
	k := r.newKey(ann)
	as := []string{"Authorization", "OAuth " + ann}
	for _, row := range []struct{ event, state string }{{"disable", "Disabled"}, {"disable", "Disabled"}, {"enable", "Enabled"}} {
		inv := r.do("PUT", "/accesskeys/"+k.uuid+"/actions", `{"changeAccessKeyState":{"stateEvent":"`+row.event+`"}}`, as...).inventory()
		if inv["state"] != row.state || inv["AccessKeySecret"] != nil {
			t.Errorf("after %s: got %v, want it %s and without its secret", row.event, inv, row.state)
		}
		if got := r.call(k, "/v1", "GET", "/scheduler/jobs", ""); (got.status == http.StatusOK) != (row.state == "Enabled") {
			t.Errorf("signed request after %s: got %d %s", row.event, got.status, got.raw)
		}
	}
	path := "/accesskeys/" + k.uuid + "/actions"
	r.do("PUT", path, `{"changeAccessKeyState":{"stateEvent":"stop"}}`, as...).fails(503, "SYS.1007", "valid value for field[stateEvent] of message[APIChangeAccessKeyStateMsg] are [enable, disable], but stop found")
	r.do("PUT", path, `{"changeAccessKeyState":{}}`, as...).fails(503, "SYS.1007", "field[stateEvent] of message[APIChangeAccessKeyStateMsg] is mandatory")
	r.do("PUT", path, `{"updateAccessKey":{}}`, as...).fails(400, "SYS.1007", "the body doesn't contain action mapping")
	none := newJobUUID()
	r.do("PUT", "/accesskeys/"+none+"/actions", `{"changeAccessKeyState":{"stateEvent":"enable"}}`, as...).fails(503, "SYS.1003", "invalid field[uuid], resource[uuid:"+none+", type:AccessKeyVO] not found")
}

func TestAccessKeyInventory(t *testing.T) {
	r := newReplica(t, setting{})
	a := r.do("POST", "/accesskeys", `{"params":{"accountUuid":"`+auth.AdminUUID+`","userUuid":"`+auth.AdminUUID+`","description":" d ","systemTags":["a::b"]}}`, "X-JSON-Schema", "true")
	equal(t, "schema", a.ok()["schema"], any(map[string]any{"inventory": "org.zstack.accessKey.AccessKeyInventory"}))
	made := a.inventory()
	for _, field := range []string{"createDate", "lastOpDate"} {
		if text, _ := made[field].(string); !wireStamp.MatchString(text) {
			t.Errorf("%s = %v, want a wire timestamp", field, made[field])
		}
	}
	id, secret := made["AccessKeyID"].(string), made["AccessKeySecret"].(string)
	if len(id) != 20 || len(secret) != 40 {
		t.Errorf("key %q has the secret %q, want 20 and 40 characters", id, secret)
	}
	want := map[string]any{
		"uuid": made["uuid"], "description": "d", "accountUuid": auth.AdminUUID, "userUuid": auth.AdminUUID, "AccessKeyID": id,
		"AccessKeySecret": nil, "state": "Enabled", "createDate": made["createDate"], "lastOpDate": made["lastOpDate"],
	}
	// Its secret is told once: no query gives it again.
	for _, path := range []string{
		"/accesskeys", "/accesskeys/" + made["uuid"].(string), "/accesskeys?q=AccessKeyID=" + id, "/accesskeys?q=state=enabled&sort=-createDate&limit=1",
		"/accesskeys?q=accountUuid=" + auth.AdminUUID + "&q=AccessKeySecret is null",
	} {
		got := r.do("GET", strings.ReplaceAll(path, " ", "%20"), "")
		equal(t, path, got.inventories(), []map[string]any{want})
		if strings.Contains(got.raw, secret) {
			t.Errorf("%s tells the secret: %s", path, got.raw)
		}
	}
	equal(t, "number", r.do("GET", "/accesskeys?count=true", "").ok(), map[string]any{"total": jsonNumber("1")})
	equal(t, "nobody's", r.do("GET", "/accesskeys/"+newJobUUID(), "").inventories(), []map[string]any{})
	r.do("GET", "/accesskeys?q=secret=x", "").fails(503, "SYS.1007", "condition name[secret] is invalid, no such field on inventory class[org.zstack.accessKey.AccessKeyInventory]")

	// Through a receipt, which anybody may read who knows its uuid, it is told once too.
	job := newJobUUID()
	polled := r.accepted(job, r.do("POST", "/accesskeys", `{}`, "X-Job-UUID", job))
	if s, _ := polled.inventory()["AccessKeySecret"].(string); len(s) != 40 {
		t.Errorf("polled %s, want the key with its secret", polled.raw)
	}
	equal(t, "second poll", r.do("GET", "/api-jobs/"+job, "").ok(), map[string]any{})

	path := "/accesskeys/" + made["uuid"].(string)
	equal(t, "delete", r.do("DELETE", path+"?deleteMode=Permissive", "").ok(), map[string]any{})
	equal(t, "delete again", r.do("DELETE", path, "").ok(), map[string]any{})
	r.do("DELETE", "/accesskeys/x", "").fails(503, "SYS.1003", "type:AccessKeyVO")
}

func TestCreateAccessKeyRefused(t *testing.T) {
	r := newReplica(t, setting{})
	ann := r.signIn("ann", core.Operator)
	taken := r.newKey(ann)
	unknown := newJobUUID()
	body := func(fields map[string]any) string {
		b, _ := json.Marshal(map[string]any{"params": fields})
		return string(b)
	}
	for _, row := range []struct {
		name   string
		fields map[string]any
		code   string
		text   string
	}{
		{"account that does not exist", map[string]any{"accountUuid": unknown}, "SYS.1003", "invalid field[accountUuid], resource[uuid:" + unknown + ", type:AccountVO] not found"},
		{"user of another account", map[string]any{"accountUuid": auth.AdminUUID, "userUuid": unknown}, "SYS.1003", "type:AccountVO] not found"},
		{"long description", map[string]any{"description": strings.Repeat("d", 2049)}, "SYS.1007", "field[description] of message[APICreateAccessKeyMsg] exceeds max length of string. expected was <= 2048, actual was 2049"},
		{"id alone", map[string]any{"AccessKeyID": "1234567890"}, "SYS.1007", "must be provided at the same time"},
		{"secret alone", map[string]any{"AccessKeySecret": "1234567890"}, "SYS.1007", "must be provided at the same time"},
		{"short id", map[string]any{"AccessKeyID": "123456789", "AccessKeySecret": "1234567890"}, "SYS.1007", "field[AccessKeyID] of message[APICreateAccessKeyMsg] less than the min length of string"},
		{"long secret", map[string]any{"AccessKeyID": "1234567890", "AccessKeySecret": strings.Repeat("s", 41)}, "SYS.1007", "field[AccessKeySecret] of message[APICreateAccessKeyMsg] exceeds max length of string"},
		{"colon in the id", map[string]any{"AccessKeyID": "12345:7890", "AccessKeySecret": "1234567890"}, "SYS.1007", "Access key ID and secret cannot contain ':'"},
		{"space in the secret", map[string]any{"AccessKeyID": "1234567890", "AccessKeySecret": "12345 7890"}, "SYS.1007", "visible ASCII"},
		{"id taken", map[string]any{"AccessKeyID": taken.id, "AccessKeySecret": "1234567890"}, "SYS.1000", taken.id},
		{"resourceUuid that is none", map[string]any{"resourceUuid": "x"}, "SYS.1007", "resourceUuid[x] is not a valid uuid"},
		{"resourceUuid taken", map[string]any{"resourceUuid": taken.uuid}, "SYS.1000", taken.uuid},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.do("POST", "/accesskeys", body(row.fields)).fails(http.StatusServiceUnavailable, row.code, row.text)
		})
	}
	own := r.do("POST", "/accesskeys", body(map[string]any{"AccessKeyID": "chosen-key", "AccessKeySecret": "chosen-secret"})).inventory()
	r.call(key{id: "chosen-key", secret: "chosen-secret"}, "/v1", "GET", "/accesskeys/"+own["uuid"].(string), "").inventories()

	r.newKey(ann)
	r.do("POST", "/accesskeys", `{}`, "Authorization", "OAuth "+ann).fails(503, "SYS.1007", "has exceeded the maximum limit")
}
