package native_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/takt-dev/takt/internal/api/native"
	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/testenv"
)

func TestRunHistory(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	var flaky native.Job
	e.admin().post("/jobs", `{"name":"flaky","type":"echo","parameters":{"text":"hi","password":"s3cret"},"timeout":"1m","retry":{"attempts":2,"backoff":"1s"}}`).
		want(201).read(&flaky)
	steady := e.job("steady")
	g := e.group("g", flaky, steady)
	r := e.run(g)
	if r.State != core.RunPending || r.Target != (native.Target{Kind: core.GroupTarget, UUID: g.UUID}) || r.Name != "g" || r.Counts.Total != 2 {
		t.Errorf("the new run is %+v", r)
	}
	e.work(func(step core.PlannedStep, attempt int) core.Outcome {
		if step.Name == "flaky" {
			return fail(step, attempt)
		}
		return succeed(step, attempt)
	})

	var got native.RunDetail
	e.admin().get("/runs/" + r.ID).want(200).read(&got)
	if got.State != core.RunRunning || got.Counts.Succeeded != 1 || got.Started.IsZero() || !got.Ended.IsZero() {
		t.Errorf("with a retry to come the run is %+v", got.Run)
	}
	ignoreTimes := cmpopts.IgnoreTypes(time.Time{})
	want := []native.Step{
		{
			Index: 0, Job: flaky.UUID, Name: "flaky", Type: "echo", Parameters: map[string]string{"text": "hi", "password": "***"},
			Timeout: native.Duration(time.Minute), Retry: native.Retry{Attempts: 2, Backoff: native.Duration(time.Second)},
			State: core.StepWaiting, Reason: "attempt 1 failed: no voice", Queue: "default", Worker: worker, Failures: 1,
			Attempts: []native.Attempt{{Number: 1, State: core.AttemptFailed, Worker: worker, ExitCode: new(3), Error: "no voice"}},
		},
		{
			Index: 1, Job: steady.UUID, Name: "steady", Type: "echo", Parameters: map[string]string{"text": "hi"},
			Timeout: native.Duration(core.DefaultTimeout), State: core.StepSucceeded, Queue: "default", Worker: worker,
			Attempts: []native.Attempt{{Number: 1, State: core.AttemptSucceeded, Worker: worker, ExitCode: new(0), Output: `{"said":"hi"}`}},
		},
	}
	if diff := cmp.Diff(want, got.Steps, ignoreTimes); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if a := got.Steps[0].Attempts[0]; a.Started.IsZero() || a.Ended.Before(a.Started) {
		t.Errorf("the attempt went from %v to %v", a.Started, a.Ended)
	}

	t.Run("pages of steps", func(t *testing.T) {
		e.admin().get("/runs/" + r.ID + "?limit=1").want(200).read(&got)
		if len(got.Steps) != 1 || got.Steps[0].Name != "flaky" || got.Skip != 1 {
			t.Errorf("the first page has %d steps and skip %d", len(got.Steps), got.Skip)
		}
		e.admin().get("/runs/" + r.ID + "?limit=1&skip=1").want(200).read(&got)
		if len(got.Steps) != 1 || got.Steps[0].Name != "steady" || got.Skip != 0 {
			t.Errorf("the second page has %d steps and skip %d", len(got.Steps), got.Skip)
		}
		e.admin().get("/runs/" + r.ID + "?skip=2").want(200).read(&got)
		if len(got.Steps) != 0 {
			t.Errorf("the third page has %d steps", len(got.Steps))
		}
	})
	t.Run("unknown", func(t *testing.T) {
		e.admin().get("/runs/ffffffffffffffffffffffffffffffff").want(404)
		e.admin().get("/runs/" + strings.Repeat("0", 12) + "7" + strings.Repeat("0", 3) + "8" + strings.Repeat("0", 15)).want(404)
	})
}

// A running step shows how far its worker says it is.
func TestProgressOfARunningStep(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	r := e.run(e.group("g", e.job("first"), e.job("second")))
	sent := e.queue.take()
	for _, d := range sent {
		if _, err := e.eng.Begin(t.Context(), d, worker); err != nil {
			t.Fatal(err)
		}
	}
	beat := core.Heartbeat{Worker: worker, Progress: map[string]core.Progress{}}
	for _, d := range sent {
		if beat.Running = append(beat.Running, d.ID()); d.Step == 1 {
			beat.Progress[d.ID()] = core.Progress{Done: 3, Total: 10}
		}
	}
	if _, err := e.store.Beat(t.Context(), beat, nil); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, func() error { // the engine's picture of the workers may be half a second old
		var got native.RunDetail
		e.admin().get("/runs/" + r.ID).want(200).read(&got)
		if none, some := got.Steps[0].Progress, got.Steps[1].Progress; none != (native.Progress{}) || some != (native.Progress{Done: 3, Total: 10}) {
			return fmt.Errorf("got progress %+v and %+v", none, some)
		}
		return nil
	})
}

func TestIdempotencyKey(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	loose := e.job("loose")
	tr := e.trigger("t")
	e.admin().post("/triggers/"+tr.UUID+"/targets", native.NewBinding{Kind: core.GroupTarget, UUID: g.UUID}).want(201)
	failed := e.run(g)
	e.work(fail)
	tests := []struct {
		name, path string
		made       func(t *testing.T, a *answer) string
	}{
		{"group", "/groups/" + g.UUID + "/runs", runID},
		{"job", "/jobs/" + loose.UUID + "/runs", runID},
		{"retry", "/runs/" + failed.ID + "/retry", runID},
		{"fire", "/triggers/" + tr.UUID + "/fire", func(t *testing.T, a *answer) string {
			var entry native.LedgerEntry
			a.read(&entry)
			if len(entry.Runs) != 1 {
				t.Errorf("the fire made the runs %v, want one", entry.Runs)
			}
			return entry.ID
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keyed := e.admin().with("Idempotency-Key", "deploy-42")
			res := keyed.post(tt.path, nil).want(201)
			first := tt.made(t, res)
			e.nextMillisecond()
			if res.header.Get("Idempotent-Replayed") != "" || res.header.Get("Location") == "" {
				t.Errorf("headers of the first answer: %v", res.header)
			}
			res = keyed.post(tt.path, nil).want(200)
			if again := tt.made(t, res); again != first {
				t.Errorf("the same key made %s and %s", first, again)
			}
			if res.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("headers of the second answer: %v", res.header)
			}
			if other := tt.made(t, e.admin().with("Idempotency-Key", "deploy-43").post(tt.path, nil).want(201)); other == first {
				t.Errorf("another key gave %s again", other)
			}
			if none := tt.made(t, e.admin().post(tt.path, nil).want(201)); none == first {
				t.Errorf("no key gave %s again", none)
			}
			for _, bad := range []string{strings.Repeat("x", 129), "two words", ""} {
				p := e.admin().with("Idempotency-Key", bad).post(tt.path, nil).want(400).problem()
				if p.Field != "Idempotency-Key" {
					t.Errorf("key %q: problem %+v", bad, p)
				}
			}
		})
	}
}

// nextMillisecond waits until the store's time has moved on: only then can a
// replayed request be told from the first.
func (e *env) nextMillisecond() {
	e.t.Helper()
	begin, err := e.eng.Now(e.t.Context())
	if err != nil {
		e.t.Fatalf("read the time: %v", err)
	}
	testenv.Eventually(e.t, time.Second, func() error {
		now, err := e.eng.Now(e.t.Context())
		if err == nil && now.Sub(begin) < 2*time.Millisecond {
			err = errors.New("the time stands still")
		}
		return err
	})
}

func TestOneKeyAtTheSameMomentIsOneRun(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", e.url+"/groups/"+g.UUID+"/runs", nil)
			req.Header.Set("Authorization", "Bearer "+e.token)
			req.Header.Set("Idempotency-Key", "one")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Errorf("run: %v", err)
				return
			}
			defer res.Body.Close()
			var r native.Run
			if err := json.NewDecoder(res.Body).Decode(&r); err != nil || res.StatusCode/100 != 2 {
				t.Errorf("status %d, error %v", res.StatusCode, err)
			}
			ids[i] = r.ID
		})
	}
	wg.Wait()
	if same := slices.Compact(slices.Clone(ids)); len(same) != 1 || same[0] == "" {
		t.Errorf("one key made the runs %v", same)
	}
}

// What a key has made it gives again, whatever became of the target since.
func TestKeyIsGoodWhenTheTargetCannotRunAnyMore(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	keyed := e.admin().with("Idempotency-Key", "k")
	first := runID(t, keyed.post("/groups/"+g.UUID+"/runs", nil).want(201))
	e.admin().patch("/groups/"+g.UUID, `{"enabled":false}`).want(200)
	e.nextMillisecond()
	if again := runID(t, keyed.post("/groups/"+g.UUID+"/runs", nil).want(200)); again != first {
		t.Errorf("the same key made %s and %s", first, again)
	}
}

func runID(t *testing.T, a *answer) string {
	t.Helper()
	var r native.Run
	a.read(&r)
	if location := a.header.Get("Location"); location != prefix+"/runs/"+r.ID {
		t.Errorf("Location is %q for run %s", location, r.ID)
	}
	return r.ID
}

func TestOverlapOfARunByHand(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("j"))
	e.run(g)
	path := "/groups/" + g.UUID + "/runs"
	p := e.admin().post(path, `{"overlap":{"policy":"skip"}}`).want(409).problem()
	if p.Type != "/problems/conflict" || !strings.Contains(p.Detail, "an earlier run of the target has not ended") {
		t.Errorf("problem %+v", p)
	}
	var r native.Run
	e.admin().post(path, `{"overlap":{"policy":"buffer_one"}}`).want(201).read(&r)
	if r.State != core.RunPending || !strings.Contains(r.Reason, "waits for an earlier run") {
		t.Errorf("the buffered run is %+v", r)
	}
	if p := e.admin().post(path, `{"overlap":{"policy":"never"}}`).want(400).problem(); p.Field != "overlap.policy" {
		t.Errorf("problem %+v", p)
	}
	empty := e.group("empty")
	if p := e.admin().post("/groups/"+empty.UUID+"/runs", nil).want(409).problem(); !strings.Contains(p.Detail, "no enabled jobs") {
		t.Errorf("problem %+v", p)
	}
}

func TestCancelAndRetry(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	g := e.group("g", e.job("a"), e.job("b"))
	r := e.run(g)
	var got native.Run
	e.admin().post("/runs/"+r.ID+"/retry", nil).want(409)
	e.admin().post("/runs/"+r.ID+"/cancel", `{"reason":"wrong group"}`).want(202).read(&got)
	if got.State != core.RunCanceled || got.Counts.Canceled != 2 || got.Reason != "wrong group" {
		t.Errorf("the canceled run is %+v", got)
	}
	p := e.admin().post("/runs/"+r.ID+"/cancel", nil).want(409).problem()
	if !strings.Contains(p.Detail, "ended already (canceled)") {
		t.Errorf("problem %+v", p)
	}
	e.admin().post("/runs/"+r.ID+"/cancel", `{"reason":"`+strings.Repeat("x", 2049)+`"}`).want(400)
	e.admin().post("/runs/"+r.ID+"/retry", `{"steps":[1]}`).want(400)

	e.admin().post("/runs/"+r.ID+"/retry", nil).want(201).read(&got)
	if got.RetryOf != r.ID || got.Counts.Total != 2 || got.ID == r.ID {
		t.Errorf("the retry is %+v", got)
	}
	e.work(succeed)
	var detail native.RunDetail
	e.admin().get("/runs/" + got.ID).want(200).read(&detail)
	if detail.State != core.RunSucceeded || detail.Ended.IsZero() {
		t.Errorf("the retry ended as %+v", detail.Run)
	}
	if p := e.admin().post("/runs/"+got.ID+"/retry", nil).want(409).problem(); !strings.Contains(p.Detail, "nothing to retry") {
		t.Errorf("problem %+v", p)
	}
}

func TestListOfRuns(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	j := e.job("loose")
	g := e.group("g", e.job("member"))
	tr := e.trigger("t")
	e.admin().post("/triggers/"+tr.UUID+"/targets", native.NewBinding{Kind: core.GroupTarget, UUID: g.UUID}).want(201)
	failed := e.run(g).ID
	e.work(fail)
	succeeded := e.run(g).ID
	e.work(succeed)
	pending := e.run(g).ID
	var ofJob native.Run
	e.admin().post("/jobs/"+j.UUID+"/runs", nil).want(201).read(&ofJob)
	var entry native.LedgerEntry
	e.admin().post("/triggers/"+tr.UUID+"/fire", nil).want(201).read(&entry)
	fired := entry.Runs[0]
	var me native.Me
	e.admin().get("/me").want(200).read(&me)

	tests := []struct {
		name, query string
		want        []string
	}{
		{"all", "", []string{fired, ofJob.ID, pending, succeeded, failed}},
		{"one state", "state=failed", []string{failed}},
		{"states with a comma", "state=failed,succeeded", []string{succeeded, failed}},
		{"states one by one", "state=failed&state=pending", []string{fired, ofJob.ID, pending, failed}},
		{"kind", "kind=job", []string{ofJob.ID}},
		{"group", "group=" + g.UUID, []string{fired, pending, succeeded, failed}},
		{"job", "job=" + j.UUID, []string{ofJob.ID}},
		{"trigger", "trigger=" + tr.UUID, []string{fired}},
		{"dialect", "dialect=zstack", nil},
		{"account", "account=" + me.Account + "&state=succeeded", []string{succeeded}},
		{"another account", "account=ffffffffffffffffffffffffffffffff", nil},
		{"from", "from=" + ofJob.Created.Format(time.RFC3339Nano), []string{fired, ofJob.ID}},
		{"to", "to=" + ofJob.Created.Format(time.RFC3339Nano), []string{pending, succeeded, failed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			next := ""
			for { // pages of two, so that each filter is held to its cursor too
				var list native.RunList
				e.admin().get("/runs?limit=2&cursor=" + next + "&" + tt.query).want(200).read(&list)
				for _, r := range list.Items {
					got = append(got, r.ID)
				}
				if next = list.Next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
		})
	}
	var detail native.RunDetail
	e.admin().get("/runs/" + fired).want(200).read(&detail)
	if detail.Trigger != tr.UUID || detail.Fire != entry.ID || !detail.Slot.Equal(entry.From) {
		t.Errorf("the fired run is %+v, its fire %+v", detail.Run, entry)
	}
}

func TestLedger(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	j := e.job("j")
	tr := e.trigger("t")
	path := "/triggers/" + tr.UUID
	var skipped, fired native.LedgerEntry
	e.admin().post(path+"/fire", nil).want(201).read(&skipped)
	if skipped.Decision != core.Skipped || skipped.Reason != "the trigger has no targets" || !skipped.Manual || skipped.Runs == nil {
		t.Errorf("the fire without targets is %+v", skipped)
	}
	e.admin().post(path+"/targets", native.NewBinding{Kind: core.JobTarget, UUID: j.UUID}).want(201)
	e.admin().post(path+"/fire", `{"targets":["`+j.UUID+`"]}`).want(201).read(&fired)
	if fired.Decision != core.Fired || len(fired.Runs) != 1 || fired.Decided.IsZero() {
		t.Errorf("the fire is %+v", fired)
	}
	if diff := cmp.Diff([]string{j.UUID}, fired.Targets); diff != "" {
		t.Errorf("it was limited to (-want +got):\n%s", diff)
	}

	var got native.Ledger
	e.admin().get(path + "/ledger").want(200).read(&got)
	if diff := cmp.Diff([]native.LedgerEntry{fired, skipped}, got.Entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	day := fired.From.UTC().Format(time.DateOnly)
	want := []native.LedgerDay{{Day: day, Counts: map[core.Decision]int64{core.Fired: 1, core.Skipped: 1}}}
	if diff := cmp.Diff(want, got.Days); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
	e.admin().get(path + "/ledger?limit=1").want(200).read(&got)
	if len(got.Entries) != 1 || got.Entries[0].ID != fired.ID || got.Skip != 1 {
		t.Errorf("the first page is %+v", got)
	}
	e.admin().get(path + "/ledger?limit=1&skip=1").want(200).read(&got)
	if len(got.Entries) != 1 || got.Entries[0].ID != skipped.ID || got.Skip != 0 {
		t.Errorf("the second page is %+v", got)
	}
	e.admin().get(path + "/ledger?from=2100-01-01T00:00:00Z").want(200).read(&got)
	if len(got.Entries) != 0 || len(got.Days) != 0 {
		t.Errorf("the ledger of 2100 is %+v", got)
	}
	e.admin().get(path + "/ledger?to=2000-01-01T00:00:00Z").want(200).read(&got)
	if len(got.Entries) != 0 || len(got.Days) != 0 {
		t.Errorf("the ledger up to 2000 is %+v", got)
	}
}

func TestFleet(t *testing.T) {
	e := start(t, native.Options{})
	e.alive()
	var workers native.WorkerList
	e.admin().get("/workers").want(200).read(&workers)
	want := []native.Worker{{
		ID: worker, Host: "host1", Tags: []string{"ssd"}, Version: "test", Types: []string{"echo", "other"},
		Resources: []string{"5eed0000000000000000000000000001"}, Queues: []string{"default", "host-host1"}, Slots: 4, Live: true,
	}}
	if diff := cmp.Diff(want, workers.Items, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("workers (-want +got):\n%s", diff)
	}
	var resources native.ResourceList
	e.admin().get("/resources").want(200).read(&resources)
	if len(resources.Items) != 1 || resources.Items[0].Hosts[0] != "host1" || resources.Items[0].Seen.IsZero() {
		t.Errorf("resources are %+v", resources.Items)
	}
	if err := e.store.Leave(t.Context(), worker); err != nil {
		t.Fatalf("leave: %v", err)
	}
	e.admin().get("/resources").want(200).read(&resources)
	if len(resources.Items) != 1 || len(resources.Items[0].Hosts) != 0 {
		t.Errorf("resources without a worker are %+v", resources.Items)
	}
	var types native.JobTypeList
	e.admin().get("/types").want(200).read(&types)
	if len(types.Items) != 2 || types.Items[0].Type != "echo" || !types.Items[0].Parameters[2].Secret || !types.Items[1].Open {
		t.Errorf("types are %+v", types.Items)
	}
}

func TestPreview(t *testing.T) {
	e := start(t, native.Options{})
	tests := []struct {
		name, method, path, body string
		want                     []string
		exhausted                bool
	}{
		{"an expression in the address", "GET",
			"/cron/preview?expression=0+30+2+*+*+%3F&dialect=quartz&zone=Europe/Berlin&from=2026-03-28T00:00:00Z&n=3&gap=fire_at_transition", "",
			[]string{"2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}, false},
		{"an expression in the body", "POST", "/cron/preview",
			`{"expression":"30 2 25 10 *","dialect":"unix","zone":"Europe/Berlin","overlap":"both","from":"2026-10-24T00:00:00Z","n":2}`,
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"}, false},
		{"a simple schedule that ends", "POST", "/cron/preview",
			`{"schedule":{"kind":"simple","interval":"90s","start":"2026-01-01T00:00:00Z","repeat":2},"from":"2025-12-31T00:00:00Z"}`,
			[]string{"2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"}, true},
		{"a simple schedule from now", "POST", "/cron/preview",
			`{"schedule":{"kind":"simple","interval":"1h"},"from":"2026-01-01T00:00:00Z","n":2}`,
			[]string{"2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"}, false},
		{"what never fires", "POST", "/cron/preview", `{"expression":"0 0 0 30 2 ?","dialect":"quartz"}`, []string{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v any
			if tt.body != "" {
				v = tt.body
			}
			res := e.admin().do(tt.method, tt.path, v).want(200)
			var got struct {
				Fires     []string
				Exhausted bool
			}
			res.read(&got)
			if diff := cmp.Diff(tt.want, got.Fires); diff != "" {
				t.Errorf("fires (-want +got):\n%s", diff)
			}
			if got.Exhausted != tt.exhausted {
				t.Errorf("exhausted %v, want %v", got.Exhausted, tt.exhausted)
			}
		})
	}
	var ten native.Preview
	e.admin().get("/cron/preview?expression=@hourly&dialect=unix").want(200).read(&ten)
	if len(ten.Fires) != 10 || ten.Fires[0].Before(time.Now().Add(-time.Minute)) {
		t.Errorf("without from and n: %v", ten.Fires)
	}
}
