package native_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
)

func record(h http.Handler, req *http.Request) *answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return &answer{what: req.Method + " " + req.URL.Path, status: w.Code, header: w.Header(), text: w.Body.String()}
}

const chosen = "0f5b1f0c8f2d4b7e9f0c2d3e4f5a6b7c"

func TestJobLife(t *testing.T) {
	e := start(t, native.Options{})
	no := false
	fields := native.JobFields{
		Name: "hail", Description: "says hi", Parameters: map[string]string{"text": "hi", "count": "2"}, Target: chosen, Enabled: &no,
		Retry:   native.Retry{Attempts: 3, Backoff: native.Duration(5 * time.Second), Factor: 1.5, Max: native.Duration(time.Minute), Jitter: 0.5},
		Timeout: native.Duration(30 * time.Second), Priority: core.PriorityLow,
	}
	// A client's uuid is taken in any usual form.
	res := e.admin().post("/jobs", native.NewJob{UUID: "0F5B1F0C-8F2D-4B7E-9F0C-2D3E4F5A6B7C", Type: "echo", JobFields: fields}).want(201)
	if res.header.Get("Location") != prefix+"/jobs/"+chosen || res.header.Get("ETag") != `"1"` {
		t.Errorf("Location %q, ETag %q", res.header.Get("Location"), res.header.Get("ETag"))
	}
	var made, got native.Job
	res.read(&made)
	if diff := cmp.Diff(fields, made.JobFields); diff != "" {
		t.Errorf("fields (-given +made):\n%s", diff)
	}
	if made.UUID != chosen || made.Type != "echo" || made.Dialect != core.Native || made.Version != 1 {
		t.Errorf("made %+v", made.Meta)
	}
	e.admin().get("/jobs/" + chosen).want(200).read(&got)
	if diff := cmp.Diff(made, got); diff != "" {
		t.Errorf("job (-made +got):\n%s", diff)
	}

	// A merge patch leaves alone what it does not name; null goes back to default.
	res = e.admin().with("Content-Type", "application/merge-patch+json").
		patch("/jobs/"+chosen, `{"parameters":{"text":"ho","count":null},"retry":{"attempts":5},"enabled":null,"timeout":null}`).want(200)
	if res.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %q after a patch, want \"2\"", res.header.Get("ETag"))
	}
	res.read(&got)
	yes := true
	fields.Parameters, fields.Retry.Attempts, fields.Enabled, fields.Timeout = map[string]string{"text": "ho"}, 5, &yes, 0
	if diff := cmp.Diff(fields, got.JobFields); diff != "" {
		t.Errorf("fields (-want +patched):\n%s", diff)
	}

	e.admin().del("/jobs/" + chosen).want(204)
	e.admin().get("/jobs/" + chosen).want(404)
	e.admin().del("/jobs/" + chosen).want(404)
}

func TestGroupLife(t *testing.T) {
	e := start(t, native.Options{})
	a, b := e.job("a"), e.job("b")
	g := e.group("g", a, b)
	if len(g.Jobs) != 2 || g.Jobs[0].Job != a.UUID || g.Jobs[1].Job != b.UUID {
		t.Errorf("members are %+v", g.Jobs)
	}
	var got native.Group
	e.admin().post("/groups/"+g.UUID+"/jobs", native.AddJobs{Jobs: []string{a.UUID}}).want(200).read(&got)
	if diff := cmp.Diff(g, got); diff != "" {
		t.Errorf("adding again changed the group:\n%s", diff)
	}
	var j native.Job
	e.admin().get("/jobs/" + a.UUID).want(200).read(&j)
	if j.Group != g.UUID {
		t.Errorf("the job's group is %q, want %q", j.Group, g.UUID)
	}
	e.admin().del("/groups/" + g.UUID + "/jobs/" + a.UUID).want(204)
	e.admin().del("/groups/" + g.UUID + "/jobs/" + a.UUID).want(404)
	e.admin().do("PUT", "/groups/"+g.UUID+"/jobs/"+a.UUID, nil).want(204)
	e.admin().do("PUT", "/groups/"+g.UUID+"/jobs/"+a.UUID, nil).want(204)
	e.admin().get("/groups/" + g.UUID).want(200).read(&got)
	if len(got.Jobs) != 2 || got.Jobs[0].Job != b.UUID {
		t.Errorf("members after taking one out and in again are %+v", got.Jobs)
	}
	e.admin().patch("/groups/"+g.UUID, `{"name":"h","timeout":"10m","parameters":{"text":"all"},"enabled":false}`).want(200).read(&got)
	if got.Name != "h" || got.Timeout != native.Duration(10*time.Minute) || *got.Enabled || got.Parameters["text"] != "all" || len(got.Jobs) != 2 {
		t.Errorf("patched group is %+v", got)
	}
	e.admin().del("/groups/" + g.UUID).want(204)
	e.admin().get("/jobs/" + a.UUID).want(200)
}

func TestTriggerLife(t *testing.T) {
	e := start(t, native.Options{})
	given := native.NewTrigger{UUID: chosen, TriggerFields: native.TriggerFields{
		Name: "nightly",
		Schedule: native.Schedule{
			Kind: "cron", Dialect: "quartz", Expression: "0 0 3 * * ?", Zone: "Europe/Berlin", Gap: "shift", Overlap: "first",
			Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		},
		Misfire: native.Misfire{
			Policy: "fire_all", Threshold: native.Duration(time.Minute), CatchupWindow: native.Duration(2 * time.Hour), CatchupMax: 7,
		},
		Overlap: native.Overlap{Policy: core.OverlapBufferAll, Limit: 3},
	}}
	var made, got native.Trigger
	e.admin().post("/triggers", given).want(201).read(&made)
	yes := true
	given.Enabled = &yes
	if diff := cmp.Diff(given.TriggerFields, made.TriggerFields); diff != "" {
		t.Errorf("fields (-given +made):\n%s", diff)
	}
	if made.Next.IsZero() || made.Revision != 1 || len(made.Targets) != 0 {
		t.Errorf("made %+v", made)
	}

	e.admin().patch("/triggers/"+chosen, `{"name":"renamed","overlap":null}`).want(200).read(&got)
	if got.Revision != 1 || got.Version != 2 || got.Name != "renamed" || got.Overlap != (native.Overlap{}) || !got.Next.Equal(made.Next) {
		t.Errorf("a new name made it %+v", got)
	}
	e.admin().patch("/triggers/"+chosen, `{"schedule":{"expression":"0 30 4 * * ?"}}`).want(200).read(&got)
	if got.Revision != 2 || got.Schedule.Expression != "0 30 4 * * ?" || got.Schedule.Zone != "Europe/Berlin" {
		t.Errorf("a new expression made it %+v", got)
	}
	e.admin().patch("/triggers/"+chosen,
		`{"schedule":{"kind":"simple","interval":"1h","repeat":1000000,"dialect":null,"expression":null,"gap":null,"overlap":null}}`).want(200).read(&got)
	if got.Schedule.Kind != "simple" || got.Schedule.Interval != native.Duration(time.Hour) || got.Schedule.Dialect != "" {
		t.Errorf("the simple schedule is %+v", got.Schedule)
	}
	e.admin().patch("/triggers/"+chosen, `{"enabled":false}`).want(200).read(&got)
	if !got.Next.IsZero() || *got.Enabled {
		t.Errorf("the disabled trigger has the next slot %v", got.Next)
	}
	e.admin().del("/triggers/" + chosen).want(204)
	e.admin().get("/triggers/" + chosen).want(404)
	e.admin().get("/triggers/" + chosen + "/ledger").want(200)
}

// A simple schedule without a start begins when it is made, and its first slot is
// that instant: with one repeat it fires once.
// A simple schedule without a start begins when there is something to fire: its
// one slot must not pass while nothing is bound.
func TestSimpleTriggerWithoutStartBeginsWithItsFirstTarget(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	for i := range 5 { // with another fraction of a millisecond each time
		var made native.Trigger
		e.admin().post("/triggers", `{"name":"once","schedule":{"kind":"simple","interval":"1h","repeat":1}}`).want(201).read(&made)
		if !made.Next.IsZero() {
			t.Errorf("trigger %d has the slot %v before anything is bound", i, made.Next)
		}
		e.admin().post("/triggers/"+made.UUID+"/targets", native.NewBinding{Kind: core.GroupTarget, UUID: g.UUID}).want(201)
		var bound native.Trigger
		e.admin().get("/triggers/" + made.UUID).want(200).read(&bound)
		if !bound.Next.Equal(bound.Schedule.Start) || bound.Schedule.Start.Before(made.Schedule.Start) {
			t.Errorf("trigger %d: next slot %v after binding, want the start %v", i, bound.Next, bound.Schedule.Start)
		}
	}
}

func TestBindings(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	j := e.job("j")
	g := e.group("g", e.job("k"))
	tr := e.trigger("t")
	targets := "/triggers/" + tr.UUID + "/targets"
	var b native.Binding
	e.admin().post(targets, native.NewBinding{Kind: core.GroupTarget, UUID: g.UUID}).want(201).read(&b)
	if b.Kind != core.GroupTarget || b.UUID != g.UUID || b.Ref == "" {
		t.Errorf("binding is %+v", b)
	}
	e.admin().post(targets, native.NewBinding{Kind: core.JobTarget, UUID: j.UUID, FireNow: true}).want(201)
	var runs native.RunList
	e.admin().get("/runs?trigger=" + tr.UUID).want(200).read(&runs)
	if len(runs.Items) != 1 || runs.Items[0].Target.UUID != j.UUID {
		t.Errorf("fireNow made the runs %+v, want one of the job", runs.Items)
	}
	var list native.TriggerList
	e.admin().get("/triggers?target=" + g.UUID).want(200).read(&list)
	if len(list.Items) != 1 || len(list.Items[0].Targets) != 2 {
		t.Errorf("triggers of the group are %+v", list.Items)
	}
	e.admin().del(targets + "/" + g.UUID).want(204)
	e.admin().del(targets + "/" + g.UUID).want(404)
	e.admin().get("/triggers?target=" + g.UUID).want(200).read(&list)
	if len(list.Items) != 0 {
		t.Errorf("%d triggers of the freed group", len(list.Items))
	}
}

func TestIfMatch(t *testing.T) {
	e := start(t, native.Options{})
	kinds := map[string]string{"/jobs/": e.job("x").UUID, "/groups/": e.group("x").UUID, "/triggers/": e.trigger("x").UUID}
	for kind, uuid := range kinds {
		path := kind + uuid
		t.Run(path, func(t *testing.T) {
			e.admin().with("If-Match", `"1"`).patch(path, `{"name":"two"}`).want(200)
			p := e.admin().with("If-Match", `"1"`).patch(path, `{"name":"three"}`).want(412).problem()
			if p.Type != "/problems/stale" || !strings.Contains(p.Detail, "version 2, not 1") {
				t.Errorf("problem %+v", p)
			}
			e.admin().with("If-Match", `W/"2"`).patch(path, `{"name":"three"}`).want(400)
			e.admin().with("If-Match", `"1", "2"`).patch(path, `{"name":"three"}`).want(400)
			e.admin().with("If-Match", `"abc"`).patch(path, `{"name":"three"}`).want(412)
			e.admin().with("If-Match", "*").patch(path, `{"name":"three"}`).want(200)
			e.admin().patch(path, `{"name":"four"}`).want(200)
			e.admin().with("If-Match", `"4"`).del(path).want(400)
			var got struct{ Name string }
			e.admin().get(path).want(200).read(&got)
			if got.Name != "four" {
				t.Errorf("name is %q, want four: a refused change was made", got.Name)
			}
		})
	}
}

func TestIfMatchCanBeRequired(t *testing.T) {
	e := start(t, native.Options{RequireIfMatch: true})
	j := e.job("x")
	if p := e.admin().patch("/jobs/"+j.UUID, `{"name":"y"}`).want(428).problem(); p.Type != "/problems/precondition_required" {
		t.Errorf("problem %+v", p)
	}
	e.admin().with("If-Match", `"1"`).patch("/jobs/"+j.UUID, `{"name":"y"}`).want(200)
}

func TestSecretsAreMasked(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	given := map[string]string{
		"text": "hi", "password": "hunter2",
		"headers": `{"Accept":"text/plain","Authorization":"Bearer t0ps3cret","X-Api-Key":"k3y","Cookie":"c00kie","X-CSRF-Token":"csrf","X-Amz-Signature":"s1gned"}`,
	}
	masked := map[string]string{
		"text": "hi", "password": "***",
		"headers": `{"Accept":"text/plain","Authorization":"***","Cookie":"***","X-Amz-Signature":"***","X-Api-Key":"***","X-CSRF-Token":"***"}`,
	}
	create := native.NewJob{Type: "echo", JobFields: native.JobFields{Name: "s", Parameters: given}}
	var j native.Job
	res := e.admin().post("/jobs", create).want(201).read(&j)
	if diff := cmp.Diff(masked, j.Parameters); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	g := e.group("g", j)
	r := e.run(g)
	texts := []string{res.text}
	for _, path := range []string{"/jobs/" + j.UUID, "/jobs", "/runs/" + r.ID} {
		texts = append(texts, e.admin().get(path).want(200).text)
	}

	// What comes back as it was shown keeps what is stored.
	masked["text"] = "ho"
	texts = append(texts, e.admin().patch("/jobs/"+j.UUID, native.JobFields{Name: "s", Parameters: masked}).want(200).text)
	stored := e.stored(j.UUID).Parameters
	given["text"] = "ho"
	if stored["password"] != "hunter2" || !strings.Contains(stored["headers"], "Bearer t0ps3cret") || stored["text"] != "ho" {
		t.Errorf("stored after a patch with masks: %v", stored)
	}
	texts = append(texts, e.admin().patch("/jobs/"+j.UUID, `{"parameters":{"password":"n3w","headers":"{\"X-Api-Key\":\"***\"}"}}`).want(200).text)
	stored = e.stored(j.UUID).Parameters
	if stored["password"] != "n3w" || stored["headers"] != `{"X-Api-Key":"k3y"}` {
		t.Errorf("stored after a patch with one mask: %v", stored)
	}
	for _, text := range texts {
		for _, secret := range []string{"hunter2", "t0ps3cret", "k3y", "c00kie", "n3w", `"csrf"`, "s1gned"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is shown in %s", secret, text)
			}
		}
	}

	t.Run("a mask of nothing is refused", func(t *testing.T) {
		create.Parameters = map[string]string{"text": "hi", "password": "***"}
		if p := e.admin().post("/jobs", create).want(400).problem(); p.Field != "parameters.password" {
			t.Errorf("problem %+v", p)
		}
		p := e.admin().patch("/jobs/"+j.UUID, `{"parameters":{"headers":"{\"Cookie\":\"***\"}"}}`).want(400).problem()
		if p.Field != "parameters.headers" {
			t.Errorf("problem %+v", p)
		}
		if got := e.stored(j.UUID).Parameters["headers"]; got != `{"X-Api-Key":"k3y"}` {
			t.Errorf("stored headers are %s", got)
		}
	})
	t.Run("in groups", func(t *testing.T) {
		res := e.admin().patch("/groups/"+g.UUID, `{"parameters":{"password":"gr0up"}}`).want(200)
		if strings.Contains(res.text, "gr0up") || !strings.Contains(res.text, `"password":"***"`) {
			t.Errorf("group shows %s", res.text)
		}
		e.admin().patch("/groups/"+g.UUID, `{"parameters":{"password":"***"},"name":"g2"}`).want(200)
		groups, err := e.store.Groups(t.Context(), []string{g.UUID})
		if err != nil || groups[0].Parameters["password"] != "gr0up" {
			t.Errorf("stored %v, error %v", groups, err)
		}
	})
}

func (e *env) stored(job string) core.Job {
	e.t.Helper()
	jobs, err := e.store.Jobs(e.t.Context(), []string{job})
	if err != nil || len(jobs) != 1 {
		e.t.Fatalf("read job %s: %v, error %v", job, jobs, err)
	}
	return jobs[0]
}

func TestPagesOfDefinitions(t *testing.T) {
	e := start(t, native.Options{})
	var want []string
	for i := range 7 {
		want = append([]string{e.job(fmt.Sprintf("Job %d", i)).UUID}, want...) // newest first
	}
	e.admin().post("/jobs", native.NewJob{Type: "other", JobFields: native.JobFields{Name: "stranger"}}).want(201)

	var got []string
	cursor := ""
	for pages := 1; ; pages++ {
		var list native.JobList
		e.admin().get("/jobs?type=echo&name=jOB&limit=3&cursor=" + cursor).want(200).read(&list)
		for _, j := range list.Items {
			got = append(got, j.UUID)
		}
		// What is made in between does not move the pages.
		e.job("job in between")
		if cursor = list.Next; cursor == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	var groups native.GroupList
	g := e.group("g", e.job("member"))
	e.admin().get("/groups?name=g&type=echo").want(200).read(&groups)
	if len(groups.Items) != 1 || groups.Items[0].UUID != g.UUID {
		t.Errorf("groups are %+v", groups.Items)
	}
	var list native.JobList
	e.admin().get("/jobs?group=" + g.UUID).want(200).read(&list)
	if len(list.Items) != 1 || list.Items[0].Name != "member" {
		t.Errorf("jobs of the group are %+v", list.Items)
	}
}
