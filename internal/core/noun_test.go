package core_test

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/core"
	"github.com/takt-dev/takt/pkg/executor"
)

func TestWhoSeesAndChanges(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                 string
		caller               core.Caller
		sees, changes        bool // what is account a's
		seesOther, changesOt bool // what is account b's
	}{
		{"admin", core.Caller{Owner: "x", Role: core.Admin}, true, true, true, true},
		{"operator", core.Caller{Owner: "a", Role: core.Operator}, true, true, false, false},
		{"viewer", core.Caller{Owner: "a", Role: core.Viewer}, true, false, false, false},
		{"stranger", core.Caller{Owner: "c", Role: core.Operator}, false, false, false, false},
		{"no role", core.Caller{Owner: "a"}, true, false, false, false},
	} {
		got := []bool{row.caller.Sees("a"), row.caller.Changes("a"), row.caller.Sees("b"), row.caller.Changes("b")}
		want := []bool{row.sees, row.changes, row.seesOther, row.changesOt}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: got %v, want %v (sees a, changes a, sees b, changes b)", row.name, got, want)
				break
			}
		}
	}
}

func TestCallerIsTakenFromTheContext(t *testing.T) {
	t.Parallel()
	if _, err := core.CallerFrom(t.Context()); !core.Is(err, core.Unauthenticated) {
		t.Errorf("no caller: got error %v, want an unauthenticated one", err)
	}
	want := core.Caller{Account: "a", Name: "n", Owner: "o", Role: core.Viewer}
	got, err := core.CallerFrom(core.WithCaller(t.Context(), want))
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestOverlapValidate(t *testing.T) {
	t.Parallel()
	for _, p := range []core.OverlapPolicy{
		"", core.OverlapAllow, core.OverlapSkip, core.OverlapBufferOne, core.OverlapBufferAll, core.OverlapCancel, core.OverlapSkipSteps,
	} {
		wantField(t, string(p), core.Overlap{Policy: p, Limit: core.MaxBuffered}.Validate(), "")
	}
	wantField(t, "unknown policy", core.Overlap{Policy: "queue"}.Validate(), "overlap.policy")
	wantField(t, "negative limit", core.Overlap{Limit: -1}.Validate(), "overlap.limit")
	wantField(t, "high limit", core.Overlap{Limit: core.MaxBuffered + 1}.Validate(), "overlap.limit")
}

func TestTriggerIsLiveWhileEnabledAndNotDeleted(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		trigger core.Trigger
		want    bool
	}{
		{core.Trigger{Enabled: true}, true},
		{core.Trigger{}, false},
		{core.Trigger{Enabled: true, Deleted: time.Unix(1, 0)}, false},
	} {
		if got := row.trigger.Live(); got != row.want {
			t.Errorf("enabled %v, deleted %v: got %v, want %v", row.trigger.Enabled, row.trigger.Deleted, got, row.want)
		}
	}
}

func TestBindingIsFoundByTarget(t *testing.T) {
	t.Parallel()
	b := core.Binding{Target: core.Target{Kind: core.JobTarget, UUID: "j"}, Ref: "r"}
	tr := core.Trigger{Targets: []core.Binding{{Target: core.Target{UUID: "g"}}, b}}
	if got, ok := tr.Binding("j"); !ok || got != b {
		t.Errorf("got %+v, %v; want %+v", got, ok, b)
	}
	if got, ok := tr.Binding("r"); ok {
		t.Errorf("a reference is no target: got %+v", got)
	}
}

func TestEffectiveTimeout(t *testing.T) {
	t.Parallel()
	if got := (core.Job{}).EffectiveTimeout(); got != core.DefaultTimeout {
		t.Errorf("none given: got %v, want %v", got, core.DefaultTimeout)
	}
	if got := (core.Job{Timeout: time.Second}).EffectiveTimeout(); got != time.Second {
		t.Errorf("1s given: got %v", got)
	}
}

func TestWordsAreValidOrNot(t *testing.T) {
	t.Parallel()
	for p, want := range map[core.Priority]bool{"": true, core.PriorityCritical: true, core.PriorityDefault: true, core.PriorityLow: true, "high": false} {
		if got := p.Valid(); got != want {
			t.Errorf("priority %q: got %v, want %v", p, got, want)
		}
	}
	for r, want := range map[core.Role]bool{core.Admin: true, core.Operator: true, core.Viewer: true, "": false, "root": false} {
		if got := r.Valid(); got != want {
			t.Errorf("role %q: got %v, want %v", r, got, want)
		}
	}
}

func TestWorkerKnowsWhatItExecutesAndReaches(t *testing.T) {
	t.Parallel()
	w := core.Worker{Types: []executor.Spec{{Type: "a"}, {Type: "b"}}, Resources: []string{"r"}}
	if !w.Executes("b") || w.Executes("c") || w.Executes("") {
		t.Error("executes a and b, nothing else")
	}
	if !w.Reaches("r") || w.Reaches("s") {
		t.Error("reaches r, nothing else")
	}
}

// The code 0 is shown only where somebody gave it.
func TestAttemptExited(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		a    core.Attempt
		want bool
	}{
		{"succeeded", core.Attempt{State: core.AttemptSucceeded}, true},
		{"failed with a code", core.Attempt{State: core.AttemptFailed, ExitCode: 3}, true},
		{"an unwanted 0", core.Attempt{State: core.AttemptFailed, Output: `{"exitCode":0}`}, true},
		{"refused before it ran", core.Attempt{State: core.AttemptFailed, Error: "not allowed"}, false},
		{"lost", core.Attempt{State: core.AttemptLost}, false},
		{"under way", core.Attempt{State: core.AttemptRunning}, false},
	} {
		if code, ok := row.a.Exited(); ok != row.want || code != row.a.ExitCode {
			t.Errorf("%s: got %d, %v; want %d, %v", row.name, code, ok, row.a.ExitCode, row.want)
		}
	}
}

func TestEffectsAddUp(t *testing.T) {
	t.Parallel()
	e := core.Effects{Expand: []string{"a"}}
	e.Add(core.Effects{Sends: []core.Dispatch{{Step: 1}}, Stops: []core.Stop{{Worker: "w"}}, Expand: []string{"b"}})
	if len(e.Sends) != 1 || len(e.Stops) != 1 || len(e.Expand) != 2 {
		t.Errorf("got %+v", e)
	}
}
