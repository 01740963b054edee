package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/internal/id"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestRunGroup(t *testing.T) {
	h := newHouse(t)
	g := must(h.eng.CreateGroup(h.ctx, core.Group{
		Meta: named("g"), Type: "strict", Enabled: true, Timeout: time.Hour, Parameters: map[string]string{"count": "1"},
	}))(h)
	var uuids []string
	for i := range 3 {
		j := core.Job{
			Meta: named(fmt.Sprint("j", i)), Type: "strict", Enabled: i != 1, Timeout: time.Minute,
			Retry: core.Retry{Attempts: 2}, Priority: core.PriorityLow, Parameters: map[string]string{"text": "x"},
		}
		if i == 2 {
			j.Parameters["count"] = "2"
		}
		uuids = append(uuids, must(h.eng.CreateJob(h.ctx, j))(h).UUID)
	}
	must(h.eng.AddJobs(h.ctx, g.UUID, uuids))(h)
	run := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{}))(h)
	if run.Counts.Total != 2 || run.Name != "g" || run.Type != "strict" || run.Account != "acc" || run.Dialect != core.Native || run.Target != ofGroup(g) {
		t.Errorf("got %+v", run)
	}
	if d := run.Deadline.Sub(run.Created); d < time.Hour-time.Second || d > time.Hour {
		t.Errorf("deadline after %v, want 1h", d)
	}
	var planned []core.PlannedStep
	for _, s := range must(h.eng.Steps(h.ctx, run.ID))(h) {
		planned = append(planned, s.PlannedStep)
	}
	wantEqual(t, "plan: enabled jobs, in order, their own parameters first", planned, []core.PlannedStep{
		{Job: uuids[0], Name: "j0", Type: "strict", Parameters: map[string]string{"text": "x", "count": "1"}, Timeout: time.Minute, Retry: core.Retry{Attempts: 2}, Priority: core.PriorityLow},
		{Job: uuids[2], Name: "j2", Type: "strict", Parameters: map[string]string{"text": "x", "count": "2"}, Timeout: time.Minute, Retry: core.Retry{Attempts: 2}, Priority: core.PriorityLow},
	})
	for _, d := range h.queue.take() {
		if d.Queue != "low" || d.Timeout != time.Minute {
			t.Errorf("dispatch: got %+v", d)
		}
	}
	wantEqual(t, "rung, each queue once", h.events.rung, []string{"low"})
	// Later edits change later runs only.
	must(h.eng.UpdateJob(h.ctx, uuids[0], 0, func(j *core.Job) error { j.Parameters["text"] = "new"; return nil }))(h)
	if got := must(h.eng.Steps(h.ctx, run.ID))(h)[0].Parameters["text"]; got != "x" {
		t.Errorf("an edit changed a run under way: got %q", got)
	}
}

// A decision is kept for who can ask for it again, and for nobody else.
func TestDecisionsAreKeptForKeys(t *testing.T) {
	h := newHouse(t)
	j := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "noop", Enabled: true}))(h)
	kept := func() int { return len(must(h.rdb.Keys(h.ctx, "*:req:*").Result())(h)) }
	first := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	if again := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h); again.ID == first.ID || kept() != 0 {
		t.Errorf("two requests without a key: runs %s and %s, %d decisions kept; want two runs and none", first.ID, again.ID, kept())
	}
	keyed := must(h.eng.RunJob(h.ctx, j.UUID, "key", core.Overlap{}))(h)
	if again := must(h.eng.RunJob(h.ctx, j.UUID, "key", core.Overlap{}))(h); again.ID != keyed.ID || kept() != 1 {
		t.Errorf("two requests with a key: runs %s and %s, %d decisions kept; want one of each", keyed.ID, again.ID, kept())
	}
}

func TestRunsThatAreRefused(t *testing.T) {
	h := newHouse(t)
	empty, _ := h.group("empty", 0)
	_, err := h.eng.RunGroup(h.ctx, empty.UUID, "", core.Overlap{})
	wantKind(t, "an empty group", err, core.Conflict)
	_, err = h.eng.RunJob(h.ctx, h.disabled().UUID, "", core.Overlap{})
	wantKind(t, "a disabled job", err, core.Conflict)
	_, err = h.eng.RunJob(h.ctx, h.busy().UUID, "", core.Overlap{Policy: core.OverlapSkip})
	wantKind(t, "a busy job", err, core.Conflict)
	_, err = h.eng.RunJob(h.ctx, h.job("j").UUID, "", core.Overlap{Policy: "?"})
	wantInvalid(t, "an unknown policy", err, "overlap.policy")
	_, err = h.eng.RunJob(h.ctx, id.New(), "", core.Overlap{})
	wantKind(t, "a missing job", err, core.NotFound)
	_, err = h.eng.RunGroup(h.ctx, id.New(), "", core.Overlap{})
	wantKind(t, "a missing group", err, core.NotFound)
}

func TestKeysAreOneRun(t *testing.T) {
	h := newHouse(t)
	j, other := h.job("j"), h.job("other")
	first := must(h.eng.RunJob(h.ctx, j.UUID, "key", core.Overlap{}))(h)
	again := must(h.eng.RunJob(h.ctx, j.UUID, "key", core.Overlap{Policy: core.OverlapSkip}))(h)
	if again.ID != first.ID {
		t.Error("equal keys are two runs")
	}
	distinct := map[string]bool{
		first.ID: true,
		must(h.eng.RunJob(h.ctx, other.UUID, "key", core.Overlap{}))(h).ID:                           true,
		must(h.eng.RunJob(core.WithCaller(t.Context(), admin), j.UUID, "key", core.Overlap{}))(h).ID: true,
		must(h.eng.RunJob(h.ctx, j.UUID, "another", core.Overlap{}))(h).ID:                           true,
		must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h).ID:                                  true,
		must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h).ID:                                  true,
	}
	if len(distinct) != 6 {
		t.Errorf("got %d runs, want 6: other targets, callers and keys are others", len(distinct))
	}
	if sent := h.queue.take(); len(sent) != 6 {
		t.Errorf("got %d dispatches, want 6", len(sent))
	}
	must(h.eng.DeleteJob(h.ctx, j.UUID))(h)
	if again := must(h.eng.RunJob(h.ctx, j.UUID, "key", core.Overlap{}))(h); again.ID != first.ID {
		t.Error("the key is no longer good once the job is gone")
	}
}

// TestTheQueueIsDown acknowledges a run that could not be sent: it is durable, and
// its dispatches are in the sent set, where the reconciler finds them.
func TestTheQueueIsDown(t *testing.T) {
	h := newHouse(t)
	g, _ := h.group("g", 3)
	h.queue.breakDown(true)
	run := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{}))(h)
	if run.State != core.RunPending || len(h.events.rung) != 0 {
		t.Errorf("got %s, rung %v", run.State, h.events.rung)
	}
	sent, _, err := h.store.SentBefore(t.Context(), id.Partition(g.UUID, 16), time.Now().Add(time.Minute), 0)
	h.ok(err)
	if len(sent) != 3 {
		t.Fatalf("got %d dispatches noted as sent, want 3", len(sent))
	}
	h.queue.breakDown(false)
	var lost []core.Under
	for _, s := range sent {
		lost = append(lost, core.Under{Dispatch: s.Dispatch})
	}
	h.ok(h.eng.Redispatch(t.Context(), core.MoveSent, lost))
	h.ok(h.eng.Redispatch(t.Context(), core.MoveSent, lost))
	again := h.queue.take()
	if len(again) != 3 {
		t.Errorf("sent again: got %d dispatches, want 3", len(again))
	}
	for _, d := range again {
		if d.Fence.Counter != 2 || d.Timeout != core.DefaultTimeout || d.Queue != "default" {
			t.Errorf("got %+v", d)
		}
		must(h.eng.Begin(t.Context(), d, "w1"))(h)
	}
}

// TestDeliverGoesOnWhenTheCallerLeaves ends the caller's context after the
// decision is made.
func TestDeliverGoesOnWhenTheCallerLeaves(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := core.Dispatch{Run: h.store.NewRunID(id.New(), time.Now(), "x"), Queue: "default", Fence: core.Fence{Counter: 1}}
	h.eng.Deliver(ctx, core.Effects{Sends: []core.Dispatch{d}, Stops: []core.Stop{{Worker: "w9", Dispatch: "d"}}})
	if len(h.queue.take()) != 1 || len(h.events.stops) != 1 {
		t.Error("effects were not delivered")
	}
	h.worker(core.Worker{ID: "w9"}) // its first heartbeat brings the stop, so announce takes it
	if stops := must(h.store.Beat(t.Context(), core.Heartbeat{Worker: "w9"}, nil))(h); len(stops) != 0 {
		t.Errorf("delivered twice: %q", stops)
	}
}

func TestALargeRunIsExpanded(t *testing.T) {
	h := newHouse(t)
	g, _ := h.group("g", 501)
	run := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{Policy: core.OverlapBufferOne}))(h)
	if sent := h.queue.take(); len(sent) != 501 {
		t.Fatalf("got %d dispatches, want 501", len(sent))
	}
	next := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{Policy: core.OverlapBufferOne}))(h)
	if next.Reason == "" || len(h.queue.take()) != 0 {
		t.Errorf("the next run does not wait: %+v", next)
	}
	must(h.eng.CancelRun(h.ctx, run.ID, ""))(h)
	sent := h.queue.take()
	if len(sent) != 501 || sent[0].Run != next.ID {
		t.Errorf("when the first one was canceled: got %d dispatches, want the 501 of the next run", len(sent))
	}
}

func TestAProcessDiesBeforeItExpands(t *testing.T) {
	h := newHouse(t)
	j := h.job("j")
	first := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	second := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{Policy: core.OverlapBufferOne}))(h)
	h.queue.take()
	_, _, err := h.store.Cancel(t.Context(), first.ID, "enough", core.RunCanceled) // and dies
	h.ok(err)
	h.reconcile()
	if sent := h.queue.take(); len(sent) != 1 || sent[0].Run != second.ID {
		t.Errorf("got %+v, want the next run's step", sent)
	}
}

func TestCancelRun(t *testing.T) {
	h := newHouse(t)
	g, _ := h.group("g", 2)
	run := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{}))(h)
	d := h.queue.take()[0]
	b := must(h.eng.Begin(t.Context(), d, "w1"))(h)
	got := must(h.eng.CancelRun(h.ctx, run.ID, ""))(h)
	if got.State != core.RunCanceling || got.Reason != "canceled by request" || got.Counts.Canceled != 1 {
		t.Errorf("got %+v", got)
	}
	wantEqual(t, "stops", h.events.stops, []core.Stop{{Worker: "w1", Dispatch: d.ID()}})
	if stops := must(h.store.Beat(t.Context(), core.Heartbeat{Worker: "w1"}, nil))(h); len(stops) != 1 {
		t.Errorf("the next heartbeat brings %q, want the stop", stops)
	}
	again := must(h.eng.CancelRun(h.ctx, run.ID, "another reason"))(h)
	if again.State != core.RunCanceling || again.Reason != "canceled by request" {
		t.Errorf("again: got %+v", again)
	}
	must(h.eng.Finish(t.Context(), d, "w1", b, core.Outcome{State: core.AttemptCanceled}, false))(h)
	_, err := h.eng.CancelRun(h.ctx, run.ID, "")
	wantKind(t, "a run that has ended", err, core.Conflict)
	_, err = h.eng.CancelRun(h.ctx, id.New(), "")
	wantKind(t, "a missing run", err, core.NotFound)
}

func TestRetryRun(t *testing.T) {
	h := newHouse(t)
	g, _ := h.group("g", 4)
	must(h.eng.UpdateGroup(h.ctx, g.UUID, 0, func(g *core.Group) error { g.Timeout = time.Hour; return nil }))(h)
	run := must(h.eng.RunGroup(h.ctx, g.UUID, "", core.Overlap{}))(h)
	_, err := h.eng.RetryRun(h.ctx, run.ID, "")
	wantKind(t, "a run under way", err, core.Conflict)
	ends := []core.AttemptState{core.AttemptSucceeded, core.AttemptFailed, core.AttemptTimedOut, core.AttemptCanceled}
	for i, d := range h.queue.take() {
		b := must(h.eng.Begin(t.Context(), d, "w1"))(h)
		must(h.eng.Finish(t.Context(), d, "w1", b, core.Outcome{State: ends[i]}, false))(h)
	}
	steps := must(h.eng.Steps(h.ctx, run.ID))(h)
	must(h.eng.DeleteGroup(h.ctx, g.UUID))(h) // it is retried as it was planned
	again := must(h.eng.RetryRun(h.ctx, run.ID, "key"))(h)
	if again.RetryOf != run.ID || again.Counts.Total != 3 || again.Target != run.Target || again.Name != "g" || again.Account != "acc" {
		t.Errorf("got %+v", again)
	}
	if d := again.Deadline.Sub(again.Created); d < time.Hour-time.Second || d > time.Hour+time.Second {
		t.Errorf("deadline after %v, want the hour of the first run", d)
	}
	for i, s := range must(h.eng.Steps(h.ctx, again.ID))(h) {
		wantEqual(t, "step", s.PlannedStep, steps[i+1].PlannedStep)
	}
	if same := must(h.eng.RetryRun(h.ctx, run.ID, "key"))(h); same.ID != again.ID {
		t.Error("equal keys are two runs")
	}
	h.drain()
	_, err = h.eng.RetryRun(h.ctx, again.ID, "")
	wantKind(t, "a run that succeeded", err, core.Conflict)
	_, err = h.eng.RetryRun(h.ctx, id.New(), "")
	wantKind(t, "a missing run", err, core.NotFound)
}

// TestFinishFollowsTheRetryPolicy ends attempts of a job with three of them.
func TestFinishFollowsTheRetryPolicy(t *testing.T) {
	for _, row := range []struct {
		name      string
		outcome   core.AttemptState
		permanent bool
		attempts  int
		end       core.StepState
	}{
		{"failures", core.AttemptFailed, false, 3, core.StepFailed},
		{"timeouts", core.AttemptTimedOut, false, 3, core.StepTimedOut},
		{"a permanent failure", core.AttemptFailed, true, 1, core.StepFailed},
		{"a success", core.AttemptSucceeded, false, 1, core.StepSucceeded},
		{"a cancel", core.AttemptCanceled, false, 1, core.StepCanceled},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t)
			j := must(h.eng.CreateJob(h.ctx, core.Job{
				Meta: named("j"), Type: "noop", Enabled: true, Retry: core.Retry{Attempts: 3, Backoff: time.Millisecond},
			}))(h)
			run := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
			for n := 1; ; n++ {
				d := h.queue.take()[0]
				b := must(h.eng.Begin(t.Context(), d, "w1"))(h)
				f := must(h.eng.Finish(t.Context(), d, "w1", b, core.Outcome{State: row.outcome, Reason: "x"}, row.permanent))(h)
				if f.Step.Ended() {
					if f.Step != row.end || n != row.attempts {
						t.Errorf("got %s after %d attempts, want %s after %d", f.Step, n, row.end, row.attempts)
					}
					break
				}
				h.ok(h.eng.Redispatch(t.Context(), core.MoveWaiting, []core.Under{{Dispatch: d}}))
			}
			if got := must(h.eng.Run(h.ctx, run.ID))(h); !got.State.Ended() {
				t.Errorf("run: got %s", got.State)
			}
		})
	}
}

func TestReleaseAndTimeOut(t *testing.T) {
	h := newHouse(t)
	j := h.job("j")
	run := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	d := h.queue.take()[0]
	must(h.eng.Begin(t.Context(), d, "w1"))(h)
	h.ok(h.eng.Release(t.Context(), d, "w1"))
	h.ok(h.eng.Release(t.Context(), d, "w1"))
	again := h.queue.take()
	if len(again) != 1 || again[0].Fence.Counter != 2 {
		t.Fatalf("released: got %+v", again)
	}
	if b := must(h.eng.Begin(t.Context(), again[0], "w1"))(h); b.Attempt != 2 || b.Failures != 0 {
		t.Errorf("got %+v", b)
	}
	overdue := core.Under{Dispatch: again[0], Worker: "w1"}
	h.ok(h.eng.TimeOut(t.Context(), overdue))
	h.ok(h.eng.TimeOut(t.Context(), overdue))
	if s := must(h.eng.Steps(h.ctx, run.ID))(h)[0]; s.State != core.StepTimedOut || s.Failures != 1 {
		t.Errorf("got %+v", s)
	}
	overdue.Dispatch.Step = 99
	h.ok(h.eng.TimeOut(t.Context(), overdue))
	overdue.Dispatch.Run = h.store.NewRunID(id.New(), time.Now(), "gone")
	h.ok(h.eng.TimeOut(t.Context(), overdue))
}

func TestUnpark(t *testing.T) {
	h := newHouse(t)
	h.worker(core.Worker{ID: "w2", Host: "h2", Types: []executor.Spec{{Type: "rare", Open: true}}})
	j := must(h.eng.CreateJob(h.ctx, core.Job{Meta: named("j"), Type: "rare", Enabled: true, Timeout: time.Minute}))(h)
	h.ok(h.store.Leave(t.Context(), "w2"))
	run := must(h.eng.RunJob(h.ctx, j.UUID, "", core.Overlap{}))(h)
	home := id.Partition(j.UUID, 16)
	unpark := func() int {
		return must(h.eng.Unpark(t.Context(), must(h.store.Parked(t.Context(), home))(h)))(h)
	}
	if n := unpark(); n != 0 || len(h.queue.take()) != 0 {
		t.Errorf("nobody is there: unparked %d", n)
	}
	s := must(h.eng.Steps(h.ctx, run.ID))(h)[0]
	if s.State != core.StepWaiting || s.Reason != "waits for a worker that executes rare; none is alive" || s.Fence.Counter != 1 {
		t.Errorf("got %s (%s) under the fence %v", s.State, s.Reason, s.Fence)
	}
	h.worker(core.Worker{ID: "w3", Host: "h3", Types: []executor.Spec{{Type: "rare"}}})
	if n := unpark(); n != 1 {
		t.Errorf("somebody is there: unparked %d", n)
	}
	if sent := h.queue.take(); len(sent) != 1 || sent[0].Queue != "host-h3" || sent[0].Timeout != time.Minute {
		t.Errorf("got %+v", sent)
	}
	if n := unpark(); n != 0 {
		t.Errorf("once more: unparked %d", n)
	}
}
