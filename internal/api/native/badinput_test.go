package native_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
)

// invalid is a whole problem with the kind that most bad input has.
func invalid(field, detail string) native.Problem {
	return native.Problem{Type: "/problems/invalid", Title: "The request is not valid", Status: 400, Field: field, Detail: detail}
}

func unshowable(character string) native.Problem {
	return invalid("name", "name must not hold control characters, nor any that change the direction of text; it has "+character)
}

func TestBadInput(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	j, other := e.job("j"), e.job("taken")
	g := e.group("g", other)
	tr := e.trigger("t")
	e.admin().post("/triggers/"+tr.UUID+"/targets", native.NewBinding{Kind: core.GroupTarget, UUID: g.UUID}).want(201)
	const nobody = "ffffffffffffffffffffffffffffffff"
	long := strings.Repeat("x", 256)
	jobFields := "description, enabled, name, parameters, priority, retry, target, timeout"
	tests := []struct {
		name, method, path, body string
		want                     native.Problem
	}{
		// JSON
		{"malformed JSON", "POST", "/jobs", `{"name": "x",}`,
			invalid("", "the body is not valid JSON: invalid character '}' looking for beginning of object key string at byte 14")},
		{"JSON that breaks off", "POST", "/jobs", `{"name": "x"`, invalid("", "the body is not valid JSON: unexpected end of JSON input at byte 12")},
		{"trailing data", "POST", "/jobs", `{"name":"x","type":"echo"} {}`,
			invalid("", "the body is not valid JSON: invalid character '{' after top-level value at byte 28")},
		{"no body", "POST", "/jobs", ``, invalid("", "the body is empty; send a JSON object")},
		{"null", "POST", "/jobs", `null`, invalid("", "the body must be an object, not null")},
		{"an array", "POST", "/jobs", `[]`, invalid("", "the body must be an object, not an array")},
		{"not UTF-8", "POST", "/jobs", "{\"name\":\"\xff\"}", invalid("", "the body is not valid UTF-8")},
		{"unknown field", "POST", "/jobs", `{"name":"x","type":"echo","colour":"red"}`,
			invalid("colour", "colour is not a known field; known are: description, enabled, name, parameters, priority, retry, target, timeout, type, uuid")},
		{"unknown field inside", "POST", "/jobs", `{"name":"x","type":"echo","retry":{"attempt":3}}`,
			invalid("retry.attempt", "retry.attempt is not a known field; known are: attempts, backoff, factor, jitter, max")},
		{"a field in capitals", "POST", "/jobs", `{"Name":"x","type":"echo"}`,
			invalid("Name", "Name is not a known field; known are: description, enabled, name, parameters, priority, retry, target, timeout, type, uuid")},
		{"a field twice", "POST", "/jobs", `{"name":"x","name":"y","type":"echo"}`, invalid("name", "name is given twice; give it once")},
		{"a field the server decides", "POST", "/jobs", `{"name":"x","type":"echo","version":1}`,
			invalid("version", "version is not a known field; known are: description, enabled, name, parameters, priority, retry, target, timeout, type, uuid")},

		// types
		{"number for text", "POST", "/jobs", `{"name":7}`, invalid("name", "name must be a string, not 7")},
		{"text for number", "POST", "/jobs", `{"name":"x","retry":{"attempts":"3"}}`, invalid("retry.attempts", "retry.attempts must be a whole number, not a string")},
		{"fraction for whole number", "POST", "/jobs", `{"retry":{"attempts":1.5}}`, invalid("retry.attempts", "retry.attempts must be a whole number, not 1.5")},
		{"text for truth", "POST", "/jobs", `{"enabled":"yes"}`, invalid("enabled", "enabled must be true or false, not a string")},
		{"array for object", "POST", "/jobs", `{"retry":[]}`, invalid("retry", "retry must be an object, not an array")},
		{"number among parameters", "POST", "/jobs", `{"parameters":{"count":2}}`, invalid("parameters.count", "parameters.count must be a string, not 2")},
		{"null among parameters", "POST", "/jobs", `{"parameters":{"count":null}}`, invalid("parameters.count", "parameters.count must be a string, not null")},
		{"bare number as duration", "POST", "/jobs", `{"timeout":30}`, invalid("timeout", `timeout must be a duration with its unit, such as "30s" or "1h30m", not 30`)},
		{"no duration", "POST", "/jobs", `{"timeout":"soon"}`, invalid("timeout", `timeout must be a duration with its unit, such as "30s" or "1h30m", not "soon"`)},
		{"no time", "POST", "/triggers", `{"schedule":{"start":"tomorrow"}}`,
			invalid("schedule.start", `schedule.start must be an RFC 3339 time, such as "2026-01-31T08:00:00Z", not "tomorrow"`)},

		// jobs
		{"no name", "POST", "/jobs", `{"type":"echo"}`, invalid("name", "name must not be empty")},
		{"long name", "POST", "/jobs", `{"type":"echo","name":"` + long + `"}`, invalid("name", "name has 256 characters, at most 255 are allowed")},
		{"NUL in a job's name", "POST", "/jobs", `{"type":"echo","name":"a\u0000b"}`, unshowable("U+0000")},
		{"a tab in a group's name", "POST", "/groups", `{"type":"echo","name":"a\tb"}`, unshowable("U+0009")},
		{"an end of line in a trigger's name", "POST", "/triggers", `{"name":"a\nb","schedule":{"kind":"simple","interval":"1m"}}`, unshowable("U+000A")},
		{"an override in a CBT task's name", "POST", "/cbt-tasks", `{"name":"a\u202eb","machines":["` + nobody + `"]}`, unshowable("U+202E")},
		{"an isolate in a job's new name", "PATCH", "/jobs/" + j.UUID, `{"name":"a\u2067b"}`, unshowable("U+2067")},
		{"an escape in a group's new name", "PATCH", "/groups/" + g.UUID, `{"name":"a\u001b[1mb"}`, unshowable("U+001B")},
		{"a mark in a trigger's new name", "PATCH", "/triggers/" + tr.UUID, `{"name":"a\u200fb"}`, unshowable("U+200F")},
		{"no type", "POST", "/jobs", `{"name":"x"}`, invalid("type", "type must not be empty")},
		{"unknown type", "POST", "/jobs", `{"name":"x","type":"sing"}`,
			invalid("type", `type "sing" is not known: no worker has announced it; GET /api/v1/types lists the known ones`)},
		{"required parameter", "POST", "/jobs", `{"name":"x","type":"echo"}`, invalid("parameters.text", `parameter "text": is required by job type echo`)},
		{"unknown parameter", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a","volume":"9"}}`,
			invalid("parameters.volume", `parameter "volume": is not one of job type echo, which takes: text, count, password, headers`)},
		{"parameter of the wrong kind", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a","count":"many"}}`,
			invalid("parameters.count", `parameter "count": "many" must be an integer`)},
		{"uuid of the wrong form", "POST", "/jobs", `{"name":"x","type":"echo","uuid":"7"}`, invalid("uuid", `uuid "7" is not a uuid: it must have 32 hexadecimal digits`)},
		{"target of the wrong form", "POST", "/jobs", `{"name":"x","type":"echo","target":"vm","parameters":{"text":"a"}}`,
			invalid("target", `target "vm" is not a uuid: it must have 32 hexadecimal digits`)},
		{"duplicate uuid", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a"},"uuid":"` + j.UUID + `"}`,
			native.Problem{Type: "/problems/exists", Title: "Already exists", Status: 409, Detail: `uuid "` + j.UUID + `" is taken; choose another one for the job or leave it out`}},
		{"retry out of range", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a"},"retry":{"attempts":101}}`,
			invalid("retry.attempts", "retry.attempts is 101, it must be from 0 to 100")},
		{"timeout out of range", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a"},"timeout":"1ms"}`,
			invalid("timeout", "timeout is 1ms, it must be from 1s to 168h0m0s, or 0 for the default")},
		{"priority", "POST", "/jobs", `{"name":"x","type":"echo","parameters":{"text":"a"},"priority":"high"}`,
			invalid("priority", `priority "high" must be critical, default or low`)},
		{"patch of what cannot be changed", "PATCH", "/jobs/" + j.UUID, `{"type":"other"}`, invalid("type", "type is not a field that can be changed here; these can: "+jobFields)},
		{"patch that takes the name away", "PATCH", "/jobs/" + j.UUID, `{"name":null}`, invalid("name", "name must not be empty")},
		{"patch that is wrong in its second half", "PATCH", "/jobs/" + j.UUID, `{"name":"changed","timeout":"-1s"}`,
			invalid("timeout", "timeout is -1s, it must be from 1s to 168h0m0s, or 0 for the default")},
		{"unknown job", "GET", "/jobs/" + nobody, ``,
			native.Problem{Type: "/problems/not_found", Title: "Not found", Status: 404, Detail: `there is no job with uuid "` + nobody + `"`}},
		{"no uuid at all", "GET", "/jobs/7", ``,
			native.Problem{Type: "/problems/not_found", Title: "Not found", Status: 404, Detail: `there is no job with uuid "7"; a uuid has 32 hexadecimal digits`}},

		// groups
		{"no jobs to add", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":[]}`, invalid("jobs", "at least one job uuid must be given")},
		{"a job twice", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":["` + j.UUID + `","` + j.UUID + `"]}`, invalid("jobs", `jobs holds "`+j.UUID+`" twice; give it once`)},
		{"an unknown job beside a known one", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":["` + j.UUID + `","` + nobody + `"]}`,
			native.Problem{Type: "/problems/not_found", Title: "Not found", Status: 404, Detail: `there is no job with uuid "` + nobody + `"`}},
		{"too many jobs", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":["` + strings.Repeat(nobody+`","`, 1000) + nobody + `"]}`,
			invalid("jobs", "jobs holds 1001 uuids, at most 1000 are allowed")},
		{"an empty uuid", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":[""]}`, invalid("jobs", "jobs holds an empty uuid")},
		{"a body where none is known", "POST", "/runs/" + nobody + "/retry", `{"steps":[1]}`, invalid("steps", "steps is not a known field; known are: none")},
		{"jobs that are no texts", "POST", "/groups/" + g.UUID + "/jobs", `{"jobs":[1]}`, invalid("jobs[0]", "jobs[0] must be a string, not 1")},

		// triggers
		{"no schedule", "POST", "/triggers", `{"name":"x"}`, invalid("schedule.kind", `kind field "": must be simple or cron`)},
		{"cron: the day of the week", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","dialect":"quartz","expression":"0 0 12 ? * 8"}}`,
			invalid("schedule.day-of-week", `day-of-week field "8": 8 is out of range; use 1 to 7 or SUN to SAT`)},
		{"cron: fields missing", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","dialect":"quartz","expression":"0 12 * * *"}}`,
			invalid("schedule.expression", `expression field "0 12 * * *": has 5 fields; the quartz dialect has 6 or 7: second minute hour day-of-month month day-of-week [year]`)},
		{"cron: no dialect", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","expression":"0 12 * * *"}}`,
			invalid("schedule.dialect", `dialect field "": must be quartz or unix`)},
		{"cron: too long", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","dialect":"unix","expression":"` + long + `"}}`,
			invalid("schedule.expression", "the cron expression has 256 characters, at most 255 are allowed")},
		{"zone", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","dialect":"unix","expression":"0 12 * * *","zone":"Mars/Olympus"}}`,
			invalid("schedule.zone", `zone field "Mars/Olympus": is not a zone of the IANA database; use a name like Europe/Berlin, or UTC`)},
		{"interval", "POST", "/triggers", `{"name":"x","schedule":{"kind":"simple","interval":"500ms"}}`,
			invalid("schedule.interval", `interval field "500ms": must be whole seconds, at least 1s`)},
		{"an end that is past", "POST", "/triggers",
			`{"name":"x","schedule":{"kind":"simple","interval":"1m","start":"2001-01-01T00:00:00Z","end":"2001-01-02T00:00:00Z"}}`,
			invalid("schedule", "the schedule never fires from now on; give a later end or start, or an expression whose day comes")},
		{"cron: a day that never comes", "POST", "/triggers", `{"name":"x","schedule":{"kind":"cron","dialect":"quartz","expression":"0 0 3 31 2 ?"}}`,
			invalid("schedule", "the schedule never fires from now on; give a later end or start, or an expression whose day comes")},
		{"misfire", "POST", "/triggers", `{"name":"x","schedule":{"kind":"simple","interval":"1m"},"misfire":{"policy":"panic"}}`,
			invalid("misfire.policy", `policy field "panic": must be fire_once_now, skip or fire_all`)},
		{"overlap", "POST", "/triggers", `{"name":"x","schedule":{"kind":"simple","interval":"1m"},"overlap":{"policy":"queue"}}`,
			invalid("overlap.policy", `overlap.policy "queue" is not one of allow, skip, buffer_one, buffer_all, cancel_other, skip_steps`)},
		{"a group bound twice", "POST", "/triggers/" + tr.UUID + "/targets", `{"kind":"group","uuid":"` + g.UUID + `"}`,
			native.Problem{Type: "/problems/conflict", Title: "Not possible in this state", Status: 409,
				Detail: "Can not add job group[uuid:" + g.UUID + "] twice to the same trigger[uuid:" + tr.UUID + "]"}},
		{"an unknown target", "POST", "/triggers/" + tr.UUID + "/targets", `{"kind":"job","uuid":"` + nobody + `"}`,
			native.Problem{Type: "/problems/not_found", Title: "Not found", Status: 404, Detail: `there is no job with uuid "` + nobody + `"`}},
		{"kind of target", "POST", "/triggers/" + tr.UUID + "/targets", `{"kind":"vm","uuid":"` + j.UUID + `"}`, invalid("kind", `kind "vm" must be group or job`)},
		{"no target", "POST", "/triggers/" + tr.UUID + "/targets", `{"kind":"job"}`, invalid("uuid", "uuid must name the job to bind")},
		{"fire of what is not bound", "POST", "/triggers/" + tr.UUID + "/fire", `{"targets":["` + j.UUID + `"]}`,
			invalid("targets", `"`+j.UUID+`" is not bound to trigger "`+tr.UUID+`"`)},

		// queries
		{"limit", "GET", "/jobs?limit=0", ``, invalid("limit", `limit "0" must be a whole number from 1 to 1000`)},
		{"cursor of definitions", "GET", "/jobs?cursor=!", ``, invalid("cursor", "the cursor is not one that this server gave; leave it out to start at the first page")},
		{"cursor of runs", "GET", "/runs?cursor=!", ``, invalid("cursor", "the cursor is not one that this server gave; leave it out to start at the first page")},
		{"state", "GET", "/runs?state=failed,done", ``,
			invalid("state", `state "done" must be one of pending, running, canceling, succeeded, failed, canceled, timed_out`)},
		{"empty group", "GET", "/runs?group=", ``, invalid("group", "group is empty; where it is given it must be a uuid")},
		{"group and job", "GET", "/runs?group=" + g.UUID + "&job=" + j.UUID, ``, invalid("job", "give either group or job: a run has one target")},
		{"kind against group", "GET", "/runs?kind=job&group=" + g.UUID, ``, invalid("kind", "kind job does not go with a group")},
		{"time", "GET", "/runs?from=now", ``, invalid("from", `from "now" must be an RFC 3339 time, such as 2026-01-31T08:00:00Z (write + as %2B)`)},
		{"a parameter twice", "GET", "/runs?kind=job&kind=group", ``, invalid("kind", "kind is given 2 times; give it once")},
		{"unknown parameter", "GET", "/me?verbose=1", ``, invalid("verbose", `"verbose" is not a query parameter of this route, which takes: none`)},
		{"broken query", "GET", "/me?%zz", ``, invalid("", `the query cannot be read: invalid URL escape "%zz"`)},

		// preview
		{"preview: both forms", "POST", "/cron/preview", `{"expression":"* * * * *","schedule":{"kind":"cron"}}`,
			invalid("schedule", "give either schedule or expression with its dialect, zone, gap and overlap")},
		{"preview: field of a schedule", "POST", "/cron/preview", `{"schedule":{"kind":"cron","dialect":"unix","expression":"61 * * * *"}}`,
			invalid("schedule.minute", `minute field "61": 61 is out of range; use 0 to 59`)},
		{"preview: n", "POST", "/cron/preview", `{"dialect":"unix","expression":"* * * * *","n":0}`, invalid("n", `n field "0": must be 1 to 1000`)},
	}
	before := e.everything()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v any
			if tt.method != "GET" {
				v = tt.body
			}
			res := e.admin().do(tt.method, tt.path, v).want(tt.want.Status)
			if diff := cmp.Diff(tt.want, res.problem()); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
			if got := res.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type is %q", got)
			}
		})
	}
	if diff := cmp.Diff(before, e.everything()); diff != "" {
		t.Errorf("bad input changed something (-before +after):\n%s", diff)
	}
}

// everything is what all definitions and runs look like.
func (e *env) everything() []string {
	e.t.Helper()
	var out []string
	for _, path := range []string{"/jobs", "/groups", "/triggers", "/runs", "/accounts"} {
		out = append(out, e.admin().get(path).want(200).text)
	}
	return out
}

func TestContentTypes(t *testing.T) {
	e := start(t, native.Options{})
	j := e.job("j")
	tests := []struct {
		name, method, path, contentType string
		want                            int
	}{
		{"none", "POST", "/jobs", "", 415},
		{"a form, as curl -d sends", "POST", "/jobs", "application/x-www-form-urlencoded", 415},
		{"text", "POST", "/jobs", "text/plain", 415},
		{"a charset of its own", "POST", "/jobs", "application/json; charset=latin1", 415},
		{"UTF-8 said aloud", "POST", "/jobs", "application/json; charset=UTF-8", 400}, // read, and refused for its content
		{"merge patch on POST", "POST", "/jobs", "application/merge-patch+json", 415},
		{"JSON patch", "PATCH", "/jobs/" + j.UUID, "application/json-patch+json", 415},
		{"merge patch", "PATCH", "/jobs/" + j.UUID, "application/merge-patch+json", 200},
		{"plain JSON as merge patch", "PATCH", "/jobs/" + j.UUID, "application/json", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := e.admin().with("Content-Type", tt.contentType).do(tt.method, tt.path, `{"description":"x"}`).want(tt.want)
			if tt.want == 415 && !strings.Contains(res.problem().Detail, "send ") {
				t.Errorf("the problem does not say what to send: %s", res.text)
			}
		})
	}
}

func TestLargeBodies(t *testing.T) {
	e := start(t, native.Options{MaxBody: 1000})
	res := e.admin().post("/jobs", `{"name":"`+strings.Repeat("x", 1000)+`"}`).want(413)
	want := native.Problem{
		Type: "/problems/too_large", Title: "The body is too large", Status: 413, Detail: "the body has more than 1000 bytes, which is the most this server takes",
	}
	if diff := cmp.Diff(want, res.problem()); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	// Without a Content-Length as well.
	req, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+"/jobs", io.LimitReader(zeros{}, 1<<20))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+e.token)
	got, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("send a chunked body: %v", err)
	}
	got.Body.Close()
	if got.StatusCode != 413 {
		t.Errorf("a large chunked body: status %d, want 413", got.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestUnknownPathsAndMethods(t *testing.T) {
	e := start(t, native.Options{})
	p := e.admin().get("/jbos").want(404).problem()
	want := native.Problem{
		Type: "/problems/not_found", Title: "Not found", Status: 404, Detail: "there is no /api/v1/jbos; /api/v1/openapi.json lists what there is",
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	res := e.admin().do("PUT", "/workers", nil).want(405)
	want = native.Problem{
		Type: "/problems/method_not_allowed", Title: "Method not allowed", Status: 405, Detail: "/api/v1/workers does not take PUT; it takes GET",
	}
	if diff := cmp.Diff(want, res.problem()); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	if res.header.Get("Allow") != "GET" {
		t.Errorf("Allow is %q, want GET", res.header.Get("Allow"))
	}
}

// faulty is an identity store with a fault of its own.
type faulty struct {
	native.Auth
	fault error
}

func (f faulty) List(context.Context) ([]core.Account, error) { return nil, f.fault }

// What an answer keeps to itself stands in the log, with what finds the request.
func TestFaultsOfTheServerAreSilentAndLogged(t *testing.T) {
	e := start(t, native.Options{})
	fire := errors.New("disk on fire in rack 7")
	for _, test := range []struct {
		name  string
		fault error
		want  native.Problem
		level string
	}{
		{"internal", fire, native.Problem{
			Type: "/problems/internal", Title: "Internal error", Status: 500, Detail: "an internal error happened; the server's log says more", RequestID: "r-17",
		}, "level=ERROR"},
		{"unavailable", core.Wrap(core.Unavailable, fire, "come again"), native.Problem{
			Type: "/problems/unavailable", Title: "Unavailable", Status: 503, Detail: "come again", RequestID: "r-17",
		}, "level=WARN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log syncBuffer
			broken := native.New(e.eng, faulty{e.auth, test.fault}, native.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			req := httptest.NewRequest("GET", prefix+"/accounts", nil)
			req.Header.Set("Authorization", "Bearer "+e.token)
			req.Header.Set("X-Request-Id", "r-17")
			res := record(router(broken), req)
			res.t = t
			if diff := cmp.Diff(test.want, res.problem()); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
			for _, part := range []string{test.level, "disk on fire in rack 7", "route=/api/v1/accounts", "request=r-17"} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("the log says %q, want %s in it", log.String(), part)
				}
			}
		})
	}
}

func ExampleDuration() {
	var d native.Duration
	fmt.Println(d.UnmarshalText([]byte("90s")))
	text, _ := d.MarshalText()
	fmt.Println(string(text))
	// Output:
	// <nil>
	// 1m30s
}
