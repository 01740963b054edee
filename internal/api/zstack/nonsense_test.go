package zstack_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/internal/id"
)

// nonsense is what no client means to send.
var nonsense = map[string]string{
	"nothing": "", "blanks": " \n\t", "null": "null", "a number": "1", "a text": `"x"`, "a list": "[]", "half an object": `{"params":`, "two objects": `{}{"a":1}`,
	"a byte order mark": "\xef\xbb\xbf{}", "UTF-16": "{\x00}\x00", "Latin-1": "{\"params\":{\"name\":\"\xe9\"}}", "NUL bytes": strings.Repeat("\x00", 999),
	"NUL in a text": `{"params":{"name":"a\u0000b","type":"startVm"}}`, "half a surrogate": `{"params":{"name":"\ud800","type":"startVm"}}`,
	"deep objects": strings.Repeat(`{"params":`, 9000) + "1" + strings.Repeat("}", 9000), "deeper lists": strings.Repeat("[", 30000),
	"deep in a parameter": `{"params":{"name":"g","type":"startVm","parameters":{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}}}`,
	"a huge number":       `{"params":{"startTime":` + strings.Repeat("9", 9999) + `,"name":"t","schedulerType":"simple","schedulerInterval":1}}`,
	"a huge exponent":     `{"params":{"startTime":1e999999999,"name":"t","schedulerType":"simple"}}`, "a small one": `{"params":{"startTime":-1e-999999999}}`,
	"a key twice": `{"params":{"name":"a","name":"b"},"params":{"type":"x"}}`, "a long key": `{"` + strings.Repeat("k", 9999) + `":1}`,
	"a form":          "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--",
	"too much":        `{"params":{"name":"` + strings.Repeat("x", bodyLimit) + `"}}`,
	"lists for texts": `{"params":{"name":[],"type":[],"targetResourceUuid":[],"schedulerType":[],"schedulerJobUuids":[[]],"resourceUuid":{}}}`,
	"null everywhere": `{"params":{"name":null,"type":null,"schedulerJobUuids":[null],"parameters":null,"resourceUuid":null}}`,
}

var putActions = []string{
	"updateSchedulerJob", "updateSchedulerJobGroup", "updateSchedulerTrigger", "runSchedulerTrigger", "changeSchedulerState", "changeAccessKeyState",
	"renewSession", "logInByAccount", "logIn", "logInByUser",
}

// Whatever is sent to whatever route, the answer has ZStack's form: an object, an
// error with exactly one key if it is one, and never an internal error.
func TestNonsense(t *testing.T) {
	r := newReplica(t, setting{})
	router := gin.New()
	r.api.Mount(router.Group(""))
	job, group, trigger := r.job("j", id.New()), r.group("g"), r.trigger("t")
	fill := strings.NewReplacer(
		"jobs/:uuid", "jobs/"+job, "schedulers/:uuid", "schedulers/"+job, "jobgroups/:uuid", "jobgroups/"+group, "triggers/:uuid", "triggers/"+trigger,
		":schedulerTriggerUuid", trigger, ":uuids", "["+job+"]", ":uuid", id.New())
	odd := strings.NewReplacer(":schedulerTriggerUuid", "%00%ff", ":uuids", "[,%22{}]", ":uuid", "..%2f%E2%80%AE")
	for _, route := range router.Routes() {
		if route.Method == http.MethodHead {
			continue // has no body
		}
		for name, body := range nonsense {
			r.answersWell(t, name, route.Method, fill.Replace(route.Path), body)
		}
		for _, action := range putActions {
			if route.Method != http.MethodPut {
				break
			}
			for _, name := range []string{"lists for texts", "null everywhere", "deep in a parameter", "a huge number", "NUL in a text"} {
				r.answersWell(t, name, http.MethodPut, fill.Replace(route.Path), strings.ReplaceAll(nonsense[name], "params", action))
			}
		}
		for _, query := range []string{
			"?q=", "?q=%00%3D%FF", "?q=name~=" + strings.Repeat("%25a", 500), "?q=startTime%3E9e99", "?q=id%3E=9223372036854775807", "?limit=-1", "?limit=1e400",
			"?start=9223372036854775807&limit=9223372036854775807", "?sort=%00", "?fields=,,,", "?deleteMode=%00", "?%zz", "?;", "?" + strings.Repeat("q=name=x&", 2000),
		} {
			r.answersWell(t, query[:min(len(query), 20)], route.Method, fill.Replace(route.Path)+query, "")
		}
		r.answersWell(t, "an odd path", route.Method, odd.Replace(route.Path), `{"params":{}}`)
	}
}

// answersWell sends a request, some of them as nobody too, and checks the form of the
// answers.
func (r *replica) answersWell(t *testing.T, what, method, path, body string) {
	t.Helper()
	identities := []string{"OAuth " + r.session}
	if len(body) < 10 {
		identities = append(identities, "ZStack ::", "")
	}
	for _, header := range identities {
		a := r.do(method, path, body, "Authorization", header)
		e, failed := a.body["error"].(map[string]any)
		switch {
		case a.status == http.StatusInternalServerError || a.status < 200 || a.status > 503:
			t.Errorf("%s, %s %.80s: status %d %.200s", what, method, path, a.status, a.raw)
		case a.status < 300 && failed, a.status >= 300 && (!failed || len(a.body) != 1 || e["code"] == "" || e["description"] == "" || e["details"] == ""):
			t.Errorf("%s, %s %.80s: %d %.200s is not in ZStack's form", what, method, path, a.status, a.raw)
		case failed && e["code"] == "SYS.1000" && !strings.Contains(a.raw, "is taken"):
			t.Errorf("%s, %s %.80s: an internal error: %.200s", what, method, path, a.raw)
		}
	}
}
