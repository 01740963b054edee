package core_test

import (
	"slices"
	"testing"

	"github.com/takt-dev/takt/internal/core"
)

// The tables below are written out a second time on purpose: a move that is
// added to or lost from the product must be added or lost here by hand.

func TestRunMoves(t *testing.T) {
	t.Parallel()
	want := map[core.RunState][]core.RunState{
		core.RunPending:   {core.RunRunning, core.RunCanceling, core.RunSucceeded, core.RunFailed, core.RunCanceled, core.RunTimedOut},
		core.RunRunning:   {core.RunCanceling, core.RunSucceeded, core.RunFailed, core.RunCanceled, core.RunTimedOut},
		core.RunCanceling: {core.RunCanceled, core.RunTimedOut},
	}
	checkMoves(t, core.RunStates(), want, core.RunState.CanBecome, core.RunState.Ended)
}

func TestStepMoves(t *testing.T) {
	t.Parallel()
	want := map[core.StepState][]core.StepState{
		core.StepWaiting:    {core.StepDispatched, core.StepCanceled, core.StepSkipped, core.StepFailed},
		core.StepDispatched: {core.StepRunning, core.StepDispatched, core.StepWaiting, core.StepCanceled, core.StepFailed},
		core.StepRunning: {
			core.StepCanceling, core.StepWaiting, core.StepDispatched,
			core.StepSucceeded, core.StepFailed, core.StepCanceled, core.StepTimedOut,
		},
		core.StepCanceling: {core.StepCanceled, core.StepTimedOut},
	}
	checkMoves(t, core.StepStates(), want, core.StepState.CanBecome, core.StepState.Ended)
}

// checkMoves tries every pair of states.
func checkMoves[S ~string](t *testing.T, all []S, want map[S][]S, can func(S, S) bool, ended func(S) bool) {
	t.Helper()
	for _, from := range all {
		if got, want := ended(from), len(want[from]) == 0; got != want {
			t.Errorf("%s ended: got %v, want %v", from, got, want)
		}
		for _, to := range all {
			if got, want := can(from, to), slices.Contains(want[from], to); got != want {
				t.Errorf("%s to %s: got %v, want %v", from, to, got, want)
			}
		}
	}
	if can("", all[0]) || can(all[0], "") {
		t.Error("the empty state must not move")
	}
}

func TestAttemptStatesEnd(t *testing.T) {
	t.Parallel()
	for state, want := range map[core.AttemptState]bool{
		core.AttemptRunning: false, core.AttemptSucceeded: true, core.AttemptFailed: true, core.AttemptLost: true,
		core.AttemptCanceled: true, core.AttemptTimedOut: true, core.AttemptReleased: true,
	} {
		if got := state.Ended(); got != want {
			t.Errorf("%s ended: got %v, want %v", state, got, want)
		}
	}
}

func TestOpenStepsAreThoseWithoutAnEnd(t *testing.T) {
	t.Parallel()
	counts := core.StepCounts{Total: 21, Succeeded: 1, Failed: 2, Canceled: 3, TimedOut: 4, Skipped: 5}
	if got := counts.Open(); got != 6 {
		t.Errorf("open steps of %+v: got %d, want 6", counts, got)
	}
}
